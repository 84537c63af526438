"""Inception V3 without auxiliary tower, Xception's comparison in tables 1 to 3 and figures 6 to 8.

Paper: Szegedy et al. 2015 (arXiv:1512.00567), table 1 and figures 5, 6, 7 and 10. This is the published
network (torchvision's graph), which differs from table 1: after the first pool come a 1x1 convolution of 80
channels, a 3x3 convolution of 192 and a second pool; the first branch of figure 5 keeps a 5x5 convolution;
and four modules of figure 6 follow the reduction to 17x17.

Two variants are configured, both with scale and shift in BN. Trainable parameters at width 1, 1000 classes:

- canonical, 23,834,568: convolutions without bias, then BN, then ReLU.
- table 3 of the Xception paper, 23,626,728: the Keras port of August 2016
  (https://github.com/fchollet/deep-learning-models). Convolutions have a bias, and ReLU comes before BN; the
  pool branches of the three 35x35 modules have 32 channels; the last 17x17 module enters its double 7x7
  branch with 160 channels; average pools leave out the padding, as in TensorFlow; the reduction to 8x8 has an
  average pool.

Feature maps of a 299x299 image: 299, 149, 147, 147, 73, 71, 35, 17, 8.

Beyond the paper, for small images: a width multiplier, the stem's stride, and padding of windows that the
paper leaves unpadded.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.networks.blocks import Norm
from lightning_modules.networks.head import FullyConnected, Head
from lightning_modules.validation import require_integer, require_number, require_one_of, require_width

Kernel = tuple[int, int]
"""Height and width of a convolution's window."""

Convolution = Callable[..., nn.Module]
"""Makes `convolution(in_channels, out_channels, kernel_size=, stride=, padding=)` with norm and ReLU."""

Pool = Callable[..., nn.Module]
"""Makes `pool(kernel_size, stride=, padding=)`."""

Scale = Callable[[int], int]
"""Channels at width 1 -> channels."""


class ConvNormReLU(nn.Module):
    """`ReLU(BN(conv(x)))`; (N, C_in, H, W) -> (N, C_out, H', W'). No bias: BN has the shift."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Kernel,
        stride: int,
        padding: Kernel,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.norm = norm(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)))


class BiasedConvReLUNorm(nn.Module):
    """`BN(ReLU(conv(x) + b))`; (N, C_in, H, W) -> (N, C_out, H', W'). From the Keras port."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Kernel,
        stride: int,
        padding: Kernel,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=True)
        self.relu = nn.ReLU(inplace=True)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.relu(self.conv(x)))


class Layer(NamedTuple):
    """A branch's convolution; padding None keeps the side."""

    channels: int
    kernel: Kernel
    stride: int = 1
    padding: int | None = None


class Branches(nn.Module):
    """`[b1(x), b2(x), ...]`, concatenated along the channels, in order."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


class Builder(NamedTuple):
    """Builds the modules of one network.

    Attributes:
        scale: Channels at width 1 -> channels.
        convolution: Makes a convolution with norm and ReLU.
        average_pool: Makes the pool of a pool branch.
        padding: Pixels around windows that the paper leaves unpadded.
    """

    scale: Scale
    convolution: Convolution
    average_pool: Pool
    padding: int

    def conv(self, in_channels: int, layer: Layer) -> nn.Module:
        """A layer; `in_channels` is scaled already."""
        height, width = layer.kernel
        same = (height // 2, width // 2)
        return self.convolution(
            in_channels,
            self.scale(layer.channels),
            kernel_size=layer.kernel,
            stride=layer.stride,
            padding=same if layer.padding is None else (layer.padding, layer.padding),
        )

    def stem(self, in_channels: int, stride: int) -> nn.Sequential:
        """`conv1`, ..., `pool2`: 192 channels, before the first module."""
        scale, padding = self.scale, self.padding
        return nn.Sequential(
            OrderedDict(
                conv1=self.conv(in_channels, Layer(32, (3, 3), stride, padding)),
                conv2=self.conv(scale(32), Layer(32, (3, 3), 1, padding)),
                conv3=self.conv(scale(32), Layer(64, (3, 3))),
                pool1=nn.MaxPool2d(3, stride=2, padding=padding),
                conv4=self.conv(scale(64), Layer(80, (1, 1))),
                conv5=self.conv(scale(80), Layer(192, (3, 3), 1, padding)),
                pool2=nn.MaxPool2d(3, stride=2, padding=padding),
            )
        )

    def chain(self, in_channels: int, *layers: Layer) -> nn.Sequential:
        """`conv1`, `conv2`, ..., in sequence."""
        chained: OrderedDict[str, nn.Module] = OrderedDict()
        for number, layer in enumerate(layers, start=1):
            chained[f"conv{number}"] = self.conv(in_channels, layer)
            in_channels = self.scale(layer.channels)
        return nn.Sequential(chained)

    def chain_then_split(self, in_channels: int, *layers: Layer, channels: int) -> nn.Sequential:
        """A chain, then `[conv 1x3, conv 3x1]` of `channels` each, as in figure 7."""
        chained = self.chain(in_channels, *layers)
        inner = self.scale(layers[-1].channels)
        split = Branches(
            conv_1x3=self.conv(inner, Layer(channels, (1, 3))),
            conv_3x1=self.conv(inner, Layer(channels, (3, 1))),
        )
        chained.add_module(f"conv{len(layers) + 1}", split)
        return chained

    def pool_branch(self, in_channels: int, channels: int) -> nn.Sequential:
        """`conv 1x1(average pool 3x3(x))`."""
        return nn.Sequential(
            OrderedDict(
                pool=self.average_pool(3, stride=1, padding=1),
                conv=self.conv(in_channels, Layer(channels, (1, 1))),
            )
        )


class Module35x35(Branches):
    """`[1x1, 5x5(1x1), 3x3(3x3(1x1)), 1x1(average pool)]`; (N, C, H, W) -> (N, 224 + pool, H, W).

    Channels: 64; 48, 64; 64, 96, 96; `pool_channels`. Figure 5, with one 5x5 convolution.
    """

    def __init__(self, in_channels: int, *, pool_channels: int, build: Builder) -> None:
        super().__init__(
            branch_1x1=build.conv(in_channels, Layer(64, (1, 1))),
            branch_5x5=build.chain(in_channels, Layer(48, (1, 1)), Layer(64, (5, 5))),
            branch_double_3x3=build.chain(
                in_channels, Layer(64, (1, 1)), Layer(96, (3, 3)), Layer(96, (3, 3))
            ),
            branch_pool=build.pool_branch(in_channels, pool_channels),
        )
        self.out_channels = sum(map(build.scale, (64, 64, 96, pool_channels)))


class ReductionTo17x17(Branches):
    """`[3x3/2, 3x3/2(3x3(1x1)), max pool/2]`; (N, C, H, W) -> (N, 480 + C, (H - 1) // 2, (W - 1) // 2).

    Channels: 384; 64, 96, 96. Figure 10. With a padding of 1 the sides are ⌈H/2⌉, ⌈W/2⌉.
    """

    def __init__(self, in_channels: int, *, build: Builder) -> None:
        padding = build.padding
        super().__init__(
            branch_3x3=build.conv(in_channels, Layer(384, (3, 3), 2, padding)),
            branch_double_3x3=build.chain(
                in_channels, Layer(64, (1, 1)), Layer(96, (3, 3)), Layer(96, (3, 3), 2, padding)
            ),
            branch_pool=nn.MaxPool2d(3, stride=2, padding=padding),
        )
        self.out_channels = build.scale(384) + build.scale(96) + in_channels


class Module17x17(Branches):
    """`[1x1, 7x1(1x7(1x1)), 1x7(7x1(1x7(7x1(1x1)))), 1x1(average pool)]`; (N, C, H, W) -> (N, 768, H, W).

    Channels: 192; c, c, 192; d, c, c, c, 192; 192; c = `channels`, d = `double_channels`. Figure 6, n = 7.
    """

    def __init__(self, in_channels: int, *, channels: int, double_channels: int, build: Builder) -> None:
        super().__init__(
            branch_1x1=build.conv(in_channels, Layer(192, (1, 1))),
            branch_7x7=build.chain(
                in_channels, Layer(channels, (1, 1)), Layer(channels, (1, 7)), Layer(192, (7, 1))
            ),
            branch_double_7x7=build.chain(
                in_channels,
                Layer(double_channels, (1, 1)),
                Layer(channels, (7, 1)),
                Layer(channels, (1, 7)),
                Layer(channels, (7, 1)),
                Layer(192, (1, 7)),
            ),
            branch_pool=build.pool_branch(in_channels, 192),
        )
        self.out_channels = 4 * build.scale(192)


class ReductionTo8x8(Branches):
    """`[3x3/2(1x1), 3x3/2(7x1(1x7(1x1))), pool/2]`; (N, C, H, W) -> (N, 512 + C, (H - 1) // 2, (W - 1) // 2).

    Channels: 192, 320; 192, 192, 192, 192. As figure 10. With a padding of 1 the sides are ⌈H/2⌉, ⌈W/2⌉.
    """

    def __init__(self, in_channels: int, *, pool: Pool, build: Builder) -> None:
        padding = build.padding
        super().__init__(
            branch_3x3=build.chain(in_channels, Layer(192, (1, 1)), Layer(320, (3, 3), 2, padding)),
            branch_7x7x3=build.chain(
                in_channels,
                Layer(192, (1, 1)),
                Layer(192, (1, 7)),
                Layer(192, (7, 1)),
                Layer(192, (3, 3), 2, padding),
            ),
            branch_pool=pool(3, stride=2, padding=padding),
        )
        self.out_channels = build.scale(320) + build.scale(192) + in_channels


class Module8x8(Branches):
    """`[1x1, s(1x1), s(3x3(1x1)), 1x1(average pool)]`, `s = [1x3, 3x1]`; (N, C, H, W) -> (N, 2048, H, W).

    Channels: 320; 384, 384 + 384; 448, 384, 384 + 384; 192. Figure 7.
    """

    def __init__(self, in_channels: int, *, build: Builder) -> None:
        super().__init__(
            branch_1x1=build.conv(in_channels, Layer(320, (1, 1))),
            branch_3x3=build.chain_then_split(in_channels, Layer(384, (1, 1)), channels=384),
            branch_double_3x3=build.chain_then_split(
                in_channels, Layer(448, (1, 1)), Layer(384, (3, 3)), channels=384
            ),
            branch_pool=build.pool_branch(in_channels, 192),
        )
        self.out_channels = build.scale(320) + 4 * build.scale(384) + build.scale(192)


def _require_three(key: str, channels: Sequence[int]) -> None:
    """Raise ValueError unless there are three positive whole numbers."""
    is_list = isinstance(channels, Sequence) and not isinstance(channels, str)
    if not is_list or len(channels) != 3:
        raise ValueError(f"{key}={channels}: must be three whole numbers")
    for number in channels:
        require_integer(key, number, 1)


class InceptionV3(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes).

    The arguments are explained in conf/model/inception_v3.yaml.

    Raises:
        ValueError: A size is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: float,
        stem_stride: int,
        padding: int,
        pool_branch_channels: Sequence[int],
        last_double_7x7_channels: int,
        dropout: float,
        convolution: Convolution,
        average_pool: Pool,
        last_reduction_pool: Pool,
        fully_connected: FullyConnected,
        norm: Norm,
    ) -> None:
        super().__init__()
        require_integer("model.num_classes", num_classes, 1)
        require_integer("model.in_channels", in_channels, 1)
        require_width(width)
        require_one_of("model.stem_stride", stem_stride, (1, 2))
        require_one_of("model.padding", padding, (0, 1))
        _require_three("model.pool_branch_channels", pool_branch_channels)
        require_integer("model.last_double_7x7_channels", last_double_7x7_channels, 1)
        require_number("model.dropout", dropout, 0, 1)

        def scale(channels: int) -> int:
            return max(1, round(width * channels))

        build = Builder(scale, partial(convolution, norm=norm), average_pool, padding)
        self.stem = build.stem(in_channels, stem_stride)
        features = scale(192)
        self.modules_35x35 = nn.Sequential()
        for pool_channels in pool_branch_channels:
            module35 = Module35x35(features, pool_channels=pool_channels, build=build)
            self.modules_35x35.append(module35)
            features = module35.out_channels
        self.reduction_17x17 = ReductionTo17x17(features, build=build)
        features = self.reduction_17x17.out_channels
        self.modules_17x17 = nn.Sequential()
        for channels, double in ((128, 128), (160, 160), (160, 160), (192, last_double_7x7_channels)):
            module17 = Module17x17(features, channels=channels, double_channels=double, build=build)
            self.modules_17x17.append(module17)
            features = module17.out_channels
        self.reduction_8x8 = ReductionTo8x8(features, pool=last_reduction_pool, build=build)
        features = self.reduction_8x8.out_channels
        self.modules_8x8 = nn.Sequential()
        for _ in range(2):
            module8 = Module8x8(features, build=build)
            self.modules_8x8.append(module8)
            features = module8.out_channels
        self.head = Head(
            features, num_classes=num_classes, width=width, dropout=dropout, fully_connected=fully_connected
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = self.modules_35x35(features)
        features = self.reduction_17x17(features)
        features = self.modules_17x17(features)
        features = self.reduction_8x8(features)
        features = self.modules_8x8(features)
        return self.head(features)


_TORCHVISION_PARTS = {
    "stem.conv1": "Conv2d_1a_3x3",
    "stem.conv2": "Conv2d_2a_3x3",
    "stem.conv3": "Conv2d_2b_3x3",
    "stem.conv4": "Conv2d_3b_1x1",
    "stem.conv5": "Conv2d_4a_3x3",
    "modules_35x35.0": "Mixed_5b",
    "modules_35x35.1": "Mixed_5c",
    "modules_35x35.2": "Mixed_5d",
    "reduction_17x17": "Mixed_6a",
    "modules_17x17.0": "Mixed_6b",
    "modules_17x17.1": "Mixed_6c",
    "modules_17x17.2": "Mixed_6d",
    "modules_17x17.3": "Mixed_6e",
    "reduction_8x8": "Mixed_7a",
    "modules_8x8.0": "Mixed_7b",
    "modules_8x8.1": "Mixed_7c",
    "head.logits": "fc",
}


def torchvision_name(name: str) -> str:
    """Torchvision's name of a parameter or buffer of the canonical `InceptionV3`.

    E.g. `Mixed_7b.branch3x3dbl_3b.bn.weight` for
    `modules_8x8.0.branch_double_3x3.conv3.conv_3x1.norm.weight`.

    Raises:
        ValueError: Unknown name.
    """
    part = next((part for part in _TORCHVISION_PARTS if name.startswith(f"{part}.")), None)
    if part is None:
        raise ValueError(f"{name}: not a parameter of InceptionV3")

    def numbered(found: re.Match[str]) -> str:
        double, window, number, split = found.groups()
        letter = {None: "", "1x3": "a", "3x1": "b"}[split]
        return f".branch{window}{'dbl' if double else ''}_{number}{letter}."

    rest = name.removeprefix(part)
    rest = re.sub(r"^\.branch_(double_)?([0-9x]+)\.conv(\d)(?:\.conv_(\dx\d))?\.", numbered, rest)
    rest = re.sub(r"^\.branch_([0-9x]+)\.", r".branch\1.", rest)
    rest = rest.replace(".branch_pool.conv.", ".branch_pool.", 1).replace(".norm.", ".bn.")
    return _TORCHVISION_PARTS[part] + rest
