"""Shares of failures of two arms: against statsmodels, and by enumerating all outcomes."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from ablations.statistics.shares import exact_paired_p, paired_share_interval, paired_share_level


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 0), (0, 6), (2, 7), (4, 4)])
def test_p_is_statsmodels_exact_mcnemar(one: int, other: int) -> None:
    assert exact_paired_p(one, other) == pytest.approx(mcnemar([[3, one], [other, 5]], exact=True).pvalue)


def test_by_hand() -> None:
    assert exact_paired_p(0, 6) == 2 / 64
    low, high = paired_share_interval(0, 0, 10, 0.05)  # none of ten: up to 1 - 0.0125 ** (1 / 10)
    assert (low, high) == (pytest.approx(0.0125**0.1 - 1), pytest.approx(1 - 0.0125**0.1))


def test_the_interval_leaves_out_zero_where_the_test_rejects_it() -> None:
    for n, one, other in product((6, 12, 20), range(13), range(13)):
        if one + other > n:
            continue
        for level in (0.05, 0.01):
            low, high = paired_share_interval(one, other, n, level)
            assert low <= (one - other) / n <= high
            assert (low > 0 or high < 0) == (exact_paired_p(one, other) <= level)


@pytest.mark.parametrize("n", [6, 10, 20])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_it_misses_the_difference_on_either_side_with_half_of_the_level_at_most(n: int, level: float) -> None:
    outcomes = [(one, other) for one in range(n + 1) for other in range(n + 1 - one)]
    ends = np.array([paired_share_interval(one, other, n, level) for one, other in outcomes])
    counts = np.array([(one, other, n - one - other) for one, other in outcomes])
    for first in np.linspace(0, 1, 11):
        for second in np.linspace(0, 1 - first, 11):
            chances = stats.multinomial.pmf(counts, n, [first, second, max(0.0, 1 - first - second)])
            missed = [ends[:, 0] > first - second + 1e-9, ends[:, 1] < first - second - 1e-9]
            assert max(chances[side].sum() for side in missed) <= level / 2 + 1e-9


def test_level_and_interval_agree() -> None:
    for one, other, null in ((0, 6, 0.0), (1, 8, -0.1), (0, 0, 0.4), (5, 5, 0.6)):
        level = paired_share_level(one, other, 12, null, above=False)
        assert level < 1
        assert paired_share_interval(one, other, 12, level * 1.001)[1] < null
        assert paired_share_interval(one, other, 12, level * 0.999)[1] >= null
    assert paired_share_level(3, 1, 12, 0.5, above=True) == 1
