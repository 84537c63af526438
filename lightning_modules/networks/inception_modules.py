"""The Inception modules of figures 1 to 4, from Inception V3's to the extreme one.

Paper: Chollet 2016 (arXiv:1610.02357), section 1.1. Figures 2 and 3 are one function with differently named
weights (`to_figure_3`); figure 4 is figure 3 with one segment per channel.

As in the figures, convolutions have no norm, ReLU or bias. Windows are padded so that the sides stay.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lightning_modules.networks.inception_v3 import Branches
from lightning_modules.networks.separable import UnequalSegments, segmented, square_kernel
from lightning_modules.validation import require_integer

WINDOW = 3
"""Height and width of the spatial convolutions, in pixels."""


class CanonicalInception(Branches):
    """`[1x1, 3x3(1x1), 3x3(3x3(1x1)), 1x1(average pool 3x3)]`: figure 1, Inception V3's module at 35x35.

    (N, C, H, W) -> (N, 64 + 64 + 96 + `pool_channels`, H, W). Channels: 64; 48, 64; 64, 96, 96;
    `pool_channels`. The published network has a 5x5 convolution in the second branch
    (`inception_v3.Module35x35`).
    """

    def __init__(self, in_channels: int, *, pool_channels: int) -> None:
        require_integer("pool_channels", pool_channels, 1)
        super().__init__(
            branch_1x1=_pointwise(in_channels, 64),
            branch_3x3=nn.Sequential(_pointwise(in_channels, 48), _spatial(48, 64)),
            branch_double_3x3=nn.Sequential(_pointwise(in_channels, 64), _spatial(64, 96), _spatial(96, 96)),
            branch_pool=nn.Sequential(
                nn.AvgPool2d(3, stride=1, padding=1), _pointwise(in_channels, pool_channels)
            ),
        )


class SimplifiedInception(Branches):
    """`[3x3(1x1), 3x3(1x1), ...]`: figure 2, towers with equal windows and without a pool.

    (N, C, H, W) -> (N, sum of `towers`, H, W). `towers` are the channels of each tower's two convolutions.

    Raises:
        ValueError: There is no tower, or one has no channel.
    """

    def __init__(self, in_channels: int, towers: Sequence[int]) -> None:
        _require_towers(towers)
        super().__init__(
            **{
                f"tower{number}": nn.Sequential(
                    OrderedDict(
                        pointwise=_pointwise(in_channels, channels),
                        spatial=_spatial(channels, channels),
                    )
                )
                for number, channels in enumerate(towers, start=1)
            }
        )


class SegmentedInception(nn.Sequential):
    """`spatial(pointwise(x))`: a 1x1 convolution, then a 3x3 convolution per segment of its output.

    Figure 3, "strictly equivalent" to figure 2 with equal towers. (N, C, H, W) -> (N, sum of `segments`, H,
    W).

    Raises:
        ValueError: There is no segment, or one has no channel.
    """

    def __init__(self, in_channels: int, segments: Sequence[int]) -> None:
        _require_towers(segments)
        super().__init__(
            OrderedDict(
                pointwise=_pointwise(in_channels, sum(segments)),
                spatial=segmented(partial(square_kernel, kernel_size=WINDOW), tuple(segments)),
            )
        )


class ExtremeInception(SegmentedInception):
    """`depthwise(pointwise(x))`: one 3x3 convolution per channel of the 1x1 convolution; figure 4.

    (N, C_in, H, W) -> (N, C_out, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, (1,) * out_channels)


def to_figure_3(simplified: SimplifiedInception) -> SegmentedInception:
    """Convert a module of figure 2 to an equal one of figure 3.

    Source: section 1.1: the towers' 1x1 convolutions become one, their output channels in sequence.
    """
    pointwise = [tower.get_submodule("pointwise") for tower in simplified.children()]
    spatial = [tower.get_submodule("spatial") for tower in simplified.children()]
    kernels = [_weight(conv) for conv in spatial]
    first = _weight(pointwise[0])
    reformulated = SegmentedInception(first.shape[1], [len(kernel) for kernel in kernels])
    with torch.no_grad():
        _weight(reformulated.get_submodule("pointwise")).copy_(torch.cat([_weight(c) for c in pointwise]))
        whole = reformulated.get_submodule("spatial")
        parts = list(whole) if isinstance(whole, UnequalSegments) else [whole]
        rows = [row for kernel in kernels for row in kernel]
        for part in parts:
            weight = _weight(part)
            weight.copy_(torch.stack(rows[: len(weight)]))
            rows = rows[len(weight) :]
    return reformulated


def _pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def _spatial(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, WINDOW, padding=WINDOW // 2, bias=False)


def _require_towers(channels: Sequence[int]) -> None:
    if not channels:
        raise ValueError("towers=[]: must be at least one")
    for number in channels:
        require_integer("towers", number, 1)


def _weight(conv: nn.Module) -> Tensor:
    return conv.get_parameter("weight")
