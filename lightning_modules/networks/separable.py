"""The separable convolution, and the spectrum from it to a regular one.

Paper: Chollet 2016 (arXiv:1610.02357), sections 1.1, 1.2 and 4.7, figures 3, 4 and 10. A convolution is
factorized into a spatial operation, which sees one segment of the channels, and a pointwise operation, which
sees one pixel. With one segment it is a regular convolution after (or before) a 1x1 convolution; with three
or four, an Inception module; with one per channel, Xception's depthwise separable convolution.

Each factory is a group of conf/:

- `OperationOrder` (conf/operation_order): which operation is first,
- `Segments` (conf/segments): how many channels one spatial convolution sees,
- `SpatialKernel` (conf/spatial_kernel): its window,
- `Norm` (conf/intermediate_norm) and `Activation` (conf/intermediate_activation): the layers in between.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.networks.blocks import Activation, Norm
from lightning_modules.validation import require_integer

Segments = Callable[[int], tuple[int, ...]]
"""Number of channels -> channels of each segment."""

Conv = Callable[..., nn.Conv2d]
"""Makes `conv(in_channels, out_channels, kernel_size, padding=)` with its groups set."""

SpatialKernel = Callable[[Conv, int], nn.Module]
"""Makes `spatial_kernel(conv, channels)`, (N, channels, H, W) -> (N, channels, H, W)."""

Layers = OrderedDict[str, nn.Module]
"""Layers in sequence, by name."""

OperationOrder = Callable[..., Layers]
"""Makes `order(in_channels, out_channels, spatial=, between=, pointwise=)`; see `depthwise_first`."""


class SeparableConvNorm(nn.Sequential):
    """`BN(pointwise(a(n(spatial(x)))))`, or with the two operations swapped.

    (N, C_in, H, W) -> (N, C_out, H, W). `a` is the intermediate activation (section 4.7), `n` the norm before
    it; both are the identity in figure 5. The spatial operation is always named `depthwise`, so that arms
    share names and thus initial values.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        operation_order: OperationOrder,
        segments: Segments,
        spatial_kernel: SpatialKernel,
        intermediate_norm: Norm,
        intermediate_activation: Activation,
        norm: Norm,
    ) -> None:
        def spatial(channels: int) -> nn.Module:
            return segmented(spatial_kernel, segments(channels))

        def between(channels: int) -> Layers:
            return OrderedDict(
                intermediate_norm=intermediate_norm(channels),
                intermediate_activation=intermediate_activation(),
            )

        pointwise = partial(nn.Conv2d, kernel_size=1, bias=False)
        layers = operation_order(
            in_channels, out_channels, spatial=spatial, between=between, pointwise=pointwise
        )
        super().__init__(OrderedDict(**layers, norm=norm(out_channels)))


def depthwise_first(
    in_channels: int,
    out_channels: int,
    *,
    spatial: Callable[[int], nn.Module],
    between: Callable[[int], Layers],
    pointwise: Callable[[int, int], nn.Module],
) -> Layers:
    """`pointwise(between(spatial(x)))`: Xception's order, and TensorFlow's (section 1.2)."""
    return OrderedDict(
        depthwise=spatial(in_channels),
        **between(in_channels),
        pointwise=pointwise(in_channels, out_channels),
    )


def pointwise_first(
    in_channels: int,
    out_channels: int,
    *,
    spatial: Callable[[int], nn.Module],
    between: Callable[[int], Layers],
    pointwise: Callable[[int, int], nn.Module],
) -> Layers:
    """`spatial(between(pointwise(x)))`: an Inception module's order (figures 3 and 4, section 1.2)."""
    return OrderedDict(
        pointwise=pointwise(in_channels, out_channels),
        **between(out_channels),
        depthwise=spatial(out_channels),
    )


def segments_by_number(channels: int, *, number: int) -> tuple[int, ...]:
    """`number` segments of nearly equal size, the larger first: 728 in 3 are 243 + 243 + 242.

    With fewer channels, each channel is a segment.

    Raises:
        ValueError: `number` is not a positive whole number.
    """
    require_integer("segments.number", number, 1)
    number = min(number, channels)
    size, larger = divmod(channels, number)
    return (size + 1,) * larger + (size,) * (number - larger)


def segments_by_size(channels: int, *, channels_per_segment: int) -> tuple[int, ...]:
    """Segments of equal size, and a last one with the rest: 91 by 16 are 5 x 16 + 11.

    Raises:
        ValueError: `channels_per_segment` is not a positive whole number.
    """
    require_integer("segments.channels_per_segment", channels_per_segment, 1)
    full, left = divmod(channels, channels_per_segment)
    return (channels_per_segment,) * full + ((left,) if left else ())


def segmented(spatial_kernel: SpatialKernel, segments: tuple[int, ...]) -> nn.Module:
    """One spatial convolution per segment; (N, sum of segments, H, W) -> the same shape.

    Equal segments become one grouped convolution, which is faster.
    """
    if len(set(segments)) == 1:
        return spatial_kernel(partial(nn.Conv2d, groups=len(segments), bias=False), sum(segments))
    return UnequalSegments(spatial_kernel, segments)


class ConvPart(nn.Conv2d):
    """Part of a convolution with `whole_channels` output channels, initialized like the whole."""

    def __init__(self, *arguments: Any, whole_channels: int, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.whole_channels = whole_channels


class UnequalSegments(nn.ModuleList):
    """`[s1(x1), s2(x2), ...]`, concatenated, of the segments x1, x2, ... of the channels.

    (N, sum of segments, H, W) -> the same shape. Neighbours of equal size become one grouped convolution.
    """

    def __init__(self, spatial_kernel: SpatialKernel, segments: tuple[int, ...]) -> None:
        super().__init__()
        self.channels: list[int] = []
        for size, equal in groupby(segments):
            groups = len(list(equal))
            conv = partial(ConvPart, groups=groups, bias=False, whole_channels=sum(segments))
            self.append(spatial_kernel(conv, groups * size))
            self.channels.append(groups * size)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.channels, dim=1)
        return torch.cat([spatial(part) for spatial, part in zip(self, parts, strict=True)], dim=1)


def square_kernel(conv: Conv, channels: int, *, kernel_size: int) -> nn.Module:
    """`conv kxk(x)`, padded so that the side stays; figure 5 has k = 3.

    Raises:
        ValueError: `kernel_size` is not an odd whole number.
    """
    return conv(channels, channels, kernel_size, padding=_same_padding(kernel_size))


def spatially_separable_kernel(conv: Conv, channels: int, *, kernel_size: int) -> nn.Module:
    """`conv kx1(conv 1xk(x))`, padded so that the sides stay; within a segment.

    Source: Inception V3 (arXiv:1512.00567), section 3.2, there with BN and ReLU in between. The paper
    distinguishes such kernels from its own (section 1.1).

    Raises:
        ValueError: `kernel_size` is not an odd whole number.
    """
    padding = _same_padding(kernel_size)
    return nn.Sequential(
        OrderedDict(
            row=conv(channels, channels, (1, kernel_size), padding=(0, padding)),
            column=conv(channels, channels, (kernel_size, 1), padding=(padding, 0)),
        )
    )


def _same_padding(kernel_size: int) -> int:
    require_integer("spatial_kernel.kernel_size", kernel_size, 1)
    if kernel_size % 2 == 0:
        raise ValueError(f"spatial_kernel.kernel_size={kernel_size}: must be odd")
    return kernel_size // 2
