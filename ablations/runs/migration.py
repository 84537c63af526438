"""Update records of older schemas, and accept records that were changed by hand.

A step may change a run's identity; then its directory is renamed and nothing is trained again.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablations.errors import UserError
from ablations.runs.identity import hash_of, identity_of, run_id_of
from ablations.runs.records import DONE, OtherSchema, RunDirectory, UnreadableRecord
from ablations.runs.schema import RUNNING


def _from_1(record: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 2 adds checksums, edits by hand, and the files with uncommitted changes."""
    git = record.get("git")
    if isinstance(git, dict):
        git = {"commit": git.get("commit"), "changes": None if git.get("dirty") else {}}
    return {**record, "schema_version": 2, "git": git, "edited": None}


def _from_2(record: Mapping[str, Any]) -> dict[str, Any]:
    """In schema 3, a run's identity is what is instantiated; before, it had every factor twice."""
    config = record.get("config")
    if not isinstance(config, dict) or _run_id_of_schema_2(config) != record.get("run_id"):
        raise UnreadableRecord("its configuration does not match its run_id")
    return {**record, "schema_version": 3, "run_id": run_id_of(config)}


OUTSIDE_2 = (
    *("results_dir", "keep_checkpoint", "logger", "trainer", "study", "seeds", "seed_budget", "diagnostics"),
    *("tuning", "weights", "dataset"),
)


def _run_id_of_schema_2(config: Mapping[str, Any]) -> str:
    found = {key: value for key, value in config.items() if key not in OUTSIDE_2}
    here = identity_of(config)
    return hash_of(found | {key: here[key] for key in ("dataset", "processes") if key in here})


STEPS: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}


def migrate(results_dir: Path) -> tuple[int, list[str]]:
    """Update every record of older schemas; none of these runs may be in training.

    Returns:
        How many changed, and a line per record that cannot be updated.
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
            continue  # of this schema; its readers report it
    return migrated, problems


def _upgrade(directory: RunDirectory) -> None:
    try:
        record = json.loads(directory.record_path.read_bytes())
    except ValueError as error:
        raise UnreadableRecord(f"{directory.record_path}: {error}") from error
    try:
        while isinstance(version := record.get("schema_version"), int) and version in STEPS:
            record = STEPS[version](record)
    except (UnreadableRecord, AttributeError, KeyError, TypeError) as error:
        raise UnreadableRecord(f"{directory.record_path}: {error}") from error
    rewrite(directory, record)


def rewrite(directory: RunDirectory, record: Mapping[str, Any]) -> None:
    """Write the changed record of a run, whose directory is renamed if its run_id changed.

    Raises:
        UnreadableRecord: The run is being trained, another has that run_id, or the record is invalid.
    """
    if directory.is_locked():
        raise UnreadableRecord(f"{directory.record_path}: is being trained")
    renamed = RunDirectory(directory.path.parents[1], record["run_id"])
    if renamed.path != directory.path and renamed.path.exists():
        raise UnreadableRecord(f"{directory.record_path}: {renamed.path} already holds this run")
    found = _checked(directory, record, renamed)
    directory.path.rename(renamed.path)
    renamed.write(found)


def accept(results_dir: Path, run_id: str) -> None:
    """Renew the checksums of a record that was changed on purpose, and of its tables.

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
        edited = {"edited": datetime.now(UTC).isoformat(timespec="seconds")}
        directory.write(_checked(directory, record | edited, directory))
    except UnreadableRecord as error:
        raise UserError(str(error)) from error


def _checked(directory: RunDirectory, record: Mapping[str, Any], target: RunDirectory) -> dict[str, Any]:
    """A valid record of the run `target`, with the tables in `directory`."""
    ended = record.get("status") != RUNNING
    found = target.check({**record, "checksum": "0" * 64, "files": directory.checksums() if ended else None})
    if found["status"] in DONE:
        rows = directory.validation_history((), found)
        if directory.status_of(found, rows) not in DONE:
            raise UnreadableRecord(directory.why_missing(found, rows))
    return found
