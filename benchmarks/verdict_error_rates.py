"""How often verdicts are wrong, and how often a real difference is found, by simulation.

    python -m benchmarks.verdict_error_rates [--studies 10000]

Simulated differences of two arms are judged like claims: "higher" holds if the interval lies above zero. The
quantity that a method estimates is 0, so any verdict is wrong; the more frequent side is shown, because a
claim can be wrong on one side only. For power, differences are shifted by one or two units: the standard
deviation of a normal distribution with the same quartiles. `seeds=auto` looks at 6, 8, 10, ... pairs up to 20
and stops at the first look that decides.

Methods for paired differences:

    t             Student's interval of the mean
    sign-flip     the exact permutation test of the mean (drawn above 12 pairs)
    bootstrap-t   studentized bootstrap of the mean
    trimmed       Yuen's interval of the 20 % trimmed mean
    ranks         Tukey's interval of Hodges and Lehmann's typical difference (Wilcoxon's test)
    median        the exact interval of the median, by the sign test
    t and ranks   the verdicts' method: `ablations.statistics.decisions`; judged by the typical difference and
                  by the mean

"1 of 10 at chance": a tenth of one arm's seeds fail, and their differences are that much lower. "Learned"
leaves out pairs with a failed arm, as verdicts do; "unseen" does not, as if failures ended too far from
chance.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import special, stats

from ablations.evidence.verdicts import ALPHA, MIN_PAIRS
from ablations.statistics.decisions import deciding_level, decision_interval, rank_interval
from ablations.statistics.sequential import looks, t_levels

SIZES = (6, 8, 10, 14, 20, 30)
BUDGET = 20
MARGIN = 0.5
HOLDS, CONTRADICTED = 1, -1

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Interval = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]
"""Differences `(n, R)` and level -> ends `(R,)`."""


# Distributions of differences


def skewed(generator: np.random.Generator, shape: tuple[int, ...], skewness: float) -> np.ndarray:
    """Gamma differences with mean 0, variance 1 and a skewness other than 0."""
    size = 4 / skewness**2
    return np.sign(skewness) * (generator.standard_gamma(size, shape) - size) / np.sqrt(size)


def two_kinds(
    generator: np.random.Generator, shape: tuple[int, ...], share: float, apart: float, spread: float = 0.3
) -> np.ndarray:
    """Normal differences, a share of them lower than the others."""
    return generator.normal(0, spread, shape) - apart * (generator.random(shape) < share)


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal differences."""
    return generator.standard_normal(shape)


DISTRIBUTIONS: Mapping[str, Draw] = {
    "normal": normal,
    "heavy tails: t, 3 degrees": lambda draw, shape: draw.standard_t(3, shape),
    "heavy tails: t, 2 degrees": lambda draw, shape: draw.standard_t(2, shape),
    "of two lognormal arms": lambda draw, shape: draw.lognormal(size=shape) - draw.lognormal(size=shape),
    "skewness 1": partial(skewed, skewness=1),
    "skewness 2": partial(skewed, skewness=2),
    "lognormal, skewness 6": lambda draw, shape: draw.lognormal(size=shape),
    "two kinds, 5 : 5": partial(two_kinds, share=0.5, apart=2),
    "two kinds, 7 : 3": partial(two_kinds, share=0.3, apart=2),
    "two kinds, 8 : 2": partial(two_kinds, share=0.2, apart=2),
    "1 of 10 at chance, 5 sd, unseen": partial(two_kinds, share=0.1, apart=5, spread=1),
    "1 of 10 at chance, 100 sd, unseen": partial(two_kinds, share=0.1, apart=100, spread=1),
}


# Methods


def t_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Student's."""
    half = -special.stdtrit(len(values) - 1, level / 2) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def sign_flip_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Hartigan's: the sign-flip test's ends are means of subsets of the differences.

    Above 12 pairs, 1,999 subsets are drawn. No ends below the test's smallest level.
    """
    n, studies = values.shape
    if n <= 12:
        subsets = (np.arange(1, 2**n)[:, None] >> np.arange(n) & 1).astype(float)
    else:
        subsets = np.random.default_rng(0).integers(2, size=(1999, n)).astype(float)
        subsets = subsets[subsets.any(axis=1)]
    place = int(np.floor(level / 2 * (len(subsets) + 1)))
    if place == 0:
        return np.full(studies, -np.inf), np.full(studies, np.inf)
    weights = subsets / subsets.sum(axis=1, keepdims=True)
    parts = [
        np.partition(weights @ values[:, start : start + 2000], (place - 1, len(weights) - place), axis=0)
        for start in range(0, studies, 2000)
    ]
    means = np.concatenate(parts, axis=1)
    return means[place - 1], means[-place]


def bootstrap_t_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Efron's, from 399 resamples, the same for every study."""
    n = len(values)
    places = np.random.default_rng(0).integers(n, size=(399, n))
    place = int(np.floor(level / 2 * 400))
    lows, highs = [], []
    for start in range(0, values.shape[1], 1000):
        part = values[:, start : start + 1000]
        again = part[places]  # (399, n, R)
        mean, spread = part.mean(axis=0), part.std(axis=0, ddof=1)
        away = again.mean(axis=1) - mean
        of_again = np.maximum(again.std(axis=1, ddof=1), 1e-9)
        quantiles = np.sort(away / of_again, axis=0)
        lows.append(mean - quantiles[-place] * spread)
        highs.append(mean - quantiles[place - 1] * spread)
    return np.concatenate(lows), np.concatenate(highs)


def trimmed_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Yuen's, without the lowest and the highest fifth."""
    n = len(values)
    cut = n // 5
    ordered = np.sort(values, axis=0)
    mean = ordered[cut : n - cut].mean(axis=0)
    drawn_in = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    left = n - 2 * cut
    squares = ((drawn_in - drawn_in.mean(axis=0)) ** 2).sum(axis=0)
    half = -special.stdtrit(left - 1, level / 2) * np.sqrt(squares / (left * (left - 1)))
    return mean - half, mean + half


def exact_rank_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Tukey's; no ends below its smallest level."""
    if level < 2 / 2 ** len(values):
        return np.full(values.shape[1], -np.inf), np.full(values.shape[1], np.inf)
    return rank_interval(values, level)


def median_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Between two order statistics, by the sign test; no ends below its smallest level."""
    n = len(values)
    place = int(np.searchsorted(stats.binom.cdf(np.arange(n), n, 0.5), level / 2, side="right"))
    if place == 0:
        return np.full(values.shape[1], -np.inf), np.full(values.shape[1], np.inf)
    ordered = np.sort(values, axis=0)
    return ordered[place - 1], ordered[-place]


@dataclass(frozen=True)
class Method:
    """An interval and its estimand.

    Attributes:
        interval: The interval.
        about: The estimand, a key of `truths`.
        most: Largest number of studies, for slow methods.
    """

    interval: Interval
    about: str
    most: int = 1_000_000


MEAN, TRIMMED, TYPICAL, MEDIAN = "mean", "trimmed mean", "typical difference", "median"
CHOSEN = "t and ranks"
METHODS: Mapping[str, Method] = {
    "t": Method(t_interval, MEAN),
    "sign-flip": Method(sign_flip_interval, MEAN, 4000),
    "bootstrap-t": Method(bootstrap_t_interval, MEAN, 2000),
    "trimmed": Method(trimmed_interval, TRIMMED),
    "ranks": Method(exact_rank_interval, TYPICAL),
    "median": Method(median_interval, MEDIAN),
    CHOSEN: Method(decision_interval, TYPICAL),
    f"{CHOSEN}: mean": Method(decision_interval, MEAN),
}


@lru_cache(maxsize=64)
def truths(name: str) -> Mapping[str, float]:
    """Estimands of a distribution, and "unit", from four million draws: errors are below 0.001 unit."""
    draw = np.random.default_rng(0)
    values = np.sort(DISTRIBUTIONS[name](draw, (2_000_000,)))
    averages = (values + draw.permutation(values)) / 2
    cut = len(values) // 5
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    mean = values.mean()
    if name.startswith("1 of 10"):
        mean = -0.1 * (100 if "100 sd" in name else 5)  # exactly
    return {
        MEAN: float(mean),
        TRIMMED: float(values[cut:-cut].mean()),
        TYPICAL: float(np.median(averages)),
        MEDIAN: float(median),
        "unit": float(high - low) / (2 * stats.norm.ppf(0.75)),
    }


# Judging


@dataclass(frozen=True)
class Sides:
    """Results of simulated studies of one comparison.

    Attributes:
        above: Share decided as above zero.
        below: Share decided as below.
        seeds: Mean number of pairs.
    """

    above: float
    below: float
    seeds: float

    @property
    def wrong(self) -> float:
        """If there is no effect: the more frequent side."""
        return max(self.above, self.below)


def judged(
    interval: Interval,
    differences: np.ndarray,
    pairs: Sequence[int],
    levels: Sequence[float],
    failed: np.ndarray | None = None,
) -> Sides:
    """Judge R studies of one comparison at every look until decided; `pairs` and `levels` are of each look.

    `differences` are `(N, R)` over N seeds, as are the `failed` pairs, which are left out.
    """
    studies = differences.shape[1]
    found, seeds = np.zeros(studies), np.full(studies, pairs[-1])
    for planned, level in zip(pairs, levels, strict=True):
        values = differences[:planned]
        left = np.full(studies, planned)
        if failed is not None:
            order = np.argsort(failed[:planned], axis=0, kind="stable")  # learned pairs first, in order
            values = np.take_along_axis(values, order, axis=0)
            left = planned - failed[:planned].sum(axis=0)
        for n in range(MIN_PAIRS, planned + 1):
            of_n = np.flatnonzero((found == 0) & (left == n))
            if not of_n.size:
                continue
            low, high = interval(values[:n, of_n], level)
            found[of_n] = np.where(low > 0, 1, np.where(high < 0, -1, 0))
            seeds[of_n[found[of_n] != 0]] = planned
    return Sides(float((found > 0).mean()), float((found < 0).mean()), float(seeds.mean()))


@dataclass(frozen=True)
class Rates:
    """Shares in R simulated studies of m comparisons.

    Attributes:
        missed: Studies in which an interval at some look of the whole schedule misses the mean.
        wrong: Studies with a wrong decision.
        holds: Comparisons that hold.
        contradicted: Comparisons that are contradicted.
        inconclusive: Comparisons undecided within the budget.
        seeds: Mean number of pairs.
    """

    missed: float
    wrong: float
    holds: float
    contradicted: float
    inconclusive: float
    seeds: float


def t_level(values: np.ndarray, null: float, *, above: bool) -> np.ndarray:
    """`deciding_level` of the t interval alone."""
    away = (values.mean(axis=0) - null) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))
    return np.minimum(1.0, 2 * special.stdtr(len(values) - 1, -away if above else away))


def simulate(
    differences: np.ndarray,
    effects: Sequence[float],
    pairs: Sequence[int],
    levels: Callable[[float], Sequence[float]],
    *,
    margin: float = MARGIN,
    left_out: int = 0,
    level_of: Callable[..., np.ndarray] = deciding_level,
) -> Rates:
    """Judge simulated studies at every look, with Holm's correction; decisions stay.

    Args:
        differences: `(R, N, m)`, studies, seeds, comparisons; includes the effects.
        effects: `(m,)`.
        pairs: Of each look.
        levels: Alpha -> the nominal level of each look.
        margin: Of the claim "higher".
        left_out: Number of first seeds whose runs failed.
        level_of: As `deciding_level`.
    """
    draws, _, comparisons = differences.shape
    verdict, seeds = np.zeros((draws, comparisons), int), np.full((draws, comparisons), pairs[-1])
    truth, missed = np.array(effects), np.zeros(draws, bool)
    strictest = levels(ALPHA / comparisons)
    for look, planned in enumerate(pairs):
        seen = np.moveaxis(differences[:, left_out:planned], 1, 0)  # (n, R, m)
        mean = seen.mean(axis=0)
        low, high = t_interval(seen, strictest[look])
        missed |= ((low > truth) | (high < truth)).any(axis=1)
        # The smallest level that decides a comparison: above 0 with a mean that matters, or below the margin.
        matters = mean >= margin
        needed = np.where(matters, level_of(seen, 0.0, above=True), level_of(seen, margin, above=False))
        needed[verdict != 0] = np.inf
        steps = np.array([levels(ALPHA / left)[look] for left in range(comparisons, 0, -1)])
        decided = (verdict != 0).sum(axis=1)
        for _ in range(comparisons):  # Holm: from the smallest level on, while it is small enough
            row, best = np.arange(draws), needed.argmin(axis=1)
            now = needed[row, best] <= steps[np.minimum(decided, comparisons - 1)]
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


# Tables


def one_comparison(
    method: Method,
    name: str,
    pairs: Sequence[int],
    levels: Sequence[float],
    studies: int,
    *,
    effect: float = 0.0,
    learned: bool = False,
) -> Sides:
    """Simulate studies of one comparison with an effect in units of the distribution `name`.

    `learned` leaves out pairs with a failed seed.
    """
    draw = np.random.default_rng(len(name) + pairs[0])
    shape = (pairs[-1], min(studies, method.most))
    if learned:
        differences, failed = draw.standard_normal(shape), draw.random(shape) < 0.1
        return judged(method.interval, differences + effect, pairs, levels, failed)
    truth = truths(name)
    differences = DISTRIBUTIONS[name](draw, shape) - truth[method.about] + effect * truth["unit"]
    return judged(method.interval, differences, pairs, levels)


SCHEDULES: Mapping[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    **{f"n = {n}": ((n,), (ALPHA,)) for n in SIZES},
    "auto": (looks(BUDGET), t_levels(looks(BUDGET), ALPHA)),
}
"""Pairs and levels of each look."""


def table(title: str, rows: Mapping[str, Callable[[Method], str]], methods: Mapping[str, Method]) -> None:
    """Print a Markdown table row by row."""
    width = max(map(len, rows)) + 2
    print(f"\n{title}\n")
    print("| " + "".ljust(width) + "| " + " | ".join(f"{name:>13}" for name in methods) + " |")
    print("|:" + "-" * width + "|" + "|".join("-" * 14 + ":" for _ in methods) + "|")
    for name, cell in rows.items():
        cells = " | ".join(f"{cell(method):>13}" for method in methods.values())
        print(f"| {name.ljust(width)}| {cells} |", flush=True)


def wrong_table(studies: int) -> None:
    """Wrong verdicts per distribution and method: the worst fixed n, and seeds=auto."""

    def cell(name: str, method: Method, *, learned: bool = False) -> str:
        found = {
            schedule: one_comparison(method, name, *looked, studies, learned=learned).wrong
            for schedule, looked in SCHEDULES.items()
        }
        auto = found.pop("auto")
        worst = max(found, key=lambda schedule: found[schedule])
        return f"{100 * found[worst]:.1f} ({worst[4:]}), {100 * auto:.1f}"

    rows = {name: partial(cell, name) for name in DISTRIBUTIONS}
    rows["1 of 10 at chance, learned"] = partial(cell, "normal", learned=True)
    title = f"Wrong verdicts, %: the worst n of {', '.join(map(str, SIZES))} (which); with seeds=auto"
    table(title, rows, METHODS)


def power_table(studies: int) -> None:
    """Power for one and two units, by n."""

    def cell(name: str, effect: float, schedule: str, method: Method, *, learned: bool = False) -> str:
        found = one_comparison(method, name, *SCHEDULES[schedule], studies, effect=effect, learned=learned)
        seeds = f" ({found.seeds:.1f})" if schedule == "auto" else ""
        return f"{100 * found.above:.0f}{seeds}"

    rows: dict[str, Callable[[Method], str]] = {
        f"{name}, {effect:g} sd, {schedule}": partial(cell, name, effect, schedule)
        for name, effect, schedules in (
            ("normal", 1.0, SCHEDULES),
            ("normal", 2.0, ("n = 6", "n = 8", "auto")),
            ("heavy tails: t, 3 degrees", 1.0, ("n = 6", "n = 10", "n = 20", "auto")),
            ("skewness 2", 1.0, ("n = 6", "n = 10", "n = 20", "auto")),
        )
        for schedule in schedules
    }
    for schedule in ("n = 6", "n = 10", "auto"):
        rows[f"1 of 10 at chance, learned, 1 sd, {schedule}"] = partial(
            cell, "normal", 1.0, schedule, learned=True
        )
    table("Power, %: decided rightly (seeds used with seeds=auto)", rows, METHODS)


def family_table(studies: int) -> None:
    """Any wrong verdict among five comparisons with one baseline, with Holm's correction and margin 0."""
    print("\nAny wrong verdict among five comparisons without a typical difference (Holm), %\n")
    print("| differences | schedule | t | t and ranks |\n|:--|:--|--:|--:|")
    draw = np.random.default_rng(0)
    for name in ("normal", "heavy tails: t, 3 degrees", "skewness 1", "skewness 2"):
        for schedule in ("n = 6", "n = 10", "n = 30", "auto"):
            pairs = SCHEDULES[schedule][0]
            levels = partial(t_levels, pairs) if schedule == "auto" else lambda alpha: (alpha,)
            differences = _of_one_baseline(name, draw, (studies, pairs[-1], 5))
            typical = np.median(_of_one_baseline(name, draw, (1_000_000, 2, 1)).mean(axis=1))
            mean = _of_one_baseline(name, draw, (1_000_000, 1, 1)).mean()
            found = [
                simulate(differences - about, [0.0] * 5, pairs, levels, margin=1e-9, level_of=level_of)
                for about, level_of in ((mean, t_level), (typical, deciding_level))
            ]
            cells = " | ".join(f"{100 * rates.wrong:.1f}" for rates in found)
            print(f"| {name} | {schedule} | {cells} |", flush=True)


def _of_one_baseline(name: str, draw: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Differences `(R, N, m)`, skewed to the left, half a unit of which is shared noise."""
    return -DISTRIBUTIONS[name](draw, shape) + draw.normal(0, 0.5, (*shape[:2], 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000, help="simulated, for each number")
    arguments = parser.parse_args()
    print(", ".join(f"{name}: of the {method.about}" for name, method in METHODS.items()))
    wrong_table(arguments.studies)
    power_table(arguments.studies)
    family_table(arguments.studies)


if __name__ == "__main__":
    main()
