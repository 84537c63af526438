"""VGG-16 with separable convolutions: a stack without residual connections.

Paper: Chollet 2016 (arXiv:1610.02357), section 4.6: "a non-residual VGG-style model where all convolution
layers were replaced with depthwise separable convolutions (with a depth multiplier of 1)" was better than
Inception V3 on JFT at equal parameter count. The rest is ours: the 13 convolutions and 5 pools of VGG-16
(Simonyan & Zisserman 2014, arXiv:1409.1556, configuration D); a separable first convolution; BN and ReLU
after each, and the head, as in Xception; and a width that gives Inception V3's parameters.

Trainable parameters with 1000 classes, 3 channels: 2,189,379 at width 1; 23,853,701 at width 3.655
(Inception V3: 23,834,568). Feature maps of a 224x224 image: 224, 112, 56, 28, 14, 7.

Unlike VGG's, a pool keeps the last pixel of an odd side, which leaves a pixel of any image: 28, 14, 7, 4, 2,
1.
"""

from collections import OrderedDict

from torch import Tensor, nn

from lightning_modules.networks.blocks import Norm, SeparableConv
from lightning_modules.networks.head import FullyConnected, Head
from lightning_modules.validation import require_integer, require_number, require_width

STAGES = (
    (64, 64),
    (128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (512, 512, 512),
)
"""Channels at width 1 of the convolutions before each pool: configuration D."""


class SeparableVGG(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes).

    `5 x [n x [separable conv 3x3, BN, ReLU], max pool 2x2 stride 2]`, then the head.

    The arguments are explained in conf/model/separable_vgg.yaml.

    Raises:
        ValueError: A size is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: float,
        dropout: float,
        separable: SeparableConv,
        fully_connected: FullyConnected,
        norm: Norm,
    ) -> None:
        super().__init__()
        require_integer("model.num_classes", num_classes, 1)
        require_integer("model.in_channels", in_channels, 1)
        require_width(width)
        require_number("model.dropout", dropout, 0, 1)

        features = in_channels
        self.stages = nn.Sequential()
        for channels in STAGES:
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for number, channels_at_width_1 in enumerate(channels, start=1):
                out_channels = max(1, round(width * channels_at_width_1))
                layers[f"separable{number}"] = separable(features, out_channels, norm=norm)
                layers[f"relu{number}"] = nn.ReLU(inplace=True)
                features = out_channels
            layers["pool"] = nn.MaxPool2d(2, stride=2, ceil_mode=True)
            self.stages.append(nn.Sequential(layers))
        self.head = Head(
            features, num_classes=num_classes, width=width, dropout=dropout, fully_connected=fully_connected
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(images))
