"""Statistics against numbers worked out by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablations.statistics.paired import (
    EXACT_PAIRS,
    MOST_PAIRS,
    area_under_curve,
    constant,
    expected_maximum,
    holm_levels,
    mean_interval,
    needed_pairs,
    paired_difference,
    seed_band,
    share_to_target,
    sign_flip_p,
    smallest_sign_flip_p,
    straight_lines,
)

T_5 = 2.570582  # 97.5 % quantile of Student's t with 5 degrees of freedom, from a printed table
T_2 = 4.302653


def test_mean_interval_by_hand() -> None:
    estimate = mean_interval([1, 2, 3, 4, 5, 6])  # mean 3.5, variance 17.5 / 5 = 3.5
    half = T_5 * math.sqrt(3.5 / 6)
    assert (estimate.n, estimate.mean) == (6, 3.5)
    assert estimate.low == pytest.approx(3.5 - half, abs=1e-6)
    assert estimate.high == pytest.approx(3.5 + half, abs=1e-6)


def test_an_interval_of_shares_does_not_leave_them() -> None:
    estimate = mean_interval([0.99, 1.0, 0.9]).within(0, 1)
    assert estimate.high == 1
    assert 0 < estimate.low < 0.9
    assert math.isnan(mean_interval([1.0]).within(0, 1).high)
    band = seed_band([[0.01, 0.5], [0.0, 0.6]]).within(0, 1)
    assert band.low[0] == 0
    assert band.high.max() <= 1


def test_mean_interval_narrows_with_confidence() -> None:
    wide, narrow = mean_interval([1, 2, 4], 0.95), mean_interval([1, 2, 4], 0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [[0.7], [0.1, 0.1, 0.1], [0.3 - 0.2, 0.2 - 0.1]])
def test_no_interval_without_spread(values: list[float]) -> None:
    estimate = mean_interval(values)
    assert estimate.mean == pytest.approx(values[0])
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5, 6], 2 / 64),  # no other pattern is as far out, and its mirror image
        ([-1, -2, -3, -4, -5, -6], 2 / 64),
        ([3, 1, -1], 6 / 8),  # sums 5, 3, 3, 1 and their mirror: three of eight are >= 3
        ([4, 2, -1], 4 / 8),  # sums 7, 5, 3, 1: two of eight are >= 5
        ([5, 5, 5], 2 / 8),  # without spread there is a p all the same
        ([0, 0, 0], 1.0),
        ([2.5], 1.0),
    ],
)
def test_sign_flip_by_hand(differences: list[float], p: float) -> None:
    assert sign_flip_p(differences) == p


def test_sign_flip_is_exact_under_rounding() -> None:
    # 0.1 + 0.2 is not 0.3 in floating point, yet -0.1 - 0.2 + 0.3 ties with 0.1 + 0.2 - 0.3:
    # sums 6, 4, 2, 0, 0, -2, -4, -6 tenths; six of eight are as far out as 0.2 on either side.
    assert sign_flip_p([0.1, 0.2, 0.3]) == 2 / 8
    assert sign_flip_p([-0.1, 0.2, 0.3]) == 4 / 8
    assert sign_flip_p([0.1, -0.2, 0.3]) == 6 / 8
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0


def test_sign_flip_draws_agree_with_enumeration() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, EXACT_PAIRS + 1)
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    as_far = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12
    drawn = sign_flip_p(differences, np.random.default_rng(0))
    assert 0.02 < as_far.mean() < 0.5
    assert drawn == pytest.approx(as_far.mean(), abs=0.01)
    assert drawn == sign_flip_p(differences, np.random.default_rng(0))


def test_sign_flip_draws_are_never_zero_and_want_a_generator() -> None:
    differences = np.arange(1.0, 31.0)
    for sign in (1, -1):
        assert 0 < sign_flip_p(sign * differences, np.random.default_rng(0)) <= 2e-4
    with pytest.raises(ValueError, match="pass a generator"):
        sign_flip_p(differences)


def test_smallest_p() -> None:
    assert [smallest_sign_flip_p(n) for n in (1, 3, 5, 6)] == [1.0, 0.25, 0.0625, 0.03125]


def test_paired_difference_by_hand() -> None:
    estimate = paired_difference([5, 7, 9], [4, 5, 6])  # differences 1, 2, 3: mean 2, variance 1
    half = T_2 * math.sqrt(1 / 3)
    assert (estimate.n, estimate.mean, estimate.p) == (3, 2.0, 0.25)
    assert (estimate.low, estimate.high) == pytest.approx((2 - half, 2 + half), abs=1e-6)


def test_paired_difference_uses_the_pairs() -> None:
    treatment, baseline = [0.5, 0.7, 0.9], [0.41, 0.6, 0.79]
    paired = paired_difference(treatment, baseline)
    shuffled = paired_difference(treatment, baseline[::-1])
    assert paired.mean == pytest.approx(shuffled.mean)
    assert paired.high - paired.low < 0.1 * (shuffled.high - shuffled.low)


def test_area_by_hand() -> None:
    # 1 step at 0.5 on average, 2 steps at 1: 2.5 over 3 steps.
    assert area_under_curve([1, 2, 4], [0, 1, 1]) == pytest.approx(2.5 / 3)
    assert area_under_curve([94, 188, 282], [0.6, 0.6, 0.6]) == pytest.approx(0.6)
    assert area_under_curve([94], [0.25]) == 0.25


def test_band_by_hand() -> None:
    band = seed_band([[1, 5], [2, 5], [3, 5]])
    half = T_2 * math.sqrt(1 / 3)
    np.testing.assert_allclose(band.mean, [2, 5])
    np.testing.assert_allclose(band.low, [2 - half, 5], atol=1e-6)
    np.testing.assert_allclose(band.high, [2 + half, 5], atol=1e-6)


def test_band_of_one_seed_has_no_width() -> None:
    band = seed_band([[0.2, 0.4]])
    np.testing.assert_array_equal(band.mean, [0.2, 0.4])
    assert np.isnan([band.low, band.high]).all()


def test_share_to_target_by_hand() -> None:
    steps = [10, 20, 40]
    assert share_to_target(steps, [0.3, 0.7, 0.8], 0.5, 0.1) == pytest.approx(15 / 40)  # halfway up
    assert share_to_target(steps, [0.3, 0.7, 0.8], 0.2, 0.1) == pytest.approx(5 / 40)  # from (0, chance)
    assert share_to_target(steps, [0.3, 0.7, 0.8], 0.7, 0.1) == pytest.approx(20 / 40)  # at a validation
    assert share_to_target(steps, [0.6, 0.2, 0.8], 0.5, 0.1) == pytest.approx(8 / 40)  # the first time counts
    assert share_to_target(steps, [0.3, 0.7, 0.8], 0.9, 0.1) == 1.0  # never
    assert share_to_target(steps, [0.3, 0.7, 0.8], 0.8, 0.1) == 1.0  # with the last step
    assert share_to_target(steps, [0.3, 0.7, 0.8], 0.1, 0.1) == 0.0  # no more than chance


@pytest.mark.parametrize(
    ("steps", "curve", "message"),
    [
        ([1, 2], [0.1], "2 steps for a curve of 1"),
        ([0, 2], [0.1, 0.2], "from above 0"),
        ([2, 2], [0.1, 0.2], "strictly"),
        ([], [], "not empty"),
    ],
)
def test_share_to_target_refuses(steps: list[float], curve: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share_to_target(steps, curve, 0.5, 0.1)


def test_equal_but_for_rounding() -> None:
    assert constant([0.3 - 0.2, 0.2 - 0.1])
    assert not constant([0.1, 0.2])


def test_holm_by_hand() -> None:
    # 0.005 <= 0.05/4, 0.01 <= 0.05/3, 0.03 > 0.05/2: there it stops, for 0.04 too (0.04 < 0.05 / 1).
    levels = holm_levels([0.01, 0.04, 0.03, 0.005], 0.05)
    np.testing.assert_allclose(levels, [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    np.testing.assert_allclose(holm_levels([0.001, 0.02], 0.05), [0.025, 0.05])  # all rejected
    np.testing.assert_allclose(holm_levels([0.5, 0.03, 1], 0.05), [0.05 / 3] * 3)  # none
    np.testing.assert_allclose(holm_levels([0.05], 0.05), [0.05])
    np.testing.assert_allclose(holm_levels([0.001, 0.02], 0.05, lambda level: level / 5), [0.005, 0.01])


def test_holm_rejects_what_statsmodels_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families of 1 to 9, of all sizes of p, some of them equal."""
    monkeypatch.setattr("gc.collect", int)  # which it calls at every call, and which takes a while
    generator = np.random.default_rng(1)
    rejected = kept = 0
    for _ in range(500):
        p = np.round(generator.uniform(size=generator.integers(1, 10)) ** 4, 3)
        alpha = generator.choice([0.01, 0.05, 0.2])
        expected = multipletests(p, alpha, method="holm")[0]
        np.testing.assert_array_equal(p <= holm_levels(p, alpha), expected)
        rejected, kept = rejected + expected.sum(), kept + (~expected).sum()
    assert min(rejected, kept) > 500


def test_holm_keeps_its_level() -> None:
    """Of 5 hypotheses 3 are true: in at most 5 % of the families one of them is rejected."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(4000):
        p = generator.uniform(size=5)
        p[3:] /= 1000  # of what is false
        wrong += (p <= holm_levels(p, 0.05))[:3].any()
    assert 0.03 < wrong / 4000 < 0.057  # 5 % with a standard error of 0.34 %; Bonferroni has 3 %


@pytest.mark.parametrize(("p", "alpha"), [([1.1], 0.05), ([-0.1], 0.05), ([0.5], 0), ([0.5], 1), ([], 0.5)])
def test_holm_refuses(p: list[float], alpha: float) -> None:
    with pytest.raises(ValueError, match=r"must|empty"):
        holm_levels(p, alpha)


def test_needed_pairs_by_hand() -> None:
    # n = 6: 2.5706 / sqrt(6) = 1.0494; n = 5: 2.7764 / sqrt(5) = 1.2417; n = 3: 4.3027 / sqrt(3) = 2.484
    assert needed_pairs(1, 1.05, 0.05) == 6
    assert needed_pairs(1, 1.04, 0.05) == 7
    assert needed_pairs(0.02, 2.5 * 0.02, 0.05) == 3
    assert needed_pairs(1, 100, 0.05) == 2
    assert needed_pairs(1, 0.02, 0.05) == pytest.approx((1.96 / 0.02) ** 2, rel=1e-3)
    assert needed_pairs(1, 0, 0.05) is None
    assert needed_pairs(1, 1.96 / math.sqrt(2 * MOST_PAIRS), 0.05) is None


@pytest.mark.parametrize(("sd", "distance", "level"), [(0, 1, 0.05), (1, -1, 0.05), (1, 1, 0), (1, 1, 1)])
def test_needed_pairs_refuses(sd: float, distance: float, level: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        needed_pairs(sd, distance, level)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_must_be_finite(bad: float) -> None:
    calls = [
        lambda: mean_interval([1, bad]),
        lambda: sign_flip_p([1, bad]),
        lambda: paired_difference([1, bad], [1, 2]),
        lambda: paired_difference([1, 2], [1, bad]),
        lambda: area_under_curve([1, 2], [1, bad]),
        lambda: area_under_curve([1, bad], [1, 2]),
        lambda: seed_band([[1, bad], [1, 2]]),
        lambda: share_to_target([1, 2], [0.1, bad], 0.5, 0.1),
        lambda: share_to_target([1, 2], [0.1, 0.2], 0.5, bad),
        lambda: holm_levels([bad], 0.05),
        lambda: constant([bad]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be finite"):
            call()


def test_shapes_and_ranges_are_checked() -> None:
    for empty in (lambda: mean_interval([]), lambda: seed_band(np.empty((0, 3)))):
        with pytest.raises(ValueError, match="not empty"):
            empty()
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="increase"):
        area_under_curve([1, 1], [0, 1])
    with pytest.raises(ValueError, match="2 steps for a curve of 3"):
        area_under_curve([1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="confidence=95"):
        mean_interval([1, 2], 95)


def test_inputs_are_not_changed() -> None:
    treatment, baseline = np.array([1.0, 2.0, 4.0]), np.array([0.0, 3.0, 1.0])
    paired_difference(treatment, baseline)
    seed_band(np.stack([treatment, baseline]))
    np.testing.assert_array_equal(treatment, [1, 2, 4])
    np.testing.assert_array_equal(baseline, [0, 3, 1])


# Expected maximum


def test_expected_maximum_by_hand() -> None:
    # Of 1, 2, 4 pairs have the maxima 2, 4, 4.
    np.testing.assert_allclose(expected_maximum([4, 1, 2]), [7 / 3, 10 / 3, 4], rtol=1e-14)
    assert expected_maximum([0.3]).tolist() == [0.3]
    np.testing.assert_allclose(expected_maximum([2, 2, 2]), [2, 2, 2])


@pytest.mark.parametrize("n", [2, 5, 9])
def test_expected_maximum_is_the_mean_over_all_subsets(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n).round(1)  # with ties
    expected = [
        np.mean([max(subset) for subset in itertools.combinations(values, size)]) for size in range(1, n + 1)
    ]
    np.testing.assert_allclose(expected_maximum(values), expected, rtol=1e-12, atol=1e-12)


def test_expected_maximum_is_unbiased_where_an_estimate_with_replacement_is_too_low() -> None:
    """Of three uniform numbers the largest is 3/4 in the mean; estimated from five of them."""
    generator = np.random.default_rng(0)
    samples = np.sort(generator.uniform(size=(4_000, 5)), axis=1)
    found = np.mean([expected_maximum(sample)[2] for sample in samples])
    assert found == pytest.approx(3 / 4, abs=0.006)  # three standard errors
    ranks = np.arange(1, 6) / 5
    with_replacement = (samples @ (ranks**3 - (ranks - 1 / 5) ** 3)).mean()  # Dodge et al. 2019
    assert with_replacement < 3 / 4 - 0.02


def test_expected_maximum_of_many_never_falls_and_ends_at_the_maximum() -> None:
    values = np.random.default_rng(1).uniform(size=2_000)
    expected = expected_maximum(values)
    assert (np.diff(expected) >= -1e-12).all()
    assert expected[0] == pytest.approx(values.mean())
    assert expected[-1] == pytest.approx(values.max(), rel=1e-12)


@pytest.mark.parametrize("values", [[], [np.nan], [[1.0]]])
def test_expected_maximum_refuses(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        expected_maximum(values)


# Slopes


def test_slopes_by_hand() -> None:
    # x - mean = -2, 0, 2; squares 8. First row: (-2 * 1 + 2 * 5) / 8; second, on a line: its slope.
    slopes, there = straight_lines([0, 2, 4], [[1, 9, 5], [1, 0, -1]], 10)
    assert slopes == pytest.approx([1.0, -0.5])
    assert there == pytest.approx([5 + 8 * 1.0, 0 - 8 * 0.5])


def test_slopes_are_those_of_scipy() -> None:
    draws = np.random.default_rng(0)
    x, rows = draws.normal(size=7), draws.normal(size=(3, 7))
    assert straight_lines(x, rows)[0] == pytest.approx([stats.linregress(x, row).slope for row in rows])


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        ([1, 2], [[1, 2, 3]], "2 x for rows of 3 values"),
        ([1, 1], [[1, 2]], "a slope needs two different numbers"),
        ([1], [[1]], "a slope needs two different numbers"),
        ([1, np.nan], [[1, 2]], "x must be finite"),
        ([1, 2], [[1, np.inf]], "values must be finite"),
        ([1, 2], [1, 2], "values: shape"),
        ([], [[]], "x: shape"),
    ],
)
def test_what_has_no_slope(x, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        straight_lines(x, values)
