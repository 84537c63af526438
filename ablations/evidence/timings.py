"""Size and speed of networks, as recorded by `python -m ablations benchmark`: table 3 of the paper.

A timing is a record of a network, a memory order, a precision and a round, which is its seed; `timing` in its
configuration names what was compared and the machine.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablations.evidence.claims import BENCHMARK
from ablations.evidence.verdicts import MIN_PAIRS
from ablations.runs.records import RunDirectory, UnreadableRecord
from ablations.runs.schema import COMPLETED
from ablations.studies.results import Arm, Study, StudyRun

TITLE = "Size and speed"
SOURCE = "Chollet 2016, section 4.5, table 3"
TABLE_3 = "table03_size_and_speed"
MODELS = {"inception_v3_table3": "Inception V3 as in table 3", "xception": "Xception"}
"""Networks of table 3 and their labels; ratios are to the first."""
IMAGE_SIZE = 299
NUM_CLASSES = 1000

CHANNELS_LAST, FLOAT32 = True, "32-true"
"""Memory order and precision in which speeds are judged: those of the recipes, which every device has."""


def output_of(models: Sequence[str], image_size: int, num_classes: int, overrides: Sequence[str]) -> str:
    """Stem of the files of a question: table 3's, with what differs from table 3."""
    changes = [] if tuple(models) == tuple(MODELS) else ["models=" + ",".join(models)]
    changes += [] if image_size == IMAGE_SIZE else [f"image_size={image_size}"]
    changes += [] if num_classes == NUM_CLASSES else [f"num_classes={num_classes}"]
    return "__".join([TABLE_3, *(re.sub(r"[^\w=.,-]", "_", change) for change in (*changes, *overrides))])


@dataclass(frozen=True)
class Timings:
    """The timings of one question on one machine.

    Attributes:
        runs: Completed runs of complete rounds, by round.
    """

    runs: tuple[StudyRun, ...]

    @cached_property
    def records(self) -> list[Mapping[str, Any]]:
        return [run.record for run in self.runs if run.record is not None]

    @property
    def question(self) -> Mapping[str, Any]:
        """The configuration of one of them, for what all share."""
        config: Mapping[str, Any] = self.records[0]["config"]
        return config

    @property
    def models(self) -> tuple[str, ...]:
        """The compared networks; ratios are to the first."""
        return tuple(self.question["timing"]["models"])

    @property
    def rounds(self) -> tuple[int, ...]:
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def output(self) -> str:
        dataset, timing = self.question["dataset"], self.question["timing"]
        return output_of(self.models, dataset["image_size"], dataset["num_classes"], timing["overrides"])

    @property
    def scale(self) -> str:
        """One step, "training steps of 4 images of 299x299 pixels, 1000 classes"."""
        dataset = self.question["dataset"]
        changed = "".join(f", {word}" for word in self.question["timing"]["overrides"])
        return (
            f"training steps of {self.question['recipe']['batch_size']} images of "
            f"{dataset['image_size']}x{dataset['image_size']} pixels, "
            f"{dataset['num_classes']} classes{changed}"
        )

    def settings(self) -> list[tuple[bool, str]]:
        """Timed combinations of memory order (whether channels-last) and precision."""
        return sorted({setting_of(record) for record in self.records}, key=lambda one: (one[1], one[0]))


def setting_of(record: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a timing was in channels-last memory order, and its precision."""
    recipe = record["config"]["recipe"]
    return recipe["channels_last"], recipe["precision"]


def read_timings(results_dir: Path) -> list[Timings]:
    """The timings among the records, one entry per question.

    Of several machines, the last one counts; one with too few rounds for a verdict does not replace one with
    enough.
    """
    found: dict[str, list[StudyRun]] = {}
    for path in sorted((results_dir / "runs").glob("*/record.json")):
        directory = RunDirectory(results_dir, path.parent.name)
        try:
            if b'"timing": {' not in path.read_bytes() or (record := directory.read()) is None:
                continue
        except (OSError, UnreadableRecord):
            continue
        if record["status"] == COMPLETED and (timing := record["config"].get("timing")):
            dataset, batch_size = record["config"]["dataset"], record["config"]["recipe"]["batch_size"]
            question = [timing, dataset["image_size"], dataset["num_classes"], batch_size]
            run = StudyRun(
                record["choices"]["model"],
                record["seed"],
                record["run_id"],
                directory.path,
                COMPLETED,
                record,
                None,
            )
            found.setdefault(json.dumps(question, sort_keys=True), []).append(run)
    by_output: dict[str, Timings] = {}
    for timings in sorted(filter(None, map(_of_whole_rounds, found.values())), key=_rank):
        by_output[timings.output] = timings
    return [by_output[output] for output in sorted(by_output)]


def _of_whole_rounds(runs: Sequence[StudyRun]) -> Timings | None:
    all_of = Timings(tuple(runs))
    wanted = len(all_of.models) * len(all_of.settings())
    whole = [number for number in all_of.rounds if sum(run.seed == number for run in runs) == wanted]
    kept = tuple(sorted((run for run in runs if run.seed in whole), key=lambda run: run.seed))
    return Timings(kept) if kept else None


def _rank(timings: Timings) -> tuple[int, str]:
    return min(len(timings.rounds), MIN_PAIRS), max(str(record["finished"]) for record in timings.records)


def benchmark_study(results_dir: Path, arms: Collection[str]) -> tuple[Study, list[StudyRun]]:
    """Table 3 as a study of size and speed, whose seeds are the rounds.

    Args:
        arms: Further networks that claims are about.
    """
    timings = next((one for one in read_timings(results_dir) if one.output == TABLE_3), None)
    found = timings.runs if timings else ()
    runs = [run for run in found if run.record and setting_of(run.record) == (CHANNELS_LAST, FLOAT32)]
    names = dict.fromkeys((*MODELS, *arms))
    return Study(
        name=BENCHMARK,
        title=TITLE,
        output=TABLE_3,
        source=SOURCE,
        arms=tuple(Arm(name, MODELS.get(name, name), {"model": name}) for name in names),
        baseline=next(iter(MODELS)),
        seeds=timings.rounds if timings else (),
        metrics=(),
        target=0.0,
        notes=() if timings else ("Nothing was timed here yet: python -m ablations benchmark.",),
        scale=f"full size, {timings.scale}, channels-last memory, float32" if timings else "",
    ), runs
