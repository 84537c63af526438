"""Whether the network is Howard et al.'s table 1: counts, sizes, order, padding."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from experiments.sizes.network_cost import count_network
from lightning_modules.networks.mobilenet import MobileNet, MobileNetModule, SameConv3x3

NORM = partial(nn.BatchNorm2d, eps=1e-3)
PAPER = {"num_classes": 1000, "in_channels": 3, "width": 1, "stem_stride": 2, "dropout": 0.0, "norm": NORM}
SMALL = PAPER | {"num_classes": 10, "in_channels": 1, "width": 0.325, "stem_stride": 1}
TABLE_1 = [
    *((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)),
    *[(512, 512, 1)] * 5,
    *((512, 1024, 2), (1024, 1024, 1)),
]
"""Channels in and out, stride."""


def on_meta(**arguments):
    with torch.device("meta"):
        return MobileNet(**arguments)


def count(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_parameters_are_as_many_as_counted_from_table_1():
    # A 3x3 kernel per channel, a 1x1 kernel, BN's scale and shift behind each.
    modules = sum(9 * c_in + 2 * c_in + c_in * c_out + 2 * c_out for c_in, c_out, _ in TABLE_1)
    stem, head = 9 * 3 * 32 + 2 * 32, 1024 * 1000 + 1000
    assert stem + modules + head == 4_231_976
    assert count(on_meta(**PAPER)) == 4_231_976
    assert count(on_meta(**(PAPER | {"num_classes": 10}))) == 4_231_976 - 990 * 1025


@pytest.mark.parametrize(("width", "millions"), [(1, 569), (0.75, 325), (0.5, 149), (0.25, 41)])
def test_multiply_adds_are_the_papers(width, millions):
    """Table 6 of the paper."""
    model = {"_target_": "lightning_modules.networks.mobilenet.MobileNet"} | PAPER | {"width": width}
    cost = count_network({"dataset": {"image_size": 224, "channels": 3}, "model": model})
    assert round(cost.multiply_adds / 1e6) == pytest.approx(millions, abs=1)


def test_channels_and_strides_are_table_1s():
    modules = on_meta(**PAPER).body
    found = [(m.depthwise.in_channels, m.pointwise.out_channels, m.depthwise.stride[0]) for m in modules]
    assert found == TABLE_1
    assert all(m.depthwise.groups == m.depthwise.out_channels == m.depthwise.in_channels for m in modules)


def sides_of(network, side):
    x = torch.empty(1, network.stem.conv.in_channels, side, side, device="meta")
    sides = []
    for stage in (network.stem, *network.body):
        x = stage(x)
        sides.append(x.shape[-1])
    return sides


def test_feature_maps_of_a_224_image_are_table_1s():
    network = on_meta(**PAPER).eval()
    assert sides_of(network, 224) == [112, 112, 56, 56, 28, 28] + 6 * [14] + [7, 7]
    assert network(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize(("side", "sides"), [(28, [28, 14, 7, 4, 2]), (32, [32, 16, 8, 4, 2]), (1, 5 * [1])])
def test_small_images_fit(side, sides):
    first, second, third, fourth, last = sides
    expected = [first, first, second, second, third, third] + 6 * [fourth] + [last, last]
    assert sides_of(on_meta(**SMALL).eval(), side) == expected


def test_width_multiplies_every_number_of_channels():
    network, full = on_meta(**(PAPER | {"width": 0.25})), on_meta(**PAPER)
    for ours, whole in zip(network.modules(), full.modules(), strict=True):
        if isinstance(whole, nn.Conv2d):
            assert ours.out_channels == whole.out_channels / 4
    assert network.head.logits.in_features == 256
    narrow = on_meta(**(PAPER | {"width": 1e-9}))
    assert {m.out_channels for m in narrow.modules() if isinstance(m, nn.Conv2d)} == {1}


def tensorflow_same(images, kernel, stride):
    """TensorFlow's definition of padding="same" for a depthwise 3x3 kernel, window by window."""
    height, width = images.shape[-2:]

    def start(side, number):
        out = math.ceil(side / stride)
        return number * stride - max((out - 1) * stride + 3 - side, 0) // 2

    images = functional.pad(images, (2, 2, 2, 2))
    rows = []
    for row in range(math.ceil(height / stride)):
        top = start(height, row) + 2
        lefts = (start(width, column) + 2 for column in range(math.ceil(width / stride)))
        rows.append(
            torch.stack(
                [(images[..., top : top + 3, at : at + 3] * kernel).sum((-2, -1)) for at in lefts], -1
            )
        )
    return torch.stack(rows, -2)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (5, 5), (6, 6), (5, 6), (6, 5), (1, 4)])
@pytest.mark.parametrize("channels", [3, 8])
def test_windows_are_padded_as_tensorflow(channels, height, width, stride, memory_format):
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, height, width, generator=draws)
    conv = SameConv3x3(channels, channels, stride=stride, groups=channels)
    conv.to(memory_format=memory_format)
    given = images.clone(memory_format=memory_format).requires_grad_()
    expected_from = images.clone().requires_grad_()
    kernel = conv.weight.detach().clone().requires_grad_()
    out, expected = conv(given), tensorflow_same(expected_from, kernel[:, 0], stride)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(given.grad, expected_from.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(conv.weight.grad, kernel.grad, rtol=1e-4, atol=1e-5)


def test_a_module_is_depthwise_norm_relu_pointwise_norm_relu():
    module = MobileNetModule(2, 3, stride=1, norm=NORM).eval()
    assert [(name, tuple(p.shape)) for name, p in module.named_parameters()] == [
        ("depthwise.weight", (2, 1, 3, 3)),
        ("norm1.weight", (2,)),
        ("norm1.bias", (2,)),
        ("pointwise.weight", (3, 2, 1, 1)),
        ("norm2.weight", (3,)),
        ("norm2.bias", (3,)),
    ]
    with torch.no_grad():
        module.depthwise.weight.zero_()
        module.depthwise.weight[:, 0, 1, 1] = torch.tensor([2.0, -3.0])  # the pixel itself
        module.pointwise.weight[:, :, 0, 0] = torch.tensor([[1.0, 0], [-1, 0], [1, 1]])
        module.norm1.bias[:] = torch.tensor([1.0, 20.0])
        module.norm2.bias.fill_(0.5)
        pixels = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1)
        s = 1 / 1.001**0.5
        inner = torch.tensor([2 * s + 1, -15 * s + 20])
        expected = torch.stack([inner[0] * s + 0.5, torch.tensor(0.0), inner.sum() * s + 0.5])
        torch.testing.assert_close(module(pixels).flatten(), expected)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("num_classes", 0, "a whole number of at least 1"),
        ("in_channels", 1.0, "a whole number of at least 1"),
        ("width", 0, "a number above 0 and below 2048"),
        ("stem_stride", 3, "one of 1, 2"),
        ("dropout", 1, "a number of at least 0 and below 1"),
    ],
)
def test_a_size_out_of_range_names_key_value_and_what_is_allowed(argument, value, allowed):
    with pytest.raises(ValueError, match=rf"^model\.{argument}={value}: must be {allowed}$"):
        on_meta(**(PAPER | {argument: value}))
