"""The head: pool, optional fully connected layers, logistic regression.

Paper: Chollet 2016 (arXiv:1610.02357), figure 5, "optional fully-connected layer(s)", and table 2: two of
4096 units before the logistic regression, or none. Dropout is before the logistic regression (section 4.3).
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from lightning_modules.validation import require_integer

FullyConnected = Callable[..., "FullyConnectedLayers | None"]
"""Makes `fully_connected(in_features, width=)`; or None."""


class FullyConnectedLayers(nn.Sequential):
    """`layers x [linear, activation]`; (N, in_features) -> (N, out_features).

    Table 2 has two layers of 4096 units at width 1, and does not name the activation.

    Raises:
        ValueError: A size is out of its range.
    """

    def __init__(
        self,
        in_features: int,
        *,
        width: float,
        layers: int,
        units: int,
        activation: Callable[[], nn.Module],
    ) -> None:
        require_integer("fully_connected.layers", layers, 1)
        require_integer("fully_connected.units", units, 1)
        self.out_features = max(1, round(width * units))
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, layers + 1):
            parts[f"linear{number}"] = nn.Linear(in_features, self.out_features)
            parts[f"activation{number}"] = activation()
            in_features = self.out_features
        super().__init__(parts)


def no_fully_connected(in_features: int, *, width: float) -> None:
    """The logistic regression reads the pooled features: tables 1 and 3, half of table 2."""
    return None


class Head(nn.Sequential):
    """`logits(dropout([fully connected(]global average pool(x)[)]))`; (N, C, H, W) -> (N, num_classes).

    `width` is the network's and scales fully connected layers, made by `FullyConnectedLayers` or
    `no_fully_connected`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        width: float,
        dropout: float,
        fully_connected: FullyConnected,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        features = in_channels
        layers = fully_connected(in_channels, width=width)
        if layers is not None:
            parts["fully_connected"] = layers
            features = layers.out_features
        parts["dropout"] = nn.Dropout(dropout)
        parts["logits"] = nn.Linear(features, num_classes)
        super().__init__(parts)
