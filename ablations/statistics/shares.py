"""Exact statistics for two shares of the same seeds, such as the shares that failed to learn.

`only_one` and `only_other` count the seeds in which only one of the arms failed; other seeds say nothing
about a difference.

Source:
    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947. Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26, 1934.
"""

import numpy as np
from scipy import special

LEAST = 1e-9
"""Ends an interval next to zero if the test rejects zero and the interval includes it."""


def exact_paired_p(only_one: int, only_other: int) -> float:
    """The two-sided p of McNemar's exact test, at most 1."""
    discordant = only_one + only_other
    return min(1.0, 2 * float(special.bdtr(min(only_one, only_other), discordant, 0.5)))


def paired_share_interval(only_one: int, only_other: int, n: int, level: float) -> tuple[float, float]:
    """An exact interval of the difference of two shares of the same seeds.

    The shares of seeds in which only one arm failed have Clopper-Pearson intervals at half the level each;
    the difference lies between them. This is wide, so the interval is cut at zero if McNemar's exact test
    rejects equal shares. The tests enumerate its coverage.

    Args:
        only_one: See the module's docstring.
        only_other: Likewise.
        n: All seeds, at least 1.
        level: 1 - confidence, in (0, 1).

    Returns:
        Its ends, for the share of the one arm minus that of the other.
    """
    (low_one, high_one), (low_other, high_other) = (
        _clopper_pearson(count, n, level / 2) for count in (only_one, only_other)
    )
    low, high = low_one - high_other, high_one - low_other
    if exact_paired_p(only_one, only_other) <= level:
        low, high = (max(low, LEAST), high) if only_one > only_other else (low, min(high, -LEAST))
    return low, high


def paired_share_level(only_one: int, only_other: int, n: int, null: float, *, above: bool) -> float:
    """The level above which `paired_share_interval` lies entirely above or below a number; 1 for never."""

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
    """How many differences of two 0-or-1 values are 1, and how many are -1."""
    return int((differences > 0.5).sum()), int((differences < -0.5).sum())
