"""Progress of runs: a live table in a terminal, otherwise a line per finished run.

It only reads the runs' files, so it works with every launcher.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablations.runs.records import DONE, MISSING
from ablations.runs.schema import FAILED, RUNNING
from ablations.terminal.run_tables import RunState, counts, run_table
from ablations.text import amount, duration
from experiments.command_line import outcome
from experiments.configuration import RunConfiguration
from experiments.planned_run import PlannedRun
from experiments.screen import Screen, can_draw

POLL_S = 1.0
"""Seconds between two readings of the runs."""

LIVE_COLUMNS = ("arm", "seed", "epoch", "validation", "steps/s", "time left", "device")

MAX_ROWS = 16
"""Rows of the table, if the terminal is high enough."""

HOLDERS = 3
"""Holders of devices that are named."""

OTHER_LINES = 8
"""Lines of the terminal that are not rows."""


class Watch:
    """A run without an outcome. Its files are read again when they change."""

    def __init__(self, run: PlannedRun) -> None:
        self.run = run
        self.status = MISSING
        self.record: dict[str, Any] | None = None
        self._rows: Sequence[Mapping[str, float]] | None = None
        self._written: float | None = None
        self._stamp: object = None
        self.update()

    def update(self) -> None:
        """Read the run's files again."""
        directory = self.run.directory
        if (stamp := directory.stamp()) != self._stamp:
            self._stamp = stamp
            self.record = directory.read_or_none()
            self._rows, self._written = directory.rows(self.record), directory.history_written()
        self.status = directory.status_of(self.record, self._rows)

    @property
    def epochs(self) -> int:
        """Completed epochs; all of them if it has an outcome."""
        return self.run.epochs if self.status in DONE else min(len(self._of_this_training()), self.run.epochs)

    @property
    def failed_at(self) -> str | None:
        return self.record["finished"] if self.record and self.record["status"] == FAILED else None

    def state(self) -> RunState:
        """Its row in the table."""
        run, rows = self.run, self._of_this_training()
        config = run.configuration.resolved
        device = self.record["device"] if self.record and self.record["status"] == RUNNING else None
        return RunState.running(
            run.arm, run.seed, run.run_id, run.epochs, rows, self._written, config, device
        )

    def _of_this_training(self) -> Sequence[Mapping[str, float]]:
        """Rows of metrics; none if they are from before the run started over."""
        if self.record is None or self._rows is None or self.record["status"] in DONE:
            return ()
        if self.record["status"] == RUNNING and self._written is not None:
            started = datetime.fromisoformat(self.record["started"]).timestamp()
            return self._rows if self._written >= started else ()
        return self._rows


class SweepProgress:
    """A context that shows the progress of planned runs, including finished ones.

    `waiting` returns the ids of runs that wait for a device, `holders` who has the devices.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        clock: Callable[[], float] = time.monotonic,
        waiting: Callable[[], Collection[str]] = frozenset,
        holders: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._ask_waiting, self._waiting = waiting, set[str]()
        self._ask_holders, self._held = holders, ""
        self._total = len(runs)
        watches = [Watch(run) for run in runs]
        self._open = [watch for watch in watches if watch.status not in DONE]
        self._done = Counter(watch.status for watch in watches if watch.status in DONE)
        self._failures = {watch.run.run_id: watch.failed_at for watch in self._open}
        self._epochs_of_finished = 0  # of runs that finish from now on
        self._epochs_at_start = self._epochs_trained()
        self._epochs = sum(watch.run.epochs for watch in self._open)
        self._clock, self._start = clock, clock()
        self._screen = Screen(self.view) if can_draw() and self._open else None
        self.console = self._screen.console if self._screen else Console(highlight=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._contexts = ExitStack()

    def __enter__(self) -> Self:
        if self._open:
            self._tell_start()
        if self._screen:
            self._contexts.enter_context(self._screen)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._contexts:  # restores the terminal, even if interrupted
            self._ended.set()
            self._thread.join()
            self.update()

    def tell(self, line: str) -> None:
        """Print a line, above the table if there is one."""
        self.console.print(line, markup=False, soft_wrap=True)

    def update(self) -> None:
        """Read the runs, print those that have ended, and show the others."""
        for watch in tuple(self._open):
            watch.update()
            if watch.status in DONE:
                self._open.remove(watch)
                self._done[watch.status] += 1
                self._epochs_of_finished += watch.run.epochs
                assert watch.record is not None
                # A table shows the time left.
                self._tell_outcome(watch, watch.record, "" if self._screen else self._about_left())
            elif watch.failed_at != self._failures[watch.run.run_id]:
                self._failures[watch.run.run_id] = watch.failed_at
                if watch.record is not None and watch.failed_at is not None:
                    self._tell_outcome(watch, watch.record)
        self._see_who_waits()
        if self._screen:
            self._screen.refresh()

    def view(self) -> RenderableType:
        """The table: a row per running run, as far as there is room, and the totals."""
        running = [watch for watch in self._open if watch.status == RUNNING]
        rows = max(1, min(MAX_ROWS, self.console.height - OTHER_LINES))
        parts: list[RenderableType] = []
        if running:
            parts.append(run_table((watch.state() for watch in running[:rows]), LIVE_COLUMNS))
        if len(running) > rows:
            parts.append(Text(f"and {len(running) - rows} more running", "dim"))
        epochs, passed = self._epochs_trained(), duration(self._clock() - self._start)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(self._epochs, epochs, width=max(10, min(30, self.console.width - 60))),
            f"{epochs}/{amount(self._epochs, 'epoch')}, {passed} passed{self._about_left()}",
        )
        return Group(*parts, line, *self._standing())

    def _see_who_waits(self) -> None:
        known, waiting = self._waiting, set(self._ask_waiting())
        self._waiting = {watch.run.run_id for watch in self._open} & waiting
        if self._waiting:
            held = self._ask_holders()
            self._held = (
                f" ({'; '.join(held[:HOLDERS])}{'; ...' if len(held) > HOLDERS else ''})" if held else ""
            )
        for watch in self._open:
            if not self._screen and watch.run.run_id in self._waiting - known:
                self.tell(f"{watch.run.arm} seed {watch.run.seed} is waiting for a device{self._held}")

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self.update()

    def _tell_start(self) -> None:
        self.tell(f"{len(self._open)} of {amount(self._total, 'run')} to be trained")

    def _tell_outcome(self, watch: Watch, record: Mapping[str, Any], left: str = "") -> None:
        finished = f"[{self._done.total()}/{self._total}]"
        self.tell(f"{finished} {watch.run.arm} seed {watch.run.seed} {outcome(record)}{left}")

    def _standing(self) -> Sequence[Text]:
        standing = [counts(self._done + Counter(watch.status for watch in self._open))]
        told = [Text(f"{len(self._waiting)} waiting for a device{self._held}")] if self._waiting else []
        return standing + told

    def _epochs_trained(self) -> int:
        """Of the runs without an outcome at the start."""
        return self._epochs_of_finished + sum(watch.epochs for watch in self._open)

    def _about_left(self) -> str:
        """From the epochs trained since the start; empty before the first."""
        epochs = self._epochs_trained()
        # A run may have started over.
        self._epochs_at_start = min(self._epochs_at_start, epochs)
        trained = epochs - self._epochs_at_start
        if trained <= 0 or epochs == self._epochs:
            return ""
        per_epoch = (self._clock() - self._start) / trained
        return f", about {duration(per_epoch * (self._epochs - epochs))} left"


class RunProgress(SweepProgress):
    """The progress of the one run of `python run.py`; without a terminal, a line per epoch."""

    def __init__(self, configuration: RunConfiguration, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__([PlannedRun(configuration.arm_name, (), configuration, group="")], clock)
        self._epochs_told = self._epochs_at_start

    def update(self) -> None:
        super().update()
        if not self._screen and self._open and self._epochs_trained() != self._epochs_told:
            self._epochs_told = self._epochs_trained()
            self.tell(f"{self._open[0].state().line()}{self._about_left()}")

    def _tell_start(self) -> None:
        pass

    def _tell_outcome(self, watch: Watch, record: Mapping[str, Any], left: str = "") -> None:
        pass

    def _standing(self) -> Sequence[Text]:
        return []
