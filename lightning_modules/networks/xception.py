"""Xception as in figure 5 (Chollet 2016, arXiv:1610.02357, section 3).

36 convolution layers in 14 modules; every module except the first and the last has a linear residual
connection. Trainable parameters at width 1: 22,855,952 with 1000 classes, 20,827,442 with 10, and 21,878,880
with 1000 classes and no shortcut. Feature maps of a 299x299 image: 299, 149, 147, 74, 37, 19, 10.

Beyond the paper, for small images: a width multiplier, the stem's stride and the number of middle modules.
The paper's are width 1, stride 2 and 8 middle modules.
"""

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from lightning_modules.networks.blocks import ConvNorm, Norm, Pool, SeparableConv, Shortcut
from lightning_modules.networks.head import FullyConnected, Head
from lightning_modules.validation import require_integer, require_number, require_one_of, require_width


class XceptionModule(nn.Module):
    """`shortcut(x) + f(x)`, `f = n x ([ReLU,] separable conv 3x3, BN) [, max pool 3x3 stride 2]`.

    (N, C_in, H, W) -> (N, channels[-1], H, W), or half the side, rounded up, with a pool. The shortcut reads
    the input before the leading ReLU. Without a shortcut it is `f(x)`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        *,
        pool: Pool | None,
        leading_relu: bool,
        separable: SeparableConv,
        shortcut: Shortcut,
        norm: Norm,
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = in_channels
        for number, out_channels in enumerate(channels, start=1):
            first = number == 1
            if not first or leading_relu:
                # Not in place: the shortcut reads the same input.
                layers[f"relu{number}"] = nn.ReLU(inplace=not first)
            layers[f"separable{number}"] = separable(width, out_channels, norm=norm)
            width = out_channels
        if pool is not None:
            layers["pool"] = pool()
        self.body = nn.Sequential(layers)
        self.shortcut = shortcut(
            in_channels=in_channels, out_channels=width, stride=1 if pool is None else 2, norm=norm
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        # In place: nothing else needs the body's output.
        return features if self.shortcut is None else features.add_(self.shortcut(x))


class Xception(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes).

    The arguments are explained in conf/model/xception.yaml.

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
        middle_modules: int,
        dropout: float,
        separable: SeparableConv,
        residual: Shortcut,
        pool: Pool,
        fully_connected: FullyConnected,
        norm: Norm,
    ) -> None:
        super().__init__()
        require_integer("model.num_classes", num_classes, 1)
        require_integer("model.in_channels", in_channels, 1)
        require_width(width)
        require_one_of("model.stem_stride", stem_stride, (1, 2))
        require_integer("model.middle_modules", middle_modules, 0)
        require_number("model.dropout", dropout, 0, 1)

        def scaled(*channels: int) -> tuple[int, ...]:
            return tuple(max(1, round(width * number)) for number in channels)

        relu = partial(nn.ReLU, inplace=True)
        module = partial(XceptionModule, separable=separable, shortcut=residual, norm=norm)
        c32, c64, c128, c256, c728 = scaled(32, 64, 128, 256, 728)
        c1024, c1536, c2048 = scaled(1024, 1536, 2048)
        self.stem = nn.Sequential(  # module 1
            OrderedDict(
                conv1=ConvNorm(in_channels, c32, kernel_size=3, stride=stem_stride, norm=norm),
                relu1=relu(),
                conv2=ConvNorm(c32, c64, kernel_size=3, stride=1, norm=norm),
                relu2=relu(),
            )
        )
        self.entry_flow = nn.Sequential(  # modules 2 to 4
            module(c64, (c128, c128), pool=pool, leading_relu=False),
            module(c128, (c256, c256), pool=pool, leading_relu=True),
            module(c256, (c728, c728), pool=pool, leading_relu=True),
        )
        self.middle_flow = nn.Sequential(  # modules 5 to 12
            *(module(c728, (c728, c728, c728), pool=None, leading_relu=True) for _ in range(middle_modules))
        )
        self.exit_flow = nn.Sequential(  # modules 13 and 14
            OrderedDict(
                module=module(c728, (c728, c1024), pool=pool, leading_relu=True),
                separable1=separable(c1024, c1536, norm=norm),
                relu1=relu(),
                separable2=separable(c1536, c2048, norm=norm),
                relu2=relu(),
            )
        )
        self.head = Head(
            c2048, num_classes=num_classes, width=width, dropout=dropout, fully_connected=fully_connected
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = self.entry_flow(features)
        features = self.middle_flow(features)
        features = self.exit_flow(features)
        return self.head(features)
