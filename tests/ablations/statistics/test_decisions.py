"""The interval that verdicts are read off: by hand, and against SciPy and statsmodels."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from ablations.statistics.decisions import (
    deciding_level,
    decision_interval,
    rank_interval,
)


def test_rank_interval_by_hand() -> None:
    """Hollander, Wolfe and Chicken, table 3.1, depression scores of nine patients."""
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    low, high = rank_interval(after - before, 0.04)
    assert (low, high) == (pytest.approx(-0.786), pytest.approx(-0.010))


def test_a_level_that_ranks_do_not_reach_is_the_whole_range() -> None:
    values = [0.3, -0.2, 0.9, 0.4, 0.1, 0.5]
    for level in (2 / 64, 0.031, 1e-6):
        assert rank_interval(values, level) == (-0.2, 0.9)
    low, high = rank_interval(values, 4 / 64)  # without the lowest and the highest average
    assert (low, high) == (pytest.approx(-0.05), pytest.approx(0.7))


@pytest.mark.parametrize("n", [6, 9, 20, 45])
@pytest.mark.parametrize("above", [True, False])
def test_the_deciding_level_is_the_larger_p_of_scipys_tests(n: int, above: bool) -> None:
    values = np.random.default_rng(n).normal(0.1, 1, n)
    for null in (-0.4, 0.05, 0.3):
        side = "greater" if above else "less"
        by_t = 2 * stats.ttest_1samp(values, null, alternative=side).pvalue
        by_rank = 2 * stats.wilcoxon(values - null, alternative=side, method="exact").pvalue
        expected = min(1.0, max(by_t, by_rank))
        assert deciding_level(values, null, above=above) == pytest.approx(expected)


def test_where_all_are_on_one_side_the_t_test_answers_for_the_level() -> None:
    values = np.array([0.02, 0.03, 0.05, 0.06, 0.04, 0.01])
    p = stats.ttest_1samp(values, 0).pvalue
    assert p < 2 / 64
    assert deciding_level(values, 0.0, above=True) == pytest.approx(p)
    assert deciding_level(values, 0.0, above=False) == 1


@pytest.mark.parametrize("n", [5, 6, 8, 15, 40])
@pytest.mark.parametrize("digits", [1, 6])
def test_interval_and_deciding_level_agree(n: int, digits: int) -> None:
    """Also where values tie, as accuracies do."""
    generator = np.random.default_rng(n)
    for _ in range(20):
        values = generator.gamma(2, size=n).round(digits) - 1.0
        null = float(generator.normal(0.5, 0.5).__round__(digits))
        for level in (0.2, 0.05, 0.01):
            low, high = decision_interval(values, level)
            assert (low > null) == (deciding_level(values, null, above=True) <= level)
            assert (high < null) == (deciding_level(values, null, above=False) <= level)


def test_a_stricter_level_has_a_wider_interval_that_holds_the_mean() -> None:
    values = np.random.default_rng(0).exponential(size=9)
    ends = [decision_interval(values, level) for level in (0.5, 0.1, 0.05, 0.01, 0.003, 1e-4)]
    assert all(wide[0] <= low and high <= wide[1] for (low, high), wide in pairwise(ends))
    assert all(low < values.mean() < high for low, high in ends)


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.3])
@pytest.mark.parametrize("n", [8, 15])
def test_equivalence_is_that_of_statsmodels_and_of_ranks(n: int, shift: float) -> None:
    """Two one-sided tests at half of the level each."""
    treated, control = np.random.default_rng(n).normal(0, 0.5, (2, n))
    p, *_ = ttost_paired(treated + shift, control, -0.7, 0.7)
    differences = treated + shift - control
    found = max(deciding_level(differences, -0.7, above=True), deciding_level(differences, 0.7, above=False))
    ranked = [
        2 * stats.wilcoxon(differences - null, alternative=side, method="exact").pvalue
        for null, side in ((-0.7, "greater"), (0.7, "less"))
    ]
    assert found == pytest.approx(min(1.0, max(2 * p, *ranked)))


def test_samples_are_taken_along_the_first_axis() -> None:
    samples = np.random.default_rng(1).normal(size=(7, 4))
    low, high = decision_interval(samples, 0.05)
    level = deciding_level(samples, 0.1, above=True)
    for column in range(4):
        assert decision_interval(samples[:, column], 0.05) == (low[column], high[column])
        assert deciding_level(samples[:, column], 0.1, above=True) == level[column]
