"""The runs of the report page: rows of a study's table, and each run's record and configuration."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.report.charts import Histories, column_metric, kept_epochs, run_chart, scale, with_unit
from ablations.report.study import SEEDS, flatten, without_repeats
from ablations.runs.identity import is_outside_identity
from ablations.runs.records import DONE, MISSING, RunDirectory
from ablations.runs.schema import COMPLETED, DIVERGED
from ablations.studies.results import Study, StudyRun, final_value
from ablations.text import NO_VALUE, decimals, duration

RECORD = (
    *("started", "finished", "edited", "steps", "steps_per_second", "parameters", "multiply_adds", "depth"),
    *("undecodable_images", "diverged_at_step", "device", "git", "versions", "data_fingerprint", "choices"),
    "wandb_run_id",
)
"""Keys of a record that a run's page shows unchanged."""

LONGEST_ERROR = 10_000
"""Last characters of a traceback, which are shown."""


def run_title(study: Study, run: StudyRun) -> str:
    return f"{next(arm.label for arm in study.arms if arm.name == run.arm)}, seed {run.seed}"


def run_rows(study: Study, runs: Sequence[StudyRun], histories: Histories) -> list[dict[str, Any]]:
    """Rows of the table of runs: id, title, status, and per column a text and a sort key."""
    rows = []
    for run in runs:
        finals, epochs = final_metrics(study, run), len(histories.get(run.run_id, ()))
        seconds = run.record.get("wall_time_s") if run.record else None
        cells: dict[str, tuple[str, float]] = {}
        for key in (f"{part}_{name}" for part in ("val", "test") for name in study.metrics):
            cells[with_unit(study, key)] = (shown(study, key, finals.get(key)), finals.get(key, -1))
        cells["epochs"] = (str(epochs), epochs)
        cells["wall time"] = (duration(seconds), seconds or -1)
        row = {"id": run.run_id, "title": run_title(study, run), "status": run.status, "cells": cells}
        rows.append(row | {"compared": run.record is not None})
    return rows


def run_pages(
    studies: Sequence[tuple[Study, Sequence[StudyRun]]], histories: Histories
) -> dict[str, dict[str, Any]]:
    """Values for the template of a run, by run id."""
    pages: dict[str, dict[str, Any]] = {}
    for study, runs in studies:
        settings = {run.run_id: flatten(run.record["config"]) for run in runs if run.record}
        counted: dict[str, Counter[str]] = {}
        for path, value in (item for of_run in settings.values() for item in of_run.items()):
            counted.setdefault(path, Counter())[value] += 1
        usual = {
            path: values.most_common(1)[0][0]
            for path, values in counted.items()
            if path not in SEEDS and not is_outside_identity(path)
        }
        for run in runs:
            if run.run_id not in pages:
                pages[run.run_id] = _page(
                    study, run, histories.get(run.run_id), settings.get(run.run_id, {}), usual
                )
            pages[run.run_id]["studies"].append((study, run_title(study, run)))
    return pages


def _page(
    study: Study,
    run: StudyRun,
    history: pd.DataFrame | None,
    settings: Mapping[str, str],
    usual: Mapping[str, str],
) -> dict[str, Any]:
    record = run.record or {}
    finals = dict(record["metrics"]) if run.status == COMPLETED else final_metrics(study, run)
    facts = {with_unit(study, key): shown(study, key, value) for key, value in finals.items()}
    numbers = {
        with_unit(study, key): (scale(study, key) * value, column_metric(study, key).difference_unit)
        for key, value in finals.items()
        if not pd.isna(value)
    }
    if record:
        device = record["device"] or {}  # none yet if the run has just begun
        facts |= {"wall time": duration(record.get("wall_time_s")), "device": device.get("name", "–")}
    other = {
        path: (value, usual[path]) for path, value in settings.items() if usual.get(path, value) != value
    }
    return {
        "id": run.run_id,
        "title": run_title(study, run),
        "status": run.status,
        "problem": problem(run),
        "facts": facts,
        "numbers": numbers,
        "chance": run.status == DIVERGED,
        "error": (record.get("error") or "")[-LONGEST_ERROR:],
        "chart": None if history is None else run_chart(study, history),
        "history": [] if history is None else history_rows(study, history),
        "other": [
            dict(zip(("setting", "this run", "most runs"), (path, *other[path]), strict=True))
            for path in without_repeats(other)
        ],
        "settings": settings,
        "record": flatten({key: record[key] for key in RECORD if record.get(key) is not None}),
        "studies": [],
    }


def final_metrics(study: Study, run: StudyRun) -> dict[str, float]:
    """The study's final metrics of a run with a result; chance if it diverged."""
    parts = ("val", "test") if run.record and run.status in DONE else ()
    return {
        f"{part}_{name}": final_value(study, run.record or {}, part, name)
        for part in parts
        for name in study.metrics
    }


def problem(run: StudyRun) -> str:
    """Why a run with a record counts as missing, or ""."""
    if run.status != MISSING:
        return ""
    found = RunDirectory(run.directory.parents[1], run.run_id).problem()
    asked = run.record is not None and run.record["status"] in DONE
    return found or (f"not measured as requested, counted as missing: {run.directory}" if asked else "")


def history_rows(study: Study, history: pd.DataFrame) -> list[dict[str, str]]:
    """metrics.csv as text."""
    kept = history.iloc[kept_epochs(len(history))]
    texts = {
        with_unit(study, name): [shown(study, name, value) for value in kept[name]] for name in map(str, kept)
    }
    return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def shown(study: Study, column: str, value: float | None) -> str:
    """A value of a column of metrics.csv as text."""
    if value is None or pd.isna(value):
        return NO_VALUE
    if scale(study, column) != 1.0:
        return decimals(100 * value)
    return f"{value:.3g}" if value % 1 else f"{value:.0f}"
