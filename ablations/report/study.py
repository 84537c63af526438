"""One study as the report page holds it: what is written into its section, and what its charts read.

Every cell and point leads to runs: `run_sets` names the sets of runs that numbers rest on, and a cell
names its set.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.evidence.audit import NOTHING, RULE, Audit, audit_rows, audit_study
from ablations.evidence.claims import BENCHMARK
from ablations.evidence.contrasts import arm_values, contrast_values
from ablations.evidence.verdicts import Verdict
from ablations.figures.study import COLORS, DASHES, MARKERS
from ablations.report.bands import arm_bands
from ablations.report.runs import ABSENT, Grids, curves, flat_record, pool, quantities, run_entry
from ablations.runs.identity import is_outside_identity
from ablations.runs.records import COMPLETED, DIVERGED, DONE, STATUSES
from ablations.studies.results import (
    METRICS,
    Outcome,
    Study,
    StudyRun,
    baseline_first,
    outcomes,
    pair_by_seed,
)
from ablations.table_files import NO_VALUE, csv_text, latex_page, markdown_page
from ablations.tables.study import study_contents, study_subtitle

RESULTS = "study/results"
"""The set of all runs of a study that have a result."""

CAPTIONS = ("Accuracy, and differences seed by seed", "Course and size", "Interaction of the factors")

NO_RUNS = ("arm", "compared with", "paper", "arms", "interaction", "beside")
"""Columns whose cells rest on no runs: words, and what the paper prints."""

CONFIG = "config."


def study_section(
    study: Study,
    runs: Sequence[StudyRun],
    verdicts: Sequence[Verdict],
    problems: Mapping[str, str],
    overrides: Sequence[str],
    figures: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What is written into a study's section of the page.

    Args:
        study: The study.
        runs: All of its planned runs.
        verdicts: Any; those of other studies are left out.
        problems: Per run id, what is wrong with its record, a line.
        overrides: What it was varied by on the command line.
        figures: Its figures as `ablations.report.build.read_figures` gives them.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    by_arm = outcomes(study, runs)
    numbers, panels, notes = study_contents(study, runs)
    audits = audit_study(study, by_arm)
    subtitle = study_subtitle(study)
    named = [shlex.quote(word) for word in (study.name, *overrides)]
    return {
        "name": study.name,
        "title": study.title,
        "source": study.source,
        "scale": study.scale,
        "arms": arm_entries(study),
        "counts": status_counts(runs),
        "planned": len(runs),
        "claims": [verdict.claim.id for verdict in verdicts if verdict.claim.study == study.name],
        "problems": [
            {
                "run": run.run_id,
                "arm": _labels(study)[run.arm],
                "seed": run.seed,
                "text": problems[run.run_id],
            }
            for run in runs
            if run.run_id in problems
        ],
        "panels": _panels(study, panels),
        "audit": _panel("Each arm beside the one that it is compared with", audit_rows(audits), _of(audits)),
        "audit_note": RULE if any(audit.undeclared for audit in audits) else NOTHING,
        "audited": any(audit.n_pairs for audit in audits),
        "notes": [note for note in notes if note not in (RULE, NOTHING)],
        "copies": {
            "CSV": csv_text(numbers),
            "Markdown": markdown_page(study.title, subtitle, panels, notes),
            "LaTeX": latex_page(study.title, subtitle, study.output, panels, notes),
        },
        "differences": configuration_differences(study, runs),
        "commands": [
            f"python run.py -m {' '.join([f'study={study.name}', *named[1:]])}",
            f"python -m ablations {' '.join(named)}",
            f"python -m ablations report {' '.join(named)}",
        ],
        "figures": list(figures),
    }


def study_data(
    study: Study,
    runs: Sequence[StudyRun],
    verdicts: Sequence[Verdict],
    histories: Mapping[str, pd.DataFrame],
    problems: Mapping[str, str],
) -> dict[str, Any]:
    """What the charts, the list of runs and the pages of the runs read.

    Args:
        study: The study.
        runs: All of its planned runs.
        verdicts: Any; those of other studies are left out.
        histories: metrics.csv with its own columns per run id, of those that have one.
        problems: As `study_section`.
    """
    arms = {arm.name: place for place, arm in enumerate(baseline_first(study))}
    common, differences = pool([flat_record(run.record) for run in runs])
    offered = quantities(study, histories)
    keys = [quantity["key"] for quantity in offered]
    grids = Grids()
    entries = [
        run_entry(study, run, arms, difference, problems.get(run.run_id))
        | curves(histories.get(run.run_id), keys, grids)
        for run, difference in zip(runs, differences, strict=True)
    ]
    return {
        "name": study.name,
        "title": study.title,
        "arms": arm_entries(study),
        "metric": f"val_{study.metric}",
        "target": study.target,
        "chance": _chance(study, runs),
        "quantities": offered,
        "finals": [f"{part}_{name}" for name in study.metrics for part in ("val", "test")],
        "bands": arm_bands(study, runs, histories, keys, grids),
        "epochs": max((len(history) for history in histories.values()), default=0),
        "grids": grids.all,
        "common": common,
        "runs": entries,
        "sets": run_sets(study, runs, verdicts),
    }


def arm_entries(study: Study) -> list[dict[str, Any]]:
    """The arms, baseline first: name, label, and how they are drawn, as in the study's figure."""
    return [
        {
            "name": arm.name,
            "label": arm.label,
            "baseline": arm.name == study.baseline,
            "color": place % len(COLORS),
            "dash": place % len(DASHES),
            "marker": place % len(MARKERS),
        }
        for place, arm in enumerate(baseline_first(study))
    ]


def status_counts(runs: Sequence[StudyRun]) -> dict[str, int]:
    """Runs per status, of those that occur."""
    statuses = [run.status for run in runs]
    return {status: statuses.count(status) for status in STATUSES if status in statuses}


def configuration_differences(study: Study, runs: Sequence[StudyRun]) -> dict[str, Any]:
    """The settings in which the arms' runs differ, as their records have them.

    What cannot change an outcome is left out, and so is what differs within every arm as it does among the
    arms: the seed.

    Returns:
        arms (places of those that have a record) and rows (path, and the values per arm, a list of texts).
    """
    arms = [arm.name for arm in baseline_first(study)]
    recorded = [run for run in runs if run.record is not None]
    common, differences = pool([flat_record(run.record) for run in recorded])
    present = [name for name in arms if any(run.arm == name for run in recorded)]
    rows = []
    for place, path in enumerate(common["paths"]):
        if not path.startswith(CONFIG) or is_outside_identity(path.removeprefix(CONFIG)):
            continue
        found: dict[str, dict[int, None]] = {name: {} for name in present}
        for run, difference in zip(recorded, differences, strict=True):
            found[run.arm][difference.get(place, 0)] = None
        if len({frozenset(values) for values in found.values()}) > 1 and not _is_seed(path):
            rows.append(
                {
                    "path": path.removeprefix(CONFIG),
                    "values": [
                        [_setting(common["values"][place], at) for at in sorted(values)]
                        for values in found.values()
                    ],
                }
            )
    return {"arms": [arms.index(name) for name in present], "rows": rows}


def run_sets(
    study: Study, runs: Sequence[StudyRun], verdicts: Sequence[Verdict]
) -> dict[str, dict[str, Any]]:
    """The sets of runs that numbers rest on: title, and places in `runs`, by key.

    Per arm: planned, results (completed and diverged), completed, diverged, and pairs (seeds with a result in
    the arm and in the one it is compared with, runs of both); of the study: results; per claim: the runs of
    the seeds that its comparisons have.
    """
    by_arm = outcomes(study, runs)
    at = {run.run_id: place for place, run in enumerate(runs)}
    labels = _labels(study)
    sets = {RESULTS: _set(f"{study.title}: every run with a result", _places(runs, DONE))}
    for arm in baseline_first(study):
        kinds = {
            "planned": ("every planned run", STATUSES),
            "results": ("runs with a result", DONE),
            "completed": ("completed runs", (COMPLETED,)),
            "diverged": ("diverged runs", (DIVERGED,)),
        }
        for kind, (words, statuses) in kinds.items():
            places = _places(runs, statuses, arm.name)
            sets[f"{kind}/{arm.name}"] = _set(f"{arm.label}: {words}", places)
        if other := study.compared_with(arm):
            pairs = pair_by_seed(by_arm[arm.name], by_arm[other])
            ids = [outcome.run.run_id for pair in pairs for outcome in pair]
            title = f"{arm.label}, beside {labels[other]}: pairs of runs of one seed"
            sets[f"pairs/{arm.name}"] = _set(title, [at[run_id] for run_id in ids])
    for verdict in verdicts:
        if verdict.claim.study == study.name:
            places = sorted(at[run_id] for run_id in _runs_of_claim(study, by_arm, verdict))
            title = f"Claim {verdict.claim.id}: the runs that it rests on"
            sets[f"claim/{verdict.claim.id}"] = _set(title, places)
    return sets


def claim_set(verdict: Verdict) -> str | None:
    """Key of the set of runs that a verdict rests on; None where it rests on no run."""
    study = verdict.claim.study
    rests = study not in (None, BENCHMARK) and verdict.comparisons
    return f"claim/{verdict.claim.id}" if rests else None


def _runs_of_claim(study: Study, by_arm: Mapping[str, Sequence[Outcome]], verdict: Verdict) -> set[str]:
    comparisons = [compared.comparison for compared in verdict.comparisons]
    values = arm_values(study, by_arm, {comparison.metric for comparison in comparisons})
    ids = set()
    for comparison in comparisons:
        seeds = set(contrast_values(values, comparison.contrast, comparison.metric).seeds.tolist())
        for arm in comparison.contrast:
            ids |= {outcome.run.run_id for outcome in by_arm[arm] if outcome.run.seed in seeds}
    return ids


def _set(title: str, places: list[int]) -> dict[str, Any]:
    return {"title": title, "runs": places}


def _places(runs: Sequence[StudyRun], statuses: Sequence[str], arm: str | None = None) -> list[int]:
    return [
        place for place, run in enumerate(runs) if run.status in statuses and (arm is None or run.arm == arm)
    ]


def _labels(study: Study) -> dict[str, str]:
    return {arm.name: arm.label for arm in study.arms}


def _chance(study: Study, runs: Sequence[StudyRun]) -> dict[str, float]:
    """What a diverged run counts as, per validation metric; empty without a record."""
    classes = {
        run.record["config"]["dataset"]["num_classes"] for run in runs if run.status in DONE and run.record
    }
    return {f"val_{name}": METRICS[name].chance(min(classes)) for name in study.metrics} if classes else {}


def _panels(study: Study, panels: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    """The tables but for the audit, which has a place of its own."""
    shown = panels[: 3 if study.design else 2]
    arms = [arm.name for arm in baseline_first(study)]
    named: list[str | None] = [*arms, *(None for _ in study.paper_only)]
    return [
        _panel(CAPTIONS[place], panel.to_dict("records"), named if place < 2 else [None] * len(panel))
        for place, panel in enumerate(shown)
    ]


def _of(audits: Sequence[Audit]) -> list[str | None]:
    return [audit.arm.name for audit in audits]


def _panel(caption: str, rows: Sequence[Mapping[Any, str]], arms: Sequence[str | None]) -> dict[str, Any]:
    """A table: caption, columns, and rows of an arm (None: of none) and cells: text and key of its runs."""
    return {
        "caption": caption,
        "columns": list(rows[0]) if rows else [],
        "rows": [
            {
                "arm": arm,
                "cells": [{"text": text, "runs": _key_of(column, text, arm)} for column, text in row.items()],
            }
            for row, arm in zip(rows, arms, strict=True)
        ],
    }


def _key_of(column: str, text: str, arm: str | None) -> str | None:
    """Key of the runs that a cell rests on."""
    if text == NO_VALUE or column in NO_RUNS or column.startswith("paper"):
        return None
    if arm is None:  # the interaction, of all arms
        return RESULTS
    kinds = {"completed / planned": "planned", "diverged": "diverged", "steps/second": "completed"}
    paired = column.startswith("difference") or column in (
        *("declared factor", "parameters, %", "multiply-adds, %", "steps/second, %", "depth, layers"),
        "beyond the declared factor",
    )
    return f"{'pairs' if paired else kinds.get(column, 'results')}/{arm}"


def _setting(values: Sequence[Any], at: int) -> str:
    if at == ABSENT:
        return "not set"
    return values[at] if isinstance(values[at], str) else json.dumps(values[at])


def _is_seed(path: str) -> bool:
    return path in ("config.seed", "config.dataset.seed")
