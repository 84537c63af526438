"""Shows how runs go on: a live table in a terminal, elsewhere lines as they finish.

It reads what the runs write, so it is the same for every launcher, and for `python run.py` without one.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablations.runs.records import DONE, FAILED, RUNNING
from ablations.terminal.run_tables import counts, run_table
from ablations.text import amount, duration
from experiments.command_line import outcome
from experiments.configuration import RunConfiguration
from experiments.planned_run import PlannedRun
from experiments.screen import Drawing, can_draw
from experiments.watch import RunWatch

POLL_S = 1.0
"""Seconds between two looks at the runs."""

LOOKING = 0.1
"""Share of the time that looking may take, however many runs there are."""

LIVE_COLUMNS = ("arm", "seed", "epoch", "validation", "steps/s", "time left")

MAX_ROWS = 16
"""Running runs that the table shows, where the terminal is high enough."""

OTHER_LINES = 8
"""Lines of a terminal that are left to what is not a row."""


class SweepProgress:
    """A context in which the progress of planned runs is shown.

    Args:
        runs: All runs of the sweep, finished ones included.
    """

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self._drawing = Drawing() if can_draw() else None
        self.console = self._drawing.console if self._drawing else Console(highlight=False)
        self._total = len(runs)
        watches = [RunWatch(run) for run in runs]
        self._open = [watch for watch in watches if watch.status not in DONE]
        self._done = Counter(watch.status for watch in watches if watch.status in DONE)
        self._failures = {watch.run.run_id: _failed_at(watch) for watch in self._open}
        self._epochs_of_finished = 0  # of the runs that finish from here on
        self._epochs_at_start = self._epochs_trained()
        self._epochs = sum(watch.run.epochs for watch in self._open)
        self._ended = threading.Event()
        self._start = time.monotonic()
        self._live: Live | None = None
        self._contexts = ExitStack()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._open:
            self._tell_start()
            if self._drawing:
                self._draw(self._drawing)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._contexts:  # the terminal is as it was, also where this is interrupted
            self._ended.set()
            self._thread.join()

    def tell(self, line: str) -> None:
        """Print a line as it is, above the table where there is one."""
        with self._drawing.alone if self._drawing else nullcontext():
            self.console.print(line, markup=False, soft_wrap=True)

    def view(self) -> RenderableType:
        """The table: a row per running run, as many as there is room for, and how all stand."""
        running = [watch for watch in self._open if watch.status == RUNNING]
        rows = max(1, min(MAX_ROWS, self.console.height - OTHER_LINES))
        table = run_table((watch.state() for watch in running[:rows]), LIVE_COLUMNS)
        parts: list[RenderableType] = [table] if running else []
        if len(running) > rows:
            parts.append(Text(f"and {len(running) - rows} more running", "dim"))
        return Group(*parts, self._bar(), *self._standing())

    def _tell_start(self) -> None:
        self.tell(f"{len(self._open)} of {amount(self._total, 'run')} to be trained")

    def _standing(self) -> Sequence[Text]:
        """How all runs stand."""
        return [counts(self._done + Counter(watch.status for watch in self._open))]

    def _draw(self, drawing: Drawing) -> None:
        self._contexts.enter_context(drawing)
        self._live = Live(
            get_renderable=self.view,
            console=drawing.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # `Drawing` sees to these, also in other processes
            redirect_stderr=False,
        )
        self._contexts.enter_context(drawing.live(self._live))
        drawing.console.show_cursor(True)  # or it would be lost where this process is killed
        self._live.refresh()

    def _watch(self) -> None:
        pause = POLL_S
        while not self._ended.wait(pause):
            began = time.perf_counter()
            self._look()
            pause = max(POLL_S, (time.perf_counter() - began) * (1 / LOOKING - 1))
        self._look()

    def _look(self) -> None:
        for watch in tuple(self._open):
            watch.look()
            if watch.status in DONE:
                self._open.remove(watch)
                self._done[watch.status] += 1
                self._epochs_of_finished += watch.run.epochs
                assert watch.record is not None
                # A table says how much time is left.
                self._tell_outcome(watch, watch.record, "" if self._live else self._about_left())
            elif (failed_at := _failed_at(watch)) != self._failures[watch.run.run_id]:
                self._failures[watch.run.run_id] = failed_at
                if watch.record is not None and failed_at is not None:
                    self._tell_outcome(watch, watch.record)
        if self._live and self._drawing:
            with self._drawing.alone:
                self._drawing.measure()
                self._live.refresh()

    def _tell_outcome(self, watch: RunWatch, record: dict[str, Any], left: str = "") -> None:
        finished = f"[{self._done.total()}/{self._total}]"
        self.tell(f"{finished} {watch.run.arm} seed {watch.run.seed} {outcome(record)}{left}")

    def _bar(self) -> Table:
        epochs = self._epochs_trained()
        words = f"{epochs}/{amount(self._epochs, 'epoch')}, {duration(time.monotonic() - self._start)} passed"
        line = Table.grid(padding=(0, 1))
        line.add_column()
        line.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(self._epochs, epochs, width=max(10, min(30, self.console.width - 60)))
        line.add_row(bar, words + self._about_left())
        return line

    def _epochs_trained(self) -> int:
        """Of the runs that were open at the start."""
        return self._epochs_of_finished + sum(watch.epochs for watch in self._open)

    def _about_left(self) -> str:
        left = self._time_left()
        return f", about {left} left" if left else ""

    def _time_left(self) -> str:
        """From the epochs trained since the start; empty before the first."""
        epochs = self._epochs_trained()
        # One that could not go on where it was has started over.
        self._epochs_at_start = min(self._epochs_at_start, epochs)
        trained = epochs - self._epochs_at_start
        if trained <= 0 or epochs == self._epochs:
            return ""
        return duration((time.monotonic() - self._start) / trained * (self._epochs - epochs))


class RunProgress(SweepProgress):
    """The same for the one run of `python run.py`, which says itself how it ended.

    Where there is no terminal it is a line per epoch.

    Args:
        configuration: The run's.
    """

    def __init__(self, configuration: RunConfiguration) -> None:
        super().__init__([PlannedRun(configuration.arm_name, (), configuration, group="")])
        self._epochs_told = self._epochs_at_start

    def _tell_start(self) -> None:
        pass

    def _standing(self) -> Sequence[Text]:
        return []

    def _look(self) -> None:
        super()._look()
        if self._live is None and self._open and self._epochs_trained() != self._epochs_told:
            self._epochs_told = self._epochs_trained()
            self.tell(f"{self._open[0].state().line()}{self._about_left()}")

    def _tell_outcome(self, watch: RunWatch, record: dict[str, Any], left: str = "") -> None:
        pass


def _failed_at(watch: RunWatch) -> str | None:
    """When a run failed; None where it has not."""
    record = watch.record
    return record["finished"] if record is not None and record["status"] == FAILED else None
