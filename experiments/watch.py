"""How a planned run comes on, from what its process writes: the same for every launcher.

A look reads files that changed since the last one, and no others, so that thousands of runs can be looked at
every second. A directory may be half there at any instant: what is not there yet is not shown.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ablations.runs.records import (
    COMPLETED,
    DONE,
    MISSING,
    RUNNING,
    RunDirectory,
    UnreadableRecord,
    planned_epochs,
)
from ablations.studies.results import StudyRun
from ablations.terminal.run_tables import (
    RunState,
    final_validation,
    last_validation,
    running_speed,
    seconds_left,
)
from experiments.planned_run import PlannedRun


class RunWatch:
    """One run that has no outcome yet.

    Args:
        run: The run.

    Attributes:
        run: The run.
        status: One of `STATUSES`, as of the last look.
        record: Of the last look; None where there is none that can be read.
    """

    def __init__(self, run: PlannedRun) -> None:
        self.run = run
        self.status = MISSING
        self.record: dict[str, Any] | None = None
        self._directory: RunDirectory = run.directory
        self._rows: Sequence[Mapping[str, float]] | None = None
        self._written: float | None = None
        self._stamp: object = None
        self.look()

    def look(self) -> None:
        """Look again."""
        stamp = self._directory.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self.record = self._directory.read()
            except UnreadableRecord:
                self.record = None
            self._rows = self._directory.rows(self.record)
            self._written = self._directory.history_written()
        self.status = self._directory.status_of(self.record, self._rows)

    @property
    def epochs(self) -> int:
        """Epochs that its next one adds to; all of them where it has an outcome."""
        return self.run.epochs if self.status in DONE else min(len(self._counted()), self.run.epochs)

    def state(self) -> RunState:
        """What is shown of it while it runs."""
        rows = self._counted()
        return RunState(
            arm=self.run.arm,
            seed=self.run.seed,
            run_id=self.run.run_id,
            status=self.status,
            epochs=self.epochs,
            planned=self.run.epochs,
            validation=last_validation(rows),
            steps_per_second=running_speed(rows),
            seconds_left=seconds_left(rows, self.run.epochs, self._written),
        )

    def _counted(self) -> Sequence[Mapping[str, float]]:
        """Rows of this training: none where the run started over and the rows are those of before."""
        if self.record is None or self._rows is None or self.record["status"] in DONE:
            return ()
        if self.record["status"] == RUNNING and self._written is not None:
            started = datetime.fromisoformat(self.record["started"]).timestamp()
            return self._rows if self._written >= started else ()
        return self._rows


def state_of(run: StudyRun) -> RunState:
    """What is shown of a run of a study, from its record; of one that is under way also from its epochs."""
    record = run.record
    if record is None:
        return RunState(run.arm, run.seed, run.run_id, run.status, 0, None, None, None, None)
    planned, epochs = planned_epochs(record["config"]), 0 if run.history is None else len(run.history)
    validation, speed, left = None, record["steps_per_second"], None
    if run.status == COMPLETED:
        validation = final_validation(record)
    if run.status == RUNNING:
        directory = RunDirectory(run.directory.parent.parent, run.run_id)
        rows = directory.rows(record) or []
        epochs, validation, speed = len(rows), last_validation(rows), running_speed(rows)
        left = seconds_left(rows, planned, directory.history_written())
    return RunState(run.arm, run.seed, run.run_id, run.status, epochs, planned, validation, speed, left)
