"""Statistics of seeds and of arms compared seed by seed: pure functions on arrays.

The paper shows one run per curve. Here an arm is a sample of seeds, and arms are compared within each seed.
Every function raises ValueError for NaN and infinity.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # the same numbers as scipy.stats, which takes a second longer to import

EXACT_PAIRS = 16  # 65,536 sign patterns
RANDOM_FLIPS = 9_999
MOST_PAIRS = 1_000_000  # where `needed_pairs` stops searching


@dataclass(frozen=True)
class Estimate:
    """A mean over n values and its interval; NaN where the values give none."""

    n: int
    mean: float
    low: float
    high: float

    def within(self, low: float, high: float) -> Self:
        """Clip the interval to the range of the values, such as 0 to 1 for a share."""
        return replace(
            self, low=float(np.clip(self.low, low, high)), high=float(np.clip(self.high, low, high))
        )


@dataclass(frozen=True)
class PairedEstimate(Estimate):
    """A mean paired difference, its interval and its two-sided sign-flip p."""

    p: float


@dataclass(frozen=True)
class Band:
    """Mean over seeds and its interval, each `(E,)`; the interval is NaN with one seed."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def within(self, low: float, high: float) -> Self:
        """Clip the interval, as `Estimate.within`."""
        return replace(self, low=np.clip(self.low, low, high), high=np.clip(self.high, low, high))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean and two-sided t interval: mean -+ t(n - 1) s / sqrt(n).

    docs/explanation/statistics.md has its coverage for values that are not normal. Verdicts use
    `ablations.statistics.decisions` instead.

    Args:
        values: `(n,)`, one per seed, n >= 1.
        confidence: In (0, 1).

    Returns:
        In the unit of `values`. The interval is NaN for n = 1 and for equal values: seeds that agree by
        accident, such as all at chance, do not show that there is no variance.

    Raises:
        ValueError: No value, a value that is not finite, or a confidence outside (0, 1).

    Source:
        Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    sample = _finite("values", values, dimensions=1)
    mean = float(sample.mean())
    if constant(sample):
        return Estimate(len(sample), mean, np.nan, np.nan)
    half = float(_half_width(sample, confidence))
    return Estimate(len(sample), mean, mean - half, mean + half)


def interval_columns(name: str, estimate: Estimate | None, *, with_p: bool = False) -> dict[str, float]:
    """A table's columns of an estimate, NaN if there is none; `with_p` adds that of a `PairedEstimate`."""
    parts = {"mean": "mean", "ci_low": "low", "ci_high": "high"} | ({"p": "p"} if with_p else {})
    return {f"{name}_{column}": getattr(estimate, part, np.nan) for column, part in parts.items()}


def smallest_sign_flip_p(n: int) -> float:
    """The smallest p of an exact sign-flip test of n pairs: 2 / 2**n, at most 1."""
    return min(1.0, 2.0 / 2.0**n)


def sign_flip_p(differences: ArrayLike, generator: np.random.Generator | None = None) -> float:
    """Two-sided p of "the differences are symmetric about zero", by flipping their signs.

    Twice the share of sign patterns whose sum is at least as far out as the observed one. Up to `EXACT_PAIRS`
    pairs, all 2**n patterns are tried. Above, `RANDOM_FLIPS` are drawn and the observed one is added, so p is
    never 0.

    Args:
        differences: `(n,)`, one per pair, n >= 1.
        generator: Required above `EXACT_PAIRS` pairs.

    Returns:
        p in (0, 1]; 1 for n = 1 and if every difference is 0.

    Raises:
        ValueError: No difference, one that is not finite, or more than `EXACT_PAIRS` without a generator.

    Source:
        Fisher, The Design of Experiments, 1935, section 21; for the added pattern, Phipson and Smyth,
        "Permutation p-values should never be zero", 2010.
    """
    sample = _finite("differences", differences, dimensions=1)
    exact = len(sample) <= EXACT_PAIRS
    if not exact and generator is None:
        raise ValueError(f"{len(sample)} pairs are more than {EXACT_PAIRS}: pass a generator")
    if exact:
        sums, added = _signed_sums(sample), 0
    else:
        assert generator is not None
        sums, added = np.zeros(RANDOM_FLIPS), 1
        for start in range(0, len(sample), 8):  # eight pairs at a time: one of their 256 patterns
            patterns = _signed_sums(sample[start : start + 8])
            sums += patterns[generator.integers(len(patterns), size=RANDOM_FLIPS)]
    observed = sample.sum()
    # Accuracies count images and tie often, but their sums are not always equal in floating point.
    rounding = 1e-10 * np.abs(sample).sum()
    as_low = np.count_nonzero(sums <= observed + rounding) + added
    as_high = np.count_nonzero(sums >= observed - rounding) + added
    return min(1.0, 2 * min(as_low, as_high) / (len(sums) + added))


def paired_difference(
    treatment: ArrayLike,
    baseline: ArrayLike,
    generator: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> PairedEstimate:
    """Mean of treatment - baseline within pairs, with t interval and sign-flip p.

    Args:
        treatment: `(n,)`, n >= 1.
        baseline: `(n,)`, in the same order of seeds.

    Returns:
        The interval is NaN as in `mean_interval`.

    Raises:
        ValueError: Different lengths, or as `mean_interval` and `sign_flip_p`.
    """
    treated = _finite("treatment", treatment, dimensions=1)
    control = _finite("baseline", baseline, dimensions=1)
    if treated.shape != control.shape:
        raise ValueError(f"{len(treated)} values of treatment, {len(control)} of baseline: no pairs")
    differences = treated - control
    interval = mean_interval(differences, confidence)
    p = sign_flip_p(differences, generator)
    return PairedEstimate(interval.n, interval.mean, interval.low, interval.high, p)


def area_under_curve(steps: ArrayLike, curve: ArrayLike) -> float:
    """The mean height of a validation curve between its first and last point.

    This is the trapezoid area over training steps, divided by the steps between those points. A curve of one
    point has that point's height.

    Args:
        steps: `(E,)`, training steps, strictly increasing.
        curve: `(E,)`.

    Raises:
        ValueError: Different lengths, no point, steps that do not increase, or a number that is not finite.
    """
    at = _finite("steps", steps, dimensions=1)
    height = _finite("curve", curve, dimensions=1)
    if at.shape != height.shape:
        raise ValueError(f"{len(at)} steps for a curve of {len(height)} points")
    if (np.diff(at) <= 0).any():
        raise ValueError("steps must increase strictly")
    if len(at) == 1:
        return float(height[0])
    return float(np.trapezoid(height, at) / (at[-1] - at[0]))


def share_to_target(steps: ArrayLike, curve: ArrayLike, target: float, start: float) -> float:
    """The share of the planned steps after which a curve first reaches the target.

    The curve is linear between validations. A curve that never reaches the target counts 1, so a mean over
    seeds is the restricted mean time to target.

    Args:
        steps: `(E,)`, training steps, strictly increasing from above 0; the last is the planned number.
        curve: `(E,)`.
        target: In the unit of the curve.
        start: The curve at step 0: the value at chance.

    Returns:
        From 0, if the target is not above `start`, to 1.

    Raises:
        ValueError: Different lengths, no point, steps that do not increase, or a number that is not finite.

    Source:
        Royston and Parmar, "Restricted mean survival time", BMC Medical Research Methodology 13, 2013.
    """
    at = np.concatenate([[0.0], _finite("steps", steps, dimensions=1)])
    height = np.concatenate([[float(_finite("start", start, dimensions=0))], _finite("curve", curve, 1)])
    if at.shape != height.shape:
        raise ValueError(f"{len(at) - 1} steps for a curve of {len(height) - 1} points")
    if (np.diff(at) <= 0).any():
        raise ValueError("steps must increase strictly, from above 0")
    reached = height >= _finite("target", target, dimensions=0)
    if not reached.any():
        return 1.0
    first = int(reached.argmax())
    if first == 0:
        return 0.0
    risen = (target - height[first - 1]) / (height[first] - height[first - 1])
    return float((at[first - 1] + risen * (at[first] - at[first - 1])) / at[-1])


def holm_levels(p: ArrayLike, alpha: float, nominal: Callable[[float], float] = float) -> np.ndarray:
    """The level at which Holm's step-down procedure tests each of m hypotheses.

    The k-th smallest p (k from 0) is tested at `nominal(alpha / (m - k))` until one exceeds its level; that
    level then applies to all larger p. A hypothesis is rejected if its p is at most its level.

    Args:
        p: `(m,)`, m >= 1, each in [0, 1].
        alpha: The largest chance of any wrong rejection, in (0, 1).
        nominal: Turns a level over all looks at growing data into the level of this look; increasing.

    Returns:
        `(m,)` levels, in the order of `p`.

    Raises:
        ValueError: No p, one outside [0, 1], or alpha outside (0, 1).

    Source:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
        1979.
    """
    values = _finite("p", p, dimensions=1)
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f"p={values.tolist()}: must lie in [0, 1]")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha} must be between 0 and 1")
    m = len(values)
    steps = np.array([nominal(alpha / (m - k)) for k in range(m)])
    order = np.argsort(values, kind="stable")
    kept = values[order] > steps
    stop = int(kept.argmax()) if kept.any() else m - 1
    levels = np.empty(m)
    levels[order] = steps[np.minimum(np.arange(m), stop)]
    return levels


def needed_pairs(sd: float, distance: float, level: float) -> int | None:
    """The fewest pairs whose t interval has a half width below `distance`, for the observed sd.

    If mean and sd stay as observed, that interval decides; chances that they do are about even.

    Args:
        sd: Standard deviation of the differences, with n - 1; above 0.
        distance: From the mean to the value that the interval must exclude; at least 0.
        level: 1 - confidence, in (0, 1).

    Returns:
        At least 2; None above `MOST_PAIRS`.

    Raises:
        ValueError: A number out of range.
    """
    if not (sd > 0 and distance >= 0 and 0 < level < 1):
        raise ValueError(f"sd={sd}, distance={distance}, level={level}: must be > 0, >= 0, in (0, 1)")

    def enough(n: int) -> bool:
        return bool(-special.stdtrit(n - 1, level / 2) * sd / np.sqrt(n) < distance)

    found = 2 + bisect_left(range(2, MOST_PAIRS + 1), True, key=enough)
    return None if found > MOST_PAIRS else found


def expected_maximum(values: ArrayLike) -> np.ndarray:
    """The expected best of k trials, for k = 1 to n, from the values of n trials.

    This is the mean of the largest value over all subsets of k: sum over i of x_(i) C(i - 1, k - 1) / C(n,
    k), x_(1) <= ... <= x_(n). It is unbiased for independent draws of one distribution.

    Args:
        values: `(n,)`, one per trial, n >= 1.

    Returns:
        `(n,)`, from their mean up to their maximum.

    Raises:
        ValueError: No value, or one that is not finite.

    Source:
        Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", 2019 (arXiv:1909.03004),
        who draw with replacement. Tang et al., "Showing Your Work Doesn't Always Work", 2020
        (arXiv:2004.13705), show that this is too low; as they do, we draw without.
    """
    ordered = np.sort(_finite("values", values, dimensions=1))
    n, rank = len(ordered), np.arange(1, len(ordered) + 1)
    share = np.full(n, 1 / n)  # of the subsets of k, those whose largest value is the one of this rank
    expected = np.empty(n)
    for k in range(1, n + 1):
        expected[k - 1] = share @ ordered
        if k < n:
            share = share * np.maximum(rank - k, 0) * (k + 1) / (k * (n - k))
    return expected


def straight_lines(x: ArrayLike, values: ArrayLike, at: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The least-squares line through each row over x: slope = sum (x - mean) y / sum (x - mean)^2.

    Args:
        x: `(D,)`, at least two different numbers.
        values: `(n, D)`, one row per seed, n >= 1.
        at: The x at which the lines are read.

    Returns:
        Slopes, `(n,)`, per unit of `x`; and the lines' values at `at`, `(n,)`.

    Raises:
        ValueError: Other shapes, one x, or a number that is not finite.
    """
    positions = _finite("x", x, dimensions=1)
    rows = _finite("values", values, dimensions=2)
    if rows.shape[1] != len(positions):
        raise ValueError(f"{len(positions)} x for rows of {rows.shape[1]} values")
    if positions.min() == positions.max():
        raise ValueError(f"x={positions.tolist()}: a slope needs two different numbers")
    centred = positions - positions.mean()
    slope = np.asarray(rows @ centred / (centred @ centred))
    return slope, rows.mean(axis=1) + slope * (at - positions.mean())


def seed_band(curves: ArrayLike) -> Band:
    """Mean over seeds at each epoch, and a 95 % t interval per epoch (not a simultaneous band).

    Args:
        curves: `(S, E)`, one row per seed.

    Returns:
        Its width is zero at epochs where all seeds agree.

    Raises:
        ValueError: No seed or no epoch, or a number that is not finite.
    """
    sample = _finite("curves", curves, dimensions=2)
    mean = sample.mean(axis=0)
    half = _half_width(sample, 0.95) if len(sample) > 1 else np.full_like(mean, np.nan)
    return Band(mean, mean - half, mean + half)


def _signed_sums(sample: np.ndarray) -> np.ndarray:
    """The sums of `(n,)` numbers under each of the 2**n patterns of signs, `(2**n,)`."""
    sums = np.zeros(1)
    for value in sample:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _half_width(sample: np.ndarray, confidence: float) -> np.ndarray:
    """Half the t interval along the first axis of `(n, ...)`, n >= 2."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must be between 0 and 1")
    quantile = special.stdtrit(len(sample) - 1, (1 + confidence) / 2)
    return np.asarray(quantile * (sample.std(axis=0, ddof=1) / np.sqrt(len(sample))))


def constant(values: ArrayLike) -> bool:
    """Whether all values are equal but for rounding (0.3 - 0.2 is not 0.2 - 0.1).

    Args:
        values: `(n,)`, n >= 1.

    Raises:
        ValueError: No value, or one that is not finite.
    """
    sample = _finite("values", values, dimensions=1)
    return bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())


def _finite(name: str, values: ArrayLike, dimensions: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name}: shape {array.shape}, allowed: {dimensions} dimensions, not empty")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array
