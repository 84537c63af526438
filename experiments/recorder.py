"""Records a run after every epoch: metrics, diagnostics, and the checkpoint to resume from."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from ablations.files import rows_as_csv, write_atomically
from ablations.runs.histories import HISTORY_COLUMNS
from ablations.runs.records import RunDirectory
from experiments import environment
from lightning_modules.classifier import TrainingDiverged
from lightning_modules.diagnostics import COLUMNS, Diagnostic


def number(value: Tensor) -> float:
    """A float32 as the shortest decimal that reads back to it: 0.765, not 0.7649999856948853."""
    return float(str(np.float32(value.item())))


def require_finite(measured: Mapping[str, float]) -> None:
    """Raise ValueError if a metric is not finite: it measured nothing, or is wrong."""
    for name, value in measured.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}={value}: a metric must be a finite number; check data and metric")


class Recorder(Checkpoint):
    """Writes metrics.csv, diagnostics.csv and checkpoint.ckpt, in a run's first process.

    The rows are part of the checkpoint, so a resumed run has exactly the rows of its epochs. The caller holds
    the directory's lock.
    """

    def __init__(self, directory: RunDirectory, diagnostics: Sequence[Diagnostic] = ()) -> None:
        self._directory = directory
        self._diagnostics = diagnostics
        self.rows: list[dict[str, Any]] = []
        self.undecodable_images = 0
        self._segment_start = time.perf_counter()
        self._earlier_wall_time = 0.0

    @property
    def steps(self) -> int:
        """Optimizer steps taken in completed epochs."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def steps_per_second(self) -> float | None:
        """Over all completed epochs, without validation."""
        seconds = sum(row["seconds"] for row in self.rows)
        return self.steps / seconds if seconds else None

    @property
    def wall_time(self) -> float:
        """Seconds of this process and of those whose work the run resumed."""
        return self._earlier_wall_time + time.perf_counter() - self._segment_start

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._epoch_start = self._steps_end = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self._steps_end = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        row: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        for part in ("train", "val"):  # each loss, then the task's metrics
            row[f"{part}_loss"] = number(metrics[f"{part}_loss"])
            row |= {name: number(value) for name, value in metrics.items() if name.startswith(f"{part}_")}
        row |= {"learning_rate": number(metrics["learning_rate"])}
        row |= {"seconds": self._steps_end - self._epoch_start}
        require_finite(row)
        assert not self.rows or list(row) == list(self.rows[0]), "every epoch measures the same"
        self.rows.append(row)
        # Only image files can be undecodable.
        data = getattr(trainer, "datamodule", None)
        if count := getattr(data, "count_undecodable", None):
            self.undecodable_images = count()
        self._save_checkpoint(trainer)
        if trainer.is_global_zero:
            self.write_history()
            self.write_diagnostics()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        # No epoch will end that would write these rows.
        if isinstance(exception, TrainingDiverged) and trainer.is_global_zero:
            for diagnostic in self._diagnostics:  # measured until the loss was checked
                diagnostic.rows = [row for row in diagnostic.rows if row["step"] <= exception.step]
            self.write_diagnostics()

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.write_history()  # if an earlier process ended between checkpoint and rows
            self.write_diagnostics()

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "wall_time": self.wall_time,
            "undecodable_images": self.undecodable_images,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self._earlier_wall_time = state["wall_time"]
        self.undecodable_images = state["undecodable_images"]

    def write_history(self) -> None:
        """Write metrics.csv; floats read back exactly."""
        columns = list(self.rows[0]) if self.rows else HISTORY_COLUMNS
        write_atomically(self._directory.history_path, rows_as_csv(columns, self.rows))

    def write_diagnostics(self) -> None:
        """Write diagnostics.csv, if there are diagnostics; floats read back exactly."""
        if self._diagnostics:
            rows = [row for diagnostic in self._diagnostics for row in diagnostic.rows]
            write_atomically(self._directory.diagnostics_path, rows_as_csv(COLUMNS, rows))

    def _save_checkpoint(self, trainer: Trainer) -> None:
        path = self._directory.checkpoint_path
        unfinished = self._directory.partial_checkpoint_path
        try:
            trainer.save_checkpoint(unfinished)  # called by all processes; the first writes
            if not trainer.is_global_zero:
                return
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError as error:  # a full disk: leave room for the record
            unfinished.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error


class MemoryRecorder(Callback):
    """Updates the peak memory in a run's record, in its first process; the caller holds the lock."""

    GROWTH = 1.01
    """Least growth to write; after the first epoch there is almost none."""

    def __init__(self, directory: RunDirectory, record: dict[str, Any]) -> None:
        self._directory, self._record = directory, record

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        peak, device = environment.peak_memory(module.device), self._record["device"]
        if trainer.is_global_zero and peak is not None and peak > self.GROWTH * device.get("peak_memory", 0):
            device["peak_memory"] = peak
            self._directory.write(self._record)
