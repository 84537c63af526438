"""The status of planned runs, read from their records."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ablations.runs.identity import identity_of
from ablations.runs.records import DONE, UnreadableRecord
from ablations.studies.results import StudyRun
from ablations.text import shown_value
from experiments.planned_run import PlannedRun

SEEDS = ("seed", "dataset.seed")

SIMILAR = 3
"""Most settings in which a similar record differs."""


def standing(
    runs: Sequence[PlannedRun], metrics: Collection[str] | None = None
) -> tuple[list[StudyRun], list[str]]:
    """An entry per planned run, and a line per unusable record, which counts as missing.

    `metrics` are those to read from histories; None: all.
    """
    entries, problems = [], []
    for run in runs:
        directory = run.directory
        record, history = None, None
        try:
            record = directory.read(run.configuration.resolved)
        except UnreadableRecord as error:
            problems.append(f"unreadable record, counted as missing: {error}")
        if record is not None:
            history = directory.validation_history(metrics, record)
        status = directory.status_of(record, history)
        if record is not None and record["status"] in DONE and status not in DONE:
            problems.append(directory.why_missing(record, history))
            history = None
        entries.append(StudyRun(run.arm, run.seed, run.run_id, directory.path, status, record, history))
    return entries, problems


def most_similar(runs: Sequence[PlannedRun]) -> str:
    """The settings by which the most similar record differs from the planned runs, as overrides, or ""."""
    wanted = [_settings(run.configuration.resolved) for run in {run.arm: run for run in runs}.values()]
    found: list[tuple[int, str]] = []
    for path in runs[0].configuration.results_dir.glob("runs/*/record.json"):
        try:
            settings = _settings(json.loads(path.read_text(encoding="utf-8"))["config"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        for one in wanted:
            differ = {key for key in one.keys() | settings.keys() if one.get(key) != settings.get(key)}
            others = sorted(differ - set(SEEDS))
            told = (f"{key}={settings.get(key, 'null')}" for key in others or ["seed"])
            found.append((len(others), " ".join(told)))
    number, overrides = min(found, default=(0, ""))
    return overrides if number <= SIMILAR else ""


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What can change an outcome, by its path."""

    def flat(node: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{above}{key}.")
            else:
                yield f"{above}{key}", "null" if value is None else shown_value(value)

    return dict(flat(identity_of(config), ""))
