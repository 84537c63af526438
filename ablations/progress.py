"""Shows how a sweep goes on: a bar in a terminal, a line per finished run elsewhere.

It reads what the runs write, so it is the same for every launcher.
"""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ablations.command_line import outcome
from ablations.records import DONE
from ablations.studies import PlannedRun

POLL_S = 1.0
"""Seconds between two looks at the runs."""


class SweepProgress:
    """A context in which the progress of planned runs is shown.

    Args:
        runs: All runs of the sweep, finished ones included.
    """

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.console = Console(highlight=False)
        self._total = len(runs)
        self._open = [run for run in runs if run.directory.status() not in DONE]
        self._finished = len(runs) - len(self._open)
        self._epochs_of_finished = 0  # of the runs that finish from here on
        self._epochs_at_start = self._epochs_of(self._open)
        self._ended = threading.Event()
        self._start = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._epochs = sum(run.epochs for run in self._open)
        self._task = self._progress.add_task("", total=self._epochs, left="")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._open:
            self.tell(f"{len(self._open)} of {self._total} runs are to be trained")
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._progress.stop()

    def tell(self, line: str) -> None:
        """Print a line as it is, above the bar where there is one."""
        self.console.print(line, markup=False, soft_wrap=True)

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self._look()
        self._look()

    def _look(self) -> None:
        still_open = []
        for run in self._open:
            record = self._outcome_record(run)
            if record is None:
                still_open.append(run)
                continue
            self._epochs_of_finished += run.epochs
            self._finished += 1
            epochs = self._epochs_of_finished + self._epochs_of(still_open)
            self.tell(
                f"[{self._finished}/{self._total}] {run.arm} seed {run.seed} {outcome(record)}"
                f"{self._time_left(epochs)}"
            )
        self._open = still_open
        epochs = self._epochs_of_finished + self._epochs_of(still_open)
        self._progress.update(
            self._task,
            completed=epochs,
            description=f"{self._finished} of {self._total} runs",
            left=self._time_left(epochs).lstrip(", "),
        )

    @staticmethod
    def _outcome_record(run: PlannedRun) -> dict[str, Any] | None:
        return run.directory.read() if run.directory.status() in DONE else None

    @staticmethod
    def _epochs_of(runs: Sequence[PlannedRun]) -> int:
        return sum(min(run.directory.epochs_done(), run.epochs) for run in runs)

    def _time_left(self, epochs: int) -> str:
        """From the epochs trained since the start; empty before the first."""
        trained = epochs - self._epochs_at_start
        if trained <= 0 or epochs == self._epochs:
            return ""
        seconds = (time.monotonic() - self._start) / trained * (self._epochs - epochs)
        return f", about {int(seconds // 60)} min {int(seconds % 60):02d} s left"
