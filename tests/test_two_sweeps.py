"""Two sweeps at once on devices that they share, one of whose processes is killed."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.interrupted_sweeps import wait_at_most
from experiments import devices, slots
from tests.few_images import as_words
from tests.processes import REPOSITORY, Command

pytestmark = pytest.mark.slow


SMALL = ("model.width=0.02", "model.stem_stride=2", "model.middle_modules=0", "logger=none")

WAITS = "is waiting for a device"

Start = Callable[..., Command]


@pytest.fixture
def start(few_images: Mapping[str, Any]) -> Start:
    """Starts a sweep over seeds, of runs of a second or so: ten epochs."""

    def start_sweep(results_dir: Path, seeds: str, *words: str) -> Command:
        small = (*SMALL, *as_words(few_images), "recipe.epochs=10", f"results_dir={results_dir}")
        return Command(REPOSITORY, "run.py", "-m", f"seed={seeds}", *words, *small)

    return start_sweep


def records(results_dir: Path) -> list[Mapping[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(results_dir.glob("runs/*/record.json"))]


def trained_beside_each_other(found: list[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """Runs of one device of which one began before the other had ended."""
    in_order = sorted(found, key=lambda record: (record["device"]["indices"], record["started"]))
    return [
        (a["run_id"], b["run_id"])
        for a, b in pairwise(in_order)
        if a["device"]["indices"] == b["device"]["indices"] and b["started"] < a["finished"]
    ]


def test_two_sweeps_share_devices_and_a_killed_process_frees_its_own(
    pretend, start: Start, tmp_path: Path
) -> None:
    pretend(2)
    taken = slots.take(devices.visible(), 2, 1)
    assert taken is not None
    others = start(tmp_path / "b", "2,3", "hydra/launcher=basic")  # in one process, which saves two
    with start(tmp_path / "a", "0,1") as first, others as second:
        while first.poll() is None and (len(slots.waiting()) < 3 or WAITS not in first.output):
            wait_at_most(first, 0.05)
        taken[1].close()  # all want what there is at once
        while first.poll() is None and not (running := records(tmp_path / "a")):
            wait_at_most(first, 0.05)
        killed = running[0]["process"]["pid"]
        assert running[0]["status"] == "running"
        os.kill(killed, signal.SIGKILL)
        assert [process.wait() for process in (first, second)] == [0, 0], (first.errors, second.errors)
    found = records(tmp_path / "a") + records(tmp_path / "b")
    assert [record["status"] for record in found] == ["completed"] * 4
    assert killed not in [record["process"]["pid"] for record in found]
    assert {tuple(record["device"]["indices"]) for record in found} <= {(0,), (1,)}
    # A run that goes on from its checkpoint keeps its first start.
    others_of_it = [record for record in found if record["run_id"] != running[0]["run_id"]]
    assert trained_beside_each_other(others_of_it) == []
    assert all(record["device"]["peak_memory"] > 0 for record in found)
    assert not slots.shares()


def test_a_process_whose_device_is_gone_leaves_its_runs_to_another(
    pretend, start: Start, tmp_path: Path
) -> None:
    file = pretend(1)
    with start(tmp_path, "0,1", "hydra/launcher=basic") as process:
        while process.poll() is None and not records(tmp_path):
            wait_at_most(process, 0.05)
        (device,) = json.loads(file.read_text())
        other = tmp_path / "other.json"
        other.write_text(json.dumps([device | {"index": 1, "id": "other"}]))
        other.replace(file)
        assert process.wait() == 0, process.errors
    found = records(tmp_path)
    assert sorted(record["device"]["indices"] for record in found) == [[0], [1]]
    assert len({record["process"]["pid"] for record in found}) == 2
