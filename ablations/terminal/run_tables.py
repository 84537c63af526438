"""The status of runs in words and columns, for a sweep's live table and `python -m ablations list`."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ablations.metrics import declared_in, metric_of
from ablations.runs.histories import metric_names
from ablations.runs.records import MISSING, STATUSES, RunDirectory
from ablations.runs.schema import COMPLETED, DIVERGED, FAILED, RUNNING, planned_epochs
from ablations.studies.results import StudyRun
from ablations.text import NO_VALUE, duration, memory_size, three_digits

STYLES = {COMPLETED: "green", DIVERGED: "yellow", FAILED: "red", RUNNING: "cyan", MISSING: "dim"}
"""Colour of a status."""

COLUMNS = ("arm", "seed", "status", "epoch", "validation", "steps/s", "time left", "run", "device")
OF_RUNNING = ("time left", "device")
NUMBERS = ("seed", "epoch", "steps/s")


@dataclass(frozen=True)
class RunState:
    """What is shown of a run.

    Attributes:
        validation: Main metric and its last validation value, "top-1 71.3%", of a completed or running run.
        steps_per_second: None before the first epoch.
        seconds_left: Of a running run, from its first epoch on.
        device: Of a running run, with its peak memory, "cuda 1, 3.2 GiB".
    """

    arm: str
    seed: int
    run_id: str
    status: str
    epochs: int
    planned: int | None
    validation: str | None
    steps_per_second: float | None
    seconds_left: float | None
    device: str | None = None

    @classmethod
    def running(
        cls,
        arm: str,
        seed: int,
        run_id: str,
        planned: int,
        rows: Sequence[Mapping[str, float]],
        written: float | None,
        config: Mapping[str, Any],
        device: Mapping[str, Any] | None = None,
    ) -> Self:
        """The state of a running run, whose metrics.csv was `written` so many seconds after 1970."""
        seconds = sum(row["seconds"] for row in rows)
        names = metric_names(rows[-1]) if rows else []
        left = None
        if rows and written is not None:  # only training steps, by the mean epoch
            per_epoch = seconds / len(rows)
            of_this_epoch = max(0.0, per_epoch - max(0.0, time.time() - written))
            epochs_left = planned - len(rows)
            left = (epochs_left - 1) * per_epoch + of_this_epoch if epochs_left > 0 else 0.0
        return cls(
            arm=arm,
            seed=seed,
            run_id=run_id,
            status=RUNNING,
            epochs=min(len(rows), planned),
            planned=planned,
            validation=measured(config, names[0], rows[-1][f"val_{names[0]}"]) if names else None,
            steps_per_second=rows[-1]["step"] / seconds if seconds else None,
            seconds_left=left,
            device=None if device is None else _where(device),
        )

    @classmethod
    def of(cls, run: StudyRun) -> Self:
        """The state of a run of a study, from its record and, if it is running, its epochs."""
        record = run.record
        if record is None:
            return cls(run.arm, run.seed, run.run_id, run.status, 0, None, None, None, None)
        planned, epochs = planned_epochs(record["config"]), 0 if run.history is None else len(run.history)
        if run.status == RUNNING:
            directory = RunDirectory(run.directory.parent.parent, run.run_id)
            rows, written = directory.rows(record) or [], directory.history_written()
            return cls.running(
                run.arm, run.seed, run.run_id, planned, rows, written, record["config"], record["device"]
            )
        names = metric_names(record["metrics"] or {}) if run.status == COMPLETED else []
        final = [measured(record["config"], name, record["metrics"][f"val_{name}"]) for name in names[:1]]
        validation = final[0] if final else None
        speed = record["steps_per_second"]
        return cls(run.arm, run.seed, run.run_id, run.status, epochs, planned, validation, speed, None)

    def cells(self) -> dict[str, Text]:
        speed, left = self.steps_per_second, self.seconds_left
        texts = {
            "arm": self.arm,
            "seed": str(self.seed),
            "status": self.status,
            "epoch": NO_VALUE if self.planned is None else f"{self.epochs}/{self.planned}",
            "validation": self.validation or NO_VALUE,
            "steps/s": NO_VALUE if speed is None else three_digits(speed),
            "time left": duration(left),
            "run": self.run_id,
            "device": self.device or NO_VALUE,
        }
        styles = {"status": STYLES[self.status]}
        return {name: Text(text, styles.get(name, "")) for name, text in texts.items()}

    def line(self) -> str:
        """Its progress, e.g. "epoch 2/6, validation top-1 71.3%, 25.9 steps/s"."""
        words = [f"epoch {self.epochs}/{self.planned}"]
        if self.validation is not None:
            words.append(f"validation {self.validation}")
        if self.steps_per_second is not None:
            words.append(f"{three_digits(self.steps_per_second)} steps/s")
        return ", ".join(words)


def _where(device: Mapping[str, Any]) -> str:
    words = " ".join([device["type"], "+".join(map(str, device.get("indices", ())))]).strip()
    peak = device.get("peak_memory")
    return words if peak is None else f"{words}, {memory_size(peak)}"


def run_table(states: Iterable[RunState], columns: Sequence[str], title: Text | None = None) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in columns:
        justify: Literal["right", "left"] = "right" if name in NUMBERS else "left"
        if name == "arm":  # the only column that wraps
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify=justify, no_wrap=True)
    for state in states:
        cells = state.cells()
        table.add_row(*(cells[name] for name in columns))
    return table


def counts(statuses: Mapping[str, int]) -> Text:
    """Runs by status, "11 of 36 completed, 1 failed, 24 missing" for example."""
    parts = [Text(f"{statuses.get(COMPLETED, 0)} of {sum(statuses.values())} completed", STYLES[COMPLETED])]
    others = [status for status in STATUSES if status != COMPLETED and statuses.get(status)]
    parts += [Text(f"{statuses[status]} {status}", STYLES[status]) for status in others]
    return Text(", ").join(parts)


def measured(config: Mapping[str, Any], name: str, value: float) -> str:
    """A metric of a run with this configuration: "top-1 73.4%", "loss 0.412 nats"."""
    metric = metric_of(name, declared_in(config))
    return f"{metric.label} " + (f"{metric.number(value)}%" if metric.is_share else metric.text(value))
