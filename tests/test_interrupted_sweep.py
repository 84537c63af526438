"""A sweep that is killed at random moments ends with the records of one that was left alone.

Its runs are in the process that is killed. Of those in processes of a launcher, tests/test_two_sweeps.py
kills one and `benchmarks.interrupted_sweeps` all.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.interrupted_sweeps import (
    completed_records,
    interrupt_until_done,
    outcomes,
    wait_at_most,
)
from tests.processes import REPOSITORY, Command

pytestmark = pytest.mark.slow

SWEEP = (
    *("residual=true,false", "seed=0,1", "model.width=0.02", "model.stem_stride=2", "model.middle_modules=0"),
    *("recipe.epochs=3", "recipe.batch_size=500", "logger=none", "hydra/launcher=basic"),
)
"""Four runs of three epochs."""


def start_sweep(results_dir: Path, arguments: Sequence[str]) -> Command:
    return Command(REPOSITORY, "run.py", "-m", *arguments, f"results_dir={results_dir}", group=True)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert start_sweep(folder, SWEEP).wait() == 0
    expected = outcomes(folder)
    assert len(expected) == 4
    return expected


def test_killed_at_random_moments(left_alone, tmp_path):
    found = interrupt_until_done(tmp_path, SWEEP, kills=2, draw=random.Random(0), start=start_sweep)
    assert found.kills >= 1
    assert (found.lost, found.done_twice) == (0, 0)
    assert found.records == left_alone


def test_two_commands_at_once_train_each_run_once(left_alone, tmp_path):
    both = [start_sweep(tmp_path, SWEEP) for _ in range(2)]
    completed = set()
    while any(process.poll() is None for process in both):
        wait_at_most(both[0] if both[0].poll() is None else both[1], 0.05)
        completed |= completed_records(tmp_path).items()
    assert [process.wait() for process in both] == [0, 0]
    assert outcomes(tmp_path) == left_alone
    # A run that is trained twice writes a second record, with another time in it.
    assert len(completed) == 4
