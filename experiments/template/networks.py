"""The networks of this project. An option of `conf/model` names one by `_target_`."""

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """`x * sigmoid(W2 relu(W1 mean(x)))`: weighs each channel by the mean of all channels (arXiv:1709.01507).

    Args:
        channels: C of the feature maps (N, C, H, W).
        ratio: The hidden layer has `channels / ratio` units.
    """

    def __init__(self, channels: int, *, ratio: int) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.weigh = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        return features * self.weigh(features.mean(dim=(2, 3)))[:, :, None, None]


class SmallConvNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes).

    `3 x [conv 3x3, BN, ReLU, attention, max pool 2x2]`, the mean over all positions, a linear layer.

    Args:
        num_classes, in_channels: Of the data.
        width: Multiplies the 16, 32 and 64 channels of the convolutions.
        attention: Makes the part after each convolution, from its number of channels.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, width: float, attention: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for full_width in (16, 32, 64):
            channels = max(1, round(width * full_width))
            layers += [
                nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                attention(channels),
                nn.MaxPool2d(2),
            ]
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))
