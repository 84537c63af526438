"""Group-sequential looks: how often one may look at growing data and still be wrong once in 20 at most.

Whoever adds seeds until a 95 % interval excludes zero is wrong far more often than its level says: with the
looks below in 16 % of all cases without an effect. Here the level is spent over the looks. At each of them
a comparison is judged on an interval of its own, higher confidence, so that all intervals of a comparison
cover its true difference together with probability 1 - alpha (repeated confidence intervals). Whatever is
read off them is wrong with probability alpha at most, a statement of one side ("above 0", "below the margin")
with alpha / 2, whichever rule stops the looks.

The looks, how the level is spent, and the method:

- Looks at `FIRST_LOOK` pairs and every `STEP` pairs from there to the budget. Six pairs are what a study has.
- The level is spent in the manner of Pocock: nearly the same at each look. Differences between arms are
  often large, and are then seen at the first look; O'Brien and Fleming's boundaries save the level for the
  last look and decide next to nothing at the first.
- The variance is not known, and six pairs are few. The usual way takes nominal levels of normal statistics
  (`benchmarks.normal_boundaries`) to t tests; it is off here: 5.5 % instead of 5 % with a budget of 20. So
  the levels are those of the t statistics themselves (`t_levels`), exact for normal differences.
- Several comparisons: Holm's levels alpha / m, alpha / (m - 1), ... are spent each over the same looks; a
  comparison that was decided stays decided and hands its level on. That needs nominal levels that rise
  with alpha at every look, as these do.

Verdicts are read off intervals that reach over the t intervals of these levels
(`ablations.statistics.decisions`), so that they are wrong less often still. `python -m
benchmarks.verdict_error_rates` prints the rates by simulation, also where differences are skewed. Pure
functions on numbers.

Source:
    Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983 (spending).
    Armitage, McPherson and Rowe, "Repeated significance tests on accumulating data", JRSS A 132, 1969
    (recursive integration). Jennison and Turnbull, Group Sequential Methods with Applications to Clinical
    Trials, 2000, chapters 7, 9 (repeated confidence intervals), 11 (t tests) and 19.
    Ye, Li, Liu and Yao, "A group sequential Holm procedure with multiple primary endpoints", Statistics in
    Medicine 32, 2013; Maurer and Bretz, "Multiple testing in group sequential trials using graphical
    approaches", Statistics in Biopharmaceutical Research 5, 2013.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import special

FIRST_LOOK = 6  # pairs; the fewest with which an exact two-sided sign-flip test can fall below 0.05
STEP = 2  # pairs from one look to the next

CELLS = 512
"""Of the t process. Levels are within 0.2 % of those with twice as many at a budget of 20, and up to 1 %
below them at 100: on the safe side."""

Spending = Callable[[float, float], float]
"""Information fraction in (0, 1] and alpha -> the level that may be spent by then, alpha at 1."""


def looks(budget: int) -> tuple[int, ...]:
    """Pairs at each look: `FIRST_LOOK`, then every `STEP`, the last at the budget.

    Args:
        budget: The largest number of pairs.

    Raises:
        ValueError: The budget does not reach the first look.
    """
    if budget < FIRST_LOOK:
        raise ValueError(f"budget={budget}: must be at least {FIRST_LOOK}, the pairs of the first look")
    return (*range(FIRST_LOOK, budget, STEP), budget)


def pocock_spending(fraction: float, alpha: float) -> float:
    """Alpha * ln(1 + (e - 1) t): levels nearly equal over equally spaced looks, as Pocock's.

    Source:
        Lan and DeMets 1983, alpha_2*.
    """
    return alpha * math.log1p((math.e - 1) * fraction)


def t_levels(pairs: Sequence[int], alpha: float, spending: Spending = pocock_spending) -> tuple[float, ...]:
    """Two-sided level of the t interval of each look, so that `spending` is spent exactly.

    Whatever the variance, normal differences without an effect have left some interval of the first
    k looks with probability `spending(pairs[k] / pairs[-1], alpha)`.

    Args:
        pairs: Differences seen at each look, rising, at least 2, the last one the budget.
        alpha: To be spent over all looks, in (0, 1).
        spending: How.

    Returns:
        One per look, in (0, alpha], which is 1 minus the confidence of the look's interval.

    Raises:
        ValueError: Pairs that do not rise from 2 or more, or alpha outside of (0, 1).
    """
    if not len(pairs) or pairs[0] < 2 or (np.diff(pairs) <= 0).any():
        raise ValueError(f"pairs={list(pairs)}: must rise, from 2 or more")
    _check_alpha(alpha)
    return _t_levels(tuple(pairs), alpha, spending)


@lru_cache(maxsize=256)
def _t_levels(pairs: tuple[int, ...], alpha: float, spending: Spending) -> tuple[float, ...]:
    """Follows R = sum / sqrt(n sum of squares), a function of t, from look to look.

    Without an effect R is a Markov chain: R so far tells nothing of the sum of squares (Basu), so that
    the next R depends on the last one and on the next difference relative to that sum. Its
    absolute value is sin(angle), in cells of equal angle.
    """
    edges = np.linspace(0, math.pi / 2, CELLS + 1)
    degrees = pairs[0] - 1
    beyond = 2 * special.stdtr(degrees, -np.tan(edges) * math.sqrt(degrees))
    mass = beyond[:-1] - beyond[1:]
    levels = []
    n, spent = pairs[0], 0.0
    for look in pairs:
        for before in range(n, look):
            mass = mass @ _t_transition(before)
        n = look
        may_be_spent = spending(look / pairs[-1], alpha)
        beyond = np.append(mass[::-1].cumsum()[::-1], 0)
        bound = float(np.interp(may_be_spent - spent, beyond[::-1], edges[::-1]))
        levels.append(float(2 * special.stdtr(n - 1, -math.tan(bound) * math.sqrt(n - 1))))
        mass = mass * np.clip((bound - edges[:-1]) / edges[1], 0, 1)  # of the bound's cell a part goes on
        spent = may_be_spent
    return tuple(levels)


@lru_cache(maxsize=32)
def _t_transition(n: int) -> np.ndarray:
    """Probability of going from each cell of abs(R) of n differences to each of n + 1, `(CELLS, CELLS)`.

    The next difference over the root of the new sum of squares is sin(x) with x of density
    proportional to cos(x)^(n - 1), and the next R is A cos(x - c), with A and c from the last one.
    """
    edges = np.linspace(0, math.pi / 2, CELLS + 1)
    r = np.sin((edges[:-1] + edges[1:]) / 2)[:, None]
    amplitude, centre = np.sqrt((n * r**2 + 1) / (n + 1)), np.arctan2(1, math.sqrt(n) * r)
    angles = np.linspace(-math.pi / 2, math.pi / 2, 8193)
    cumulated = special.betainc(n / 2, n / 2, (1 + np.sin(angles)) / 2)

    def within(half: np.ndarray) -> np.ndarray:
        """Probability that x is no farther from c than that."""
        upper, lower = (
            np.interp(centre + half, angles, cumulated),
            np.interp(centre - half, angles, cumulated),
        )
        return np.asarray(upper - lower)

    half = np.arccos(np.minimum(np.sin(edges) / amplitude, 1))
    beyond = within(half) + 1 - within(math.pi - half)
    return np.asarray(beyond[:, :-1] - beyond[:, 1:])


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: must be between 0 and 1")
