"""Effects, improvement and power, against hand-worked values and other libraries."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from statsmodels.stats.power import TTestPower

from ablations.evidence.claims import Comparison
from ablations.evidence.verdicts import compare
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


@pytest.mark.parametrize("margin", [0.0, 0.012])
@pytest.mark.parametrize("seeds", [6, 14])
def test_power_is_the_share_of_claims_that_hold(seeds: int, margin: float) -> None:
    comparison = Comparison({"a": 1.0, "b": -1.0}, "test_top1", "higher", margin)
    generator = np.random.default_rng(1)
    studies = [generator.normal(0.016, 0.02, seeds) for _ in range(600)]
    found = [compare([comparison], [differences])[0].verdict for differences in studies]
    power = power_of(seeds, 0.016, 0.02, margin=margin)
    assert found.count("holds") / 600 == pytest.approx(power, abs=0.06)  # three standard errors
    assert 0.1 < power < 0.9
    assert power == power_of(seeds, -0.016, 0.02, margin=margin)


@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_many_seeds_have_next_to_the_power_of_a_t_test(alpha: float) -> None:
    for seeds in (40, 41, 100):
        of_t = TTestPower().power(0.4, seeds, alpha)
        assert of_t - 0.05 < power_of(seeds, 0.008, 0.02, alpha=alpha) < of_t


def test_the_needed_seeds_have_the_power_and_fewer_do_not() -> None:
    for effect, margin in ((0.016, 0.0), (0.016, 0.012), (0.006, 0.0)):
        needed = needed_seeds(effect, 0.02, margin=margin)
        assert needed is not None
        assert power_of(needed, effect, 0.02, margin=margin) >= 0.8
        assert power_of(needed - 1, effect, 0.02, margin=margin) < 0.8
    assert power_of(5, 1, 0.01) == 0  # give no verdict


def test_an_effect_that_nobody_can_see_takes_no_number_of_seeds() -> None:
    assert needed_seeds(1e-9, 1.0) is None
    assert needed_seeds(1.0, 1.0, margin=1.0) is None  # half of all means reach it


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
