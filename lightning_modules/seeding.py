"""Random draws by name: what a run draws depends on its seed and on what the draw is for, nothing else.

Two runs with one seed thus draw the same values for the same purpose whatever else differs between
them, and a run that goes on after an interruption draws what it would have drawn without it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, e.g. `derive_seed(0, "order", epoch)`.

    Hashed, so that neighbouring seeds and purposes give unrelated draws (`seed + epoch` would make
    epoch 1 of seed 0 equal epoch 0 of seed 1).
    """
    name = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; see `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextmanager
def draws_of(seed: int, *purpose: str | int) -> Iterator[None]:
    """Torch's global CPU generator, for what takes no other, set for one purpose; then as it was."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(derive_seed(seed, *purpose))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
