"""Size and speed of networks, as recorded by `python -m ablations benchmark`.

A timing is a record of a network in a setting (precision, memory order, compiler), in training or inference,
and of a round, which is its seed. `timing` in its configuration names the table, what was compared and the
machine.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.evidence.claims import BENCHMARK
from ablations.evidence.verdicts import MIN_PAIRS
from ablations.runs.identity import DEFAULT_COMPILER
from ablations.runs.records import RunDirectory
from ablations.runs.schema import COMPLETED
from ablations.studies.results import Arm, Study, StudyRun
from ablations.studies.schema import BenchmarkFile

OURS = "ours"
"""The source of this project's networks; others are libraries."""

TURN = ("model", "source", "part", "memory_order", "precision", "compiler")
"""What differs between the turns of a round."""

JUDGED = {
    **{"source": OURS, "part": "training", "memory_order": "channels-last", "precision": "float32"},
    "compiler": "",
}
"""The turns that claims are about: the setting of the recipes, which every device has."""


def turn_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A timing as `TURN`, round, parameters, multiply_adds (of an image), steps_per_second,
    images_per_second, and peak_memory_bytes (on a GPU).
    """
    config = record["config"]
    recipe, timing, compiler = config["recipe"], config["timing"], config["trainer"]["compile"]
    precision = {"32-true": "TF32" if recipe["tf32"] else "float32", "bf16-mixed": "bf16 autocast"}
    return {
        "model": record["choices"]["model"],
        "source": timing["source"],
        "part": timing["part"],
        "memory_order": "channels-last" if recipe["channels_last"] else "contiguous",
        "precision": precision[recipe["precision"]],
        "compiler": DEFAULT_COMPILER if compiler is True else compiler or "",
        "round": record["seed"],
        "parameters": record["parameters"],
        "multiply_adds": record["multiply_adds"],
        "steps_per_second": record["steps_per_second"],
        "images_per_second": record["steps_per_second"] * recipe["batch_size"],
        "peak_memory_bytes": record["device"]["peak_memory"],
    }


@dataclass(frozen=True)
class Timings:
    """The timings of one table on one machine, `{run_id: record}`."""

    records: Mapping[str, Mapping[str, Any]]

    @cached_property
    def turns(self) -> pd.DataFrame:
        """A row per timing, as `turn_row`; the index is its run_id."""
        models = self.config["timing"]["models"]
        rows = {run_id: turn_row(record) for run_id, record in self.records.items()}

        def order(item: tuple[str, Mapping[str, Any]]) -> tuple[Any, ...]:
            row = item[1]
            setting = row["compiler"], row["precision"] != "float32", row["precision"]
            measured = row["memory_order"] != "contiguous", row["part"], models.index(row["model"])
            return *setting, *measured, row["source"] != OURS, row["source"], row["round"]

        return pd.DataFrame.from_dict(dict(sorted(rows.items(), key=order)), orient="index")

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of one of them, for what all share."""
        config: Mapping[str, Any] = next(iter(self.records.values()))["config"]
        return config

    @property
    def output(self) -> str:
        """Stem of the table's files."""
        return str(self.config["timing"]["table"])

    @property
    def rounds(self) -> int:
        """Of the network and setting with the fewest."""
        return int(self.turns.groupby([*TURN])["round"].size().min())

    @property
    def scale(self) -> str:
        """One step, "steps of 4 images of 299x299 pixels, 1000 classes"."""
        config, dataset = self.config, self.config["dataset"]
        images = f"{config['recipe']['batch_size']} images of {dataset['image_size']}x{dataset['image_size']}"
        changes: list[str] = config["timing"]["overrides"]
        return ", ".join([f"steps of {images} pixels", f"{dataset['num_classes']} classes", *changes])


def read_timings(results_dir: Path) -> list[Timings]:
    """The timings among the records, one entry per table.

    Of several machines, the last one counts; one with too few rounds for a verdict does not replace one with
    enough.
    """
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for path in sorted((results_dir / "runs").glob("*/record.json")):
        if b'"timing": {' not in path.read_bytes():
            continue
        record = RunDirectory(results_dir, path.parent.name).read_or_none()
        if record is None or record["status"] != COMPLETED or "table" not in record["config"]["timing"]:
            continue
        config = record["config"]
        shared = {key: value for key, value in config["timing"].items() if key not in ("source", "part")}
        question = json.dumps([shared, config["recipe"]["batch_size"]], sort_keys=True)
        found.setdefault(question, {})[record["run_id"]] = record
    by_output: dict[str, Timings] = {}
    for timings in sorted(map(Timings, found.values()), key=_rank):
        by_output[timings.output] = timings
    return [by_output[output] for output in sorted(by_output)]


def _rank(timings: Timings) -> tuple[int, str]:
    return min(timings.rounds, MIN_PAIRS), max(str(record["finished"]) for record in timings.records.values())


def benchmark_study(
    results_dir: Path, defined: BenchmarkFile, arms: Collection[str]
) -> tuple[Study, list[StudyRun]]:
    """The benchmark as a study of size and speed, whose seeds are the rounds.

    Args:
        results_dir: Folder of the records.
        defined: What is measured.
        arms: Further networks that claims are about.
    """
    timings = next((one for one in read_timings(results_dir) if one.output == defined.output), None)
    runs = []
    for run_id, turn in timings.turns.iterrows() if timings else ():
        if all(turn[key] == value for key, value in JUDGED.items()):
            assert timings is not None
            path = RunDirectory(results_dir, str(run_id)).path
            record = timings.records[str(run_id)]
            runs.append(StudyRun(turn["model"], turn["round"], str(run_id), path, COMPLETED, record, None))
    labels = {name: name for name in arms} | defined.labels
    return Study(
        name=BENCHMARK,
        title=defined.title,
        output=defined.output,
        source=defined.source,
        arms=tuple(Arm(name, label, {"model": name}) for name, label in labels.items()),
        baseline=defined.networks[0].model,
        seeds=tuple(sorted({run.seed for run in runs})),
        metrics=(),
        target=0.0,
        notes=() if timings else ("Nothing was timed here yet: python -m ablations benchmark.",),
        scale=f"full size, training {timings.scale}, channels-last memory, float32" if timings else "",
    ), runs
