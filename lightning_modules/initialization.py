"""Initial values of the parameters, drawn per parameter and by name.

Two networks with one seed start from equal values in every parameter whose name and shape they share,
so that the arms of an ablation differ in the declared factor alone. With one global stream, leaving
out a shortcut would shift the draws of every parameter behind it.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lightning_modules.networks.separable import ConvPart
from lightning_modules.seeding import derive_seed, generator
from lightning_modules.validation import MAX_SEED


def initialize(network: nn.Module, seed: int, draw: Callable[..., Tensor]) -> None:
    """Set every parameter of a network in place.

    Weights of two or more dimensions (convolutions, linear layers) are drawn with `draw`; biases of
    such layers become 0. Everything else (BN's scale and shift, an activation's slope) keeps the
    start that its module gives it, which is a constant and not a draw. What is part of a larger
    convolution is drawn with that one's number of output channels, which the scale may depend on, so
    that unequal segments of channels start alike.

    Args:
        network: Any network.
        seed: The run's seed.
        draw: `torch.nn.init`'s way to fill a tensor, called as `draw(weight, generator=...)`.
    """
    with torch.no_grad():
        for module_name, module in network.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                full_name = f"{module_name}.{name}"
                if isinstance(module, ConvPart):
                    whole = parameter.new_empty(module.whole_channels, *parameter.shape[1:])
                    draw(whole, generator=generator(seed, "parameter", full_name))
                    parameter.copy_(whole[: len(parameter)])
                elif parameter.ndim >= 2:
                    draw(parameter, generator=generator(seed, "parameter", full_name))
                elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                    nn.init.zeros_(parameter)


@contextmanager
def all_draws_of(seed: int, *purpose: str | int) -> Iterator[None]:
    """The global generators of torch, NumPy and Python set for one purpose; then as they were."""
    own = derive_seed(seed, *purpose) % (MAX_SEED + 1)
    with isolate_rng():
        torch.manual_seed(own)
        np.random.seed(own)  # noqa: NPY002
        random.seed(own)
        yield
