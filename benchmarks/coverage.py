"""How often an interval holds the true difference, and a test sees one that is not there: by simulation.

    python -m benchmarks.coverage [--samples 100000]

Draws samples of n paired differences whose true mean is 0 and prints, for n = 6, 10 and 20 seeds, in how
many per cent of them the 95 % interval of `ablations.statistics.paired` holds 0, and in how many the
sign-flip test says p <= 0.05 all the same. The functions are those of tables and verdicts; the tests assert
the coverages that the docstring of `mean_interval` states.
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np

from ablations.statistics.paired import seed_band, sign_flip_p

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

DIFFERENCES: Mapping[str, Draw] = {
    "normal": lambda draw, size: draw.normal(size=size),
    "of two gamma, shape 4": lambda draw, size: draw.gamma(4, size=size) - draw.gamma(4, size=size),
    "of two lognormal, sigma 1": lambda draw, size: draw.lognormal(size=size) - draw.lognormal(size=size),
    "gamma, shape 16 (skewness 0.5)": lambda draw, size: draw.gamma(16, size=size) - 16,
    "gamma, shape 4 (skewness 1)": lambda draw, size: draw.gamma(4, size=size) - 4,
    "gamma, shape 2 (skewness 1.4)": lambda draw, size: draw.gamma(2, size=size) - 2,
    "exponential (skewness 2)": lambda draw, size: draw.exponential(size=size) - 1,
    "lognormal, sigma 1 (skewness 6.2)": lambda draw, size: draw.lognormal(size=size) - np.exp(0.5),
}
"""Differences of mean 0, by how they are distributed. Those "of two" are what two arms give that are skewed
alike: symmetric. The others are skewed themselves, as where one arm only fails."""

SIZES = (6, 10, 20)


def coverage(draw: Draw, n: int, samples: int, generator: np.random.Generator) -> float:
    """Share of samples of n differences whose 95 % t interval holds their true mean, 0."""
    band = seed_band(draw(generator, (n, samples)))  # an interval per column: `mean_interval`, vectorized
    return float(np.mean((band.low <= 0) & (band.high >= 0)))


def false_positive_rate(
    draw: Draw, n: int, samples: int, generator: np.random.Generator, level: float = 0.05
) -> float:
    """Share of samples of n differences of mean 0 whose sign-flip p is at most `level`."""
    drawn = draw(generator, (samples, n))
    return float(np.mean([sign_flip_p(sample, generator) <= level for sample in drawn]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000, help="for each number; a tenth for the test")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    sizes = " ".join(f"n = {n:<3}" for n in SIZES)
    print(f"{'differences':<35} coverage, %: {sizes} false positives, %: {sizes}")
    for name, draw in DIFFERENCES.items():
        covered = [coverage(draw, n, arguments.samples, generator) for n in SIZES]
        found = [false_positive_rate(draw, n, max(1, arguments.samples // 10), generator) for n in SIZES]
        left, right = (" ".join(f"{100 * share:<7.1f}" for share in shares) for shares in (covered, found))
        print(f"{name:<35} {'':>12} {left} {'':>19} {right}", flush=True)


if __name__ == "__main__":
    main()
