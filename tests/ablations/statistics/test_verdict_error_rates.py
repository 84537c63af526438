"""Verdicts are wrong in 5 % of cases at most, by simulation; `benchmarks.verdict_error_rates` prints more."""

from functools import partial

import numpy as np
import pytest

from ablations.statistics.decisions import decision_interval
from ablations.statistics.paired import sign_flip_p
from benchmarks.verdict_error_rates import (
    CHOSEN,
    DISTRIBUTIONS,
    METHODS,
    SCHEDULES,
    judged,
    one_comparison,
    sign_flip_interval,
)

STUDIES = 4000
NOISE = 0.007
"""Two standard errors of a rate of 5 %."""

wrong = partial(one_comparison, METHODS[CHOSEN], studies=STUDIES)

FAR_APART = "two kinds, 7 : 3"
"""Whose typical difference lies between the two kinds, where there is none."""


@pytest.mark.parametrize("schedule", ["n = 6", "n = 10", "auto"])
@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != FAR_APART])
def test_a_verdict_is_wrong_in_5_per_cent_at_most(name: str, schedule: str) -> None:
    pairs, levels = SCHEDULES[schedule]
    assert wrong(name, pairs, levels).wrong < 0.05 + NOISE


def test_with_two_kinds_far_apart_it_is_wrong_more_often_at_six_pairs_alone() -> None:
    """The documentation says so."""
    assert 0.08 < wrong(FAR_APART, *SCHEDULES["n = 6"]).wrong < 0.12
    assert wrong(FAR_APART, *SCHEDULES["n = 10"]).wrong < 0.05


@pytest.mark.parametrize("schedule", ["n = 6", "n = 20", "auto"])
def test_of_the_seeds_that_learned(schedule: str) -> None:
    found = wrong("normal", *SCHEDULES[schedule], learned=True)
    assert found.wrong < 0.025 + NOISE


@pytest.mark.parametrize(
    ("name", "least"), [("skewness 2", 0.09), ("1 of 10 at chance, 100 sd, unseen", 0.45)]
)
def test_t_intervals_alone_are_wrong_more_often(name: str, least: float) -> None:
    """Which is why they decide nothing alone."""
    assert one_comparison(METHODS["t"], name, *SCHEDULES["n = 6"], STUDIES).wrong > least


def test_pairs_that_failed_are_left_out_and_five_decide_nothing() -> None:
    differences = np.array([[1.0, 2.0, 1.5, 1.2, 1.8, 0.9, -50.0, 1.1]]).T
    failed = np.zeros((8, 1), bool)
    assert judged(decision_interval, differences, [8], [0.05], failed).above == 0
    failed[6] = True
    assert judged(decision_interval, differences, [8], [0.05], failed).above == 1
    assert judged(decision_interval, differences, [6, 8], [0.05, 0.05], failed).seeds == 6
    failed[:2] = True
    assert judged(decision_interval, differences, [8], [0.05], failed).above == 0


def test_the_sign_flip_interval_is_where_the_test_turns() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, 8)
    low, high = sign_flip_interval(values[:, None], 0.05)
    for end, inward in ((low[0], 1e-6), (high[0], -1e-6)):
        assert sign_flip_p(values - (end - inward)) <= 0.05 < sign_flip_p(values - (end + inward))
