"""Initial values of the parameters, drawn by name.

Networks with one seed share the initial value of every parameter whose name and shape they share, so that
arms differ only in the declared factor. With one global stream, leaving out a shortcut would change all later
draws.
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

    It draws weights of two or more dimensions (convolutions, linear layers); their biases become 0.
    Other parameters (BN's scale and shift, an activation's slope) keep their module's constants. A
    `ConvPart` is drawn as part of the whole convolution, because the scale may depend on its output channels.

    `draw` is from `torch.nn.init`, called as `draw(weight, generator=...)`.
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
    """Seed the global generators of torch, NumPy and Python for one purpose; restore them afterwards."""
    own = derive_seed(seed, *purpose) % (MAX_SEED + 1)
    with isolate_rng():
        torch.manual_seed(own)
        np.random.seed(own)  # noqa: NPY002
        random.seed(own)
        yield
