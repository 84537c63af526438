"""The interval behind a verdict, and the level at which it decides.

It spans Student's t interval of the mean difference and the exact rank interval, of the same confidence, of
the typical difference (Hodges-Lehmann: the median of the averages of any two differences, each with itself
too). So a value outside is rejected by both tests. docs/explanation/statistics.md explains why both are
needed.

The functions take samples along the first axis, `(n, ...)`, and answer per sample.

Source:
    Hodges and Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34,
    1963. Tukey's interval as in Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 2014,
    section 3.3. The closed interval keeps its confidence if values tie: Noether, "Wilcoxon confidence
    intervals for location parameters in the discrete case", JASA 62, 1967.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

DIGITS = 12
"""To which averages are rounded, so that ties are exact."""

RANK_WIDTH = math.sqrt(math.pi / 3)
"""Width of the rank interval over that of the t interval, for many normal differences."""


def rank_interval(values: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The exact rank interval of the typical difference.

    Args:
        values: `(n, ...)`, n >= 1.
        level: 1 - confidence, in (0, 1).

    Returns:
        Its ends, each `(...)`; for a level below 2 / 2**n, the smallest and largest value.
    """
    averages = np.sort(_averages(np.asarray(values, dtype=float)), axis=0)
    below = _distribution(len(np.asarray(values)))
    rank = max(1, int(np.searchsorted(2 * below, level * (1 + 1e-9), side="right")))
    return averages[rank - 1], averages[-rank]


def decision_interval(values: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The shortest interval that contains t and rank interval.

    Args:
        values: `(n, ...)`, n >= 2, not all equal.
        level: 1 - confidence of either, in (0, 1).

    Returns:
        Its ends, each `(...)`, in the unit of the values.
    """
    sample = np.asarray(values, dtype=float)
    half = -special.stdtrit(len(sample) - 1, level / 2) * sample.std(axis=0, ddof=1) / np.sqrt(len(sample))
    low, high = rank_interval(sample, level)
    return np.minimum(low, sample.mean(axis=0) - half), np.maximum(high, sample.mean(axis=0) + half)


def deciding_level(values: ArrayLike, null: float, *, above: bool) -> np.ndarray:
    """The level above which `decision_interval` lies entirely above a number, or below it.

    Args:
        values: `(n, ...)`, n >= 2, not all equal.
        null: The number, in the unit of the values.
        above: True for above, False for below.

    Returns:
        `(...)`, in (0, 1]: the larger p of the two tests, or 1 if the estimates lie on the other side. If all
        values lie on that side, the rank test is at its smallest p and the t test alone decides.

    Source:
        Student 1908 for the t test; for the rank test Wilcoxon, "Individual comparisons by ranking methods",
        Biometrics Bulletin 1, 1945.
    """
    sample = np.asarray(values, dtype=float)
    n, sign = len(sample), 1 if above else -1
    away = sign * (sample.mean(axis=0) - null) / (sample.std(axis=0, ddof=1) / np.sqrt(n))
    by_t = np.minimum(1.0, 2 * special.stdtr(n - 1, -away))
    against = (sign * (_averages(sample) - null) <= 10.0**-DIGITS).sum(axis=0)
    by_rank = np.where(against == 0, 0.0, np.minimum(1.0, 2 * _distribution(n)[against]))
    return np.asarray(np.maximum(by_t, by_rank))


def welch_interval(one: ArrayLike, other: ArrayLike, level: float) -> tuple[float, float]:
    """Welch's t interval of the difference of two means of independent samples.

    Args:
        one: `(n,)`, n >= 2.
        other: `(m,)`, m >= 2.
        level: 1 - confidence, in (0, 1).

    Returns:
        The ends of the interval of the mean of `one` minus that of `other`; both are the difference if
        neither sample varies.

    Source:
        Welch, "The generalization of Student's problem when several different population variances are
        involved", Biometrika 34, 1947.
    """
    samples = [np.asarray(values, dtype=float) for values in (one, other)]
    squares = [sample.var(ddof=1) / len(sample) for sample in samples]
    difference, total = float(samples[0].mean() - samples[1].mean()), sum(squares)
    if total <= 1e-24 * max(np.abs(sample).max() for sample in samples) ** 2:
        return difference, difference
    degrees = total**2 / sum(
        square**2 / (len(sample) - 1) for square, sample in zip(squares, samples, strict=True)
    )
    half = float(-special.stdtrit(degrees, level / 2) * np.sqrt(total))
    return difference - half, difference + half


def _averages(sample: np.ndarray) -> np.ndarray:
    """Of any two values, each with itself too, `(n (n + 1) / 2, ...)`."""
    one, other = np.triu_indices(len(sample))
    return np.asarray(((sample[one] + sample[other]) / 2).round(DIGITS))


@lru_cache(maxsize=256)
def _distribution(n: int) -> np.ndarray:
    """Probability that at most k averages of n symmetric differences without an effect are above zero.

    Returns:
        `(n (n + 1) / 2 + 1,)`, for k = 0, 1, ...: the distribution of Wilcoxon's signed-rank statistic.
    """
    chances = np.ones(1)
    for rank in range(1, n + 1):  # its sign is + or -, with equal chance
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] += chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances.cumsum()
