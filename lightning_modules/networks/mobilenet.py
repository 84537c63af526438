"""MobileNet (v1): separable convolutions with BN and ReLU between the two operations.

Paper: Howard et al. 2017 (arXiv:1704.04861), table 1 and figure 3. It has no shortcuts and a non-linearity in
between, which Xception's section 4.7 advises against. Trainable parameters at width 1, 1000 classes:
4,231,976. Feature maps of a 224x224 image: 224, 112, 56, 28, 14, 7.

The last module has stride 1; table 1 prints 2, although its feature map stays at 7x7. Padding is TensorFlow's
"same", as the authors': a window of stride 2 on an even side has one pixel of padding, at the end. Beyond the
paper: the stem's stride, for small images. The resolution multiplier is the image's size.
"""

from collections import OrderedDict

from torch import Tensor, nn

from lightning_modules.networks.blocks import Norm
from lightning_modules.validation import require_integer, require_number, require_one_of, require_width

MODULES = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
"""Channels at width 1 and stride of each separable convolution: table 1."""


class SameConv3x3(nn.Conv2d):
    """3x3 convolution padded like TensorFlow's "same": (N, C_in, H, W) -> (N, C_out, ⌈H/stride⌉, ⌈W/stride⌉).

    No bias: BN follows. With stride 1 or an odd side, one pixel of padding at both ends.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.stride == (1, 1) or (height % 2 and width % 2):
            return super().forward(x)
        padded = nn.functional.pad(x, (width % 2, 1, height % 2, 1))
        return nn.functional.conv2d(padded, self.weight, stride=self.stride, groups=self.groups)


class MobileNetModule(nn.Module):
    """`ReLU(BN(pointwise 1x1(ReLU(BN(depthwise 3x3(x))))))`: figure 3, right.

    (N, C_in, H, W) -> (N, C_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        self.depthwise = SameConv3x3(in_channels, in_channels, stride=stride, groups=in_channels)
        self.norm1 = norm(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = norm(out_channels)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.depthwise(x)))
        return self.relu2(self.norm2(self.pointwise(x)))


class MobileNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes).

    The arguments are explained in conf/model/mobilenet.yaml.

    Raises:
        ValueError: A size is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: float,
        stem_stride: int,
        dropout: float,
        norm: Norm,
    ) -> None:
        super().__init__()
        require_integer("model.num_classes", num_classes, 1)
        require_integer("model.in_channels", in_channels, 1)
        require_width(width)
        require_one_of("model.stem_stride", stem_stride, (1, 2))
        require_number("model.dropout", dropout, 0, 1)

        def scaled(channels: int) -> int:
            return max(1, round(width * channels))

        features = scaled(32)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=SameConv3x3(in_channels, features, stride=stem_stride),
                norm=norm(features),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.body = nn.Sequential()
        for channels, stride in MODULES:
            self.body.append(MobileNetModule(features, scaled(channels), stride=stride, norm=norm))
            features = scaled(channels)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(dropout),
                logits=nn.Linear(features, num_classes),
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.stem(images)))
