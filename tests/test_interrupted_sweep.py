"""A sweep that is killed at random moments ends with the records of one that was left alone."""

import random

import pytest

from benchmarks.interrupted_sweeps import (
    SWEEP,
    completed_records,
    interrupt_until_done,
    outcomes,
    start_sweep,
    wait_at_most,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert start_sweep(folder, SWEEP).wait() == 0
    expected = outcomes(folder)
    assert len(expected) == 4
    return expected


def test_killed_at_random_moments(left_alone, tmp_path):
    found = interrupt_until_done(tmp_path, SWEEP, kills=2, draw=random.Random(0))
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
