"""Records in one file: what goes in comes out, twice the same bytes, and nothing else is unpacked."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from ablations.cli.reading import load_studies
from ablations.errors import UserError
from ablations.runs.archive import FILE_NAME, pack, unpack
from ablations.runs.records import COMPLETED, DIVERGED, MISSING, RunDirectory
from experiments.planned_run import PlannedRun
from experiments.planning import hydra_configuration, plan_study


@pytest.fixture
def runs(results_dir: Path, write_run) -> list[PlannedRun]:
    """Of the residual study: one completed, one diverged, one failed, one running, one without its epochs."""
    with hydra_configuration():
        planned = plan_study("residual", [f"results_dir={results_dir}"])[1]
    write_run(planned[0].configuration)
    write_run(planned[1].configuration, "diverged", epochs=2)
    write_run(planned[2].configuration, "failed")
    write_run(planned[3].configuration, "running", epochs=1)
    write_run(planned[4].configuration, epochs=1)
    planned[0].directory.checkpoint_path.write_bytes(b"weights")
    return planned


def test_what_ended_is_packed_and_counts_as_done_elsewhere(runs, results_dir: Path, tmp_path: Path) -> None:
    path, packed = pack(results_dir)
    assert (path, packed) == (results_dir / FILE_NAME, 2)
    elsewhere = tmp_path / "elsewhere"
    assert unpack(path, elsewhere) == (2, 0)
    _, there, _ = load_studies(["residual"], [f"results_dir={elsewhere}"])[0]
    statuses = {run.run_id: run.status for run in there}
    assert statuses == {run.run_id: MISSING for run in runs} | {
        runs[0].run_id: COMPLETED,
        runs[1].run_id: DIVERGED,
    }
    files = {path.name for path in (elsewhere / "runs" / runs[0].run_id).iterdir()}
    assert {"record.json", "metrics.csv"} <= files <= {"record.json", "metrics.csv", "diagnostics.csv"}
    history = runs[0].directory.history_path
    assert (elsewhere / "runs" / runs[0].run_id / "metrics.csv").read_bytes() == history.read_bytes()
    assert [entry.name for entry in elsewhere.iterdir()] == ["runs"]


def test_a_record_says_nothing_of_its_place_and_all_else(runs, results_dir: Path, tmp_path: Path) -> None:
    unpack(pack(results_dir)[0], tmp_path / "elsewhere")
    before = json.loads(runs[0].directory.record_path.read_bytes())
    text = (tmp_path / "elsewhere/runs" / runs[0].run_id / "record.json").read_text(encoding="utf-8")
    assert str(results_dir) not in text
    after = json.loads(text)
    assert before["process"]["host"]
    before["process"]["host"] = ""
    assert after.pop("checksum") != before.pop("checksum")
    assert before["config"]["results_dir"] == str(results_dir)
    assert after["config"].pop("results_dir") == "results"
    assert after["config"]["logger"].pop("dir", "results") == "results"
    before["config"].pop("results_dir")
    before["config"]["logger"].pop("dir", None)
    assert after == before


def test_a_record_names_no_folder_of_the_home(
    configure, write_run, results_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    run = configure(f"logger.dir={tmp_path}/logs", f"+dataset.root={tmp_path}/data")
    write_run(run)
    unpack(pack(results_dir)[0], tmp_path / "elsewhere")
    record = RunDirectory(tmp_path / "elsewhere", run.run_id).read()
    assert record is not None
    assert record["config"]["dataset"]["root"] == "~/data"
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.usefixtures("runs")
def test_the_same_records_are_the_same_bytes(results_dir: Path, tmp_path: Path) -> None:
    path, _ = pack(results_dir)
    first = path.read_bytes()
    assert pack(results_dir)[0].read_bytes() == first
    unpack(path, tmp_path)
    assert pack(tmp_path)[0].read_bytes() == first


def test_a_run_that_is_there_stays(runs, results_dir: Path) -> None:
    path, _ = pack(results_dir)
    runs[0].directory.history_path.write_text("mine", encoding="utf-8")
    assert unpack(path, results_dir) == (0, 2)
    assert runs[0].directory.history_path.read_text(encoding="utf-8") == "mine"
    assert runs[0].directory.checkpoint_path.read_bytes() == b"weights"


def test_trials_of_tunings_are_packed_and_those_that_are_there_stay(runs, results_dir, tmp_path) -> None:
    (results_dir / "tuning").mkdir()
    (results_dir / "tuning" / "a.log").write_text("theirs", encoding="utf-8")
    (results_dir / "tuning" / "b.log").write_text("theirs", encoding="utf-8")
    (results_dir / "tuning" / "a.lock").touch()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "tuning").mkdir(parents=True)
    (elsewhere / "tuning" / "b.log").write_text("mine", encoding="utf-8")
    assert unpack(pack(results_dir)[0], elsewhere) == (2, 0)
    kept = {path.name: path.read_text(encoding="utf-8") for path in (elsewhere / "tuning").iterdir()}
    assert kept == {"a.log": "theirs", "b.log": "mine"}
    unpack(pack(results_dir, tunings={"b.log"})[0], tmp_path / "another")
    assert [path.name for path in (tmp_path / "another" / "tuning").iterdir()] == ["b.log"]


def test_two_commands_that_unpack_at_once_leave_one_of_each(runs, results_dir: Path, tmp_path: Path) -> None:
    path, _ = pack(results_dir)
    theirs = tmp_path / "theirs"
    rename = Path.rename

    def second_command_first(run: Path, place: Path) -> Path:
        shutil.copytree(run, place)
        return rename(run, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", second_command_first)
        assert unpack(path, theirs) == (0, 2)
    assert sorted(folder.name for folder in theirs.iterdir()) == ["runs"]
    assert not any(folder.is_dir() for folder in theirs.glob("runs/*/*"))


def test_damage_in_the_middle_is_a_line(runs, results_dir: Path, tmp_path: Path) -> None:
    path, _ = pack(results_dir)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"records\.tar\.xz: not a readable records archive"):
        unpack(path, tmp_path / "theirs")
    assert not list((tmp_path / "theirs").iterdir())


def test_nothing_to_pack(results_dir: Path) -> None:
    with pytest.raises(UserError, match="has no run that completed or diverged"):
        pack(results_dir)
    with pytest.raises(UserError, match="no run of these studies that"):
        pack(results_dir, only=[])
    assert not (results_dir / FILE_NAME).exists()


RUN = "runs/0123456789ab"


def made(path: Path, name: str, link: str | None = None, kind: bytes = tarfile.SYMTYPE) -> Path:
    """An archive with a record and a file or link of that name."""
    with tarfile.open(path, "w:xz") as archive:
        record, entry = tarfile.TarInfo(f"{RUN}/record.json"), tarfile.TarInfo(name)
        record.size = 1
        archive.addfile(record, io.BytesIO(b"x"))
        if link is None:
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
        else:
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)
    return path


# A checkpoint is loaded with what it says to call; a folder in place of the lock keeps the run from training.
@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "/absolute", "runs/abc/record.json", "other.txt", f"{RUN}/other.txt"),
        *(f"{RUN}/checkpoint.ckpt", f"{RUN}/lock", f"{RUN}/lock/x", f"{RUN}/a/../record.json"),
    ],
)
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    path = made(tmp_path / "file.tar.xz", name)
    with pytest.raises(UserError, match="records archive"):
        unpack(path, tmp_path / "results")
    assert not list((tmp_path / "results").rglob("*"))
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("/etc/hostname", tarfile.SYMTYPE),
        ("record.json", tarfile.SYMTYPE),
        ("runs/0123456789ab/record.json", tarfile.LNKTYPE),
    ],
)
def test_a_link_is_refused(link: str, kind: bytes, tmp_path: Path) -> None:
    path = made(tmp_path / "file.tar.xz", f"{RUN}/metrics.csv", link, kind)
    with pytest.raises(UserError, match=r"metrics\.csv' is not a record"):
        unpack(path, tmp_path / "results")
    assert not list((tmp_path / "results").rglob("*"))


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_file_that_is_none_is_a_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file.tar.xz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"file\.tar\.xz: not a readable records archive"):
        unpack(path, tmp_path / "results")


def test_the_committed_records_are_done() -> None:
    """What is committed is what the reference reproduction's tables were made from."""
    repository = Path(__file__).resolve().parents[3]
    with tarfile.open(repository / "results" / "reference" / FILE_NAME) as archive:
        names = archive.getnames()
    with hydra_configuration():
        planned = {run.run_id for run in plan_study("residual")[1] + plan_study("intermediate_activation")[1]}
    assert planned <= {name.split("/")[1] for name in names}
