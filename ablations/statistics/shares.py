"""Two shares of the same seeds, such as of those that failed to learn: exact, also where failures are rare.

Seeds in which both arms failed, or neither, say nothing of a difference. Of those in which one arm alone
failed, either arm is as likely where the shares are equal: the sign test, which is McNemar's exact test. The
functions take the seeds in which one arm alone failed, those in which the other did, and all seeds.

Source:
    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947. Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26, 1934.
"""

import numpy as np
from scipy import special

LEAST = 1e-9
"""A difference that is not zero, where a test rejects zero and the interval says no more."""


def exact_paired_p(only_one: int, only_other: int) -> float:
    """The two-sided p of McNemar's exact test, at most 1.

    Args:
        only_one: Seeds in which one arm alone failed.
        only_other: Seeds in which the other arm alone did.
    """
    discordant = only_one + only_other
    return min(1.0, 2 * float(special.bdtr(min(only_one, only_other), discordant, 0.5)))


def paired_share_interval(only_one: int, only_other: int, n: int, level: float) -> tuple[float, float]:
    """An exact interval of the difference of two shares of the same seeds.

    Either share of seeds in which one arm alone failed has a Clopper-Pearson interval of half the level; the
    difference lies between theirs. That is wide, so that where McNemar's exact test rejects equal shares the
    interval ends at zero at the latest. The tests enumerate that it holds the true difference with 1 - level
    or more.

    Args:
        only_one: Seeds in which one arm alone failed.
        only_other: Seeds in which the other arm alone did.
        n: All seeds, at least 1.
        level: 1 - confidence, in (0, 1).

    Returns:
        Its ends, of the share of one arm minus that of the other.
    """
    (low_one, high_one), (low_other, high_other) = (
        _clopper_pearson(count, n, level / 2) for count in (only_one, only_other)
    )
    low, high = low_one - high_other, high_one - low_other
    if exact_paired_p(only_one, only_other) <= level:
        low, high = (max(low, LEAST), high) if only_one > only_other else (low, min(high, -LEAST))
    return low, high


def paired_share_level(only_one: int, only_other: int, n: int, null: float, *, above: bool) -> float:
    """The level above which `paired_share_interval` lies wholly above a number, or below it; 1 for never."""

    def decided(level: float) -> bool:
        low, high = paired_share_interval(only_one, only_other, n, level)
        return low > null if above else high < null

    lower, upper = 0.0, 1 - 1e-12
    if not decided(upper):
        return 1.0
    for _ in range(50):
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if decided(middle) else (middle, upper)
    return upper


def _clopper_pearson(count: int, n: int, level: float) -> tuple[float, float]:
    low = 0.0 if count == 0 else float(special.betaincinv(count, n - count + 1, level / 2))
    high = 1.0 if count == n else float(special.betaincinv(count + 1, n - count, 1 - level / 2))
    return low, high


def discordant(differences: np.ndarray) -> tuple[int, int]:
    """How many differences of two 0-or-1 values are 1, and how many -1."""
    return int((differences > 0.5).sum()), int((differences < -0.5).sum())
