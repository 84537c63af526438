"""Whether two factors act together: whether a line's distance to the baseline's line changes along the axis.

Per seed and level of the axis, the distance there minus the distance at the baseline's level; and over all
levels the slope of the distance per doubling of the position. A seed enters where it has the runs for it:
failed, running and missing runs leave it out, a diverged run counts as chance (`ablations.studies.results`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ablations.statistics.paired import PairedEstimate, paired_difference, slopes
from ablations.studies.results import Design, Outcome, Study, pair_by_seed
from ablations.text import NO_VALUE, digits_for, p_value, with_interval

SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Distance:
    """How much further from the baseline's line a line is at one level of the axis than at the baseline's.

    Attributes:
        level: Of the axis.
        position: There.
        seeds: Those that have all four runs.
        of_seeds: Of each, `(n,)`; of a share in percentage points.
        estimate: Of their mean; None without a seed.
    """

    level: str
    position: float
    seeds: tuple[int, ...]
    of_seeds: np.ndarray
    estimate: PairedEstimate | None


@dataclass(frozen=True)
class Interaction:
    """Whether a line's distance to the baseline's line changes along the axis, in one set of arms.

    Attributes:
        part: The arms' levels of the factors other than axis and lines.
        line: Level of the factor that is drawn as lines.
        split: "val" or "test".
        distances: At each level of the axis but the baseline's.
        slopes: Per doubling of the position, of each seed that has every level, `(n,)`; as above.
        slope: Of their mean; None without a seed.
    """

    part: Mapping[str, str]
    line: str
    split: str
    distances: tuple[Distance, ...]
    slopes: np.ndarray
    slope: PairedEstimate | None


def interactions(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[Interaction]:
    """Of every set of arms and every line but the baseline's, validation before test.

    Args:
        study: With a design.
        by_arm: Its `outcomes`.
    """
    design = _design(study)
    base_level, base_line = (design.levels[study.baseline][axis] for axis in (design.x, design.lines))
    x_levels = list(design.factor(design.x).levels)
    found = []
    for part in design.parts():
        for line in design.factor(design.lines).levels:
            if line == base_line:
                continue
            for split in SPLITS:
                name = f"{split}_{study.metric}"
                apart = {
                    level: _apart(
                        by_arm[design.arm(part | {design.x: level, design.lines: line})],
                        by_arm[design.arm(part | {design.x: level, design.lines: base_line})],
                        name,
                        study.deciding.times,
                    )
                    for level in x_levels
                }
                at = {
                    level: design.positions[design.arm(part | {design.x: level, design.lines: base_line})]
                    for level in x_levels
                }
                distances = []
                for level in x_levels:
                    if level != base_level:
                        seeds = sorted(apart[level].keys() & apart[base_level].keys())
                        values = np.array([apart[level][seed] - apart[base_level][seed] for seed in seeds])
                        distances.append(Distance(level, at[level], tuple(seeds), values, _estimate(values)))
                complete = sorted(set.intersection(*(set(seeds) for seeds in apart.values())))
                of_seeds = np.array([[apart[level][seed] for level in x_levels] for seed in complete])
                # Segments that are all of one size, as in a very narrow network, have no slope.
                sloped = complete and len(set(at.values())) > 1
                values = slopes(np.log2(list(at.values())), of_seeds) if sloped else np.empty(0)
                found.append(Interaction(part, line, split, tuple(distances), values, _estimate(values)))
    return found


def _apart(
    of_arm: Sequence[Outcome], of_base: Sequence[Outcome], name: str, times: float
) -> dict[int, float]:
    """Arm minus base, by seed, of the seeds that both have."""
    return {
        outcome.run.seed: times * (outcome.final[name] - base.final[name])
        for outcome, base in pair_by_seed(of_arm, of_base)
    }


def _estimate(values: np.ndarray) -> PairedEstimate | None:
    if not len(values):
        return None
    # A fixed generator: a table rebuilt from the same records is the same table.
    return paired_difference(values, np.zeros(len(values)), np.random.default_rng(0))


def _design(study: Study) -> Design:
    assert study.design is not None, "a study of factors has a design"
    return study.design


# What a person reads


def interaction_table(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """The interaction as numbers: a row per set, line and level, and one per slope.

    Columns: one per factor other than axis and lines; that of the lines; quantity ("difference of
    differences" or "slope"); that of the axis (missing for a slope) and position; n, the seeds; and
    in percentage points (a slope: per doubling of the position) val_pp and test_pp, each as _mean, _ci_low,
    _ci_high and _p; of a metric that is no share val_difference and test_difference in its unit.

    Args:
        study: With a design.
        by_arm: Its `outcomes`.
    """
    design = _design(study)
    rows: list[dict[str, Any]] = []
    found = interactions(study, by_arm)
    for val, test in zip(found[::2], found[1::2], strict=True):
        head = {**val.part, design.lines: val.line}
        for here, there in zip(val.distances, test.distances, strict=True):
            rows.append(
                head
                | {"quantity": "difference of differences", design.x: here.level, "position": here.position}
                | {"n": len(here.seeds)}
                | _columns(study, "val", here.estimate)
                | _columns(study, "test", there.estimate)
            )
        rows.append(
            head
            | {"quantity": "slope", design.x: np.nan, "position": np.nan, "n": len(val.slopes)}
            | _columns(study, "val", val.slope)
            | _columns(study, "test", test.slope)
        )
    return pd.DataFrame(rows)


def _column(study: Study, split: str) -> str:
    return f"{split}_pp" if study.deciding.is_share else f"{split}_difference"


def _columns(study: Study, split: str, estimate: PairedEstimate | None) -> dict[str, float]:
    names = [f"{_column(study, split)}_{part}" for part in ("mean", "ci_low", "ci_high", "p")]
    if estimate is None:
        return dict.fromkeys(names, np.nan)
    return dict(zip(names, (estimate.mean, estimate.low, estimate.high, estimate.p), strict=True))


def interaction_panel(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """`interaction_table` as text: one row per interval, named in words."""
    design = _design(study)
    base = design.levels[study.baseline]
    lines, steps = design.factor(design.lines).levels, design.factor(design.x).levels
    rows = []
    unit = f", {study.deciding.difference_unit}" if study.deciding.unit else ""
    for _, row in interaction_table(study, by_arm).iterrows():
        sets = ", ".join(factor.levels[row[factor.name]] for factor in design.others())
        difference = f"{lines[row[design.lines]]} minus {lines[base[design.lines]]}"
        if row["quantity"] == "slope":
            what = "slope per doubling"
        else:
            what = f"{steps[row[design.x]]}, less that at {steps[base[design.x]]}"
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
    """The slope of one line in one set as a sentence.

    Args:
        study: With a design.
        pair: Its validation and its test.
    """
    design = _design(study)
    validation, test = pair
    lines = design.factor(design.lines).levels
    sets = ", ".join(factor.levels[validation.part[factor.name]] for factor in design.others())
    base = lines[design.levels[study.baseline][design.lines]]
    what = f"{sets}{': ' if sets else ''}{lines[validation.line]} minus {base}"
    if validation.slope is None or test.slope is None:
        return f"{what}: no slope, because no seed has a result at every level."
    unit = f" {study.deciding.difference_unit}".rstrip()
    return (
        f"{what}, slope per doubling: validation {_interval(study, validation.slope)}{unit}, "
        f"test {_interval(study, test.slope)}{unit} (n = {validation.slope.n})."
    )


def _interval(study: Study, estimate: PairedEstimate) -> str:
    """A slope is a fraction of a difference, so it has one decimal more."""
    mean, low, high = estimate.mean, estimate.low, estimate.high
    digits = 2 if study.deciding.is_share else digits_for(mean, low, high)
    return with_interval(mean, low, high, "+", digits)


def interaction_notes(study: Study) -> list[str]:
    """What the panel's numbers are."""
    design = _design(study)
    base = design.levels[study.baseline]
    line, step = (design.factor(axis).levels[base[axis]] for axis in (design.lines, design.x))
    unit = f"in {study.deciding.difference_words}; " if study.deciding.unit else ""
    return [
        f"Interaction: per seed, {study.deciding.label} of a line minus that of “{line}” with the "
        f"same {design.factor(design.x).label}, less the same difference at “{step}”, {unit}above "
        "0, the line has more. Mean over the seeds that have all four runs, 95 % t interval and "
        "two-sided sign-flip test, not corrected for the number of comparisons.",
        "Slope per doubling: that difference over the logarithm to base 2 of the position on the axis "
        f"({design.axis}), by least squares per seed; mean over the seeds that have a result in every "
        "arm of the two lines, with the same interval and test. A straight line need not fit.",
    ]
