"""Runs as the report page holds them: what most of them share is told once, so that a thousand stay small.

A record is flattened to paths ("config.recipe.optimizer.lr"). Per path the study has a list of the values
that occur, the most common one first; a run names only the places where it has another one. Curves are those
of metrics.csv with `DIGITS` digits; of more than `MAX_POINTS` epochs as many are kept, evenly spread.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablations.runs.histories import metric_names
from ablations.runs.records import COMPLETED, DONE, METRIC_LABELS
from ablations.studies.results import METRICS, Study, StudyRun, final_value

DIGITS = 6
"""Of the numbers in curves."""

MAX_POINTS = 200
"""Of one curve."""

LONGEST_ERROR = 10_000
"""Characters of a traceback that are kept: the last ones, where the error stands."""

POOLED = (
    *("choices", "config", "device", "versions", "git", "data_fingerprint"),
    *("parameters", "multiply_adds", "depth", "undecodable_images", "error"),
)
"""Keys of a record that many runs have in common."""

OWN = (
    *("started", "finished", "wall_time_s", "steps", "steps_per_second", "wandb_run_id"),
    "diverged_at_step",
)
"""Keys of a record that each run has for itself."""

ABSENT = -1
"""In place of the place of a value: the run's record has no such path."""

NOT_DRAWN = ("epoch", "step", "seconds", "learning_rate")
"""Columns of metrics.csv that are no curve of their own."""

PART_WORDS = {"val": "validation", "test": "test", "train": "training"}


def quantity_label(column: str) -> str:
    """A column of metrics.csv as a person reads it, e.g. "validation top-1"."""
    part, _, name = column.partition("_")
    return f"{PART_WORDS.get(part, part)} {METRIC_LABELS.get(name, name.replace('_', ' '))}".strip()


def quantities(study: Study, histories: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """What curves there are, in the order in which they are offered: the study's metrics first.

    Returns:
        key, label and percent (whether it is a fraction that is shown in per cent) of each.
    """
    there = dict.fromkeys(column for history in histories.values() for column in history.columns)
    validation = [f"val_{name}" for name in (*study.metrics, *metric_names(there))]
    wanted = [*validation, "val_loss", "train_loss", *sorted(there)]
    return [
        {"key": key, "label": quantity_label(key), "percent": key.partition("_")[2] in METRICS}
        for key in dict.fromkeys(wanted)
        if key in there and key not in NOT_DRAWN
    ]


def flatten(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values of a tree of nodes; an empty node is a value."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def flat_record(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of a record may be common to many runs, by path; long tracebacks by their end."""
    if record is None:
        return {}
    flat = dict(flatten({key: record[key] for key in POOLED if record.get(key) is not None}))
    if len(error := flat.get("error", "")) > LONGEST_ERROR:
        flat["error"] = "…" + error[-LONGEST_ERROR:]
    return flat


def pool(records: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[int, int]]]:
    """Flat records as what is common and what differs.

    Args:
        records: By path; an empty one has nothing, and counts for nothing.

    Returns:
        The entries `paths` and `values`, the most common value of each path first; and per record the
        place of its value by the place of the path, of those paths where it is not the first.
    """
    there = [record for record in records if record]
    paths = list(dict.fromkeys(path for record in there for path in record))
    values, differences = [], [dict[int, int]() for _ in records]
    for place, path in enumerate(paths):
        keys = [_key(record[path]) if path in record else None for record in records]
        counts = Counter(key for key in keys if key is not None)
        ordered = {key: i for i, (key, _) in enumerate(counts.most_common())}
        values.append([json.loads(key) for key in ordered])
        for record, key, difference in zip(records, keys, differences, strict=True):
            at = ABSENT if key is None else ordered[key]
            if record and at != 0:
                difference[place] = at
    return {"paths": paths, "values": values}, differences


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


class Grids:
    """The epochs and steps at which curves have points; runs that share them name them by their place."""

    def __init__(self) -> None:
        self.all: list[dict[str, list[int]]] = []
        self._places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}

    def place(self, epochs: np.ndarray, steps: np.ndarray) -> int:
        """Where these are in `all`, from now on."""
        key = tuple(map(int, epochs)), tuple(map(int, steps))
        if key not in self._places:
            self._places[key] = len(self.all)
            self.all.append({"epochs": list(key[0]), "steps": list(key[1])})
        return self._places[key]


def curves(history: pd.DataFrame | None, keys: Sequence[str], grids: Grids) -> dict[str, Any]:
    """Curves of a run.

    Args:
        history: metrics.csv with its own columns; None or empty where there is none.
        keys: Columns that are wanted; a run need not have all.
        grids: Takes the epochs and steps.

    Returns:
        grid, seconds (in training steps up to the end of each epoch) and curves by key; empty without
        a history.
    """
    if history is None or history.empty:
        return {}
    kept = kept_epochs(len(history))
    block = {name: history[name].to_numpy(dtype=float) for name in history.columns}
    return {
        "grid": grids.place(block["epoch"][kept], block["step"][kept]),
        "seconds": [short(value, 4) for value in block["seconds"].cumsum()[kept]],
        "curves": {key: [short(value) for value in block[key][kept]] for key in keys if key in block},
    }


def kept_epochs(epochs: int) -> np.ndarray:
    """Places of the epochs that the page keeps of so many: at most `MAX_POINTS`, evenly spread."""
    return np.unique(np.linspace(0, epochs - 1, min(epochs, MAX_POINTS)).round().astype(int))


def short(value: float, digits: int = DIGITS) -> float | None:
    """A number with as many digits as it needs on the page; None for what JSON has no number for."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def run_entry(
    study: Study, run: StudyRun, arms: Mapping[str, int], difference: Mapping[int, int], problem: str | None
) -> dict[str, Any]:
    """A run without its curves.

    Args:
        study: The study that plans it.
        run: The run.
        arms: Place of each arm.
        difference: What `pool` says of it.
        problem: What is wrong with its record, a line; None for nothing.

    Returns:
        id, arm, seed, status; what there is of problem, own (keys `OWN` of the record), differs
        (`difference`) and final (final metrics; a diverged run counts as chance in those of the study).
    """
    entry: dict[str, Any] = {"id": run.run_id, "arm": arms[run.arm], "seed": run.seed, "status": run.status}
    if problem:
        entry["problem"] = problem
    if run.record is None:
        return entry
    own = {key: run.record[key] for key in OWN if run.record.get(key) is not None}
    entry["own"] = {key: short(value) if isinstance(value, float) else value for key, value in own.items()}
    entry["differs"] = {str(place): at for place, at in difference.items()}
    if run.status == COMPLETED:
        entry["final"] = {key: short(value) for key, value in run.record["metrics"].items()}
    elif run.status in DONE:
        entry["final"] = {
            f"{part}_{name}": short(final_value(run.record, part, name))
            for name in study.metrics
            for part in ("val", "test")
        }
    return entry
