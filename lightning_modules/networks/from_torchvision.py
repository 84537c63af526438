"""Torchvision's VGG-16, which is in table 1 of the Xception paper, and ResNet-18.

Trainable parameters with 1000 classes and 3 channels:

- VGG-16, 138,357,544: Simonyan & Zisserman 2014, arXiv:1409.1556, configuration D; no BN.
- ResNet-18, 11,689,512: He et al. 2015, arXiv:1512.03385, table 1.

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
    network.features[0] = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1)
    return network


def resnet18(
    *, num_classes: int, in_channels: int, stem_stride: int, dropout: float, norm: Norm
) -> nn.Module:
    """ResNet-18; images (N, in_channels, H, W) of any size -> logits (N, num_classes).

    The last modules see ⌈side/32⌉ pixels, ⌈side/16⌉ with a `stem_stride` of 1. The arguments are explained in
    conf/model/resnet18.yaml.

    Raises:
        ValueError: A size is out of its range.
    """
    _check(num_classes, in_channels, dropout, stem_stride)
    network = torchvision.models.resnet18(num_classes=num_classes, norm_layer=norm)
    network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=stem_stride, padding=3, bias=False)
    network.avgpool = _with_dropout(network.avgpool, dropout)
    return network


def _check(num_classes: int, in_channels: int, dropout: float, stem_stride: int = 1) -> None:
    require_integer("model.num_classes", num_classes, 1)
    require_integer("model.in_channels", in_channels, 1)
    require_number("model.dropout", dropout, 0, 1)
    require_one_of("model.stem_stride", stem_stride, (1, 2))


def _with_dropout(pool: nn.Module, dropout: float) -> nn.Module:
    """Dropout after the pool, which leaves the logistic regression its name."""
    return nn.Sequential(OrderedDict(pool=pool, dropout=nn.Dropout(dropout)))
