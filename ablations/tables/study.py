"""One table per study: the results of each arm, and its differences to its baseline, seed by seed.

The CSV has shares as fractions and their differences in percentage points. Markdown and LaTeX have per cent,
intervals and notes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.errors import UserError
from ablations.evidence.audit import Audit, audit_study
from ablations.evidence.contrasts import AREA, STEPS_TO_TARGET, quantity_of, value_of
from ablations.evidence.failures import failures
from ablations.files import write_atomically
from ablations.metrics import Metric
from ablations.notes import (
    audit_columns,
    audit_notes,
    audit_rows,
    failure_notes,
    interaction_notes,
    interaction_panel,
    interaction_table,
    missing_notes,
)
from ablations.runs.records import MISSING, STATUSES
from ablations.runs.schema import COMPLETED, DIVERGED, FAILED, RUNNING
from ablations.slim_tables import Numbers, SlimTable
from ablations.statistics.paired import (
    EXACT_PAIRS,
    RANDOM_FLIPS,
    interval_columns,
    mean_interval,
    paired_difference,
    smallest_sign_flip_p,
)
from ablations.studies.results import (
    Arm,
    Outcome,
    PaperRow,
    Study,
    StudyRun,
    baseline_first,
    outcomes,
    pair_by_seed,
)
from ablations.table_files import csv_text, latex_page, markdown_page, provenance, write_table_files
from ablations.tables.tuning import tuning_notes
from ablations.terminal.run_tables import counts
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE, UNCORRECTED, amount, decimals, integer, p_value

COUNTS = ("n_completed", "n_planned", "n_diverged", "n_running", "n_failed", "n_missing", "n_pairs")
BRACKETS = f"Brackets: {UNCORRECTED}"
INTEGERS = (*COUNTS, "n_failed_to_learn", "n_reached_target", "parameters", "multiply_adds", "depth")


def study_table(
    study: Study,
    runs: Sequence[StudyRun],
    by_arm: Mapping[str, Sequence[Outcome]],
    audits_of_arms: Sequence[Audit],
) -> pd.DataFrame:
    """The study's numbers, one row per arm, the baseline first, then rows only of the paper.

    Columns: arm, label; n_completed, n_planned, n_diverged, n_running, n_failed, n_missing; n_failed_to_learn
    and failed_to_learn_p (exact, against compared_with); the final val_METRIC and test_METRIC; compared_with
    (an arm), n_pairs, and the paired differences in the first metric, val_difference_pp and
    test_difference_pp, with _p (without _pp if the metric is not a share); steps_to_target, the share of the
    planned steps (1 for a run that never reaches it), and n_reached_target; val_area;
    parameters, multiply_adds, depth; steps_per_second_median (completed runs); those of `audit_columns`;
    paper; paper_METRIC as printed; scale. Means over seeds have _mean, _ci_low, _ci_high. Numbers that do not
    exist are missing.

    Args:
        study: The study.
        runs: All its planned runs, in any order, also missing ones.
        by_arm: Their outcomes.
        audits_of_arms: Of the arms that are compared with another.

    Raises:
        UserError: Runs of one arm differ in size.
    """
    audits = {audit.arm.name: audit for audit in audits_of_arms}
    printed, failed = _printed_metrics(study), failures(study, by_arm)
    rows = []
    for arm in baseline_first(study):
        other = study.compared_with(arm)
        rows.append(
            _counts(arm, runs)
            | {"n_failed_to_learn": len(failed[arm.name].seeds), "failed_to_learn_p": failed[arm.name].p}
            | _final(by_arm[arm.name], study)
            | {"compared_with": other or np.nan}
            | _differences(by_arm[arm.name], by_arm[other] if other else [], study)
            | _course(by_arm[arm.name], study)
            | _size(arm, by_arm[arm.name])
            | audit_columns(audits.get(arm.name))
            | {"paper": arm.paper}
            | {f"paper_{name}": arm.paper_values.get(name, np.nan) for name in printed}
            | {"scale": study.scale}
        )
    for row in study.paper_only:
        values = {f"paper_{name}": row.paper_values.get(name, np.nan) for name in printed}
        rows.append({"arm": np.nan, "label": row.label} | values)
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys([name for name in INTEGERS if name in table], "Int64"))


def _printed_metrics(study: Study) -> list[str]:
    """Metrics for which the paper prints a value, the study's own first."""
    rows: tuple[Arm | PaperRow, ...] = (*study.arms, *study.paper_only)
    named = dict.fromkeys(name for row in rows for name in row.paper_values)
    return sorted(named, key=lambda name: (name not in study.metrics, name))


def markdown_table(study: Study, runs: Sequence[StudyRun]) -> str:
    """The study as a Markdown page: title, scale, tables, notes."""
    _, panels, notes = study_contents(study, runs)
    return markdown_page(study.title, study_subtitle(study), panels, notes)


def study_contents(
    study: Study, runs: Sequence[StudyRun]
) -> tuple[pd.DataFrame, list[pd.DataFrame], list[str]]:
    """The table, its panels for readers, and its notes."""
    by_arm = outcomes(study, runs)
    audits = audit_study(study, by_arm)
    table = study_table(study, runs, by_arm, audits)
    interaction = interaction_panel(study, by_arm) if study.design else None
    panels = _panels(study, _readable(study, table), interaction, audits)
    return table, panels, _notes(study, runs, by_arm, audits)


def study_subtitle(study: Study) -> str:
    return f"{study.subtitle} {BRACKETS}."


def _console_table(study: Study, table: pd.DataFrame) -> RenderableType:
    """For a terminal of 80 columns."""
    readable = _readable(study, table)
    metric, target = study.deciding, _target_header(study)
    columns = {
        metric.with_unit(f"validation {metric.label}"): f"val {metric.label}\n{metric.shown_unit}",
        metric.with_unit(f"test {metric.label}"): f"test {metric.label}\n{metric.shown_unit}",
        _difference_header(study, "validation"): f"diff. val\n{metric.difference_unit}",
        _difference_header(study, "test"): f"diff. test\n{metric.difference_unit}",
    }
    if target:
        columns[target] = target.replace(" to", "\nto").removesuffix(" (reached)")
    sections = []
    for (_, row), (_, numbers) in zip(readable.iterrows(), table.iterrows(), strict=True):
        # Intervals and p on separate lines.
        cells = [re.sub(r" (?=\[|p [=<]|\()", "\n", row[name]) for name in columns]
        planned = not pd.isna(numbers["n_planned"])  # else a row only of the paper
        sections.append(Section(_heading(study, row, numbers), [cells] if planned else []))
    caption = f"{study.scale}. {BRACKETS}." + (" Parentheses: runs that reach the target." if target else "")
    return headed_table(study.title, list(columns.values()), sections, caption)


def _heading(study: Study, row: pd.Series, numbers: pd.Series) -> Text:
    words = [row["arm"]]
    if "compared with" in row and row["compared with"] != NO_VALUE:
        words[0] += f" (against {row['compared with']})"
    if not pd.isna(numbers["n_planned"]):
        words.append(counts({status: numbers[f"n_{status}"] for status in STATUSES}).plain)
    for name in _printed_metrics(study):
        label = study.declaration(name).label
        if (printed := row[f"paper, {label}"]) != NO_VALUE:
            words.append(f"paper's {label} {printed}")
    return Text.assemble((f"{words[0]}: ", "bold"), ", ".join(words[1:]))


def write_and_show(study: Study, runs: Sequence[StudyRun], folder: Path) -> tuple[list[Path], RenderableType]:
    """Write the study's table as CSV, Markdown and LaTeX, full and slim, each atomically.

    Returns:
        The paths, `folder/<output>.csv`, `.md`, `.tex` and `_slim.tex`, and for a factorial study
        `_interaction.csv`; and the table for the terminal.

    Raises:
        ValueError: As `ablations.studies.results.outcomes` and `study_table`; then nothing is written.
        OSError: The folder cannot be written.
    """
    table, panels, notes = study_contents(study, runs)
    interaction = csv_text(interaction_table(study, outcomes(study, runs))) if study.design else None
    paths = write_table_files(
        folder,
        study.output,
        csv=table,
        markdown=markdown_page(study.title, study_subtitle(study), panels, notes),
        latex=latex_page(study.title, study_subtitle(study), study.output, panels, notes),
        slim=slim_table(study, table).latex(),
    )
    if interaction is not None:
        paths.append(folder / f"{study.output}_interaction.csv")
        write_atomically(paths[-1], interaction)
    return paths, _console_table(study, table)


# Numbers


def _counts(arm: Arm, runs: Sequence[StudyRun]) -> dict[str, Any]:
    statuses = [run.status for run in runs if run.arm == arm.name]
    return {
        "arm": arm.name,
        "label": arm.label,
        "n_completed": statuses.count(COMPLETED),
        "n_planned": len(statuses),
        "n_diverged": statuses.count(DIVERGED),
        "n_running": statuses.count(RUNNING),
        "n_failed": statuses.count(FAILED),
        "n_missing": statuses.count(MISSING),
    }


def _final(of_arm: Sequence[Outcome], study: Study) -> dict[str, float]:
    columns: dict[str, float] = {}
    for metric in study.metrics:
        for name in (f"val_{metric}", f"test_{metric}"):
            finals = [outcome.final[name] for outcome in of_arm]
            columns |= _interval(study.declaration(metric), name, finals)
    return columns


def _interval(metric: Metric, name: str, values: Sequence[float]) -> dict[str, float]:
    estimate = mean_interval(values).within(*metric.ends()) if values else None
    return interval_columns(name, estimate)


def _difference_column(study: Study, split: str) -> str:
    return f"{split}_difference_pp" if study.deciding.is_share else f"{split}_difference"


def _differences(of_arm: Sequence[Outcome], baseline: Sequence[Outcome], study: Study) -> dict[str, Any]:
    pairs = pair_by_seed(of_arm, baseline)
    row: dict[str, Any] = {"n_pairs": len(pairs)}
    for split in ("val", "test"):
        estimate = None
        if pairs:
            finals = [[run.final[f"{split}_{study.metric}"] for run in pair] for pair in pairs]
            values = study.deciding.times * np.array(finals)
            # A fixed generator: the same records give the same table.
            estimate = paired_difference(values[:, 0], values[:, 1], np.random.default_rng(0))
        row |= interval_columns(_difference_column(study, split), estimate, with_p=True)
    return row


def _course(of_arm: Sequence[Outcome], study: Study) -> dict[str, Any]:
    """As claims about speed read it."""
    areas = [value_of(study, outcome, AREA) for outcome in of_arm]
    area = _interval(study.deciding, "val_area", areas)
    if study.target is None:
        return area
    sign, target = study.deciding.sign, study.deciding.sign * study.target
    steps = [value_of(study, outcome, STEPS_TO_TARGET) for outcome in of_arm]
    reached = [not outcome.diverged and (sign * outcome.curve >= target).any() for outcome in of_arm]
    share = quantity_of(STEPS_TO_TARGET).metric
    return _interval(share, STEPS_TO_TARGET, steps) | {"n_reached_target": sum(map(bool, reached))} | area


def _size(arm: Arm, of_arm: Sequence[Outcome]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("parameters", "multiply_adds", "depth"):
        found = {_record(outcome)[name] for outcome in of_arm if name in _record(outcome)}
        if len(found) > 1:
            raise UserError(f"arm={arm.name}: its runs differ in {name}: {sorted(found)}")
        row[name] = found.pop() if found else pd.NA
    speeds = [_record(outcome)["steps_per_second"] for outcome in of_arm if not outcome.diverged]
    return row | {"steps_per_second_median": float(np.median(speeds)) if speeds else np.nan}


def _record(outcome: Outcome) -> Mapping[str, Any]:
    assert outcome.run.record is not None
    return outcome.run.record


# Slim table


def slim_table(study: Study, table: pd.DataFrame) -> SlimTable:
    """Test metrics of every arm, and its difference in the first."""
    table = table[table["n_planned"].notna()]
    digits = 1 if study.deciding.is_share else None
    n = table["n_completed"] + table["n_diverged"]
    columns = [Numbers("n", [float(number) for number in n], digits=0)]
    for name in study.metrics:
        metric = study.declaration(name)
        header = f"test {metric.label}" + (f"\n{metric.shown_unit}" if metric.shown_unit else "")
        numbers = _with_halves(table, f"test_{name}", metric.times)
        columns.append(Numbers(header, *numbers, metric.sign, 1 if metric.is_share else None))
    unit, column = study.deciding.difference_unit, _difference_column(study, "test")
    header = "difference" + (f"\n{unit}" if unit else "")
    columns.append(Numbers(header, *_with_halves(table, column), digits=digits, signed=True))
    columns.append(Numbers("p", table[f"{column}_p"].astype(float).tolist(), digits=3))
    labels = {arm.name: arm.label for arm in study.arms}
    others = dict.fromkeys(table["compared_with"].dropna())
    minus = " or ".join(f"“{labels[name]}”" for name in others) or "nothing"
    return SlimTable(
        title=study.title,
        label=f"{study.output}_slim",
        head="arm",
        names=table["label"].tolist(),
        columns=columns,
        notes=(
            f"{study.scale}. n: runs, one per seed. Means over seeds at the final epoch, ± half of the 95 % "
            f"t interval; bold: the best mean. Difference: {study.deciding.label} minus that of {minus}, "
            "seed by seed; p: two-sided sign-flip test, not corrected.",
        ),
    )


def _with_halves(table: pd.DataFrame, name: str, times: float = 1) -> tuple[list[float], list[float]]:
    """Means and half widths of intervals; of a clipped interval, the longer side."""
    mean, low, high = (
        times * table[f"{name}_{part}"].astype(float) for part in ("mean", "ci_low", "ci_high")
    )
    return mean.tolist(), np.fmax(high - mean, mean - low).tolist()


# Text for readers


def _readable(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    labels = {arm.name: arm.label for arm in study.arms}
    one_baseline = set(table["compared_with"].dropna()) <= {study.baseline}
    printed = {name: _decimals_of(table[f"paper_{name}"].dropna()) for name in _printed_metrics(study)}
    rows = []
    for _, row in table.iterrows():
        planned = not pd.isna(row["n_planned"])
        cells = {
            "arm": row["label"] + (" (baseline)" if row["arm"] == study.baseline else ""),
            "completed / planned": f"{row['n_completed']} / {row['n_planned']}" if planned else NO_VALUE,
            "failed to learn": _failed_text(row) if planned else NO_VALUE,
        }
        for name in study.metrics:
            for part, word in (("val", "validation"), ("test", "test")):
                metric = study.declaration(name)
                header = metric.with_unit(f"{word} {metric.label}")
                cells[header] = _interval_text(metric, row, f"{part}_{name}")
        for name, digits in printed.items():
            cells[f"paper, {study.declaration(name).label}"] = decimals(row[f"paper_{name}"], digits=digits)
        if not one_baseline:
            cells["compared with"] = labels.get(row["compared_with"], NO_VALUE)
        rows.append(
            cells
            | {
                _difference_header(study, "validation"): _difference(study, row, "val"),
                _difference_header(study, "test"): _difference(study, row, "test"),
                **({_target_header(study): _steps_text(row)} if study.target is not None else {}),
                study.deciding.with_unit("area under validation curve"): _interval_text(
                    study.deciding, row, "val_area"
                ),
                "parameters": integer(row["parameters"]),
                "multiply-adds": integer(row["multiply_adds"]),
                "depth": integer(row["depth"]),
                "steps/second": decimals(row["steps_per_second_median"]),
                "paper": row["paper"] if planned and row["paper"] else NO_VALUE,
            }
        )
    return pd.DataFrame(rows)


def _decimals_of(printed: pd.Series) -> int:
    """The most decimals of values that a paper prints: its 0.790 is 0.79 in a file."""
    return max(len(f"{value:g}".partition(".")[2]) for value in printed)


def _panels(
    study: Study, readable: pd.DataFrame, interaction: pd.DataFrame | None, audits: Sequence[Audit]
) -> list[pd.DataFrame]:
    """Tables that fit a page: metrics and differences; convergence and size; interaction; audit."""
    split = list(readable.columns).index(_difference_header(study, "test")) + 1
    first = readable.iloc[:, :split]
    second = readable.iloc[:, [0, *range(split, readable.shape[1])]]
    further = [] if interaction is None else [interaction]
    if any(audit.undeclared for audit in audits):
        further.append(pd.DataFrame(audit_rows(audits)))
    return [first, second, *further]


def _target_header(study: Study) -> str:
    if study.target is None:
        return ""
    return f"steps to {study.deciding.text(study.target)}, % of all (reached)"


def _difference_header(study: Study, split: str) -> str:
    unit = study.deciding.difference_unit
    return f"difference {split}" + (f", {unit}" if unit else "")


def _interval_text(metric: Metric, row: pd.Series, name: str, sign: str = "", times: float = 1) -> str:
    mean, low, high = (row[f"{name}_{part}"] / times for part in ("mean", "ci_low", "ci_high"))
    return metric.interval(mean, low, high, sign)


def _difference(study: Study, row: pd.Series, split: str) -> str:
    name, metric = _difference_column(study, split), study.deciding
    if pd.isna(row[f"{name}_mean"]):
        return NO_VALUE
    return f"{_interval_text(metric, row, name, '+', metric.times)} {p_value(row[f'{name}_p'], 'p')}"


def _failed_text(row: pd.Series) -> str:
    """With the exact p unless the same seeds failed in the arm compared with."""
    text = str(row["n_failed_to_learn"])
    return f"{text}, {p_value(row['failed_to_learn_p'], 'p')}" if row["failed_to_learn_p"] < 1 else text


def _steps_text(row: pd.Series) -> str:
    if pd.isna(row[f"{STEPS_TO_TARGET}_mean"]):
        return NO_VALUE
    n = row["n_completed"] + row["n_diverged"]
    text = _interval_text(quantity_of(STEPS_TO_TARGET).metric, row, STEPS_TO_TARGET)
    return f"{text} ({row['n_reached_target']} / {n})"


def _notes(
    study: Study,
    runs: Sequence[StudyRun],
    by_arm: Mapping[str, Sequence[Outcome]],
    audits: Sequence[Audit],
) -> list[str]:
    all_outcomes = [outcome for of_arm in by_arm.values() for outcome in of_arm]
    notes = []
    if not any(run.status == COMPLETED for run in runs):
        notes.append("No completed run.")
    notes += [*study.notes, *missing_notes(study, runs), *tuning_notes(study)]
    if not all_outcomes:
        return notes
    labels = {arm.name: arm.label for arm in study.arms}
    others = {arm.name: other for arm in study.arms if (other := study.compared_with(arm))}
    n_pairs = {len(pair_by_seed(by_arm[name], by_arm[other])) for name, other in others.items()} - {0}
    minus = (
        f"“{labels[study.baseline]}”"
        if set(others.values()) <= {study.baseline}
        else "the arm it is compared with"
    )
    deciding = study.deciding
    metric, unit, better = deciding.label, deciding.difference_unit, "least" if deciding.sign > 0 else "most"
    in_unit = ", in percentage points (pp)" if unit == "pp" else f", in {unit}" if unit else ""
    measured = " and ".join(study.declaration(name).label for name in study.metrics)
    notes += [
        f"Validation and test {measured}: mean over seeds "
        "at the final epoch, not the best one, with the 95 % t interval of the mean in brackets (none for "
        "one run, or if all runs are equal).",
        f"Differences of {metric}: arm minus {minus}, seed by seed{in_unit}, with the "
        f"95 % t interval; p: {_p_note(n_pairs)}, not corrected for multiple comparisons.",
        f"Area under validation curve: mean height of the curve of validation {metric} over training steps "
        "(trapezoids), from the end of the first epoch to the end of the last.",
    ]
    if study.target is not None:
        notes.append(
            f"Steps to {deciding.text(study.target)}: the share of the training steps after which validation "
            f"{metric} is at {better} that, interpolated between epochs; mean over seeds with the 95 % t "
            "interval. A run that never reaches it counts 100 %. In parentheses: how many reached it."
        )
    if study.design:
        notes += interaction_notes(study, by_arm)
    if _printed_metrics(study):
        notes.append(
            "Values of the paper are as printed, at its scale. Data and sizes differ from ours, so only the "
            "order of the values can be compared."
        )
    if failed := failure_notes(study, by_arm):
        notes += [*failed, "p of “failed to learn”: McNemar's exact test, two-sided, not corrected."]
    val_metric = f"val_{study.metric}"
    if chance := sorted({outcome.final[val_metric] for outcome in all_outcomes if outcome.diverged}):
        chances = ", ".join(map(deciding.text, chance))
        notes.append(
            f"A diverged run counts: its final {metric} is chance ({chances}), its curve is chance from "
            "where it diverged, and it never reaches the target."
        )
    notes += audit_notes(audits)
    return notes + provenance("Trained", [_record(outcome) for outcome in all_outcomes])


def _p_note(n_pairs: set[int]) -> str:
    floors = [
        f"{smallest_sign_flip_p(n):.2g} with {amount(n, 'pair')}" for n in sorted(n_pairs) if n <= EXACT_PAIRS
    ]
    text = "exact two-sided sign-flip test"
    if any(n > EXACT_PAIRS for n in n_pairs):
        text = f"two-sided sign-flip test ({RANDOM_FLIPS:,} draws above {EXACT_PAIRS} pairs)"
    return f"{text}, which is at least {', '.join(floors)}" if floors else text
