"""Group-sequential boundaries for normal statistics of known variance, as they are published.

`ablations.statistics.sequential` is compared with them by the tests, which check them against published
tables and show why they are not used.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special
from scipy.optimize import brentq

from ablations.statistics.sequential import Spending, pocock_spending

FARTHEST = 10.0
"""Standard deviations to which a normal process is followed; beyond lies a probability of 1e-23."""


def nominal_levels(
    fractions: Sequence[float], alpha: float, spending: Spending = pocock_spending
) -> tuple[float, ...]:
    """Two-sided level of each look for normal statistics of known variance: the published boundaries.

    What `t_levels` comes to with many pairs; with few, t intervals of these levels miss too often.

    Args:
        fractions: Information at each look over that at the last planned one, rising, in (0, 1].
        alpha: To be spent over all looks, in (0, 1).
        spending: How.

    Returns:
        One per look, in (0, alpha].

    Raises:
        ValueError: Fractions that do not rise within (0, 1], or alpha outside of (0, 1).
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

    Args:
        fractions: As `nominal_levels`, `(K,)`.
        bounds: Of the standardized statistic at each look, positive, `(K,)`.

    Returns:
        `(K,)`, with no effect; their sum is the error over all looks.

    Raises:
        ValueError: Fractions that do not rise within (0, 1], or another number of bounds.
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
    """Brownian motion from 0 that has not left the bounds so far, as a density on Gauss-Legendre nodes.

    Attributes:
        fraction: Information so far: the variance of the unbounded process.
        at: Nodes, `(N,)`, in the unit of the sum, not standardized.
        mass: Density times quadrature weight at the nodes, `(N,)`; sums to the probability of being there.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self.at = np.zeros(1)
        self.mass = np.ones(1)

    def crossing(self, fraction: float, bound: float) -> float:
        """Probability of still being inside and then beyond the standardized bound at `fraction`."""
        edge, deviation = bound * math.sqrt(fraction), math.sqrt(fraction - self.fraction)
        outside = special.ndtr((self.at - edge) / deviation) + special.ndtr((-edge - self.at) / deviation)
        return float(self.mass @ outside)

    def bound(self, fraction: float, probability: float) -> float:
        """The standardized bound beyond which the process is at `fraction` with that probability."""
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
