"""Figures 1 to 4: shapes, counts, and that figures 2 and 3 are one function."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.networks.inception_modules import (
    CanonicalInception,
    ExtremeInception,
    SegmentedInception,
    SimplifiedInception,
    to_figure_3,
)
from lightning_modules.networks.separable import pointwise_first, segments_by_number


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def count(network):
    return sum(p.numel() for p in network.parameters())


TOWERS = [(4, 4, 4), (5, 5), (3,), (64, 96, 32), (243, 243, 242), (2, 7, 7, 1, 7), (1, 1, 1, 1)]


@pytest.mark.parametrize("towers", TOWERS, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_figure_3_with_the_weights_of_figure_2_is_figure_2(towers, memory_format):
    torch.manual_seed(0)
    figure_2 = SimplifiedInception(6, towers).to(memory_format=memory_format)
    x = noise(2, 6, 9, 8).to(memory_format=memory_format)
    figure_3 = to_figure_3(figure_2).to(memory_format=memory_format)
    expected = figure_2(x)
    assert expected.shape == (2, sum(towers), 9, 8)
    assert expected.std() > 0.01
    # Sums of up to 9 x 243 products, in another order: float32 rounds them by some 1e-6.
    torch.testing.assert_close(figure_3(x), expected, rtol=1e-5, atol=5e-6)
    assert count(figure_3) == count(figure_2) == sum(6 * c + 9 * c * c for c in towers)
    # One large 1x1 convolution: the same weights in another place, and none shared with figure 2.
    before = figure_3(x)
    with torch.no_grad():
        for parameter in figure_2.parameters():
            parameter.zero_()
    assert torch.equal(figure_3(x), before)


def test_another_order_of_the_weights_is_another_function():
    figure_2 = SimplifiedInception(6, (2, 3, 3))
    figure_3 = to_figure_3(figure_2)
    with torch.no_grad():
        figure_3.pointwise.weight.copy_(figure_3.pointwise.weight.flip(0))
    x = noise(1, 6, 5, 5)
    assert not torch.allclose(figure_3(x), figure_2(x), atol=1e-2)


@pytest.mark.parametrize("segments", [(3, 3), (3, 2, 2)])
def test_figure_3_is_a_pointwise_first_separable_convolution(separable, segments):
    figure_3 = SegmentedInception(6, segments)
    block = separable(
        6,
        sum(segments),
        operation_order=pointwise_first,
        segments=partial(segments_by_number, number=len(segments)),
        norm=nn.Identity,
    )
    for mine, blocks in zip(figure_3.parameters(), block.parameters(), strict=True):
        mine.data.copy_(blocks.data)
    x = noise(2, 6, 5, 4)
    assert torch.equal(figure_3(x), block(x))


def test_figure_4_is_one_3x3_convolution_per_channel_of_the_1x1():
    figure_4 = ExtremeInception(5, 7)
    assert count(figure_4) == 5 * 7 + 9 * 7
    x = noise(2, 5, 6, 4)
    pixels = torch.einsum("nchw,oc->nohw", x, figure_4.pointwise.weight[:, :, 0, 0])
    kernels = figure_4.spatial.weight
    planes = [functional.conv2d(pixels[:, [c]], kernels[[c]], padding=1) for c in range(7)]
    torch.testing.assert_close(figure_4(x), torch.cat(planes, 1))


def test_figure_1_is_the_module_of_inception_v3():
    figure_1 = CanonicalInception(192, pool_channels=32)
    kernels = [tuple(c.weight.shape) for c in figure_1.modules() if isinstance(c, nn.Conv2d)]
    assert kernels == [
        (64, 192, 1, 1),
        *((48, 192, 1, 1), (64, 48, 3, 3)),
        *((64, 192, 1, 1), (96, 64, 3, 3), (96, 96, 3, 3)),
        (32, 192, 1, 1),
    ]
    x = noise(1, 192, 5, 6)
    out = figure_1(x)
    assert out.shape == (1, 64 + 64 + 96 + 32, 5, 6)
    parts = out.split((64, 64, 96, 32), dim=1)
    pool, one, two, three = (
        getattr(figure_1, f"branch_{name}") for name in ("pool", "1x1", "3x3", "double_3x3")
    )
    pooled = functional.avg_pool2d(x, 3, 1, 1)
    torch.testing.assert_close(parts[0], functional.conv2d(x, one.weight))
    inner = functional.conv2d(x, two[0].weight)
    torch.testing.assert_close(parts[1], functional.conv2d(inner, two[1].weight, padding=1))
    for number, padding in enumerate((0, 1, 1)):
        x = functional.conv2d(x, three[number].weight, padding=padding)
    torch.testing.assert_close(parts[2], x)
    torch.testing.assert_close(parts[3], functional.conv2d(pooled, pool[1].weight))


@pytest.mark.parametrize("figure", [SimplifiedInception, SegmentedInception])
def test_towers_out_of_range(figure):
    with pytest.raises(ValueError, match=r"^towers=\[\]: must be at least one$"):
        figure(4, [])
    with pytest.raises(ValueError, match=r"^towers=0: must be a whole number of at least 1$"):
        figure(4, (2, 0))
