"""The separable convolution and its spectrum: order, segments, window, what stands in between."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.initialization import initialize
from lightning_modules.networks.separable import (
    ConvPart,
    UnequalSegments,
    depthwise_first,
    pointwise_first,
    segmented,
    segments_by_number,
    segments_by_size,
    spatially_separable_kernel,
    square_kernel,
)

NORM = partial(nn.BatchNorm2d, eps=1e-3)
SQUARE = partial(square_kernel, kernel_size=3)
ONE = partial(segments_by_number, number=1)
CHANNELS_IN = 64 + 128 + 128 + 2 * 256 + 26 * 728 + 728 + 1024 + 1536
"""Of the 34 separable convolutions of figure 5, added up."""
THREE = partial(segments_by_number, number=3)


class Square(nn.Module):
    def forward(self, x):
        return x * x


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(network):
    return sum(p.numel() for p in network.parameters())


# Order


def test_separable_convolution_is_depthwise_activation_pointwise_norm(separable):
    block = separable(2, 3, intermediate_activation=Square, norm=NORM).eval()
    assert {name: tuple(p.shape) for name, p in block.named_parameters()} == {
        "depthwise.weight": (2, 1, 3, 3),
        "pointwise.weight": (3, 2, 1, 1),
        "norm.weight": (3,),
        "norm.bias": (3,),
    }
    with torch.no_grad():
        block.depthwise.weight.zero_()
        block.depthwise.weight[:, 0, 1, 1] = torch.tensor([2.0, -3.0])  # the pixel itself
        block.pointwise.weight[:, :, 0, 0] = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    pixels = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    expected = torch.tensor([4.0, 225.0, 229.0]) / 1.001**0.5  # (2*1)^2, (-3*5)^2, their sum
    assert torch.allclose(block(pixels), expected.view(1, 3, 1, 1).expand(1, 3, 2, 2))


def test_pointwise_first_is_pointwise_activation_depthwise_norm(separable):
    block = separable(2, 3, operation_order=pointwise_first, intermediate_activation=Square, norm=NORM).eval()
    assert {name: tuple(p.shape) for name, p in block.named_parameters()} == {
        "pointwise.weight": (3, 2, 1, 1),
        "depthwise.weight": (3, 1, 3, 3),
        "norm.weight": (3,),
        "norm.bias": (3,),
    }
    with torch.no_grad():
        block.pointwise.weight[:, :, 0, 0] = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
        block.depthwise.weight.zero_()
        block.depthwise.weight[:, 0, 1, 1] = torch.tensor([2.0, -3.0, 1.0])  # the pixel itself
    pixels = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    expected = torch.tensor([2.0, -75.0, 36.0]) / 1.001**0.5  # 2*1^2, -3*5^2, 6^2
    assert torch.allclose(block(pixels), expected.view(1, 3, 1, 1).expand(1, 3, 2, 2))


def test_intermediate_norm_stands_before_the_intermediate_activation(separable):
    changes = {"intermediate_norm": NORM, "intermediate_activation": nn.ReLU, "norm": NORM}
    for order, channels in ((depthwise_first, 4), (pointwise_first, 6)):
        block = separable(4, 6, operation_order=order, **changes)
        names = [name for name, _ in block.named_children()]
        assert names[1:3] == ["intermediate_norm", "intermediate_activation"]
        assert names[-1] == "norm"
        assert block.intermediate_norm.num_features == channels
    assert [*names[:1], *names[3:]] == ["pointwise", "depthwise", "norm"]


def test_operations_have_the_same_draws_in_either_order(separable):
    blocks = [
        separable(5, 5, operation_order=order, norm=NORM) for order in (depthwise_first, pointwise_first)
    ]
    for block in blocks:
        initialize(block, 1, nn.init.xavier_uniform_)
    values = [dict(block.named_parameters()) for block in blocks]
    assert values[0].keys() == values[1].keys()
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


# Segments


@pytest.mark.parametrize(
    ("number", "channels", "expected"),
    [
        (1, 728, (728,)),
        (3, 728, (243, 243, 242)),
        (4, 728, (182,) * 4),
        (5, 728, (146, 146, 146, 145, 145)),
        (728, 728, (1,) * 728),
        (4, 3, (1, 1, 1)),  # fewer channels than segments
    ],
)
def test_a_number_of_segments(number, channels, expected):
    assert segments_by_number(channels, number=number) == expected


@pytest.mark.parametrize(
    ("size", "channels", "expected"),
    [
        (1, 3, (1, 1, 1)),
        (4, 728, (4,) * 182),
        (16, 91, (16, 16, 16, 16, 16, 11)),
        (16, 8, (8,)),
    ],
)
def test_segments_of_a_number_of_channels(size, channels, expected):
    assert segments_by_size(channels, channels_per_segment=size) == expected


@pytest.mark.parametrize("value", [0, 1.5, True])
def test_segments_out_of_range(value):
    with pytest.raises(ValueError, match=rf"^segments.number={value}: must be a whole number of at least 1$"):
        segments_by_number(8, number=value)
    with pytest.raises(ValueError, match=rf"^segments.channels_per_segment={value}: must be a whole number"):
        segments_by_size(8, channels_per_segment=value)


@pytest.mark.parametrize("segments", [(1,) * 6, (6,), (2, 2, 2)])
def test_equal_segments_are_one_grouped_convolution(segments):
    spatial = segmented(SQUARE, segments)
    assert type(spatial) is nn.Conv2d
    assert spatial.groups == len(segments)
    assert spatial.weight.shape == (6, 6 // len(segments), 3, 3)


def dense(convolutions, segments):
    """The weight of the regular convolution that has zeros wherever a segment would see another."""
    rows = [row for conv in convolutions for row in conv.weight]
    weight = torch.zeros(len(rows), len(rows), *rows[0].shape[1:])
    start = 0
    for size in segments:
        for channel in range(start, start + size):
            weight[channel, start : start + size] = rows[channel]
        start += size
    return weight


@pytest.mark.parametrize("segments", [(2, 2, 2), (3, 2, 2), (1, 1, 4, 1), (243, 243, 242), (5,)])
@pytest.mark.parametrize("kernel", [square_kernel, spatially_separable_kernel])
def test_a_segment_sees_its_own_channels_alone(segments, kernel):
    spatial = segmented(partial(kernel, kernel_size=3), segments)
    assert count(spatial) == sum(size**2 for size in segments) * (9 if kernel is square_kernel else 6)
    convolutions = [m for m in spatial.modules() if isinstance(m, nn.Conv2d)]
    x = expected = noise(2, sum(segments), 5, 4)
    for window in {conv.kernel_size: None for conv in convolutions}:
        weight = dense([conv for conv in convolutions if conv.kernel_size == window], segments)
        expected = functional.conv2d(expected, weight, padding=tuple(side // 2 for side in window))
    torch.testing.assert_close(spatial(x), expected, rtol=1e-4, atol=1e-4)


def test_unequal_segments_are_as_few_convolutions_as_can_be():
    convolutions = [*segmented(SQUARE, segments_by_number(728, number=5))]
    assert [(conv.in_channels, conv.groups) for conv in convolutions] == [(438, 3), (290, 2)]
    convolutions = [*segmented(SQUARE, segments_by_size(91, channels_per_segment=16))]
    assert [(conv.in_channels, conv.groups) for conv in convolutions] == [(80, 5), (11, 1)]


def test_unequal_segments_start_alike():
    """A convolution of its own for the last channels would start with other values: 1.6 times these."""
    spatial = UnequalSegments(SQUARE, (16,) * 5 + (15,))
    initialize(spatial, 0, nn.init.xavier_uniform_)
    whole = nn.Conv2d(95 + 1, 96, 3, groups=6, bias=False)  # what equal segments of 16 are
    initialize(whole, 0, nn.init.xavier_uniform_)
    first, last = (part.weight.detach() for part in spatial)
    assert all(isinstance(part, ConvPart) for part in spatial)
    for drawn in (first, last):
        assert drawn.std() == pytest.approx(float(whole.weight.detach().std()), rel=0.03)
    assert not torch.equal(first[:15, :15], last)


# The ends of the spectrum


def test_one_segment_pointwise_first_is_a_1x1_convolution_and_a_regular_one(separable):
    block = separable(5, 7, operation_order=pointwise_first, segments=ONE, norm=NORM).eval()
    regular = nn.Sequential(
        nn.Conv2d(5, 7, 1, bias=False), nn.Conv2d(7, 7, 3, padding=1, bias=False), NORM(7)
    ).eval()
    with torch.no_grad():
        regular[0].weight.copy_(block.pointwise.weight)
        regular[1].weight.copy_(block.depthwise.weight)
    x = noise(2, 5, 6, 5)
    assert count(block) == count(regular)
    assert torch.equal(block(x), regular(x))


class SeparableConvNormOfFigure5(nn.Module):
    """Xception's separable convolution and nothing else."""

    def __init__(self, in_channels, out_channels, *, norm):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = norm(out_channels)

    def forward(self, x):
        return self.norm(self.pointwise(self.depthwise(x)))


def test_the_default_is_figure_5_to_the_last_bit(small_xception):
    networks = [small_xception(), small_xception(separable=SeparableConvNormOfFigure5)]
    for network in networks:
        initialize(network, 3, nn.init.xavier_uniform_)
        network.to(memory_format=torch.channels_last)
    images = noise(4, 1, 20, 21).to(memory_format=torch.channels_last)
    logits = [network(images) for network in networks]
    assert torch.equal(*logits)
    assert logits[0].std() > 0.01
    for value in logits:
        value.square().sum().backward()
    assert [*networks[0].state_dict()] == [*networks[1].state_dict()]
    for mine, plain in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(mine, plain)
        assert torch.equal(mine.grad, plain.grad)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 22_855_952),
        ({"operation_order": pointwise_first}, 22_873_808),
        ({"segments": ONE}, 183_616_904),
        ({"segments": ONE, "operation_order": pointwise_first}, 221_328_776),
        # A 3x3 kernel has 9 values, 1x3 and 3x1 kernels have 6.
        (
            {"spatial_kernel": partial(spatially_separable_kernel, kernel_size=3)},
            22_855_952 - 3 * CHANNELS_IN,
        ),
        ({"intermediate_norm": nn.BatchNorm2d}, 22_855_952 + 2 * CHANNELS_IN),
    ],
    ids=["figure 5", "pointwise first", "one segment", "regular", "spatially separable", "norm"],
)
def test_parameters_of_the_network_at_full_width(paper_xception, changes, expected):
    with torch.device("meta"):
        assert count(paper_xception(**changes)) == expected


def test_three_segments_of_728_channels(paper_xception):
    with torch.device("meta"):
        network = paper_xception(segments=THREE)
    spatial = network.middle_flow[0].body.separable1.depthwise
    assert [(conv.in_channels, conv.groups) for conv in spatial] == [(486, 2), (242, 1)]
    assert spatial(torch.empty(1, 728, 4, 4, device="meta")).shape == (1, 728, 4, 4)


# The window


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_windows_keep_the_sides(kernel_size):
    square = segmented(partial(square_kernel, kernel_size=kernel_size), (2, 2))
    separable = segmented(partial(spatially_separable_kernel, kernel_size=kernel_size), (2, 2))
    x = noise(1, 4, 6, 7)
    assert square(x).shape == separable(x).shape == x.shape
    assert [conv.kernel_size for conv in separable] == [(1, kernel_size), (kernel_size, 1)]


def test_a_spatially_separable_kernel_is_a_square_one_of_rank_one():
    separable = segmented(partial(spatially_separable_kernel, kernel_size=3), (1, 1, 1))
    square = segmented(SQUARE, (1, 1, 1))
    with torch.no_grad():
        square.weight.copy_(separable.column.weight * separable.row.weight)  # 3x1 times 1x3
    x = noise(2, 3, 6, 5)
    torch.testing.assert_close(separable(x), square(x))


@pytest.mark.parametrize("kernel", [square_kernel, spatially_separable_kernel])
@pytest.mark.parametrize(("value", "allowed"), [(2, "odd"), (0, "a whole number of at least 1")])
def test_a_window_out_of_range(kernel, value, allowed):
    with pytest.raises(ValueError, match=f"^spatial_kernel.kernel_size={value}: must be {allowed}$"):
        kernel(nn.Conv2d, 4, kernel_size=value)
