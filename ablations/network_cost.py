"""What a network costs: parameters and multiply-adds of one image, counted without computing it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class NetworkCost:
    """Attributes:
    parameters: Trainable parameters.
    multiply_adds: Of the convolutions and linear layers, for one image.
    """

    parameters: int
    multiply_adds: int


def count_parameters(model: Mapping[str, Any]) -> int:
    """Trainable parameters of a network.

    Args:
        model: Its node of a resolved configuration.
    """
    with torch.device("meta"):
        return _trainable(instantiate(model))


def count_network(config: Mapping[str, Any]) -> NetworkCost:
    """Count the network of a resolved configuration on one image of its dataset.

    Raises:
        ValueError: The network cannot take images of that size.
    """
    dataset = config["dataset"]
    size = dataset["image_size"]
    with torch.device("meta"):
        network = instantiate(config["model"]).eval()
        image = torch.empty(1, dataset["channels"], size, size)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
    except RuntimeError as error:
        raise ValueError(
            f"dataset.image_size={size}: too small for model {config['model']['_target_']} ({error})"
        ) from error
    return NetworkCost(
        parameters=_trainable(network),
        multiply_adds=counter.get_total_flops() // 2,
    )


def _trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
