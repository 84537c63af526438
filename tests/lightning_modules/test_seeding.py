"""Draws by name."""

import itertools

import torch

from lightning_modules.seeding import derive_seed, generator
from lightning_modules.validation import MAX_SEED


def test_derived_seed_stays_the_same_in_every_version():
    # printf '0/epoch/1' | sha256sum: the first 64 bits, without the last of them
    assert derive_seed(0, "epoch", 1) == 0x036F31EF7A7AF52B >> 1


def test_derived_seeds_differ_and_fit_every_generator():
    purposes = [(), ("order",), ("network",), *((name, n) for name in ("order", "network") for n in range(5))]
    seeds = [derive_seed(seed, *p) for seed, p in itertools.product((0, 1, 10, MAX_SEED), purposes)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generator_repeats_itself_and_leaves_the_global_one_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (
        torch.rand(8, generator=generator(*purpose))
        for purpose in ((0, "order", 1), (0, "order", 1), (0, "order", 2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
