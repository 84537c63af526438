"""What happened: one directory per run, `results/runs/<run_id>/`, the only source of truth.

::

    record.json       what was run, on what, and how it ended; its keys are listed at `SCHEMA`
    metrics.csv       one row per epoch trained; `ablations.runs.histories` reads it
    diagnostics.csv   what was measured of the layers, where the run's diagnostics ask for it; its columns are
                      `lightning_modules.diagnostics.COLUMNS`
    checkpoint.ckpt   the last completed epoch; what an interrupted run goes on from
    lock              held by the process that trains the run, and released when it dies

Every file is written beside its place and renamed into it. Reading never changes anything.
"""

import csv
import json
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sized
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ablations.files import write_atomically
from ablations.runs.histories import History, metric_names, read_columns, read_validation

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1

SCHEMA = {
    "schema_version": "integer; raised when a key changes its meaning",
    "run_id": "twelve hexadecimal digits: the identity's hash and the directory's name",
    "status": "running, completed, diverged or failed",
    "process": "{host, pid} that trains or trained the run",
    "started": "date and time of the start, ISO 8601; of the first one where it was interrupted",
    "finished": "date and time of the end, ISO 8601; null while running",
    "choices": "option per config group",
    "seed": "integer",
    "config": "the resolved configuration",
    "data_fingerprint": "hash of the checksums of the data's files",
    "metrics": "{val,test}_loss and {val,test}_METRIC of the final epoch, or of the weights that were "
    "evaluated, the main metric first; "
    "null unless completed",
    "parameters": "trainable parameters",
    "multiply_adds": "multiply-adds of one image",
    "depth": "convolutions and linear layers on the longest way from image to logits",
    "steps": "optimizer steps taken",
    "steps_per_second": "training steps over the time spent in them; null before the first epoch",
    "wall_time_s": "seconds from start to end, interruptions left out",
    "device": "{type, name, threads} of a process, and the number of processes; a processor's name has its "
    "family, model and stepping, because several generations may go by one name",
    "undecodable_images": "training images left out because they could not be decoded: all that were met, of "
    "a stream those of the last epoch; those of all processes, each once",
    "versions": "version per package",
    "git": "{commit, dirty} of the code; null outside a checkout",
    "wandb_run_id": "null where nothing was logged",
    "diverged_at_step": "optimizer steps before the first non-finite loss; null unless diverged",
    "error": "traceback; null unless failed",
}
"""The keys of record.json; each stands in every record."""

METRIC_LABELS = {"top1": "top-1", "top5": "top-5", "map100": "MAP@100"}
"""Metrics as a person reads them; one without a label is shown by its name."""

COMPLETED = "completed"
DIVERGED = "diverged"
FAILED = "failed"
RUNNING = "running"
MISSING = "missing"  # never recorded, or interrupted, or its record cannot be read

STATUSES = (COMPLETED, DIVERGED, FAILED, RUNNING, MISSING)
"""How a planned run can stand."""

DONE = (COMPLETED, DIVERGED)
"""Outcomes: such a run is never trained again."""


class UnreadableRecord(ValueError):
    """record.json is there and cannot be understood."""


class RunDirectory:
    """The directory of one run.

    Args:
        results_dir: Folder of all results.
        run_id: The run's identity.
        diagnostics: Settings by name of what is asked for: a run whose record has not measured them counts
            as missing. They are no part of the identity, because they change no outcome.
    """

    def __init__(self, results_dir: Path, run_id: str, diagnostics: Mapping[str, Any] | None = None) -> None:
        self.run_id = run_id
        self.path = results_dir.joinpath("runs", run_id)
        self._diagnostics = dict(diagnostics or {})

    # Paths are made when they are asked for: of the thousands of runs of a large study most need two.

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    @property
    def history_path(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def diagnostics_path(self) -> Path:
        return self.path / "diagnostics.csv"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint.ckpt"

    @property
    def _lock_path(self) -> Path:
        return self.path / "lock"

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the run; yields False where another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_path)
        try:
            # A second, not zero: `status` holds the lock for an instant to see whether it is free.
            lock.acquire(timeout=1)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a living process holds the run."""
        if not os.path.exists(self._lock_path):  # Path.exists raises where a name is too long
            return False
        try:
            with FileLock(self._lock_path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # somebody else's results, or a read-only disk: nobody trains what we may only read
            return False

    def read(self) -> dict[str, Any] | None:
        """The record, or None where there is none.

        Raises:
            UnreadableRecord: There is one, and it is damaged or of another schema.
        """
        path = self.record_path
        try:
            text = path.read_bytes().decode()
        except (FileNotFoundError, NotADirectoryError):  # the latter: results_dir is a file
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableRecord(f"{path}: {error}") from error
        try:
            record = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise UnreadableRecord(f"{path}: not JSON ({error})") from error
        _check(record, self.run_id, path)
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record; the caller holds the lock."""
        assert record.keys() == SCHEMA.keys(), record.keys() ^ SCHEMA.keys()
        write_atomically(self.record_path, json.dumps(record, indent=2, allow_nan=False) + "\n")

    def set_unreadable_aside(self) -> Path | None:
        """Rename an unreadable record so that the run can be trained; the caller holds the lock.

        Returns:
            Its new place, or None where the record was readable or absent.
        """
        try:
            self.read()
        except UnreadableRecord:
            number = 1
            while (aside := self.path / f"record.unreadable-{number}.json").exists():
                number += 1
            self.record_path.rename(aside)
            return aside
        return None

    def status(self) -> str:
        """How the run stands, one of `STATUSES`; an unreadable record counts as missing."""
        try:
            record = self.read()
        except UnreadableRecord:
            return MISSING
        completed = record is not None and record["status"] == COMPLETED
        return self.status_of(record, self.validation_history(()) if completed else None)

    def status_of(self, record: Mapping[str, Any] | None, rows: Sized | None) -> str:
        """The same for a record and rows of metrics.csv that were read already."""
        status = MISSING if record is None else record["status"]
        if record is not None and status == COMPLETED:
            # metrics.csv may be lost or damaged; the checkpoint has its rows
            whole = rows is not None and len(rows) == planned_epochs(record["config"])
            status = COMPLETED if whole else MISSING
        if record is not None and status in DONE and not self._has_diagnostics(record):
            status = MISSING
        if status in DONE:
            return status
        # Also before a new record is there: whoever holds the lock is loading its libraries.
        if self.is_locked():
            return RUNNING
        return MISSING if status == RUNNING else status

    def measured(self) -> dict[str, Any]:
        """Settings by name of the diagnostics that the run measures or has measured, whoever asked."""
        try:
            return measured_diagnostics(self.read())
        except UnreadableRecord:
            return {}

    def _has_diagnostics(self, record: Mapping[str, Any]) -> bool:
        """Whether a run with an outcome has measured what is asked for, with the same settings."""
        if not self._diagnostics:
            return True
        measured = measured_diagnostics(record)
        as_asked = all(measured.get(name) == settings for name, settings in self._diagnostics.items())
        return as_asked and self.diagnostic_rows() is not None

    def why_missing(self, record: Mapping[str, Any], rows: Sized | None) -> str:
        """One line on a completed run that counts as missing, from its record and rows of metrics.csv."""
        if rows is not None and len(rows) == planned_epochs(record["config"]):
            asked = ", ".join(self._diagnostics)
            return f"not measured as asked for ({asked}), counted as missing: {self.path}"
        return f"lost or damaged, counted as missing: {self.history_path}"

    def epochs_done(self) -> int:
        """Completed epochs, without reading more than the number of lines."""
        try:
            with self.history_path.open("rb") as file:
                return max(0, sum(1 for _ in file) - 1)
        except OSError:
            return 0

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes whenever record.json or metrics.csv is written, without reading either."""
        return _stamp(self.record_path), _stamp(self.history_path)

    def history_written(self) -> float | None:
        """When metrics.csv was written, in seconds since 1970; None where there is none."""
        stamp = _stamp(self.history_path)
        return None if stamp is None else stamp[0] / 1e9

    def rows(self) -> list[dict[str, float]] | None:
        """The rows of metrics.csv by column, or None where there is none or it is not whole."""
        columns = read_columns(self.history_path)
        if columns is None:
            return None
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def history(self) -> "pd.DataFrame | None":
        """metrics.csv with its own columns, or None where there is none or it is not whole."""
        import pandas as pd

        columns = read_columns(self.history_path)
        return None if columns is None else pd.DataFrame(columns)

    def validation_history(self, metrics: Collection[str] | None = None) -> History | None:
        """Of `history` what studies compare, read faster: epoch, step, these validation metrics or all."""
        return read_validation(self.history_path, metrics)

    def diagnostic_rows(self) -> list[dict[str, Any]] | None:
        """The rows of diagnostics.csv by column, or None where there is none or it is damaged."""
        kinds = dict.fromkeys(("depth", "channels", "epoch", "step"), int) | {"value": float}
        try:
            with self.diagnostics_path.open(newline="", encoding="utf-8") as file:
                header, *lines = csv.reader(file)
            if not {"diagnostic", "layer", *kinds} <= set(header):
                return None
            return [
                {name: kinds.get(name, str)(text) for name, text in zip(header, line, strict=True)}
                for line in lines
            ]
        except (OSError, ValueError, csv.Error):
            return None

    def checkpoint(self) -> Path | None:
        """The checkpoint to go on from, or None where there is none or it is damaged."""
        try:
            with zipfile.ZipFile(self.checkpoint_path) as archive:
                return self.checkpoint_path if archive.testzip() is None else None
        except (OSError, zipfile.BadZipFile):
            return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Time in nanoseconds, size and inode of a file: each rename into its place changes one of them."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def planned_epochs(config: Mapping[str, Any]) -> int:
    """Rows that metrics.csv has at the end: none where weights are evaluated without training."""
    return 0 if config.get("train") is False else config["recipe"]["epochs"]


def measured_diagnostics(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings by name of the diagnostics that a run measures or has measured."""
    return dict((record or {}).get("config", {}).get("diagnostics") or {})


def metric_label(name: str) -> str:
    """A metric as a person reads it, e.g. "top-1"."""
    return METRIC_LABELS.get(name, name)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_NUMBER = (int, float)  # not int | float: checked many times a record, that takes five times as long
_LARGEST = 1e300


def _is_number(value: object) -> bool:
    """Whether it is a finite number, also as a float: 1e999 is none, nor is a whole number of 400 digits."""
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _check(record: object, run_id: str, path: Path) -> None:
    if not isinstance(record, dict):
        raise UnreadableRecord(f"{path}: not a JSON object")
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UnreadableRecord(f"{path}: schema_version {version}, this code reads {SCHEMA_VERSION}")
    if missing := SCHEMA.keys() - record.keys():
        raise UnreadableRecord(f"{path}: without {', '.join(sorted(missing))}")
    if record["status"] not in (RUNNING, COMPLETED, DIVERGED, FAILED):
        raise UnreadableRecord(f"{path}: status {record['status']!r}")
    if record["run_id"] != run_id:
        raise UnreadableRecord(f"{path}: is the record of run {record['run_id']}")
    recipe = record["config"].get("recipe") if isinstance(record["config"], dict) else None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("epochs"), int):
        raise UnreadableRecord(f"{path}: config without recipe.epochs")
    if record["status"] == FAILED and not (isinstance(record["error"], str) and record["error"].strip()):
        raise UnreadableRecord(f"{path}: failed without an error")
    if record["status"] == RUNNING and not _is_date(record["started"]):
        raise UnreadableRecord(f"{path}: started {record['started']!r}")
    if record["status"] in DONE and (unlike := next(_unlike_an_outcome(record), None)):
        key, allowed = unlike
        found = repr(record[key.partition(".")[0]])
        raise UnreadableRecord(f"{path}: {record['status']} with {key} {found:.60}, must be {allowed}")


def _unlike_an_outcome(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What tables, figures and verdicts read of a run with an outcome and could not.

    Returns:
        Key and what is allowed, of each.
    """
    metrics = record["metrics"] if isinstance(record["metrics"], dict) else {}
    if record["status"] == COMPLETED:
        names = metric_names(metrics)
        final = [metrics.get(f"{part}_{name}") for name in names for part in ("val", "test")]
        if not names or not all(map(_is_number, final)):
            yield "metrics", "a number for validation and test each"
        if planned_epochs(record["config"]) and not _is_number(record["steps_per_second"]):
            yield "steps_per_second", "a number"
    elif not _is_count(record["diverged_at_step"]):
        yield "diverged_at_step", "a whole number"
    for key in ("parameters", "multiply_adds", "depth"):
        if not _is_count(record[key]):
            yield key, "a whole number"
    if not _is_number(record["wall_time_s"]):
        yield "wall_time_s", "a number"
    if not isinstance(record["finished"], str):
        yield "finished", "a date and time"
    dataset, device, git = record["config"].get("dataset"), record["device"], record["git"]
    classes = dataset.get("num_classes") if isinstance(dataset, dict) else None
    if not _is_count(classes) or classes == 0:
        yield "config.dataset.num_classes", "a whole number of at least 1"
    if (
        not isinstance(device, dict)
        or not {"type", "name"} <= device.keys()
        or not (_is_count(device.get("threads")) and _is_count(device.get("processes", 1)))
    ):
        yield "device", "type, name and threads"
    if not isinstance(record["versions"], dict):
        yield "versions", "a version per package"
    if not isinstance(record["choices"], dict):
        yield "choices", "an option per config group"
    if git is not None and not (isinstance(git, dict) and {"commit", "dirty"} <= git.keys()):
        yield "git", "commit and dirty, or null"


def _is_date(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
