"""Padding as the author's Keras code has it, convolution and norm, the shortcuts."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from lightning_modules.networks.blocks import (
    ConvNorm,
    LinearShortcut,
    SameMaxPool2d,
    no_shortcut,
    projections_without_identities,
)

SIDES = (1, 2, 3, 4, 5, 8, 9)
NORM = partial(nn.BatchNorm2d, eps=1e-3)


def tensorflow_same_max_pool(images, kernel=3, stride=2):
    """TensorFlow's definition of padding="same", window by window."""
    height, width = images.shape[-2:]

    def windows(side):
        out = math.ceil(side / stride)
        before = max((out - 1) * stride + kernel - side, 0) // 2
        starts = (number * stride - before for number in range(out))
        return [slice(max(start, 0), min(start + kernel, side)) for start in starts]

    return torch.stack(
        [
            torch.stack([images[..., rows, columns].amax((-2, -1)) for columns in windows(width)], -1)
            for rows in windows(height)
        ],
        -2,
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width"), [*itertools.product(SIDES, SIDES)])
def test_max_pool_pads_as_tensorflow(height, width, memory_format):
    draws = torch.Generator().manual_seed(height * 10 + width)
    images = -1 - torch.rand(2, 3, height, width, generator=draws)  # a padding of 0 would win
    pooled = SameMaxPool2d()(images.to(memory_format=memory_format))
    assert pooled.shape == (2, 3, math.ceil(height / 2), math.ceil(width / 2))
    assert torch.equal(pooled, tensorflow_same_max_pool(images))


def test_max_pool_on_an_even_side_starts_at_the_first_pixel():
    line = torch.arange(4.0).view(1, 1, 1, 4)
    assert SameMaxPool2d()(line).flatten().tolist() == [2, 3]  # padded at the start: [1, 3]


def test_max_pool_hands_the_gradient_to_the_maxima():
    images = torch.tensor([[1.0, 5.0, 2.0, 3.0]]).view(1, 1, 1, 4).requires_grad_()
    SameMaxPool2d()(images).sum().backward()
    assert images.grad.flatten().tolist() == [0, 1, 0, 1]


def test_conv_norm_is_convolution_then_norm_without_bias():
    block = ConvNorm(2, 3, kernel_size=3, stride=2, norm=NORM).eval()
    assert {name: tuple(p.shape) for name, p in block.named_parameters()} == {
        "conv.weight": (3, 2, 3, 3),
        "norm.weight": (3,),
        "norm.bias": (3,),
    }
    nn.init.constant_(block.conv.weight, 1)
    nn.init.constant_(block.norm.bias, 0.5)
    # 18 ones behind each unpadded 3x3 window of two channels.
    assert torch.allclose(block(torch.ones(1, 2, 5, 5)), torch.full((1, 3, 2, 2), 18 / 1.001**0.5 + 0.5))


def test_shortcut_is_the_identity_where_the_shape_stays():
    shortcut = LinearShortcut(in_channels=4, out_channels=4, stride=1, norm=NORM)
    images = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert not list(shortcut.parameters())
    assert torch.equal(shortcut(images), images)


@pytest.mark.parametrize(("out_channels", "stride"), [(4, 2), (5, 1), (5, 2)])
def test_shortcut_projects_where_the_shape_changes(out_channels, stride):
    shortcut = LinearShortcut(in_channels=4, out_channels=out_channels, stride=stride, norm=NORM)
    assert sum(p.numel() for p in shortcut.parameters()) == 4 * out_channels + 2 * out_channels
    for side in (5, 6):
        halved = math.ceil(side / stride)
        assert shortcut(torch.ones(2, 4, side, side)).shape == (2, out_channels, halved, halved)


@pytest.mark.parametrize("channels", [1, 3, 6, 8, 13])
def test_gradient_of_a_projection_is_right_in_channels_last_memory(channels):
    """PyTorch's own 1x1 convolution of stride 2 gives wrong ones there, or crashes the process."""
    shortcut = LinearShortcut(in_channels=channels, out_channels=6, stride=2, norm=lambda _: nn.Identity())
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(8, channels, 6, 6, generator=draws)
    upstream = torch.randn(8, 6, 3, 3, generator=draws)
    shortcut.to(memory_format=torch.channels_last)
    projected = shortcut(images.to(memory_format=torch.channels_last))
    projected.backward(upstream)
    every_second = images[..., ::2, ::2]
    kernel = shortcut.projection.conv.weight
    assert projected.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(projected, torch.einsum("nchw,oc->nohw", every_second, kernel[:, :, 0, 0]))
    expected = torch.einsum("nohw,nchw->oc", upstream, every_second)
    torch.testing.assert_close(kernel.grad[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 7), (6, 7), (1, 2)])
def test_a_strided_projection_reads_every_second_pixel_and_hands_their_gradient_on(
    height, width, memory_format
):
    shortcut = LinearShortcut(in_channels=3, out_channels=3, stride=2, norm=lambda _: nn.Identity())
    with torch.no_grad():
        shortcut.projection.conv.weight[:, :, 0, 0] = torch.eye(3)
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, height, width, generator=draws)
    images = images.to(memory_format=memory_format).requires_grad_()
    shortcut.to(memory_format=memory_format)
    projected = shortcut(images)
    assert torch.equal(projected, images[..., ::2, ::2])
    upstream = torch.randn(projected.shape, generator=draws)
    projected.backward(upstream)
    expected = torch.zeros_like(images)
    expected[..., ::2, ::2] = upstream
    assert torch.equal(images.grad, expected)


def test_gradient_of_a_strided_projection_keeps_the_memory_order():
    """Of another order it would slow down every layer behind it."""
    orders = []
    shortcut = LinearShortcut(in_channels=8, out_channels=8, stride=2, norm=NORM)
    shortcut.to(memory_format=torch.channels_last)
    images = torch.ones(2, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    inner = images * 1
    inner.register_hook(lambda grad: orders.append(grad.is_contiguous(memory_format=torch.channels_last)))
    shortcut(inner).sum().backward()
    assert orders == [True]


def test_no_shortcut_is_none():
    assert no_shortcut(in_channels=4, out_channels=5, stride=2, norm=NORM) is None


@pytest.mark.parametrize(
    ("out_channels", "stride", "stands"), [(4, 1, False), (4, 2, True), (5, 1, True), (5, 2, True)]
)
def test_a_projection_without_identities_stands_where_the_shape_changes(out_channels, stride, stands):
    sizes = {"in_channels": 4, "out_channels": out_channels, "stride": stride, "norm": NORM}
    shortcut = projections_without_identities(**sizes)
    assert (shortcut is not None) == stands
    if shortcut is not None:
        assert isinstance(shortcut.projection, ConvNorm)
        assert shortcut.state_dict().keys() == LinearShortcut(**sizes).state_dict().keys()
