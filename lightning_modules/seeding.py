"""Random draws by name: they depend only on the run's seed and on their purpose.

So two runs with one seed draw the same values for the same purpose, and a resumed run draws as if it had not
been interrupted.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, e.g. `derive_seed(0, "order", epoch)`.

    Hashed, so that neighbouring seeds are unrelated: `seed + epoch` would make epoch 1 of seed 0 equal epoch
    0 of seed 1.
    """
    name = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; see `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextmanager
def draws_of(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's global CPU generator for one purpose; restore it afterwards."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(derive_seed(seed, *purpose))
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
