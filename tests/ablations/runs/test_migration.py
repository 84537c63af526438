"""Records of older schemas, and those that somebody changed on purpose."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import UserError
from ablations.runs.archive import unpack
from ablations.runs.migration import accept, migrate
from ablations.runs.records import OtherSchema, RunDirectory

FIRST_SCHEMA = "checksum", "files", "edited"
"""Keys that records of schema 1 did not have."""


def as_first_schema(directory: RunDirectory, **changes: Any) -> dict[str, Any]:
    """Make a record one of schema 1."""
    record = json.loads(directory.record_path.read_text())
    git = {"commit": record["git"]["commit"], "dirty": False}
    old = {key: value for key, value in record.items() if key not in FIRST_SCHEMA}
    old |= {"schema_version": 1, "git": git} | changes
    directory.record_path.write_text(json.dumps(old))
    return old


@pytest.mark.parametrize("status", ["completed", "diverged", "failed", "running"])
def test_a_record_of_the_first_schema(configuration, write_run, results_dir: Path, status: str) -> None:
    directory = write_run(configuration, status)
    before, stood = directory.read(), directory.status()
    as_first_schema(directory)
    with pytest.raises(OtherSchema, match="python -m ablations migrate"):
        directory.read()
    assert directory.status() == "missing"
    with pytest.raises(UserError, match="migrate"), directory.lock():
        directory.set_unreadable_aside()  # or an upgrade would train everything again
    assert migrate(results_dir) == (1, [])
    assert directory.read() == before
    assert directory.status() == stood
    assert migrate(results_dir) == (0, [])


def test_uncommitted_changes_that_an_older_record_does_not_name_stay_unknown(
    configuration, write_run, results_dir: Path
) -> None:
    directory = write_run(configuration)
    as_first_schema(directory, git={"commit": "abc", "dirty": True})
    migrate(results_dir)
    record = directory.read()
    assert record is not None
    assert record["git"] == {"commit": "abc", "changes": None}


@pytest.mark.parametrize(
    "changes", [{"status": "done"}, {"metrics": None}, {"seed": 4}, {"git": 1}, {"run_id": "0" * 12}]
)
def test_a_damaged_older_record_stays_as_it_is_and_is_named(
    configuration, write_run, results_dir: Path, changes: dict[str, Any]
) -> None:
    directory = write_run(configuration)
    as_first_schema(directory, **changes)
    before = directory.record_path.read_bytes()
    migrated, problems = migrate(results_dir)
    assert migrated == 0
    assert len(problems) == 1
    assert str(directory.record_path) in problems[0]
    assert directory.record_path.read_bytes() == before


def test_damaged_epochs_are_not_taken_over(configuration, write_run, results_dir: Path) -> None:
    directory = write_run(configuration)
    as_first_schema(directory)
    directory.history_path.write_text(directory.history_path.read_text().rpartition("2,")[0])
    migrated, problems = migrate(results_dir)
    assert migrated == 0
    assert "metrics.csv" in problems[0]


def test_an_archive_of_the_first_schema(configuration, write_run, results_dir: Path, tmp_path: Path) -> None:
    directory = write_run(configuration)
    as_first_schema(directory)
    with tarfile.open(tmp_path / "old.tar.xz", "w:xz") as archive:
        for path in (directory.record_path, directory.history_path):
            entry = tarfile.TarInfo(f"runs/{directory.run_id}/{path.name}")
            entry.size = path.stat().st_size
            archive.addfile(entry, io.BytesIO(path.read_bytes()))
    assert unpack(tmp_path / "old.tar.xz", tmp_path / "new") == (1, 0)
    assert RunDirectory(tmp_path / "new", directory.run_id).status() == "completed"


def test_a_change_on_purpose_is_accepted_and_told(configuration, write_run, results_dir: Path) -> None:
    directory = write_run(configuration)
    with pytest.raises(UserError, match="was not changed"):
        accept(results_dir, directory.run_id)
    text = directory.record_path.read_text()
    directory.record_path.write_text(text.replace('"host": "somewhere"', '"host": ""'))
    assert directory.status() == "missing"
    accept(results_dir, directory.run_id)
    assert directory.status() == "completed"
    record = directory.read()
    assert record is not None
    assert record["process"]["host"] == ""
    assert record["edited"] is not None


def test_no_change_makes_it_another_run(configuration, write_run, results_dir: Path) -> None:
    directory = write_run(configuration)
    text = directory.record_path.read_text()
    directory.record_path.write_text(text.replace('"num_classes": 10', '"num_classes": 100'))
    with pytest.raises(UserError, match="its configuration belongs to run"):
        accept(results_dir, directory.run_id)
    assert directory.status() == "missing"
    with pytest.raises(UserError, match="no record"):
        accept(results_dir, "0" * 12)


def test_the_commands(configuration, write_run, call: Callable[..., int], capsys) -> None:
    directory = write_run(configuration)
    as_first_schema(directory, seed="3")
    assert call("migrate") == 1
    assert "seed='3'" in capsys.readouterr().err
    as_first_schema(write_run(configuration))
    assert call("migrate") == 0
    assert "1 record updated" in capsys.readouterr().out
    assert call("migrate", "--accept", directory.run_id) == 2
    assert call("migrate", "--accept", "nonsense") == 2
    directory.checkpoint_path.write_bytes(b"weights")
    assert call("free") == 0
    assert "1 checkpoint deleted" in capsys.readouterr().out
    assert not directory.checkpoint_path.exists()
    assert directory.status() == "completed"
