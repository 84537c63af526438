"""Xception's blocks other than the separable convolution: convolution with BN, pool, shortcut.

Paper: Chollet 2016 (arXiv:1610.02357), section 3 and figure 5. BN follows every convolution and separable
convolution, so they have no bias. If the paper is silent, padding and BN follow the author's Keras code.
Norm, pool, activation, shortcut and separable convolution are passed as factories.
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
"""Makes `shortcut(in_channels=, out_channels=, stride=, norm=)`; or None."""


def group_norm(channels: int, *, groups: int, eps: float) -> nn.Module:
    """Group normalization of feature maps (N, C, H, W), with gcd(groups, C) groups.

    Raises:
        ValueError: `groups` is not a positive whole number.
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

    Odd sides get one pixel at both ends, even sides only at the end; `MaxPool2d(padding=1)` would shift the
    windows by a pixel. `ceil_mode` pads the end without a copy.
    """

    def forward(self, x: Tensor) -> Tensor:
        height_odd, width_odd = x.shape[-2] % 2, x.shape[-1] % 2
        return nn.functional.max_pool2d(x, 3, 2, padding=(height_odd, width_odd), ceil_mode=True)


class LinearShortcut(nn.Module):
    """A linear residual connection: the identity, or `BN(conv 1x1(x))` if the shape changes.

    (N, C_in, H, W) -> (N, C_out, ⌈H/stride⌉, ⌈W/stride⌉). Paper: figure 5.
    """

    def __init__(self, *, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.stride = stride
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.projection = ConvNorm(in_channels, out_channels, kernel_size=1, stride=1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        # Take every stride-th pixel first, with the same result: torch 2.14's strided 1x1 CPU kernel writes
        # beyond its memory in channels-last order with fewer than eight channels. A pool of one pixel does
        # it, because the gradient of x[:, :, ::2, ::2] loses channels-last order, which is slow.
        return self.projection(nn.functional.avg_pool2d(x, 1, self.stride) if self.stride > 1 else x)


def no_shortcut(*, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
    """No shortcut and no projection (figure 9, "non-residual").

    This also removes the projections' parameters: 4.3 % of the network at width 1.
    """
    return None


def projections_without_identities(
    *, in_channels: int, out_channels: int, stride: int, norm: Norm
) -> LinearShortcut | None:
    """`BN(conv 1x1(x))` if the shape changes, otherwise no shortcut.

    Ours: figure 9 removes identities and projections; this removes only identities and keeps all parameters.
    """
    shortcut = LinearShortcut(in_channels=in_channels, out_channels=out_channels, stride=stride, norm=norm)
    return None if isinstance(shortcut.projection, nn.Identity) else shortcut
