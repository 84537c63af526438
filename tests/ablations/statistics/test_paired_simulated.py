"""Statistics against scipy, and by simulation: what intervals and tests promise, they keep or say so."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy import integrate, stats

from ablations.statistics.paired import (
    EXACT_PAIRS,
    area_under_curve,
    mean_interval,
    paired_difference,
    seed_band,
    sign_flip_p,
    smallest_sign_flip_p,
)

SAMPLES = 40_000
"""Of each distribution; the standard error of a coverage of 95 % is 0.1 points."""

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

DIFFERENCES: Mapping[str, Draw] = {
    "normal": lambda draw, size: draw.normal(size=size),
    "of two gamma, shape 4": lambda draw, size: draw.gamma(4, size=size) - draw.gamma(4, size=size),
    "of two lognormal, sigma 1": lambda draw, size: draw.lognormal(size=size) - draw.lognormal(size=size),
    "gamma, shape 16 (skewness 0.5)": lambda draw, size: draw.gamma(16, size=size) - 16,
    "gamma, shape 4 (skewness 1)": lambda draw, size: draw.gamma(4, size=size) - 4,
    "gamma, shape 2 (skewness 1.4)": lambda draw, size: draw.gamma(2, size=size) - 2,
    "exponential (skewness 2)": lambda draw, size: draw.exponential(size=size) - 1,
    "lognormal, sigma 1 (skewness 6.2)": lambda draw, size: draw.lognormal(size=size) - np.exp(0.5),
}
"""Of mean 0. Those "of two" are what two arms give that are skewed alike: symmetric. The others are skewed
themselves, as where one arm only fails."""


def coverage(draw: Draw, n: int, samples: int, generator: np.random.Generator) -> float:
    """Share of samples of n differences whose 95 % t interval holds their true mean, 0."""
    band = seed_band(draw(generator, (n, samples)))  # an interval per column: `mean_interval`, vectorized
    return float(np.mean((band.low <= 0) & (band.high >= 0)))


def false_positive_rate(draw: Draw, n: int, samples: int, generator: np.random.Generator) -> float:
    """Share of samples of n differences of mean 0 whose sign-flip p is at most 0.05."""
    return float(np.mean([sign_flip_p(one, generator) <= 0.05 for one in draw(generator, (samples, n))]))


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20161007)


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize(
    "name",
    [
        "normal", "of two gamma, shape 4", "gamma, shape 16 (skewness 0.5)", "gamma, shape 4 (skewness 1)",
    ],
)  # fmt: skip
def test_the_interval_covers_93_to_97_per_cent(name: str, n: int, generator: np.random.Generator) -> None:
    assert 0.93 < coverage(DIFFERENCES[name], n, SAMPLES, generator) < 0.97


@pytest.mark.parametrize(
    ("name", "of_six", "of_ten"),
    [
        ("of two lognormal, sigma 1", 0.974, 0.968),
        ("gamma, shape 2 (skewness 1.4)", 0.917, 0.924),
        ("exponential (skewness 2)", 0.887, 0.899),
        ("lognormal, sigma 1 (skewness 6.2)", 0.824, 0.840),
    ],
)
def test_where_it_does_not_its_docstring_says_so(
    name: str, of_six: float, of_ten: float, generator: np.random.Generator
) -> None:
    for n, stated in ((6, of_six), (10, of_ten)):
        assert coverage(DIFFERENCES[name], n, SAMPLES, generator) == pytest.approx(stated, abs=0.008)


def test_the_simulated_interval_is_that_of_tables(generator: np.random.Generator) -> None:
    samples = generator.gamma(4, size=(6, 5))
    band = seed_band(samples)
    for column in range(5):
        estimate = mean_interval(samples[:, column])
        bounds = band.mean[column], band.low[column], band.high[column]
        assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(bounds)


@pytest.mark.parametrize(("n", "most"), [(6, 0.045), (10, 0.06)])
@pytest.mark.parametrize("name", ["normal", "of two gamma, shape 4", "of two lognormal, sigma 1"])
def test_the_sign_flip_test_finds_no_more_than_it_may_in_symmetric_differences(
    name: str, n: int, most: float, generator: np.random.Generator
) -> None:
    rate = false_positive_rate(DIFFERENCES[name], n, 3000, generator)
    assert smallest_sign_flip_p(n) * 0.6 < rate < most  # 3.1 and 4.9 % are expected


@pytest.mark.parametrize(
    ("name", "of_six", "of_ten"),
    [("gamma, shape 4 (skewness 1)", 0.04, 0.06), ("exponential (skewness 2)", 0.067, 0.094)],
)
def test_of_skewed_differences_it_finds_as_many_as_its_docstring_says(
    name: str, of_six: float, of_ten: float, generator: np.random.Generator
) -> None:
    for n, stated in ((6, of_six), (10, of_ten)):
        found = false_positive_rate(DIFFERENCES[name], n, 4000, generator)
        assert found == pytest.approx(stated, abs=0.014)  # three standard errors of 9 %


def test_percentile_bootstrap_intervals_of_three_seeds_cover_three_quarters(
    generator: np.random.Generator,
) -> None:
    """All 27 samples with replacement have their 2.5 % quantile at the smallest value, their 97.5 % at the
    largest; of three symmetric numbers one of four samples lies on one side of zero as a whole.
    """
    samples = generator.normal(size=(SAMPLES, 3))
    places = np.array(list(itertools.product(range(3), repeat=3)))
    low, high = np.quantile(samples[:, places].mean(2), [0.025, 0.975], axis=1, method="inverted_cdf")
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.75, abs=0.01)


def test_sign_flip_p_is_uniform_where_there_is_nothing(generator: np.random.Generator) -> None:
    n = 5
    p = [sign_flip_p(sample) for sample in generator.normal(size=(4000, n))]
    for level in np.arange(1, 17) / 16:  # every p that there is
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.03)


def test_sign_flip_finds_an_effect(generator: np.random.Generator) -> None:
    found = [sign_flip_p(sample) <= 0.05 for sample in generator.normal(2, 1, size=(500, 6))]
    assert np.mean(found) > 0.8


# Against scipy


@pytest.mark.parametrize("n", [2, 3, 6, 10])
def test_the_interval_is_that_of_the_paired_t_test(n: int, generator: np.random.Generator) -> None:
    treatment, baseline = generator.normal(size=(2, n))
    for confidence in (0.8, 0.95, 0.99):
        estimate = paired_difference(treatment, baseline, confidence=confidence)
        interval = stats.ttest_rel(treatment, baseline).confidence_interval(confidence)
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("n", [2, 3, 6, 10])
def test_sign_flip_agrees_with_scipy(n: int, generator: np.random.Generator) -> None:
    for differences in generator.normal(0.5, 1, size=(5, n)):
        expected = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=2**n
        )
        assert sign_flip_p(differences) == pytest.approx(expected.pvalue)


def test_sign_flip_agrees_with_the_t_test_where_pairs_are_many(generator: np.random.Generator) -> None:
    differences = generator.normal(0.05, 1, size=1003)  # no multiple of eight
    assert len(differences) > EXACT_PAIRS
    p = stats.ttest_1samp(differences, 0).pvalue
    assert 0.05 < p < 0.95
    assert sign_flip_p(differences, generator) == pytest.approx(p, abs=0.03)


def test_accuracies_that_tie_tie_as_fractions_too(generator: np.random.Generator) -> None:
    # Accuracies count images, so patterns tie; as per cent of 1,000 images they are equal but for rounding.
    for _ in range(100):
        treatment, baseline = generator.integers(850, 870, 6), generator.integers(845, 865, 6)
        counted = sign_flip_p(treatment - baseline)
        assert paired_difference(100 * (treatment / 1000), 100 * (baseline / 1000)).p == counted


def test_area_agrees_with_scipy(generator: np.random.Generator) -> None:
    steps, curve = np.cumsum(generator.integers(1, 100, 20)), generator.random(20)
    expected = integrate.trapezoid(curve, steps) / (steps[-1] - steps[0])
    assert area_under_curve(steps, curve) == pytest.approx(expected)
