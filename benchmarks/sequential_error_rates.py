"""How often verdicts with seeds=auto are wrong, how often right, and how many seeds they take, simulated.

    python -m benchmarks.sequential_error_rates [--draws 40000] [--budget 20]

Made-up paired differences are judged at every look as the sweep does. The claim is "higher", with a smallest
difference that matters of 0.5 sd (of the paired differences): it holds where the mean is at least the margin
and the interval above 0, is contradicted where the interval lies below the margin, and is inconclusive
otherwise. "Holds" is
wrong without an effect, "contradicted" with one of the margin or more; between them nothing is. "Missed"
counts every interval of the whole schedule, also after the decision: how often any of them misses the
truth, which is what 5 % bound; a verdict of this claim can be wrong on one side alone. Studies of several
comparisons share one baseline; "missed" and "wrong" are then of any of them, the other shares of each.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from ablations.statistics.sequential import looks, t_levels
from benchmarks.normal_boundaries import nominal_levels

ALPHA = 0.05
MARGIN = 0.5
HOLDS, CONTRADICTED = 1, -1

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""Generator, (R, N) -> differences of mean 0 and variance 1."""


@dataclass(frozen=True)
class Rates:
    """Shares in R simulated studies of m comparisons.

    Attributes:
        missed: Of studies: some comparison's interval at some look of the whole schedule misses the truth.
        wrong: Of studies: some comparison was decided wrongly.
        holds: Of comparisons: decided to hold.
        contradicted: Of comparisons: decided to be contradicted.
        inconclusive: Of comparisons: not decided within the budget.
        seeds: Pairs used, mean over comparisons.
    """

    missed: float
    wrong: float
    holds: float
    contradicted: float
    inconclusive: float
    seeds: float


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Normal differences."""
    return generator.standard_normal(shape)


def skewed(generator: np.random.Generator, shape: tuple[int, int], skewness: float) -> np.ndarray:
    """Gamma differences of that skewness, which is not 0."""
    size = 4 / skewness**2
    return np.sign(skewness) * (generator.standard_gamma(size, shape) - size) / np.sqrt(size)


def heavy_tailed(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Differences of Student's t distribution with 5 degrees of freedom."""
    return generator.standard_t(5, shape) / np.sqrt(5 / 3)


def skewed_arms(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Differences of two arms whose values are exponential, of skewness 2 each."""
    return (generator.standard_exponential(shape) - generator.standard_exponential(shape)) / np.sqrt(2)


def simulate(
    differences: np.ndarray,
    effects: Sequence[float],
    pairs: Sequence[int],
    levels: Callable[[float], Sequence[float]],
    *,
    margin: float = MARGIN,
    left_out: int = 0,
) -> Rates:
    """Judge simulated studies at every look: Holm over comparisons, what is decided stays decided.

    Args:
        differences: `(R, N, m)`, studies, seeds, comparisons; the effects in them.
        effects: Their true means, `(m,)`.
        pairs: Of each look.
        levels: Alpha -> the nominal level of each look.
        margin: Of the claim "higher".
        left_out: The first seeds whose runs failed.
    """
    draws, _, comparisons = differences.shape
    verdict, seeds = np.zeros((draws, comparisons), int), np.full((draws, comparisons), pairs[-1])
    truth, missed = np.array(effects), np.zeros(draws, bool)
    strictest = levels(ALPHA / comparisons)
    for look, planned in enumerate(pairs):
        seen = differences[:, left_out:planned]
        n = seen.shape[1]
        mean, error = seen.mean(axis=1), seen.std(axis=1, ddof=1) / np.sqrt(n)

        def half(level: float | np.ndarray, n: int = n, error: np.ndarray = error) -> np.ndarray:
            return stats.t.isf(level / 2, n - 1) * error

        missed |= (np.abs(mean - truth) > half(strictest[look])).any(axis=1)
        # The smallest level at which a comparison is decided: seen to be above 0, of a mean that matters, or
        # below the margin.
        matters = mean >= margin
        needed = 2 * stats.t.sf(np.where(matters, mean, margin - mean) / error, n - 1)
        needed[verdict != 0] = np.inf
        level_of = [levels(ALPHA / left)[look] for left in range(comparisons, 0, -1)]
        decided = (verdict != 0).sum(axis=1)
        for _ in range(comparisons):  # Holm: the clearest of those left, while it is clear enough
            row, best = np.arange(draws), needed.argmin(axis=1)
            level = np.array(level_of)[np.minimum(decided, comparisons - 1)]
            now = needed[row, best] <= level
            row, best = row[now], best[now]
            verdict[row, best] = np.where(matters[row, best], HOLDS, CONTRADICTED)
            seeds[row, best] = planned
            needed[row, best] = np.inf
            decided[row] += 1
    wrong = ((verdict == HOLDS) & (truth <= 0)) | ((verdict == CONTRADICTED) & (truth >= margin))
    return Rates(
        missed=float(missed.mean()),
        wrong=float(wrong.any(axis=1).mean()),
        holds=float((verdict == HOLDS).mean()),
        contradicted=float((verdict == CONTRADICTED).mean()),
        inconclusive=float((verdict == 0).mean()),
        seeds=float(seeds.mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=40_000, help="simulated studies per row")
    parser.add_argument("--budget", type=int, default=20, help="seeds")
    arguments = parser.parse_args()
    pairs = looks(arguments.budget)
    generator = np.random.default_rng(0)

    exact = partial(t_levels, pairs)
    usual = partial(nominal_levels, [n / pairs[-1] for n in pairs])
    levels = ", ".join(f"{level:.4f}" for level in exact(ALPHA))
    print(f"looks at {', '.join(map(str, pairs))} pairs; levels {levels}")
    widths = {"missed": 11, "wrong": 11, "holds": 11, "contradicted": 17, "inconclusive": 14}
    headers = "".join(f"{f'{column} %':>{width}}" for column, width in widths.items())
    print(f"{'differences and effect':<44}{headers}  seeds")

    def row(
        name: str,
        draw: Draw,
        effects: Sequence[float],
        levels: Callable[[float], Sequence[float]] = exact,
        *,
        seen: Sequence[int] = pairs,
        left_out: int = 0,
    ) -> None:
        """Simulate and print; several comparisons share their baseline, so they are correlated by a half."""
        shape = (arguments.draws, pairs[-1])
        if len(effects) == 1:
            values = draw(generator, shape)[:, :, None]
        else:
            arms = np.stack([draw(generator, shape) for _ in range(len(effects) + 1)], axis=2)
            values = (arms[:, :, 1:] - arms[:, :, :1]) / np.sqrt(2)
        rates = simulate(values + np.array(effects), effects, seen, levels, left_out=left_out)
        cells = "".join(f"{100 * getattr(rates, column):{width}.2f}" for column, width in widths.items())
        print(f"{name:<44}{cells}{rates.seeds:7.1f}")

    row("normal, 0 sd, 95 % intervals at every look", normal, [0], lambda alpha: [alpha] * len(pairs))
    row("normal, 0 sd, levels of normal statistics", normal, [0], usual)
    row("normal, 0 sd, the first two seeds failed", normal, [0], left_out=2)
    shapes: dict[str, Draw] = {
        "normal": normal,
        "t of 5 degrees": heavy_tailed,
        "of two skewed arms": skewed_arms,
        **{f"skewness {size:g}": partial(skewed, skewness=size) for size in (0.5, -0.5, 1, -1, -2)},
    }
    for name, draw in shapes.items():
        row(f"{name}, 0 sd", draw, [0])
        row(f"{name}, 0 sd, six pairs alone", draw, [0], lambda alpha: [alpha], seen=pairs[:1])
    for effect in (-0.5, 0.5, 1.0, 2.0):
        row(f"normal, {effect:g} sd", normal, [effect])
    for effects in ([0.0] * 2, [0.0] * 4, [MARGIN] * 4, [2.0, 2.0, 0.0, 0.0], [2.0, 0.0, 0.0, MARGIN]):
        row(f"normal, {', '.join(f'{effect:g}' for effect in effects)} sd", normal, effects)


if __name__ == "__main__":
    main()
