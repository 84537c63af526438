"""The size of a difference, how often it appears, and the seeds needed for a verdict on it."""

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ablations.statistics.decisions import RANK_WIDTH, deciding_level
from ablations.statistics.sequential import FIRST_LOOK

MOST_SEEDS = 100_000
SIMULATED_SEEDS = 40  # up to these, power is simulated
SIMULATED = 5_000  # studies, which give a power of 80 % to 0.6 points


def standardized_effect(differences: ArrayLike) -> float:
    """Cohen's d_z: the mean of paired differences over their standard deviation.

    Args:
        differences: `(n,)`, one per seed, n >= 2.

    Returns:
        NaN if all differences are equal.

    Raises:
        ValueError: Fewer than two, or one that is not finite.

    Source:
        Lakens, "Calculating and reporting effect sizes to facilitate cumulative science", Frontiers in
        Psychology 4, 2013, equation 6.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("differences: must be two or more finite numbers")
    sd = float(values.std(ddof=1))
    return float(values.mean()) / sd if sd > 1e-12 * np.abs(values).max() else float("nan")


def probability_of_improvement(treatment: ArrayLike, baseline: ArrayLike) -> float:
    """The probability that a run of one arm is above a run of the other; a tie counts half.

    Args:
        treatment: `(n,)`, n >= 1.
        baseline: `(m,)`, m >= 1; seeds are not paired.

    Returns:
        From 0 to 1; 0.5 for equal arms.

    Raises:
        ValueError: No value, or one that is not finite.

    Source:
        Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021
        (arXiv:2108.13264), section 4.3: Mann-Whitney's U over n times m.
    """
    one, other = np.asarray(treatment, dtype=float), np.asarray(baseline, dtype=float)
    for name, values in (("treatment", one), ("baseline", other)):
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(f"{name}: must be one or more finite numbers")
    return float((np.sign(one[:, None] - other[None, :]) + 1).mean() / 2)


def power_of(seeds: int, effect: float, spread: float, *, alpha: float = 0.05, margin: float = 0.0) -> float:
    """The probability that a claim holds: its interval excludes zero, and the mean reaches the margin.

    For normal differences. Up to 40 seeds, simulated with the decision itself and the same draws each time;
    above, by the noncentral t distribution with the rank interval's width.

    Args:
        seeds: Pairs; fewer than six give no verdict.
        effect: The true mean difference.
        spread: Standard deviation of the paired differences, in the unit of `effect`; above 0.
        alpha: 1 - the interval's confidence, in (0, 1).
        margin: That of the claim, at least 0.

    Raises:
        ValueError: A number out of range.
    """
    _require(effect, spread, alpha, margin)
    if seeds < FIRST_LOOK:
        return 0.0
    size = abs(effect)
    if seeds <= SIMULATED_SEEDS:
        values = size + spread * np.random.default_rng(0).standard_normal((seeds, SIMULATED))
        holds = (deciding_level(values, 0.0, above=True) <= alpha) & (values.mean(axis=0) >= margin)
        return float(holds.mean())
    root = np.sqrt(seeds)
    critical = -special.stdtrit(seeds - 1, alpha / 2)
    below = special.nctdtr(seeds - 1, size / (spread * RANK_WIDTH) * root, critical)
    # SciPy returns NaN for a probability that is practically 0.
    return float(min(1 - np.nan_to_num(below), special.ndtr((size - margin) / spread * root)))


def needed_seeds(
    effect: float, spread: float, *, power: float = 0.8, alpha: float = 0.05, margin: float = 0.0
) -> int | None:
    """The fewest seeds with which a claim holds with a given probability; None above `MOST_SEEDS`.

    Args:
        effect: The true mean difference; not 0.
        spread: As `power_of`.
        power: In (0, 1).
        alpha: As `power_of`; for m comparisons, 0.05 / m is on the safe side.
        margin: As `power_of`.

    Raises:
        ValueError: A number out of range.
    """
    _require(effect, spread, alpha, margin)
    if effect == 0:
        raise ValueError(f"effect={effect}: must not be 0")
    if not 0 < power < 1:
        raise ValueError(f"power={power}: must be in (0, 1)")

    def enough(seeds: int) -> bool:
        return power_of(seeds, effect, spread, alpha=alpha, margin=margin) >= power

    found = FIRST_LOOK + bisect_left(range(FIRST_LOOK, MOST_SEEDS + 1), True, key=enough)
    return None if found > MOST_SEEDS else found


def _require(effect: float, spread: float, alpha: float, margin: float) -> None:
    if not (np.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin={margin}: must be finite and at least 0")
    if not np.isfinite(effect):
        raise ValueError(f"effect={effect}: must be finite")
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(f"spread={spread}: must be finite and above 0")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: must be in (0, 1)")
