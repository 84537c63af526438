"""Group-sequential looks at growing data, with a chance of at most alpha that any of them errs.

The level is spent over the looks: each has an interval of higher confidence, and all of them together cover
the true difference with probability 1 - alpha (repeated confidence intervals). Any rule may stop the looks.

- The level is spent in the manner of Pocock, nearly evenly. Differences between arms are often large and are
  seen at the first look, at which O'Brien and Fleming's boundaries decide almost nothing.
- The levels are those of t statistics (`t_levels`), exact for normal differences. Levels of normal statistics
  give 5.5 % instead of 5 % with a budget of 20.
- Each of Holm's levels is spent over the same looks, and a decided comparison passes its level on. This
  requires levels that rise with alpha at every look, as these do.

docs/explanation/statistics.md has simulated rates.

Source:
    Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983 (spending).
    Armitage, McPherson and Rowe, "Repeated significance tests on accumulating data", JRSS A 132, 1969
    (recursive integration). Jennison and Turnbull, Group Sequential Methods with Applications to Clinical
    Trials, 2000, chapters 7, 9 (repeated confidence intervals), 11 (t tests) and 19. Ye, Li, Liu and Yao, "A
    group sequential Holm procedure with multiple primary endpoints", Statistics in Medicine 32, 2013. Maurer
    and Bretz, "Multiple testing in group sequential trials using graphical approaches", Statistics in
    Biopharmaceutical Research 5, 2013.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import special

FIRST_LOOK = 6  # the fewest pairs with which an exact two-sided sign-flip test can fall below 0.05
STEP = 2  # pairs from one look to the next

CELLS = 512
"""Of the t process. Twice as many change levels by at most 0.2 % at a budget of 20. At 100 pairs, levels are
up to 1 % too low: on the safe side."""


def looks(budget: int) -> tuple[int, ...]:
    """Pairs at each look.

    Args:
        budget: The largest number of pairs, which is the last look.

    Raises:
        ValueError: The budget is below the first look.
    """
    if budget < FIRST_LOOK:
        raise ValueError(f"budget={budget}: must be at least {FIRST_LOOK}, the pairs of the first look")
    return (*range(FIRST_LOOK, budget, STEP), budget)


def pocock_spending(fraction: float, alpha: float) -> float:
    """Alpha * ln(1 + (e - 1) t): levels nearly equal over equally spaced looks, as Pocock's.

    Args:
        fraction: Of the budget, in (0, 1].
        alpha: Spent at 1.

    Returns:
        The level to spend by then.

    Source:
        Lan and DeMets 1983, alpha_2*.
    """
    return alpha * math.log1p((math.e - 1) * fraction)


def t_levels(pairs: Sequence[int], alpha: float) -> tuple[float, ...]:
    """Two-sided level of the t interval of each look, so that `pocock_spending` is spent exactly.

    For normal differences of any variance without an effect, an interval of the first k looks excludes zero
    with probability `pocock_spending(pairs[k] / pairs[-1], alpha)`.

    Args:
        pairs: Pairs at each look, rising from at least 2 to the budget.
        alpha: The level over all looks, in (0, 1).

    Returns:
        One per look, in (0, alpha]: 1 - confidence of its interval.

    Raises:
        ValueError: Pairs that do not rise from 2 or more, or alpha outside (0, 1).
    """
    if not len(pairs) or pairs[0] < 2 or (np.diff(pairs) <= 0).any():
        raise ValueError(f"pairs={list(pairs)}: must rise, from 2 or more")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: must be between 0 and 1")
    return _t_levels(tuple(pairs), alpha)


@lru_cache(maxsize=256)
def _t_levels(pairs: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """Follow R = sum / sqrt(n sum of squares), a function of t, from look to look.

    Without an effect, R is independent of the sum of squares (Basu). So the next R depends only on the last
    one and on the next difference relative to that sum: R is a Markov chain. abs(R) is sin(angle), in cells
    of equal angle.
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
        may_be_spent = pocock_spending(look / pairs[-1], alpha)
        beyond = np.append(mass[::-1].cumsum()[::-1], 0)
        bound = float(np.interp(may_be_spent - spent, beyond[::-1], edges[::-1]))
        levels.append(float(2 * special.stdtr(n - 1, -math.tan(bound) * math.sqrt(n - 1))))
        mass = mass * np.clip((bound - edges[:-1]) / edges[1], 0, 1)  # part of the bound's cell continues
        spent = may_be_spent
    return tuple(levels)


@lru_cache(maxsize=32)
def _t_transition(n: int) -> np.ndarray:
    """Probability of moving from each cell of abs(R) at n differences to each at n + 1, `(CELLS, CELLS)`.

    The next difference over the root of the new sum of squares is sin(x), x with density proportional to
    cos(x)^(n - 1). The next R is A cos(x - c), with A and c from the last R.
    """
    edges = np.linspace(0, math.pi / 2, CELLS + 1)
    r = np.sin((edges[:-1] + edges[1:]) / 2)[:, None]
    amplitude, centre = np.sqrt((n * r**2 + 1) / (n + 1)), np.arctan2(1, math.sqrt(n) * r)
    angles = np.linspace(-math.pi / 2, math.pi / 2, 8193)
    cumulated = special.betainc(n / 2, n / 2, (1 + np.sin(angles)) / 2)

    def within(half: np.ndarray) -> np.ndarray:
        """Probability that x is within `half` of c."""
        upper, lower = (
            np.interp(centre + half, angles, cumulated),
            np.interp(centre - half, angles, cumulated),
        )
        return np.asarray(upper - lower)

    half = np.arccos(np.minimum(np.sin(edges) / amplitude, 1))
    beyond = within(half) + 1 - within(math.pi - half)
    return np.asarray(beyond[:, :-1] - beyond[:, 1:])
