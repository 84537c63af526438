"""A run's directory: what it says of the run, who holds it, and what damage does to it."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from filelock import FileLock

from ablations.runs.histories import metric_names
from ablations.runs.records import (
    SCHEMA,
    STATUSES,
    RunDirectory,
    UnreadableRecord,
    measured_diagnostics,
    measured_metrics,
    sealed,
)
from experiments.configuration import RunConfiguration

COLUMNS = "epoch,step,train_loss,train_top1,val_loss,val_top1,val_top5,learning_rate,seconds"
HEADER = COLUMNS.encode() + b"\n"

ROOT = Path(__file__).resolve().parents[3]

HOLD = """
import sys
from pathlib import Path
from experiments.configuration import RunConfiguration
from ablations.runs.histories import metric_names
from ablations.runs.records import RunDirectory
with RunDirectory(Path(sys.argv[1]), sys.argv[2]).lock() as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(directory: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the run until its standard input is closed, or it is killed."""
    arguments = [sys.executable, "-c", HOLD, str(directory.path.parents[1]), directory.run_id]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def directory(configuration: RunConfiguration) -> RunDirectory:
    return RunDirectory(configuration.results_dir, configuration.run_id)


# Lock


def test_one_process_holds_a_run(directory: RunDirectory) -> None:
    assert not directory.is_locked()
    with other_process(directory):
        assert directory.is_locked()
        with directory.lock() as held:
            assert not held
        assert directory.is_locked()  # not released by the one that did not get it


def test_a_killed_process_lets_go(directory: RunDirectory, configuration, write_run) -> None:
    write_run(configuration, "running", epochs=1)
    with other_process(directory) as process:
        assert directory.status() == "running"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not directory.is_locked()
        assert directory.status() == "missing"  # interrupted
        with directory.lock() as held:
            assert held


def test_a_lock_ends_with_its_context(directory: RunDirectory) -> None:
    def fail_while_holding() -> None:
        with directory.lock() as held:
            assert held
            assert directory.is_locked()
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail_while_holding()
        assert not directory.is_locked()


def test_the_lock_of_somebody_else_that_may_not_be_opened(directory: RunDirectory, monkeypatch) -> None:
    directory.path.mkdir(parents=True)
    (directory.path / "lock").touch()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("ablations.runs.records.FileLock", refuse)
    assert not directory.is_locked()


# Status


def test_missing_completed_diverged_failed(directory: RunDirectory, configuration, write_run) -> None:
    assert directory.status() == "missing"
    assert directory.read() is None
    for status in ("completed", "diverged", "failed"):
        write_run(configuration, status)
        assert directory.status() == status
        assert status in STATUSES


def test_running_is_who_holds_the_lock(directory: RunDirectory, configuration, write_run) -> None:
    with directory.lock():
        assert directory.status() == "running"  # it has not written its record yet
        write_run(configuration, "running")
        assert directory.status() == "running"
        write_run(configuration, "failed")
        assert directory.status() == "running"  # it tries again
        write_run(configuration, "completed")
        assert directory.status() == "completed"
    write_run(configuration, "running")
    assert directory.status() == "missing"  # interrupted


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_completed_without_its_rows_is_missing(configuration, write_run, epochs: int) -> None:
    directory = write_run(configuration, "completed")
    assert directory.status() == "completed"
    directory.history_path.unlink()
    write_run(configuration, "completed", epochs=epochs)
    assert directory.status() == "missing"


def test_diverged_in_the_first_epoch_has_no_rows(configuration, write_run) -> None:
    assert write_run(configuration, "diverged", epochs=0).status() == "diverged"


# Records


def test_every_record_has_the_keys_of_the_schema(directory: RunDirectory, configuration, write_run) -> None:
    write_run(configuration)
    record = directory.read()
    assert record is not None
    assert list(record) == list(SCHEMA)
    for key in SCHEMA:
        with pytest.raises(AssertionError):
            directory.write({name: value for name, value in record.items() if name != key})
    with pytest.raises(AssertionError):
        directory.write(record | {"environment": dict(os.environ)})
    assert directory.read() == record


def without(key: str):
    return lambda record: {name: value for name, value in record.items() if name != key}


DAMAGE = {
    "empty": lambda text, record: "",
    "cut off": lambda text, record: text[: len(text) // 2],
    "not JSON": lambda text, record: "{'status': 'completed'}",
    "not UTF-8": lambda text, record: b"\xff\xfe\x00" + text.encode(),
    "zeros": lambda text, record: b"\0" * len(text),
    "a list": lambda text, record: "[]",
    "a number of too many digits": lambda text, record: "1" * 5000,
    "too deep": lambda text, record: "[" * 100_000,
    "older schema": lambda text, record: record | {"schema_version": 0},
    "newer schema": lambda text, record: record | {"schema_version": 1000},
    "no schema": lambda text, record: {},
    "unknown status": lambda text, record: record | {"status": "finished"},
    "status of no sense": lambda text, record: record | {"status": ["completed"]},
    "of another run": lambda text, record: record | {"run_id": "0" * 12},
    "no metrics": lambda text, record: record | {"metrics": None},
    "half the metrics": lambda text, record: record | {"metrics": {"val_top1": 0.5}},
    "metrics in words": lambda text, record: record | {"metrics": {"val_top1": "good", "test_top1": 0.5}},
    "no configuration": lambda text, record: record | {"config": None},
    "half a configuration": lambda text, record: record | {"config": {"recipe": {}}},
    "a metric that is no number": lambda text, record: text.replace(
        '"val_top1": 0.5', '"val_top1": NaN, "x": 0.5'
    ),
    "a metric too large": lambda text, record: record | {"metrics": {"val_top1": 0.5, "test_top1": 10**400}},
    "no classes": lambda text, record: record | {"config": {**record["config"], "dataset": {}}},
    "no speed": lambda text, record: record | {"steps_per_second": None},
    "a size in words": lambda text, record: record | {"parameters": "many"},
    "half a device": lambda text, record: record | {"device": {"type": "cpu"}},
    "versions in words": lambda text, record: record | {"versions": "new"},
    "half a commit": lambda text, record: record | {"git": {}},
    "a time in words": lambda text, record: record | {"wall_time_s": "long"},
    "diverged, without saying where": lambda text, record: record | {"status": "diverged"},
    "running since when": lambda text, record: record | {"status": "running", "started": None},
    "failed, without saying why": lambda text, record: record | {"status": "failed", "error": None},
}
DAMAGE |= {f"without {key}": lambda text, record, key=key: without(key)(record) for key in SCHEMA}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_unreadable_record_is_named_left_and_missing(
    directory: RunDirectory, configuration, write_run, kind: str
) -> None:
    write_run(configuration)
    text = directory.record_path.read_text()
    damaged = DAMAGE[kind](text, json.loads(text))
    if isinstance(damaged, dict):
        damaged = json.dumps(damaged)
    content = damaged.encode() if isinstance(damaged, str) else damaged
    directory.record_path.write_bytes(content)
    before = snapshot(directory.path)
    with pytest.raises(UnreadableRecord, match=r"record\.json") as raised:
        directory.read()
    assert "\n" not in str(raised.value)
    assert directory.status() == "missing"
    assert snapshot(directory.path) == before
    assert directory.record_path.read_bytes() == content


def test_a_folder_in_place_of_a_record_is_unreadable(directory: RunDirectory) -> None:
    directory.record_path.mkdir(parents=True)
    with pytest.raises(UnreadableRecord, match=r"record\.json"):
        directory.read()
    assert directory.status() == "missing"


def test_a_file_in_place_of_the_results_has_no_records(directory: RunDirectory, results_dir: Path) -> None:
    results_dir.write_text("a file")
    assert directory.read() is None
    assert directory.status() == "missing"


def test_set_unreadable_aside_keeps_every_one(directory: RunDirectory, configuration, write_run) -> None:
    directory.path.mkdir(parents=True)
    assert directory.set_unreadable_aside() is None
    places = []
    for content in (b"first", b"second"):
        directory.record_path.write_bytes(content)
        place = directory.set_unreadable_aside()
        assert place is not None
        assert place.read_bytes() == content
        assert not directory.record_path.exists()
        places.append(place)
    assert len(set(places)) == 2
    write_run(configuration)
    assert directory.set_unreadable_aside() is None
    assert directory.status() == "completed"
    assert [place.read_bytes() for place in places] == [b"first", b"second"]


@pytest.mark.parametrize("status", ["completed", "diverged", "failed", "running"])
def test_reading_changes_nothing(directory: RunDirectory, configuration, write_run, status: str) -> None:
    with directory.lock():
        write_run(configuration, status, epochs=1)
    directory.checkpoint_path.write_bytes(b"damaged")
    before = snapshot(directory.path.parent)
    directory.read()
    directory.status()
    directory.is_locked()
    directory.history()
    directory.checkpoint()
    assert snapshot(directory.path.parent) == before


def test_reading_makes_no_directory(directory: RunDirectory, results_dir: Path) -> None:
    assert directory.read() is None
    assert directory.status() == "missing"
    assert directory.history() is None
    assert directory.checkpoint() is None
    assert not results_dir.exists()


def test_writing_is_all_or_nothing(
    directory: RunDirectory, configuration, write_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(configuration)
    record = directory.read()
    assert record is not None
    before = snapshot(directory.path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        directory.write(record | {"wall_time_s": float("nan")})
    assert snapshot(directory.path) == before

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        directory.write(record | {"status": "running"})
    after = snapshot(directory.path)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }


def test_results_that_may_only_be_read(
    directory: RunDirectory, configuration, write_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory.lock():
        write_run(configuration, "running")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert directory.status() == "missing"


# Diagnostics

ASKED = {"dead_units": {"images": 512}, "gradient_norm": {"steps": [1, 2]}}
DIAGNOSTICS = "diagnostic,layer,depth,channels,epoch,step,value\n"


def asking(directory: RunDirectory, names: Sequence[str] = tuple(ASKED), **settings: Any) -> RunDirectory:
    asked = {name: ASKED[name] | settings for name in names}
    return RunDirectory(directory.path.parents[1], directory.run_id, asked)


@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_an_outcome_without_what_is_asked_for_is_missing_for_who_asks(
    configuration, write_run, status: str
) -> None:
    directory = write_run(configuration, status)
    assert measured_diagnostics(directory.read_or_none()) == {}
    assert asking(directory).status() == "missing"
    assert asking(directory, ()).status() == directory.status() == status

    directory = write_run(configuration.with_diagnostics(ASKED), status)
    assert measured_diagnostics(directory.read_or_none()) == ASKED
    directory.diagnostics_path.unlink()
    assert asking(directory).status() == "missing"
    directory.diagnostics_path.write_text(DIAGNOSTICS)
    for names in ((), ("dead_units",), ("gradient_norm",), tuple(ASKED)):
        assert asking(directory, names).status() == status
    otherwise = asking(directory, ["dead_units"], images=100)
    assert otherwise.status() == "missing"
    assert "diagnostics=none" in otherwise.why_missing(directory.read(), directory.rows())
    with directory.lock():
        assert asking(directory, ["dead_units"], images=100).status() == "running"
    assert directory.status() == status


def test_a_run_without_a_metric_that_is_asked_for_is_missing_for_who_asks(configuration, write_run) -> None:
    def status(*metrics: str) -> str:
        return RunDirectory(directory.path.parents[1], directory.run_id, metrics=metrics).status()

    directory = write_run(configuration)
    assert status() == status("top1", "top5") == status("loss") == "completed"
    assert status("macro_f1") == "missing"
    twice = RunDirectory(directory.path.parents[1], directory.run_id, metrics=["macro_f1", "macro_f1"])
    reason = twice.why_missing(directory.read(), [1, 2])
    assert "not measured as requested (macro_f1)" in reason
    assert "diagnostics" not in reason
    directory = write_run(configuration, "diverged")
    assert status("top1") == "diverged"
    directory = write_run(configuration.with_metrics(["top1"]), "diverged")
    assert status("top1") == "diverged"
    assert status("macro_f1") == "missing"
    assert "top1" in measured_metrics(directory.read_or_none())


def test_whoever_asks_for_nothing_does_not_read_the_file(configuration, write_run) -> None:
    directory = write_run(configuration.with_diagnostics(ASKED))
    directory.diagnostics_path.write_text("damaged")
    assert directory.status() == "completed"
    assert asking(directory).status() == "missing"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"diagnostic,layer,depth,epoch,step,value\n",
        DIAGNOSTICS.encode() + b"dead_units,stem.relu1,1,8,1,94\n",
        DIAGNOSTICS.encode() + b"dead_units,stem.relu1,1,8,1,94,many\n",
        DIAGNOSTICS.encode() + b"dead_units,stem.relu1,first,8,1,94,0.5\n",
    ],
)
def test_damaged_diagnostics(directory: RunDirectory, content: bytes) -> None:
    directory.path.mkdir(parents=True)
    assert directory.diagnostic_rows() is None
    directory.diagnostics_path.write_bytes(content)
    assert directory.diagnostic_rows() is None


def test_diagnostics_are_read_to_the_last_bit(directory: RunDirectory) -> None:
    directory.path.mkdir(parents=True)
    directory.diagnostics_path.write_text(DIAGNOSTICS + f"gradient_norm,conv,1,8,1,3,{0.1 + 0.2!r}\n")
    assert directory.diagnostic_rows() == [
        {"diagnostic": "gradient_norm", "layer": "conv", "depth": 1, "channels": 8, "epoch": 1, "step": 3}
        | {"value": 0.1 + 0.2}
    ]


def test_what_an_unreadable_record_measured_is_unknown(configuration, write_run) -> None:
    directory = write_run(configuration.with_diagnostics(ASKED))
    directory.record_path.write_text("damaged")
    assert measured_diagnostics(directory.read_or_none()) == {}


# metrics.csv and checkpoint.ckpt


def test_history_is_read_to_the_last_bit(configuration, write_run) -> None:
    directory = write_run(configuration)
    value = 0.1 + 0.2  # 0.30000000000000004
    row = ",".join(["1", "94", *[repr(value)] * 7])
    directory.history_path.write_text(f"{COLUMNS}\n{row}\n")
    history = directory.history()
    assert history is not None
    assert ",".join(history.columns) == COLUMNS
    assert history["val_top1"].tolist() == [value]
    assert history["epoch"].tolist() == [1]


def test_no_epoch_is_a_history_where_none_was_trained(configuration, write_run) -> None:
    directory = write_run(configuration)
    directory.history_path.write_bytes(HEADER)
    assert directory.rows() == []
    write_run(configuration, epochs=0)
    assert directory.status() == "missing"  # its configuration says that two are
    evaluation = RunConfiguration({**configuration.resolved, "train": False}, configuration.choices)
    directory = write_run(evaluation, epochs=0)
    assert directory.status() == "completed"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00\x01",
        b"epoch,step\n1,94\n",
        HEADER + b"1,94,a,b,c,d,e,f,g\n",
        HEADER + b"1,94\n1,2,3,4,5,6,7,8,9,10,11,12\n",
        b'"never closed\n1,2',
        HEADER + b"1,94,1,.5,1,nan,1,.1,2\n",  # an accuracy that is none
        HEADER + b"1,94,1,.5,1,.5,inf,.1,2\n",
        HEADER + b"2,94,1,.5,1,.5,1,.1,2\n",  # without its first epoch
        HEADER + b"1,94,1,.5,1,.5,1,.1,2\n2,94,1,.5,1,.5,1,.1,2\n",
        b"epoch,step,train_loss,val_loss,learning_rate,seconds\n1,94,1,1,.1,2\n",  # nothing measured
        b"epoch,step,train_loss,val_loss,val_top1,seconds\n1,94,1,1,.5,2\n",  # without a column of all
        b"epoch,step,train_loss,val_loss,val_top1,val_top1,learning_rate,seconds\n1,94,1,1,.5,.5,.1,2\n",
    ],
)
def test_damaged_history(directory: RunDirectory, content: bytes) -> None:
    directory.path.mkdir(parents=True)
    directory.history_path.write_bytes(content)
    assert directory.history() is None


def test_history_of_another_task(directory: RunDirectory) -> None:
    directory.path.mkdir(parents=True)
    header = "epoch,step,train_loss,val_loss,val_map100,learning_rate,seconds"
    directory.history_path.write_text(f"{header}\n1,94,nan,1,.5,.1,2\n2,188,1,1,.6,.1,2\n")
    history = directory.history()
    assert history is not None
    assert ",".join(history.columns) == header
    assert history["val_map100"].tolist() == [0.5, 0.6]
    assert directory.rows() is not None


def test_metrics_by_name_the_main_one_first() -> None:
    assert metric_names(COLUMNS.split(",")) == ["top1", "top5"]
    assert metric_names({"val_loss": 1.0, "val_map100": 0.5, "test_loss": 1.0, "test_map100": 0.5}) == [
        "map100"
    ]


def test_a_completed_record_has_any_tasks_metrics(directory: RunDirectory, configuration, write_run) -> None:
    write_run(configuration, metrics={"val_loss": 1.0, "val_map100": 0.5, "test_map100": 0.4})
    assert directory.read() is not None
    write_run(configuration, metrics={"val_loss": 1.0, "test_loss": 0.5})
    with pytest.raises(UnreadableRecord, match=r"metrics: must have "):
        directory.read()


def test_a_cut_off_checkpoint_is_none(directory: RunDirectory) -> None:
    directory.path.mkdir(parents=True)
    with ZipFile(directory.checkpoint_path, "w") as archive:  # the format of torch.save
        archive.writestr("data.pkl", b"0" * 1000)
    assert directory.checkpoint() == directory.checkpoint_path
    content = directory.checkpoint_path.read_bytes()
    directory.checkpoint_path.write_bytes(content[: len(content) // 2])
    assert directory.checkpoint() is None
    zeroed = content.replace(b"0" * 1000, b"0" * 500 + b"\0" * 500)  # whole, but of damaged content
    directory.checkpoint_path.write_bytes(zeroed)
    assert directory.checkpoint() is None
    directory.checkpoint_path.write_bytes(b"")
    assert directory.checkpoint() is None


# Read faster


def test_the_validation_history_is_the_part_of_the_history_that_is_compared(
    directory: RunDirectory, configuration, write_run
) -> None:
    write_run(configuration, epochs=40)
    lines = directory.history_path.read_text().splitlines()
    lines[3] = "3,282,1e-05,2E+3,-0.5,0.30000000000000004,0.1,1,7"
    for text in ("\n".join(lines) + "\n", "\n".join(lines), "\r\n".join(lines) + "\r\n"):
        directory.history_path.write_text(text, newline="")
        whole, compared = directory.history(), directory.validation_history()
        assert whole is not None
        assert compared is not None
        assert list(compared.columns) == ["epoch", "step", "val_top1", "val_top5"]
        for name in compared.columns:
            assert compared[name].tolist() == whole[name].tolist()
        top1 = directory.validation_history(["top1"])
        assert top1 is not None
        assert list(top1.columns) == ["epoch", "step", "val_top1"]
        assert top1["val_top1"].tolist() == whole["val_top1"].tolist()
        assert len(top1) == 40


@pytest.mark.parametrize(
    "row",
    [
        "1,94,1,.5,1,.5,x,.1,2",
        "1,94,1,.5,1,.5,1..0,.1,2",
        "1,94,1,.5,1,.5,,.1,2",
        "1,94,1,.5,1,.5,1e999,.1,2",
        "1,94,1,0.5,1,0.5,0.7,0.1",
        "1,94,1,0.5,1,0.5,0.7,0.1,2,3",
        "1,94.5,1,0.5,1,0.5,0.7,0.1,2",
        "1,94,1,0.5,1,0.5,0.7,0.1,2\n1,188,1,0.5,1,0.5,0.7,0.1,2",
        "1,94,1,0.5,1,0.5,0.7,0.1,2\n2,94,1,0.5,1,0.5,0.7,0.1,2",
        '"1,94,1,0.5,1,0.5,0.7,0.1,2',
    ],
)
def test_damage_is_seen_in_what_is_compared_and_in_the_form_of_the_rest(
    directory: RunDirectory, row: str
) -> None:
    directory.path.mkdir(parents=True)
    directory.history_path.write_bytes(HEADER + row.encode() + b"\n")
    assert directory.history() is None
    assert directory.validation_history() is None
    assert directory.validation_history(["top5"]) is None


@pytest.mark.parametrize(
    "row", ["1,94,nan,.5,1,.5,.7,.1,2", " 1,94,inf,.5,1,.5,.7,.1,2", "1,94,1,0.5,1,0.5,0.7,0.1,2"]
)
def test_what_is_read_as_a_number_is_read_by_both(directory: RunDirectory, row: str) -> None:
    directory.path.mkdir(parents=True)
    directory.history_path.write_bytes(HEADER + row.encode() + b"\n")
    whole, compared = directory.history(), directory.validation_history()
    assert whole is not None
    assert compared is not None
    for name in compared.columns:
        assert compared[name].tolist() == whole[name].tolist()


# Checksums


def resealed(directory: RunDirectory, **changes: Any) -> None:
    """Change a record and give it the checksum of what it holds now, as somebody who knows how could."""
    record = json.loads(directory.record_path.read_text())
    directory.record_path.write_text(sealed(record | changes))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"val_top1": 0.53', '"val_top1": 0.63'),
        ('"num_classes": 10', '"num_classes": 100'),
        ('"checksum": "', '"checksum": "0'),
        ('"host": "somewhere"', '"host": "elsewhere"'),
    ],
)
def test_a_changed_record_is_missing_and_says_what_to_do(
    configuration, write_run, old: str, new: str
) -> None:
    directory = write_run(configuration)
    text = directory.record_path.read_text()
    assert old in text
    directory.record_path.write_text(text.replace(old, new))
    assert directory.status() == "missing"
    problem = directory.problem()
    assert problem is not None
    assert f"migrate --accept {directory.run_id}" in problem


def test_a_configuration_of_another_run_is_missing(configuration, write_run) -> None:
    directory = write_run(configuration)
    resealed(directory, config={**configuration.resolved, "recipe": {"epochs": 2, "lr": 1}})
    assert directory.status() == "missing"
    assert "configuration belongs to run" in str(directory.problem())


@pytest.mark.parametrize("status", ["completed", "diverged"])
@pytest.mark.parametrize("how", ["changed", "lost"])
def test_a_table_that_is_no_longer_as_the_run_left_it_is_missing(
    configuration, write_run, status: str, how: str
) -> None:
    directory = write_run(configuration, status, epochs=2)
    assert directory.status() == status
    if how == "lost":
        directory.history_path.unlink()
    else:
        content = directory.history_path.read_text()
        directory.history_path.write_text(content.replace("0.53", "0.93"))
    assert directory.status() == "missing"
    assert str(directory.history_path) in str(directory.problem())
    assert directory.rows(directory.read()) is directory.history(directory.read()) is None


def test_changed_diagnostics_are_not_what_was_asked_for(configuration, write_run) -> None:
    directory = write_run(configuration.with_diagnostics(ASKED))
    assert asking(directory).status() == "completed"
    directory.diagnostics_path.write_text(DIAGNOSTICS + "dead_units,stem,1,8,1,3,0.5\n")
    assert asking(directory).status() == "missing"
    assert directory.diagnostic_rows(directory.read()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"error": True},
        {"metrics": {"val_loss": None, "val_top1": 0.5, "test_top1": 0.5}},
        {"metrics": {"val_loss": 10**400, "val_top1": 0.5, "test_top1": 0.5}},
        {"parameters": 0},
        {"seed": 4},
        {"more": 1},
    ],
)
def test_a_field_of_another_type_is_named(configuration, write_run, changes: dict[str, Any]) -> None:
    directory = write_run(configuration)
    resealed(directory, **changes)
    with pytest.raises(
        UnreadableRecord, match=rf"record\.json: (unknown key )?{next(iter(changes))}"
    ) as raised:
        directory.read()
    assert "\n" not in str(raised.value)


def test_numbers_are_read_as_the_schema_has_them(configuration, write_run) -> None:
    directory = write_run(configuration)
    resealed(directory, metrics={"val_loss": 10**29, "val_top1": 1, "test_top1": 0.5})
    record = directory.read()
    assert record is not None
    assert record["metrics"]["val_loss"] == 1e29
    assert all(isinstance(value, float) for value in record["metrics"].values())


@pytest.mark.parametrize("diagnostics", [True, "all", ["dead_units"]])
def test_diagnostics_of_another_type_are_named(configuration, write_run, diagnostics: Any) -> None:
    directory = write_run(configuration)
    resealed(directory, config={**configuration.resolved, "diagnostics": diagnostics})
    with pytest.raises(UnreadableRecord, match=r"config\.diagnostics"):
        directory.read()


# Checkpoints


@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_a_checkpoint_that_nothing_goes_on_from_is_freed(configuration, write_run, status: str) -> None:
    directory = write_run(configuration, status)
    directory.checkpoint_path.write_bytes(b"weights")
    directory.partial_checkpoint_path.write_bytes(b"wei")
    assert directory.free_checkpoint() == 10
    assert directory.free_checkpoint() == 0
    assert not directory.checkpoint_path.exists()
    assert directory.status() == status


@pytest.mark.parametrize("status", ["failed", "running", "damaged"])
def test_the_checkpoint_of_an_unfinished_run_stays(configuration, write_run, status: str) -> None:
    directory = write_run(configuration, "completed" if status == "damaged" else status)
    if status == "damaged":
        directory.history_path.unlink()
    directory.checkpoint_path.write_bytes(b"weights")
    assert directory.free_checkpoint() == 0
    assert directory.checkpoint_path.exists()
