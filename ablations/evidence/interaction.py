"""Whether two factors interact: whether the effect of one changes along the other.

The effect is a line minus the baseline's line, seed by seed, at one level of the axis. Its change is
described by the effect at a level minus that at the baseline's level; by its slope per doubling of the
position, over all levels and between the last two; and by what these two straight lines predict for the
paper's position. Where the two slopes differ, neither line predicts it. As in verdicts, a seed counts only if
it learned in all runs needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablations.statistics.paired import PairedEstimate, paired_difference, straight_lines
from ablations.studies.results import Outcome, Study, pair_by_seed

SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Effect:
    """A line minus the baseline's line at a level of the axis, or the change of that from the base level.

    Attributes:
        seeds: Those that learned in all runs needed.
        of_seeds: Of each, `(n,)`; of a share in percentage points.
        estimate: Their mean; None without a seed.
        left_out: Seeds that failed to learn in one of them.
    """

    level: str
    position: float
    seeds: tuple[int, ...]
    of_seeds: np.ndarray
    estimate: PairedEstimate | None
    left_out: int


@dataclass(frozen=True)
class Fit:
    """Straight lines through the effect over log2 of the position, one per seed that learned at every level.

    Attributes:
        slopes: Per doubling of the position, `(n,)`; of a share in percentage points.
        slope: Their mean; None without a seed.
        at_paper: Mean prediction for the paper's position, if any.
    """

    slopes: np.ndarray
    slope: PairedEstimate | None
    at_paper: PairedEstimate | None


@dataclass(frozen=True)
class Interaction:
    """How the effect of a line changes along the axis, in one set of arms.

    Attributes:
        part: The arms' levels of the factors other than axis and lines.
        line: Level of the factor that is drawn as lines.
        split: "val" or "test".
        changes: The effect minus that at the baseline's level, at each other level.
        fit: Through all levels.
        last_fit: Through the two levels with the largest positions; None if there are no others.
    """

    part: Mapping[str, str]
    line: str
    split: str
    effects: tuple[Effect, ...]
    changes: tuple[Effect, ...]
    fit: Fit
    last_fit: Fit | None


def interactions(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[Interaction]:
    """One per set of arms, line and split; validation before test."""
    design = study.factorial
    base_line = design.levels[study.baseline][design.lines]
    return [
        _interaction(study, by_arm, part, line, split)
        for part in design.parts()
        for line in design.factor(design.lines).levels
        if line != base_line
        for split in SPLITS
    ]


def _interaction(
    study: Study, by_arm: Mapping[str, Sequence[Outcome]], part: Mapping[str, str], line: str, split: str
) -> Interaction:
    design = study.factorial
    base_level, base_line = (design.levels[study.baseline][axis] for axis in (design.x, design.lines))
    levels = list(design.factor(design.x).levels)

    def arm(level: str, of: str) -> str:
        return design.arm({**part, design.x: level, design.lines: of})

    apart = {
        level: _apart(
            by_arm[arm(level, line)],
            by_arm[arm(level, base_line)],
            f"{split}_{study.metric}",
            study.deciding.times,
        )
        for level in levels
    }
    positions = {level: design.positions[arm(level, base_line)] for level in levels}
    effects = tuple(_effect(level, positions[level], apart[level]) for level in levels)
    changes = tuple(
        _effect(
            level,
            positions[level],
            {
                seed: apart[level][seed] - apart[base_level][seed]
                for seed in apart[level].keys() & apart[base_level].keys()
            },
        )
        for level in levels
        if level != base_level
    )
    complete = sorted(set.intersection(*(set(effect.seeds) for effect in effects)))
    of_seeds = np.array([[apart[level][seed] for level in levels] for seed in complete])
    x = np.log2(list(positions.values()))
    last = np.argsort(x)[-2:]
    fit, last_fit = (_fit(x[of], of_seeds, of, design.paper) for of in (np.arange(len(x)), last))
    return Interaction(part, line, split, effects, changes, fit, last_fit if len(x) > 2 else None)


def _fit(x: np.ndarray, of_seeds: np.ndarray, levels: np.ndarray, paper: float | None) -> Fit:
    """Lines through some levels, at positions `x` in doublings."""
    if not len(of_seeds) or len(set(x)) < 2:  # in a very narrow network all segments may have one size
        return Fit(np.empty(0), None, None)
    slopes, predicted = straight_lines(x, of_seeds[:, levels], math.log2(paper or 1.0))
    return Fit(slopes, _estimate(slopes), None if paper is None else _estimate(predicted))


def _effect(level: str, position: float, by_seed: Mapping[int, float]) -> Effect:
    seeds = sorted(seed for seed, value in by_seed.items() if not math.isnan(value))
    values = np.array([by_seed[seed] for seed in seeds])
    return Effect(level, position, tuple(seeds), values, _estimate(values), len(by_seed) - len(seeds))


def _apart(
    of_arm: Sequence[Outcome], of_base: Sequence[Outcome], name: str, times: float
) -> dict[int, float]:
    """By seed; NaN if one of the two runs failed to learn."""
    return {
        outcome.run.seed: math.nan
        if outcome.failed_to_learn or base.failed_to_learn
        else times * (outcome.final[name] - base.final[name])
        for outcome, base in pair_by_seed(of_arm, of_base)
    }


def _estimate(values: np.ndarray) -> PairedEstimate | None:
    if not len(values):
        return None
    # A fixed generator: the same records give the same table.
    return paired_difference(values, np.zeros(len(values)), np.random.default_rng(0))
