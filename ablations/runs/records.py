"""Records of runs: one directory per run, `results/runs/<run_id>/`, the only source of truth.

::

    record.json       what was run, on what, and how it ended: `ablations.runs.schema`
    metrics.csv       one row per trained epoch: `ablations.runs.histories`
    diagnostics.csv   measurements of the layers: `lightning_modules.diagnostics.COLUMNS`
    checkpoint.ckpt   the last completed epoch, from which an interrupted run resumes
    lock              held by the process that trains the run

Files are written atomically; reading changes nothing. A record contains the SHA-256 of itself and, at the
end, of both tables. Its configuration hashes to the name of its directory. If a file does not match, the run
counts as missing.
"""

import csv
import hashlib
import io
import json
import os
import re
import shlex
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ablations.errors import UserError
from ablations.files import write_atomically
from ablations.runs.histories import INTEGER_COLUMNS, History, read_history, validation_columns
from ablations.runs.identity import run_id_of
from ablations.runs.schema import (
    COMPLETED,
    DIVERGED,
    FAILED,
    RUNNING,
    SCHEMA,
    SCHEMA_VERSION,
    checked,
    planned_epochs,
)

if TYPE_CHECKING:
    import pandas as pd

MISSING = "missing"  # not recorded, interrupted, or unreadable

STATUSES = (COMPLETED, DIVERGED, FAILED, RUNNING, MISSING)
"""Of a planned run."""

DONE = (COMPLETED, DIVERGED)
"""Such a run is never trained again."""


SEAL = re.compile(rb'\{\n  "checksum": "([0-9a-f]{64})",\n')
"""The beginning of a record: the checksum of the file without this line."""


class UnreadableRecord(ValueError):
    """record.json is damaged, was changed, or belongs to another run."""


class OtherSchema(UnreadableRecord):
    """record.json has another schema version."""


class RunDirectory:
    """The directory of one run.

    Args:
        results_dir: Folder of all results.
        run_id: The run's identity.
        diagnostics: Settings of the requested diagnostics, by name. A run without them counts as missing;
            they change no outcome, so they are no part of the identity.
        metrics: Names of the requested metrics; likewise.
    """

    def __init__(
        self,
        results_dir: Path,
        run_id: str,
        diagnostics: Mapping[str, Any] | None = None,
        metrics: Collection[str] = (),
    ) -> None:
        self.run_id = run_id
        self.path = results_dir.joinpath("runs", run_id)
        self._diagnostics = dict(diagnostics or {})
        self._metrics = tuple(dict.fromkeys(metrics))  # a study and its run may name the same

    # Paths are properties for speed: most of the thousands of runs of a large study need two.

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
    def partial_checkpoint_path(self) -> Path:
        """Where a checkpoint is written first; a killed process may leave it."""
        return self.path / ".checkpoint.ckpt.partial"

    @property
    def _lock_path(self) -> Path:
        return self.path / "lock"

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Lock the run; yields False if another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_path)
        try:
            # Not 0: `is_locked` holds the lock for an instant.
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
        if not os.path.exists(self._lock_path):  # Path.exists raises if a name is too long
            return False
        try:
            with FileLock(self._lock_path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # read-only results: nobody trains them here
            return False

    def read(self, planned: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The record, or None if there is none.

        Args:
            planned: A configuration of this run; a record with an equal one shares it, to save memory and
                time.

        Raises:
            UnreadableRecord: It is damaged, was changed, or has another schema.
        """
        try:
            data = self.record_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):  # NotADirectoryError: results_dir is a file
            return None
        except OSError as error:
            raise UnreadableRecord(f"{self.record_path}: {error}") from error
        record = self.parse(data)
        seal = SEAL.match(data)
        if seal is None or seal[1].decode() != hashlib.sha256(b"{\n" + data[seal.end() :]).hexdigest():
            raise UnreadableRecord(
                f"{self.record_path}: was edited after it was written; undo the edit, or accept it: "
                f"{self.migrate_command('--accept', self.run_id)}"
            )
        return self.check(record, planned)

    def read_or_none(self) -> dict[str, Any] | None:
        """The record; None if there is none or it is unreadable."""
        try:
            return self.read()
        except UnreadableRecord:
            return None

    def parse(self, data: bytes) -> dict[str, Any]:
        """The content of record.json, unchecked.

        Raises:
            UnreadableRecord: It is not an object, or has another schema.
        """
        path = self.record_path
        try:
            record = json.loads(data.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise UnreadableRecord(f"{path}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise UnreadableRecord(f"{path}: not a JSON object")
        version = record.get("schema_version")
        if version != SCHEMA_VERSION:
            hint = self.migrate_command() if version in (1, 2) else "another version of this code wrote it"
            raise OtherSchema(f"{path}: schema_version={version!r:.40}, must be {SCHEMA_VERSION}: {hint}")
        return record

    def check(self, record: Mapping[str, Any], planned: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Check a record against the schema and the directory's name.

        Raises:
            UnreadableRecord: It cannot be the record of this run.
        """
        path = self.record_path
        try:
            found = checked(record)
        except ValueError as error:
            raise UnreadableRecord(f"{path}: {error}") from error
        if found["run_id"] != self.run_id:
            raise UnreadableRecord(f"{path}: is the record of run {found['run_id']!r:.40}")
        if planned is not None and found["config"] == planned:
            return {**found, "config": planned}
        if (run_id := run_id_of(found["config"])) != self.run_id:
            raise UnreadableRecord(f"{path}: its configuration belongs to run {run_id}")
        return found

    def migrate_command(self, *words: str) -> str:
        """`python -m ablations migrate`, as typed for these results."""
        folder = str(self.path.parents[1])
        words = (*words, *([] if folder == "results" else [f"results_dir={folder}"]))
        return f"`{shlex.join(('python', '-m', 'ablations', 'migrate', *words))}`"

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record, after the tables; the caller holds the lock."""
        assert record.keys() == SCHEMA.keys(), record.keys() ^ SCHEMA.keys()
        files = None if record["status"] == RUNNING else self.checksums()
        write_atomically(self.record_path, sealed({**record, "files": files}))

    def checksums(self) -> dict[str, str]:
        tables = (self.history_path, self.diagnostics_path)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables if path.is_file()}

    def check_schema(self) -> None:
        """Refuse to train over a record of another version of this code.

        Raises:
            UserError: There is one.
        """
        try:
            self.read()
        except OtherSchema as error:
            raise UserError(str(error)) from error
        except UnreadableRecord:
            return

    def problem(self) -> str | None:
        """Why an existing record counts as missing; None if it does not."""
        try:
            record = self.read()
        except UnreadableRecord as error:
            return f"unreadable record, counted as missing: {error}"
        if record is None or record["status"] not in DONE:
            return None
        rows = self.validation_history((), record)
        return None if self.status_of(record, rows) in DONE else self.why_missing(record, rows)

    def free_checkpoint(self) -> int:
        """Delete the checkpoint of a run that has an outcome; the caller holds the lock.

        Returns:
            Freed bytes.
        """
        if self.status() not in DONE:
            return 0
        freed = 0
        for path in (self.checkpoint_path, self.partial_checkpoint_path):
            if path.exists():
                freed += path.stat().st_size
                path.unlink()
        return freed

    def set_unreadable_aside(self) -> Path | None:
        """Rename an unreadable record, if any, so that the run can be trained; the caller holds the lock.

        Returns:
            Its new path.

        Raises:
            UserError: It has another schema and may hold an outcome.
        """
        self.check_schema()
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
        """One of `STATUSES`; an unreadable record counts as missing."""
        try:
            record = self.read()
        except UnreadableRecord:
            return MISSING
        done = record is not None and record["status"] in DONE
        return self.status_of(record, self.validation_history((), record) if done else None)

    def status_of(self, record: Mapping[str, Any] | None, rows: Sized | None) -> str:
        """The status for a record and rows of metrics.csv already read."""
        status = MISSING if record is None else record["status"]
        if record is not None and status in DONE:
            # If metrics.csv is lost or damaged, the checkpoint has its rows.
            whole = _has_its_rows(record, rows) and self._has_diagnostics(record)
            whole = whole and not self._lacking_metrics(record)
            status = status if whole else MISSING
        if status in DONE:
            return status
        # Also without a record: the process with the lock may still be importing.
        if self.is_locked():
            return RUNNING
        return MISSING if status == RUNNING else status

    def _lacking_metrics(self, record: Mapping[str, Any]) -> list[str]:
        """Requested metrics that were not measured."""
        if record["status"] == COMPLETED:
            there = record["metrics"]
            return [name for name in self._metrics if not {f"val_{name}", f"test_{name}"} <= there.keys()]
        declared = record["config"].get("metrics")  # a diverged run has no final values
        return [] if declared is None else [name for name in self._metrics if name not in declared]

    def _has_diagnostics(self, record: Mapping[str, Any]) -> bool:
        """Whether a run with an outcome measured the requested diagnostics."""
        if not self._diagnostics:
            return True
        measured = measured_diagnostics(record)
        as_asked = all(measured.get(name) == settings for name, settings in self._diagnostics.items())
        return as_asked and self.diagnostic_rows(record) is not None

    def why_missing(self, record: Mapping[str, Any], rows: Sized | None) -> str:
        """Why a run that ended counts as missing."""
        if _has_its_rows(record, rows):
            metrics = self._lacking_metrics(record)
            asked, then = (
                ", ".join(metrics or self._diagnostics),
                "" if metrics else "; diagnostics=none counts it",
            )
            return f"not measured as requested ({asked}) or changed, counted as missing: {self.path}{then}"
        return f"lost, changed or damaged, counted as missing: {self.history_path}"

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes whenever record.json or metrics.csv is written."""
        return _stamp(self.record_path), _stamp(self.history_path)

    def history_written(self) -> float | None:
        """When metrics.csv was written, in seconds since 1970."""
        stamp = _stamp(self.history_path)
        return None if stamp is None else stamp[0] / 1e9

    # Tables. Given the record of a run that ended, a table that changed since is None.

    def rows(self, record: Mapping[str, Any] | None = None) -> list[dict[str, float]] | None:
        """metrics.csv by row; None if absent or damaged."""
        history = read_history(self._content(self.history_path, record))
        if history is None:
            return None
        columns = [
            map(int, values) if name in INTEGER_COLUMNS else values.tolist()
            for name, values in history.columns.items()
        ]
        return [dict(zip(history.columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def history(self, record: Mapping[str, Any] | None = None) -> "pd.DataFrame | None":
        """metrics.csv as a table; None if absent or damaged."""
        import pandas as pd

        history = read_history(self._content(self.history_path, record))
        if history is None:
            return None
        return pd.DataFrame(history.columns).astype(dict.fromkeys(INTEGER_COLUMNS, int))

    def validation_history(
        self, metrics: Collection[str] | None = None, record: Mapping[str, Any] | None = None
    ) -> History | None:
        """Epoch, step and these validation metrics (None: all): faster than `history`."""
        return read_history(
            self._content(self.history_path, record), partial(validation_columns, metrics=metrics)
        )

    def diagnostic_rows(self, record: Mapping[str, Any] | None = None) -> list[dict[str, Any]] | None:
        """diagnostics.csv by row; None if absent or damaged."""
        kinds = dict.fromkeys(("depth", "channels", "epoch", "step"), int) | {"value": float}
        data = self._content(self.diagnostics_path, record)
        if data is None:
            return None
        try:
            header, *lines = csv.reader(io.StringIO(data.decode(), newline=""))
            if not {"diagnostic", "layer", *kinds} <= set(header):
                return None
            return [
                {name: kinds.get(name, str)(text) for name, text in zip(header, line, strict=True)}
                for line in lines
            ]
        except (ValueError, csv.Error):
            return None

    def _content(self, path: Path, record: Mapping[str, Any] | None) -> bytes | None:
        """A table's bytes; None if it is absent or changed since the run ended."""
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if record is None or record["files"] is None:
            return data
        return data if hashlib.sha256(data).hexdigest() == record["files"].get(path.name) else None

    def checkpoint(self) -> Path | None:
        """The checkpoint to resume from; None if absent or damaged."""
        try:
            with zipfile.ZipFile(self.checkpoint_path) as archive:
                return self.checkpoint_path if archive.testzip() is None else None
        except (OSError, zipfile.BadZipFile):
            return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Time in nanoseconds, size and inode; each rename onto the file changes one of them."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def sealed(record: Mapping[str, Any]) -> str:
    """A record as text with its checksum."""
    text = json.dumps({key: record[key] for key in record if key != "checksum"}, indent=2, allow_nan=False)
    checksum = hashlib.sha256(f"{text}\n".encode()).hexdigest()
    return f'{{\n  "checksum": "{checksum}",\n{text[2:]}\n'


def _has_its_rows(record: Mapping[str, Any], rows: Sized | None) -> bool:
    """Whether these are all rows of a run that ended; a timing has none."""
    if record["status"] == COMPLETED and "timing" not in record["config"]:
        return rows is not None and len(rows) == planned_epochs(record["config"])
    return rows is not None or "metrics.csv" not in record["files"]


def measured_diagnostics(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of the measured diagnostics, by name."""
    return dict((record or {}).get("config", {}).get("diagnostics") or {})


def measured_metrics(record: Mapping[str, Any] | None) -> list[str]:
    """Measured metrics; none if the record declares none."""
    return list((record or {}).get("config", {}).get("metrics") or {})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
