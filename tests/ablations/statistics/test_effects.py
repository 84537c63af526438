"""Effects, improvement and power, against hand-worked values and other libraries."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from statsmodels.stats.power import TTestPower

from ablations.statistics.effects import (
    needed_seeds,
    power_of,
    probability_of_improvement,
    standardized_effect,
)


def test_the_effect_is_in_standard_deviations_of_the_differences() -> None:
    assert standardized_effect([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert standardized_effect([-1.0, -2.0, -3.0]) == pytest.approx(-2.0)
    assert math.isnan(standardized_effect([0.1 + 0.2, 0.3, 0.3]))


def test_improvement_is_mann_whitneys_u_over_all_pairs() -> None:
    assert probability_of_improvement([1.0, 3.0], [2.0, 1.0]) == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    draws = np.random.default_rng(0)
    one, other = draws.integers(0, 9, 7).astype(float), draws.integers(0, 9, 5).astype(float)
    u = mannwhitneyu(one, other, alternative="greater").statistic
    assert probability_of_improvement(one, other) == pytest.approx(u / 35)


@pytest.mark.parametrize("effect", [0.3, -0.8, 1.5, 3.0])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_power_is_that_of_statsmodels(effect: float, alpha: float) -> None:
    theirs = TTestPower()
    for seeds in (3, 6, 20, 100):
        expected = theirs.power(abs(effect), seeds, alpha)  # not a number where it is next to 1
        expected = 1.0 if math.isnan(expected) else expected
        assert power_of(seeds, effect * 0.02, 0.02, alpha=alpha) == pytest.approx(expected, abs=1e-6)
    needed = needed_seeds(effect * 0.02, 0.02, power=0.8, alpha=alpha)
    assert needed is not None
    assert needed == math.ceil(theirs.solve_power(abs(effect), power=0.8, alpha=alpha))


def test_an_effect_that_nobody_can_see_takes_no_number_of_seeds() -> None:
    assert needed_seeds(1e-9, 1.0) is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((0.0, 1.0, 0.8, 0.05), "effect=0"),
        ((1.0, 0.0, 0.8, 0.05), "spread=0"),
        ((1.0, 1.0, 1.0, 0.05), "power=1"),
        ((1.0, 1.0, 0.8, 0.0), "alpha=0"),
        ((math.nan, 1.0, 0.8, 0.05), "effect=nan"),
    ],
)
def test_a_number_out_of_range_is_told(arguments: tuple[float, float, float, float], line: str) -> None:
    effect, spread, power, alpha = arguments
    with pytest.raises(ValueError, match=f"^{line}[^=]*$"):  # and no other number
        needed_seeds(effect, spread, power=power, alpha=alpha)
