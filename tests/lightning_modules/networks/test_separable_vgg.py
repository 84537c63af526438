"""Whether the network is VGG-16's layout of separable convolutions: counts, sizes, order, small images."""

import itertools
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from lightning_modules.initialization import initialize
from lightning_modules.networks.head import FullyConnectedLayers, no_fully_connected
from lightning_modules.networks.separable import (
    SeparableConvNorm,
    depthwise_first,
    pointwise_first,
    segments_by_size,
    square_kernel,
)
from lightning_modules.networks.separable_vgg import SeparableVGG

SEPARABLE = partial(
    SeparableConvNorm,
    operation_order=depthwise_first,
    segments=partial(segments_by_size, channels_per_segment=1),
    spatial_kernel=partial(square_kernel, kernel_size=3),
    intermediate_norm=nn.Identity,
    intermediate_activation=nn.Identity,
)
WIDTH_1 = {
    "num_classes": 1000,
    "in_channels": 3,
    "width": 1,
    "dropout": 0.0,
    "separable": SEPARABLE,
    "fully_connected": no_fully_connected,
    "norm": partial(nn.BatchNorm2d, eps=1e-3),
}
SMALL = WIDTH_1 | {"num_classes": 10, "in_channels": 1, "width": 0.1}


def on_meta(**arguments):
    with torch.device("meta"):
        return SeparableVGG(**arguments)


def count(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_layout_is_torchvisions_vgg16s():
    """Convolutions with their channels, ReLUs and pools in one order; BN is ours, the bias VGG's."""
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(init_weights=False).features

    def layout(layers, convolution):
        described = []
        for layer in layers:
            if isinstance(layer, convolution):
                channels = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
                described.append((channels[0].in_channels, channels[-1].out_channels))
            else:
                described.append(type(layer).__name__)
        return described

    ours = [layer for stage in on_meta(**WIDTH_1).stages for layer in stage]
    assert layout(ours, SeparableConvNorm) == layout(theirs, nn.Conv2d)
    assert sum(isinstance(layer, SeparableConvNorm) for layer in ours) == 13
    assert all(layer.kernel_size == layer.stride == 2 for layer in ours if isinstance(layer, nn.MaxPool2d))


def test_parameters_are_those_counted_by_hand():
    channels = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    pairs = list(itertools.pairwise(channels))
    # A 3x3 kernel per channel, a 1x1 kernel, BN's scale and shift.
    expected = sum(9 * c_in + c_in * c_out + 2 * c_out for c_in, c_out in pairs) + 512 * 1000 + 1000
    assert expected == 2_189_379
    assert count(on_meta(**WIDTH_1)) == expected


def test_fully_connected_layers_are_before_the_logistic_regression():
    two = partial(FullyConnectedLayers, layers=2, units=4096, activation=nn.ReLU)
    without = 2_189_379 - 512 * 1000 - 1000
    layers = (512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
    assert count(on_meta(**(WIDTH_1 | {"fully_connected": two}))) == without + layers


def sides_of(network, side):
    x = torch.empty(1, network.stages[0].separable1.depthwise.in_channels, side, side, device="meta")
    sides = []
    for stage in network.stages:
        for layer in stage:
            x = layer(x)
        sides.append(x.shape[-1])
    return sides


@pytest.mark.parametrize(
    ("side", "sides"),
    [
        (224, [112, 56, 28, 14, 7]),
        (299, [150, 75, 38, 19, 10]),
        (32, [16, 8, 4, 2, 1]),
        (28, [14, 7, 4, 2, 1]),
        (1, [1, 1, 1, 1, 1]),
    ],
)
def test_five_pools_halve_a_side_and_leave_a_pixel(side, sides):
    network = on_meta(**WIDTH_1).eval()
    assert sides_of(network, side) == sides
    assert network(torch.empty(2, 3, side, side, device="meta")).shape == (2, 1000)


def test_a_pool_keeps_the_rest_of_an_odd_side():
    line = torch.arange(7.0).view(1, 1, 1, 7)
    pool = on_meta(**WIDTH_1).stages[0].pool
    assert pool(line).flatten().tolist() == [1, 3, 5, 6]


def test_what_is_chosen_is_in_every_convolution():
    def convolutions(**changes):
        network = on_meta(**(WIDTH_1 | {"separable": partial(SEPARABLE, **changes)}))
        return [module for module in network.modules() if isinstance(module, SeparableConvNorm)]

    with_activation = convolutions(intermediate_activation=nn.ELU)
    assert [type(separable.intermediate_activation) for separable in with_activation] == [nn.ELU] * 13
    swapped = convolutions(operation_order=pointwise_first)
    assert [next(iter(separable._modules)) for separable in swapped] == ["pointwise"] * 13


def test_width_multiplies_every_number_of_channels():
    full, half = on_meta(**WIDTH_1), on_meta(**(WIDTH_1 | {"width": 0.5}))
    for ours, whole in zip(half.stages.modules(), full.stages.modules(), strict=True):
        if isinstance(whole, nn.Conv2d) and whole.groups == 1:
            assert ours.out_channels == whole.out_channels / 2
    assert half.head.logits.in_features == 256
    assert count(on_meta(**(WIDTH_1 | {"width": 1e-9}))) > 0


def test_memory_order_changes_neither_logits_nor_images():
    network = SeparableVGG(**SMALL)
    initialize(network, 3, nn.init.xavier_uniform_)
    network.double()  # with the statistics of a batch, where rounding would show
    draws = torch.Generator().manual_seed(5)
    images = torch.randn(3, 1, 28, 28, generator=draws, dtype=torch.float64)
    before = images.clone()
    with torch.no_grad():
        usual = network(images)
        assert usual.std() > 0.01  # a dead network would agree with anything
        network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), usual)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("num_classes", 0, "a whole number of at least 1"),
        ("in_channels", 1.0, "a whole number of at least 1"),
        ("width", 0, "a number above 0 and below 2048"),
        ("dropout", 1, "a number of at least 0 and below 1"),
    ],
)
def test_a_size_out_of_range_names_key_value_and_what_is_allowed(argument, value, allowed):
    with pytest.raises(ValueError, match=rf"^model\.{argument}={value}: must be {allowed}$"):
        on_meta(**(WIDTH_1 | {argument: value}))
