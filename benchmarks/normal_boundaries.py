"""Published group-sequential boundaries for normal statistics of known variance.

Tests check them against published tables and compare `ablations.statistics.sequential` with them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special
from scipy.optimize import brentq

from ablations.statistics.sequential import pocock_spending

FARTHEST = 10.0
"""Standard deviations to which a normal process is followed; the probability beyond is 1e-23."""


def nominal_levels(
    fractions: Sequence[float], alpha: float, spending: Callable[[float, float], float] = pocock_spending
) -> tuple[float, ...]:
    """Two-sided level of each look for normal statistics of known variance.

    `t_levels` approaches them with many pairs; with few, t intervals of these levels miss too often.

    Args:
        fractions: Information at each look relative to the last planned one, rising, in (0, 1].
        alpha: Spent over all looks, in (0, 1).
        spending: Fraction and alpha -> the level to spend by then.

    Returns:
        One per look, in (0, alpha].

    Raises:
        ValueError: `fractions` or `alpha` is out of range.
    """
    _check_fractions(fractions)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: must be between 0 and 1")
    levels = []
    process = _NormalProcess()
    spent = 0.0
    for fraction in fractions:
        may_be_spent = spending(fraction, alpha)
        bound = process.bound(fraction, may_be_spent - spent)
        process.step(fraction, bound)
        spent = may_be_spent
        levels.append(float(2 * special.ndtr(-bound)))
    return tuple(levels)


def crossing_probabilities(fractions: Sequence[float], bounds: Sequence[float]) -> np.ndarray:
    """Probability that a standardized normal process first leaves (-bound, bound) at each look.

    There is no effect; the sum is the error over all looks.

    Raises:
        ValueError: `fractions` is out of range, or the number of bounds differs.
    """
    _check_fractions(fractions)
    if len(bounds) != len(fractions):
        raise ValueError(f"{len(bounds)} bounds for {len(fractions)} looks")
    process = _NormalProcess()
    probabilities = []
    for fraction, bound in zip(fractions, bounds, strict=True):
        probabilities.append(process.crossing(fraction, bound))
        process.step(fraction, bound)
    return np.array(probabilities)


class _NormalProcess:
    """Brownian motion between two bounds, as a density at Gauss-Legendre nodes.

    Attributes:
        fraction: Information so far: the variance of the unbounded process.
        at: Nodes, `(N,)`, of the sum, not standardized.
        mass: Density times quadrature weight, `(N,)`.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self.at = np.zeros(1)
        self.mass = np.ones(1)

    def crossing(self, fraction: float, bound: float) -> float:
        """Probability of having stayed inside, then being beyond the standardized bound at `fraction`."""
        edge, deviation = bound * math.sqrt(fraction), math.sqrt(fraction - self.fraction)
        outside = special.ndtr((self.at - edge) / deviation) + special.ndtr((-edge - self.at) / deviation)
        return float(self.mass @ outside)

    def bound(self, fraction: float, probability: float) -> float:
        """The standardized bound that the process exceeds at `fraction` with that probability."""
        if self.crossing(fraction, FARTHEST) >= probability:
            return FARTHEST
        return float(brentq(lambda z: self.crossing(fraction, z) - probability, 0, FARTHEST, xtol=1e-12))

    def step(self, fraction: float, bound: float) -> None:
        """Go on to `fraction`, keeping what lies within the standardized bound."""
        edge, deviation = bound * math.sqrt(fraction), math.sqrt(fraction - self.fraction)
        nodes, weights = np.polynomial.legendre.leggauss(32 + math.ceil(8 * edge / deviation))
        at = edge * nodes
        normal = np.exp(-(((at[:, None] - self.at) / deviation) ** 2) / 2) / math.sqrt(2 * math.pi)
        density = normal @ self.mass / deviation
        self.fraction, self.at, self.mass = fraction, at, edge * weights * density


def _check_fractions(fractions: Sequence[float]) -> None:
    if not len(fractions) or (np.diff([0.0, *fractions]) <= 0).any() or fractions[-1] > 1:
        raise ValueError(f"fractions={list(fractions)}: must rise, within (0, 1]")
