"""Torchvision's VGG-16, ResNets and GoogLeNet, which the Xception paper names (table 1: VGG-16, ResNet-152).

Trainable parameters with 1000 classes and 3 channels:

- VGG-16, 138,357,544: Simonyan & Zisserman 2014, arXiv:1409.1556, configuration D; no BN.
- ResNet-18, 11,689,512, and ResNet-152, 60,192,808: He et al. 2015, arXiv:1512.03385, table 1; a module's
  stride is in its 3x3 convolution.
- GoogLeNet, 6,624,904: Szegedy et al. 2014, arXiv:1409.4842, table 1; with BN, 3x3 instead of 5x5
  convolutions, and no auxiliary towers.

Parameter names are torchvision's; there is no width. The run draws the initial values, so torchvision's are
skipped if possible.
"""

from collections import OrderedDict

import torchvision
from torch import nn

from lightning_modules.networks.blocks import Norm
from lightning_modules.validation import require_integer, require_number, require_one_of


def vgg16(*, num_classes: int, in_channels: int, dropout: float) -> nn.Module:
    """VGG-16; images (N, in_channels, H, W) of at least 32x32 -> logits (N, num_classes).

    Five pools halve the sides. The result is averaged to 7x7, or repeated if smaller, so the first fully
    connected layer has 102,764,544 weights at any size. Dropout follows both fully connected layers.

    Raises:
        ValueError: A size is out of its range.
    """
    _check(num_classes, in_channels, dropout)
    network = torchvision.models.vgg16(num_classes=num_classes, dropout=dropout, init_weights=False)
    _set_first_convolution(network, in_channels)
    return network


def resnet18(
    *, num_classes: int, in_channels: int, stem_stride: int, dropout: float, norm: Norm
) -> nn.Module:
    """ResNet-18; see `resnet152`. `norm` makes the norm after each convolution."""
    _check(num_classes, in_channels, dropout, stem_stride)
    network = torchvision.models.resnet18(num_classes=num_classes, norm_layer=norm)
    _set_first_convolution(network, in_channels, stem_stride)
    network.avgpool = _with_dropout(network.avgpool, dropout)
    return network


def resnet152(
    *, num_classes: int, in_channels: int, stem_stride: int, dropout: float, norm_momentum: float
) -> nn.Module:
    """ResNet-152; images (N, in_channels, H, W) of any size -> logits (N, num_classes).

    The last modules see ⌈side/32⌉ pixels, ⌈side/16⌉ with a `stem_stride` of 1. The arguments are explained in
    conf/model/resnet152.yaml.

    Raises:
        ValueError: A size is out of its range.
    """
    _check(num_classes, in_channels, dropout, stem_stride)
    network = torchvision.models.resnet152(num_classes=num_classes)
    _set_first_convolution(network, in_channels, stem_stride)
    network.avgpool = _with_dropout(network.avgpool, dropout)
    _set_norm_momentum(network, norm_momentum)
    return network


def googlenet(
    *, num_classes: int, in_channels: int, stem_stride: int, dropout: float, norm_momentum: float
) -> nn.Module:
    """GoogLeNet without auxiliary towers; see `resnet152`. The paper's dropout is 0.4."""
    _check(num_classes, in_channels, dropout, stem_stride)
    network = torchvision.models.googlenet(
        num_classes=num_classes, aux_logits=False, init_weights=False, dropout=dropout
    )
    _set_first_convolution(network, in_channels, stem_stride)
    _set_norm_momentum(network, norm_momentum)
    return network


def _check(num_classes: int, in_channels: int, dropout: float, stem_stride: int = 1) -> None:
    require_integer("model.num_classes", num_classes, 1)
    require_integer("model.in_channels", in_channels, 1)
    require_number("model.dropout", dropout, 0, 1)
    require_one_of("model.stem_stride", stem_stride, (1, 2))


def _with_dropout(pool: nn.Module, dropout: float) -> nn.Module:
    """Dropout after the pool, which leaves the logistic regression its name."""
    return nn.Sequential(OrderedDict(pool=pool, dropout=nn.Dropout(dropout)))


def _set_first_convolution(network: nn.Module, in_channels: int, stride: int | None = None) -> None:
    """Replace the first convolution, under its name."""
    name, conv = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, last = name.rpartition(".")
    replacement = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride if stride is None else stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    setattr(network.get_submodule(parent), last, replacement)


def _set_norm_momentum(network: nn.Module, momentum: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
