"""The parts that Xception is made of besides its separable convolution: convolution with BN, pool, shortcut.

Paper: Chollet 2016 (arXiv:1610.02357), section 3 and figure 5. Every convolution and every separable
convolution is followed by BN; convolutions have no bias. Padding and BN follow the author's Keras
code where the paper is silent.

Parts that are exchanged (norm, pool, intermediate activation, shortcut, separable convolution) arrive as
factories, so this file knows no variant by name.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from lightning_modules.validation import require_integer

Activation = Callable[[], nn.Module]
"""Makes one activation module."""

Norm = Callable[[int], nn.Module]
"""Makes one normalization of the given number of channels."""

SeparableConv = Callable[..., nn.Module]
"""Makes `separable(in_channels, out_channels, norm=)`, which keeps the sides and ends with the norm."""

Pool = Callable[[], nn.Module]
"""Makes one pool that halves the side, rounded up."""

Shortcut = Callable[..., nn.Module | None]
"""Makes `shortcut(in_channels=, out_channels=, stride=, norm=)`; None where there is none."""


def group_norm(channels: int, *, groups: int, eps: float) -> nn.Module:
    """Group normalization of so many channels.

    Args:
        channels: Of the feature maps (N, C, H, W).
        groups: Where it does not divide the channels, their greatest common divisor is taken.
        eps: Added to the variance.

    Raises:
        ValueError: There is no group.
    """
    require_integer("norm.groups", groups, 1)
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=eps)


class ConvNorm(nn.Module):
    """`BN(conv(x))`; (N, C_in, H, W) -> (N, C_out, H', W'). No bias: BN has the shift."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=False)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class SameMaxPool2d(nn.Module):
    """Max pool 3x3, stride 2, padded as TensorFlow's "same": (N, C, H, W) -> (N, C, ⌈H/2⌉, ⌈W/2⌉).

    On an odd side one pixel at either end, on an even side one pixel at the end only, where
    `MaxPool2d(padding=1)` would pad the start: the windows would be shifted by one pixel.
    `ceil_mode` covers the end without a copy: a window that runs over the edge takes what is there.
    """

    def forward(self, x: Tensor) -> Tensor:
        height_odd, width_odd = x.shape[-2] % 2, x.shape[-1] % 2
        return nn.functional.max_pool2d(x, 3, 2, padding=(height_odd, width_odd), ceil_mode=True)


class LinearShortcut(nn.Module):
    """A linear residual connection: the identity, or `BN(conv 1x1(x))` where the shape changes.

    (N, C_in, H, W) -> (N, C_out, ⌈H/stride⌉, ⌈W/stride⌉). Paper: figure 5.
    """

    def __init__(self, *, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.stride = stride
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.projection = ConvNorm(in_channels, out_channels, kernel_size=1, stride=1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        # A 1x1 convolution with a stride reads every stride-th pixel: take those first. The same
        # result, and torch 2.14's strided 1x1 kernel for the CPU writes beyond its memory in
        # channels-last order with fewer than eight channels. A pool of one pixel takes them: the
        # gradient of x[:, :, ::2, ::2] is not in channels-last order, which slows down what is behind it.
        return self.projection(nn.functional.avg_pool2d(x, 1, self.stride) if self.stride > 1 else x)


def no_shortcut(*, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
    """No residual connection at all, projections included (figure 9, "non-residual").

    Leaving the projections out also removes their parameters: 4.3 % of the network at width 1.
    """
    return None


def projections_without_identities(
    *, in_channels: int, out_channels: int, stride: int, norm: Norm
) -> LinearShortcut | None:
    """`BN(conv 1x1(x))` where the shape changes, no shortcut where it does not.

    Figure 9 leaves out two things at once: the identities and the projections with their parameters. Ours:
    this leaves out the identities alone, so the network has as many parameters as with all shortcuts.
    """
    shortcut = LinearShortcut(in_channels=in_channels, out_channels=out_channels, stride=stride, norm=norm)
    return None if isinstance(shortcut.projection, nn.Identity) else shortcut
