"""A sweep that is killed at random moments ends with the records of one that was left alone.

Its runs are in the process that is killed. Of those in processes of a launcher, tests/test_two_sweeps.py
kills one and `benchmarks.interrupted_sweeps` all.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.interrupted_sweeps import (
    completed_records,
    interrupt_until_done,
    outcomes,
    wait_at_most,
)
from tests.few_images import as_words
from tests.processes import REPOSITORY, Command

pytestmark = pytest.mark.slow

SWEEP = (
    *("residual=true,false", "seed=0", "model.width=0.02", "model.stem_stride=2", "model.middle_modules=0"),
    *("recipe.epochs=12", "logger=none", "hydra/launcher=basic"),
)
"""Two runs of twelve epochs, a second or so each."""

Start = Callable[[Path, Sequence[str]], Command]


@pytest.fixture(scope="module")
def start_sweep(few_images: Mapping[str, Any]) -> Start:
    def start(results_dir: Path, arguments: Sequence[str]) -> Command:
        words = (*arguments, *as_words(few_images), f"results_dir={results_dir}")
        return Command(REPOSITORY, "run.py", "-m", *words, group=True)

    return start


@pytest.fixture(scope="module")
def left_alone(start_sweep: Start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert start_sweep(folder, SWEEP).wait() == 0
    expected = outcomes(folder)
    assert len(expected) == 2
    return expected


def test_killed_at_random_moments(start_sweep: Start, left_alone, tmp_path):
    found = interrupt_until_done(tmp_path, SWEEP, kills=2, draw=random.Random(0), start=start_sweep)
    assert found.kills >= 1
    assert (found.lost, found.done_twice) == (0, 0)
    assert found.records == left_alone


def test_two_commands_at_once_train_each_run_once(start_sweep: Start, left_alone, tmp_path):
    both = [start_sweep(tmp_path, SWEEP) for _ in range(2)]
    completed = set()
    while any(process.poll() is None for process in both):
        wait_at_most(both[0] if both[0].poll() is None else both[1], 0.05)
        completed |= completed_records(tmp_path).items()
    assert [process.wait() for process in both] == [0, 0]
    assert outcomes(tmp_path) == left_alone
    # A run that is trained twice writes a second record, with another time in it.
    assert len(completed) == 2
