"""Offline runs go up, each once: by a stand-in for `wandb sync` that marks, refuses and dies as it does, and
by the real one to a server on this machine.
"""

import fcntl
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.dashboards import sync as module
from ablations.dashboards.sync import BEFORE, RUNNING, UPLOADED, sync, waiting
from ablations.errors import RunsFailed
from ablations.runs.records import RunDirectory
from lightning_modules.wandb_logging import TolerantWandbLogger

STAND_IN = """
import os, pathlib, signal, sys
folder = pathlib.Path(__file__).parent
assert sys.argv[1] == "sync"
with (folder / "calls").open("a") as calls:
    print(*sys.argv[2:], file=calls)
for path in map(pathlib.Path, (word for word in sys.argv[2:] if os.path.isdir(word))):
    (log,) = path.glob("*.wandb")
    how = (folder / "how").read_text() if (folder / "how").exists() and "bad" in path.name else ""
    print(f"wandb: Syncing {log}")
    if how == "refused":  # before it began
        print("wandb: ERROR Failed to get resume status: returned error 401", file=sys.stderr)
        continue
    if how == "refused while it went":
        print("wandb: ERROR [p/bad] Fatal error while uploading data.", file=sys.stderr)
    if how == "refused in silence":
        logs = pathlib.Path(os.environ["WANDB_DIR"], "wandb", "logs")
        logs.mkdir(parents=True)
        (logs / "debug-sync.1.log").write_text(
            '{"level":"INFO","msg":"begun"}\\nno JSON\\n{"level":"ERROR","msg":"api: HTTP error"}\\n'
            '{"level":"ERROR","msg":"sender: failed to log artifact","error":"error 403"}\\n'
        )
    if how == "exit":
        sys.exit("Error: something else")
    log.with_suffix(".wandb.synced").touch()
    if how == "waits":
        (folder / "begun").read_text()  # whoever writes there knows that this is under way
        (folder / "go on").read_text()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Takes the place of wandb; what it does with runs that are called bad stands in its file `how`."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "wandb.py").write_text(STAND_IN)
    monkeypatch.setattr(module, "WANDB", (sys.executable, str(folder / "wandb.py")))
    return folder


def calls(stand_in: Path) -> list[str]:
    """Names of the folders that were to be uploaded, one call each."""
    path = stand_in / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [" ".join(Path(word).name for word in line.split()) for line in lines]


def outcomes(found) -> dict[str, str]:
    return {one.wandb_id: one.outcome for one in found}


def test_each_run_once(place, stand_in, write_offline, capsys):
    write_offline("one")
    write_offline("two")
    assert waiting(place) == 2
    assert outcomes(sync(place)) == {"one": UPLOADED, "two": UPLOADED}
    assert capsys.readouterr().out == "uploaded  run one\nuploaded  run two\n2 uploaded\n"
    assert waiting(place) == 0
    write_offline("three")
    assert outcomes(sync(place)) == {"one": BEFORE, "two": BEFORE, "three": UPLOADED}
    assert capsys.readouterr().out == "uploaded  run three\n1 uploaded, 2 uploaded before\n"
    assert sorted(calls(stand_in)) == [
        f"offline-run-20260102_030405-{name}" for name in ("one", "three", "two")
    ]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("refused", "Failed to get resume status: returned error 401"),
        ("refused while it went", "Fatal error while uploading data."),
        ("refused in silence", "sender: failed to log artifact error 403"),
        ("exit", "something else"),
        ("killed", "wandb sync exited with -9"),
    ],
)
def test_what_failed_is_told_and_tried_again(how, reason, place, stand_in, write_offline, capsys):
    bad = write_offline("bad")
    write_offline("good")
    (stand_in / "how").write_text(how)
    with pytest.raises(RunsFailed, match=r"^1 uploaded, 1 failed; "):
        sync(place)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"failed    run bad: {reason}")
    assert shown[1:] == ["uploaded  run good"]
    assert sorted(path.name for path in bad.iterdir()) == ["run-bad.wandb"]
    assert waiting(place) == 1
    (stand_in / "how").unlink()
    assert outcomes(sync(place)) == {"bad": UPLOADED, "good": BEFORE}
    assert len(calls(stand_in)) == 3


def test_an_upload_that_was_interrupted_goes_on(place, stand_in, write_offline):
    """Marked by `wandb sync`, but nobody lived to see whether the server took it."""
    folder = write_offline("one")
    (folder / "run-one.wandb.synced").touch()
    (folder / "run-one.wandb.uploading").touch()
    assert waiting(place) == 1
    assert outcomes(sync(place)) == {"one": UPLOADED}
    assert not (folder / "run-one.wandb.uploading").exists()


SYNC = """
import pickle, sys
from ablations.dashboards import sync as module
module.WANDB = (sys.executable, sys.argv[1])
module.sync(pickle.loads(sys.stdin.buffer.read()))
"""


def test_a_killed_upload_keeps_others_away_until_it_ends_and_is_done_again(place, stand_in, write_offline):
    folder = write_offline("bad")
    (stand_in / "how").write_text("waits")
    for name in ("begun", "go on"):
        os.mkfifo(stand_in / name)
    process = subprocess.Popen(
        [sys.executable, "-c", SYNC, stand_in / "wandb.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pickle.dumps(place))
    process.stdin.close()
    (stand_in / "begun").write_text("")  # waits for a reader: the upload has begun
    process.kill()
    process.wait()
    process.stdout.close()
    (stand_in / "how").unlink()
    with pytest.raises(RunsFailed, match="another process is uploading"):
        sync(place)  # the upload itself lives on
    assert waiting(place) == 1  # marked, but nobody saw how it ended
    with (stand_in / "go on").open("w"):
        pass
    with (place.own / "sync.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it has ended
    assert outcomes(sync(place)) == {"bad": UPLOADED}
    assert len(calls(stand_in)) == 2
    assert not (folder / "run-bad.wandb.uploading").exists()


def test_the_mark_of_an_interrupted_upload_is_there_while_it_runs(
    place, stand_in, write_offline, monkeypatch
):
    folder = write_offline("one")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sync(place)
    assert (folder / "run-one.wandb.uploading").exists()


def test_what_was_uploaded_by_hand_is_uploaded(place, stand_in, write_offline):
    (write_offline("one") / "run-one.wandb.synced").touch()
    assert outcomes(sync(place)) == {"one": BEFORE}
    assert calls(stand_in) == []


def test_parts_of_a_run_go_in_one_call_in_their_order(place, stand_in, write_offline):
    write_offline("one", begun="20260103_030405")
    write_offline("one", begun="20260102_030405")
    sync(place)
    write_offline("one", begun="20260104_030405")
    sync(place)
    begun = [re.findall(r"run-(\d+)_", call) for call in calls(stand_in)]
    assert begun == [["20260102", "20260103"], ["20260104"]]


def test_running_runs_are_left_alone(place, stand_in, write_offline, capsys):
    write_offline("0123456789ab-0000")
    with RunDirectory(place.results_dir, "0123456789ab").lock():
        assert outcomes(sync(place)) == {"0123456789ab-0000": RUNNING}
    assert calls(stand_in) == []
    assert "running, left alone  run 0123456789ab-0000" in capsys.readouterr().out
    assert outcomes(sync(place)) == {"0123456789ab-0000": UPLOADED}


def test_runs_are_named_by_their_records(place, stand_in, studies, offline, capsys):
    sync(place)
    lines = capsys.readouterr().out.splitlines()
    assert "uploaded  residual non_residual seed=1" in lines
    assert lines[-1] == f"{len(offline)} uploaded"


def test_the_second_of_two_says_so(place, stand_in, write_offline):
    write_offline("one")
    place.own.mkdir(parents=True)
    with (place.own / "sync.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunsFailed, match=r"another process is uploading .*; nothing was done"):
            sync(place)
    assert calls(stand_in) == []
    assert outcomes(sync(place)) == {"one": UPLOADED}


def test_without_a_key(call, write_offline, stand_in, capsys):
    write_offline("one")
    assert call("wandb-sync") == 2
    shown = capsys.readouterr()
    assert re.fullmatch("error: no W&B API key: `wandb login` says where to get one.*\n", shown.err)
    assert calls(stand_in) == []


def test_without_a_run(call, capsys):
    assert call("wandb-sync") == 0
    assert capsys.readouterr().out.startswith("no offline run in ")


def test_studies_are_not_chosen(call, capsys):
    assert call("wandb-sync", "residual") == 2
    assert "residual: takes results_dir=FOLDER" in capsys.readouterr().err


def test_a_refused_key_is_one_line(call, write_offline, stand_in, server, capsys):
    write_offline("one")
    server.refuses = {"Viewer"}
    assert call("wandb-sync") == 2
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line.startswith("error")] == shown == [shown[0]]
    assert "Viewer refused" in shown[0]
    assert calls(stand_in) == []


@pytest.fixture
def logged(place):
    """A run that the real W&B wrote."""
    logger = TolerantWandbLogger(
        mode="offline", entity=None, project="xception-ablations", folder=place.results_dir,
        run_id="real", name="a run", group="residual", job_type="without", tags=["seed=0"], config={},
    )  # fmt: skip
    logger.log_metrics({"val_top1": 0.25}, step=3)
    logger.finish(succeeded=True)


@pytest.mark.slow
def test_the_real_one_and_what_the_server_refuses(place, logged, server, capsys):
    for refused in ("file_stream", "CreateRunFiles"):  # the second one `wandb sync` keeps to itself
        server.refuses = {refused}
        with pytest.raises(RunsFailed, match="1 failed"):
            sync(place)
        assert capsys.readouterr().out.startswith("failed    run real: ")
        assert waiting(place) == 1
    server.refuses = set()
    sync(place)
    assert waiting(place) == 0
    told = server.variables("UpsertBucket")
    assert {run["name"] for run in told} == {"real"}
    assert ("residual", "without") in {(run["groupName"], run["jobType"]) for run in told}
    history = [
        line
        for body in server.streamed["real"]
        for line in body.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
    ]
    assert any('"val_top1":0.25' in line for line in history)
    assert any(path.endswith("/real/config.yaml") for path in server.files)
