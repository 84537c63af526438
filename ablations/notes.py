"""What the evidence says to readers: sentences and rows that tables, figures and the report share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablations.evidence.audit import SIZES, TOLERANCE, Audit
from ablations.evidence.failures import failures
from ablations.evidence.interaction import SPLITS, Interaction, interactions
from ablations.runs.records import MISSING
from ablations.runs.schema import FAILED, RUNNING
from ablations.statistics.paired import PairedEstimate, interval_columns
from ablations.studies.results import Outcome, Study, StudyRun, baseline_first
from ablations.text import NO_VALUE, decimals, digits_for, named_seeds, p_value, with_interval

SHOWN = 3
"""Differences of an arm that a figure names; the table has all."""

NOTHING = "According to the records, the compared arms differ only in the declared factor."

RULE = (
    "Confound audit, from the records of runs with the same seed. The declared factor includes what the "
    "study sets differently for the two arms, settings that repeat it, a width that matches sizes and, with "
    "another network, its scaling to the dataset, its weight decay and its depth. Everything else that "
    f"differs is listed: parameters or multiply-adds by more than {100 * TOLERANCE:g} % (unless size is the "
    "factor), depth, other settings, data, versions, device, uncommitted code, and seeds that one arm lacks. "
    "Steps/second is shown, but is no confound by itself: machines are noisy."
)


# Seeds


def failure_notes(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """A note on the seeds that failed to learn, if any."""
    failed = [one for one in failures(study, by_arm).values() if one.seeds]
    if not failed:
        return []
    arms = "; ".join(
        f"{one.label}, {len(one.seeds)} of {one.runs} ({named_seeds(one.seeds)})" for one in failed
    )
    classes = {
        outcome.run.record["config"]["dataset"]["num_classes"]
        for of_arm in by_arm.values()
        for outcome in of_arm
        if outcome.run.record is not None
    }
    metric = study.deciding
    near = [metric.farthest_failed(number) for number in sorted(classes)]
    ends = " or ".join(metric.text(value) for value in near if value is not None)
    rule = f"diverged, or ended at {ends} validation {metric.label} or worse" if ends else "diverged"
    return [
        f"Failed to learn ({rule}): {arms}. Means and bands are of all seeds; verdicts are about the seeds "
        "that learned."
    ]


def diverged_notes(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[str]:
    notes = []
    for arm in baseline_first(study):
        if diverged := [outcome for outcome in by_arm[arm.name] if outcome.diverged]:
            seeds = named_seeds([outcome.run.seed for outcome in diverged])
            notes.append(
                f"Diverged: {arm.label}, {seeds}; counted as chance, "
                f"{study.deciding.text(diverged[0].final[f'val_{study.metric}'])}, from there on."
            )
    return notes


def missing_notes(study: Study, runs: Sequence[StudyRun]) -> list[str]:
    """A line per arm and status of runs that are left out."""
    notes = []
    for arm in baseline_first(study):
        for status in (FAILED, RUNNING, MISSING):
            seeds = [run.seed for run in runs if run.arm == arm.name and run.status == status]
            if seeds:
                notes.append(f"Left out: {arm.label}, {named_seeds(seeds)} ({status}).")
    return notes


# Audit


def audit_columns(audit: Audit | None) -> dict[str, Any]:
    """Columns of the study's table; None if there is nothing to say.

    Returns:
        parameters_change_percent, multiply_adds_change_percent, steps_per_second_change_percent,
        depth_change, declared, undeclared.
    """
    changes = audit.changes if audit else {}
    columns = (*SIZES, "steps_per_second")
    found = {name: 100 * changes[name] if name in changes else None for name in columns}
    return {f"{name}_change_percent": value for name, value in found.items()} | {
        "depth_change": audit.depth if audit else None,
        "declared": "; ".join(audit.declared) or None if audit else None,
        "undeclared": "; ".join(audit.undeclared) or None if audit else None,
    }


def audit_rows(audits: Sequence[Audit]) -> list[dict[str, str]]:
    return [
        {
            "arm": audit.arm.label,
            "compared with": audit.other.label,
            "declared factor": "; ".join(audit.declared) or NO_VALUE,
            **{
                f"{word}, %": decimals(100 * audit.changes.get(name, math.nan), "+")
                for name, word in (SIZES | {"steps_per_second": "steps/second"}).items()
            },
            "depth, layers": NO_VALUE if audit.depth is None else f"{audit.depth:+d}" if audit.depth else "0",
            "beyond the declared factor": "; ".join(audit.undeclared) or NO_VALUE,
        }
        for audit in audits
    ]


def audit_notes(audits: Sequence[Audit]) -> list[str]:
    """The rule, or one line if nothing is undeclared."""
    if any(audit.undeclared for audit in audits):
        return [RULE]
    return [NOTHING] if any(audit.n_pairs for audit in audits) else []


def audit_lines(study: Study, audits: Sequence[Audit]) -> list[str]:
    """The sentence below the figure."""
    found: dict[str, list[str]] = {}
    for audit in audits:
        named = list(audit.undeclared[:SHOWN])
        if left := len(audit.undeclared) - len(named):
            named.append(f"{left} more in the table")
        if named:
            against = "" if audit.other.name == study.baseline else f" compared with “{audit.other.label}”"
            found.setdefault(", ".join(named), []).append(f"“{audit.arm.label}”{against}")
    if found:
        sentences = [
            f"{', '.join(arms)} {'has' if len(arms) == 1 else 'have'} {text}" for text, arms in found.items()
        ]
        return [f"Differences beyond the declared factor: {'; '.join(sentences)}."]
    return [NOTHING] if any(audit.n_pairs for audit in audits) else []


# Interaction


def interaction_table(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """The interaction as numbers: a row per set, line and level, two slopes, and two extrapolations.

    Columns: one per factor other than axis and lines; the lines' factor; quantity ("difference of
    differences", or "slope" or "extrapolated" with ", all levels" or ", last two levels"); the axis' factor
    (its level) and position; n, the seeds; val_pp and test_pp in percentage points (a slope: per doubling of
    the position), each as _mean, _ci_low, _ci_high and _p. If the metric is not a share, val_difference and
    test_difference in its unit.
    """
    design = study.factorial
    rows: list[dict[str, Any]] = []
    found = interactions(study, by_arm)
    for val, test in zip(found[::2], found[1::2], strict=True):
        intervals: list[tuple[Any, ...]] = [
            ("difference of differences", here.level, here.position, len(here.seeds), *pair)
            for here, there in zip(val.changes, test.changes, strict=True)
            for pair in [(here.estimate, there.estimate)]
        ]
        fits = [("all levels", val.fit, test.fit)]
        if val.last_fit is not None and test.last_fit is not None:
            fits.append(("last two levels", val.last_fit, test.last_fit))
        for which, here, there in fits:
            intervals.append((f"slope, {which}", np.nan, np.nan, len(here.slopes), here.slope, there.slope))
        for which, here, there in fits if design.paper is not None else []:
            at_paper = here.at_paper, there.at_paper
            intervals.append((f"extrapolated, {which}", np.nan, design.paper, len(here.slopes), *at_paper))
        for what, level, position, n, of_val, of_test in intervals:
            rows.append(
                {**val.part, design.lines: val.line, "quantity": what, design.x: level}
                | {"position": position, "n": n}
                | interval_columns(_column(study, "val"), of_val, with_p=True)
                | interval_columns(_column(study, "test"), of_test, with_p=True)
            )
    return pd.DataFrame(rows)


def _column(study: Study, split: str) -> str:
    return f"{split}_pp" if study.deciding.is_share else f"{split}_difference"


def interaction_panel(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """`interaction_table` as text: one row per interval."""
    design = study.factorial
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
    design = study.factorial
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
    design = study.factorial
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
    design = study.factorial
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
