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
from typing import Any

import numpy as np
import pandas as pd

from ablations.statistics.paired import PairedEstimate, interval_columns, paired_difference, straight_lines
from ablations.studies.results import Design, Outcome, Study, pair_by_seed
from ablations.text import NO_VALUE, digits_for, p_value, with_interval

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
    design = _design(study)
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
    design = _design(study)
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


def _design(study: Study) -> Design:
    assert study.design is not None, "a factorial study has a design"
    return study.design


# Text for readers


def interaction_table(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """The interaction as numbers: a row per set, line and level, two slopes, and two extrapolations.

    Columns: one per factor other than axis and lines; the lines' factor; quantity ("difference of
    differences", or "slope" or "extrapolated" with ", all levels" or ", last two levels"); the axis' factor
    (its level) and position; n, the seeds; val_pp and test_pp in percentage points (a slope: per doubling of
    the position), each as _mean, _ci_low, _ci_high and _p. If the metric is not a share, val_difference and
    test_difference in its unit.
    """
    design = _design(study)
    rows: list[dict[str, Any]] = []
    found = interactions(study, by_arm)
    for val, test in zip(found[::2], found[1::2], strict=True):
        head = {**val.part, design.lines: val.line}
        for here, there in zip(val.changes, test.changes, strict=True):
            rows.append(
                head
                | {"quantity": "difference of differences", design.x: here.level, "position": here.position}
                | {"n": len(here.seeds)}
                | _columns(study, "val", here.estimate)
                | _columns(study, "test", there.estimate)
            )
        fits = [("all levels", val.fit, test.fit)]
        if val.last_fit is not None and test.last_fit is not None:
            fits.append(("last two levels", val.last_fit, test.last_fit))
        for which, of_val, of_test in fits:
            rows.append(
                head
                | {
                    "quantity": f"slope, {which}",
                    design.x: np.nan,
                    "position": np.nan,
                    "n": len(of_val.slopes),
                }
                | _columns(study, "val", of_val.slope)
                | _columns(study, "test", of_test.slope)
            )
        for which, of_val, of_test in fits if design.paper is not None else []:
            rows.append(
                head
                | {"quantity": f"extrapolated, {which}", design.x: np.nan, "position": design.paper}
                | {"n": len(of_val.slopes)}
                | _columns(study, "val", of_val.at_paper)
                | _columns(study, "test", of_test.at_paper)
            )
    return pd.DataFrame(rows)


def _column(study: Study, split: str) -> str:
    return f"{split}_pp" if study.deciding.is_share else f"{split}_difference"


def _columns(study: Study, split: str, estimate: PairedEstimate | None) -> dict[str, float]:
    return interval_columns(_column(study, split), estimate, with_p=True)


def interaction_panel(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """`interaction_table` as text: one row per interval."""
    design = _design(study)
    base = design.levels[study.baseline]
    lines, steps = design.factor(design.lines).levels, design.factor(design.x).levels
    rows = []
    unit = f", {study.deciding.difference_unit}" if study.deciding.unit else ""
    for _, row in interaction_table(study, by_arm).iterrows():
        sets = ", ".join(factor.levels[row[factor.name]] for factor in design.others())
        difference = f"{lines[row[design.lines]]} minus {lines[base[design.lines]]}"
        quantity, _, which = str(row["quantity"]).partition(", ")
        if quantity == "slope":
            what = f"slope per doubling, {which}"
        elif quantity == "extrapolated":
            what = f"extrapolated to {row['position']:,.10g}, the paper's, from {which}"
        else:
            what = f"{steps[row[design.x]]}, minus that at {steps[base[design.x]]}"
        rows.append(
            {"interaction": f"{difference}: {what}"}
            | ({"arms": sets} if sets else {})
            | {"seeds": str(row["n"])}
            | {word + unit: _text(study, row, _column(study, split)) for split, word in SPLITS.items()}
        )
    return pd.DataFrame(rows)


def _text(study: Study, row: pd.Series, name: str) -> str:
    mean, low, high, p = (row[f"{name}_{part}"] for part in ("mean", "ci_low", "ci_high", "p"))
    if pd.isna(mean):
        return NO_VALUE
    return f"{_interval(study, PairedEstimate(row['n'], mean, low, high, p))} {p_value(p, 'p')}"


def slope_text(study: Study, pair: tuple[Interaction, Interaction]) -> str:
    """The slope of one line in one set, for validation and test, as a sentence."""
    design = _design(study)
    validation, test = pair
    lines = design.factor(design.lines).levels
    sets = ", ".join(factor.levels[validation.part[factor.name]] for factor in design.others())
    base = lines[design.levels[study.baseline][design.lines]]
    what = f"{sets}{': ' if sets else ''}{lines[validation.line]} minus {base}"
    if validation.fit.slope is None or test.fit.slope is None:
        return f"{what}: no slope, because no seed learned at every level."
    unit = f" {study.deciding.difference_unit}".rstrip()
    return (
        f"{what}, slope per doubling: validation {_interval(study, validation.fit.slope)}{unit}, "
        f"test {_interval(study, test.fit.slope)}{unit} (n = {validation.fit.slope.n})."
    )


def _interval(study: Study, estimate: PairedEstimate) -> str:
    """With one more decimal than a difference: a slope is a fraction of one."""
    mean, low, high = estimate.mean, estimate.low, estimate.high
    digits = 2 if study.deciding.is_share else digits_for(mean, low, high)
    return with_interval(mean, low, high, "+", digits)


def interaction_notes(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[str]:
    design = _design(study)
    base = design.levels[study.baseline]
    line, step = (design.factor(axis).levels[base[axis]] for axis in (design.lines, design.x))
    unit = f"in {study.deciding.difference_words}; " if study.deciding.unit else ""
    notes = [
        f"Interaction: the effect is {study.deciding.label} of a line minus that of “{line}” at the same "
        f"{design.factor(design.x).label}, seed by seed. Each row is the effect there minus the effect at "
        f"“{step}”, {unit}mean over the seeds that learned in all four runs, 95 % t interval and two-sided "
        "sign-flip test, not corrected for the number of comparisons.",
        "Slope per doubling: the effect over the logarithm to base 2 of the position on the axis "
        f"({design.axis}), by least squares per seed, over all levels and between the last two; mean "
        "over the seeds that learned in every arm of the two lines, with the same interval and test. If the "
        "two differ, the effect is not a straight line.",
    ]
    if design.paper is not None:
        largest = max(design.positions.values())
        beyond = abs(math.log2(design.paper / largest))
        notes.append(
            f"Extrapolated: the same two straight lines at {design.paper:,.10g}, the paper's {design.axis}, "
            f"{beyond:.1f} doublings beyond the largest arm. The intervals are those of the lines. No run "
            "here shows whether the effect follows either of them that far."
        )
    return notes + _left_out(study, by_arm)


def _left_out(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[str]:
    design = _design(study)
    lines, steps = design.factor(design.lines).levels, design.factor(design.x).levels
    base = lines[design.levels[study.baseline][design.lines]]
    failed = []
    for one in interactions(study, by_arm)[:: len(SPLITS)]:  # both splits leave out the same seeds
        sets = [factor.levels[one.part[factor.name]] for factor in design.others()]
        failed += [
            ", ".join([*sets, f"{lines[one.line]} minus {base} at {steps[effect.level]}: {effect.left_out}"])
            for effect in one.effects
            if effect.left_out
        ]
    return [f"Seeds that failed to learn and are left out: {'; '.join(failed)}."] if failed else []
