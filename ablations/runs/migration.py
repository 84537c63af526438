"""Records of older schemas brought up to date, and records that were changed by hand accepted.

A step per schema turns a record into one of the next schema. What it gives is checked as every record is, so
a damaged record stays as it is and is named.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablations.errors import UserError
from ablations.runs.records import DONE, RUNNING, OtherSchema, RunDirectory, UnreadableRecord


def _from_1(record: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 2 has checksums, whether the record was changed by hand, and which files had changes."""
    git = record.get("git")
    if isinstance(git, dict):
        git = {"commit": git.get("commit"), "changes": None if git.get("dirty") else {}}
    return {**record, "schema_version": 2, "git": git, "edited": None}


STEPS: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_1}


def migrate(results_dir: Path) -> tuple[int, list[str]]:
    """Bring every record of older schemas up to date; nobody may be training these runs.

    Returns:
        How many records changed, and a line per record that cannot be brought up to date and stays as it is.
    """
    migrated, problems = 0, []
    for folder in sorted(results_dir.joinpath("runs").glob("*/")):
        directory = RunDirectory(results_dir, folder.name)
        try:
            directory.read()
        except OtherSchema:
            try:
                _upgrade(directory)
                migrated += 1
            except UnreadableRecord as error:
                problems.append(str(error))
        except UnreadableRecord:
            continue  # of this schema; whoever reads it names it
    return migrated, problems


def _upgrade(directory: RunDirectory) -> None:
    if directory.is_locked():
        raise UnreadableRecord(f"{directory.record_path}: is being trained")
    try:
        record = json.loads(directory.record_path.read_bytes())
    except ValueError as error:
        raise UnreadableRecord(f"{directory.record_path}: {error}") from error
    while isinstance(version := record.get("schema_version"), int) and version in STEPS:
        record = STEPS[version](record)
    _write(directory, record)


def accept(results_dir: Path, run_id: str) -> None:
    """Give a record that was changed on purpose the checksums of what it and its tables hold now.

    Raises:
        UserError: There is no such record, it was not changed, or it cannot be the record of this run.
    """
    directory = RunDirectory(results_dir, run_id)
    if not directory.record_path.is_file():
        raise UserError(f"{run_id}: no record at {directory.record_path}")
    if directory.problem() is None:
        raise UserError(f"{run_id}: its record was not changed by hand")
    try:
        record = directory.parse(directory.record_path.read_bytes())
        _write(directory, record | {"edited": datetime.now(UTC).isoformat(timespec="seconds")})
    except UnreadableRecord as error:
        raise UserError(str(error)) from error


def _write(directory: RunDirectory, record: Mapping[str, Any]) -> None:
    """Write a record if it is one of this run.

    Raises:
        UnreadableRecord: It is not.
    """
    ended = record.get("status") != RUNNING
    found = directory.check(
        {**record, "checksum": "0" * 64, "files": directory.checksums() if ended else None}
    )
    if found["status"] in DONE:
        rows = directory.validation_history((), found)
        if directory.status_of(found, rows) not in DONE:
            raise UnreadableRecord(directory.why_missing(found, rows))
    directory.write(found)
