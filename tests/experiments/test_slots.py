"""Shares of devices: who may have what at the same time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from experiments import slots
from experiments.devices import Device

ROOT = Path(__file__).resolve().parents[2]

Taken = tuple[list[Device], ExitStack] | None


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """Two devices that nobody has."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return [Device("pretended", index, "Pretended", memory=1000, used=0) for index in range(2)]


@pytest.fixture(autouse=True)
def held() -> Iterator[list[ExitStack]]:
    """What a test has taken, which it keeps until its end: nobody holds what nobody refers to."""
    HELD.clear()
    yield HELD
    for back in HELD:
        back.close()


HELD: list[ExitStack] = []


def take(devices: list[Device], count: int, per_device: int, **how: Any) -> Taken:
    found = slots.take(devices, count, per_device, **how)
    if found is not None:
        HELD.append(found[1])
    return found


def taken(found: Taken) -> list[int] | None:
    return None if found is None else [device.index for device in found[0]]


def test_each_gets_a_device_of_its_own_until_there_is_none(gpus: list[Device]) -> None:
    first = take(gpus, 1, 1)
    assert first is not None
    assert taken(first) == [0]
    assert taken(take(gpus, 1, 1)) == [1]
    assert take(gpus, 1, 1) is None
    first[1].close()
    assert taken(take(gpus, 1, 1)) == [0]


def test_several_devices_are_taken_at_once_or_not_at_all(gpus: list[Device]) -> None:
    one = take(gpus, 1, 1)
    assert one is not None
    assert take(gpus, 2, 1) is None
    one[1].close()
    assert taken(take(gpus, 2, 1)) == [0, 1]


def test_runs_that_share_a_device_leave_room_for_as_many_as_fit(gpus: list[Device]) -> None:
    assert [taken(take(gpus[:1], 1, 3)) for _ in range(4)] == [[0], [0], [0], None]
    # Two that have half of a device, and one that has a third of it, are more than a device.
    assert [taken(take(gpus[1:], 1, share)) for share in (2, 3, 2, 6)] == [[1], [1], None, [1]]


def test_the_emptiest_device_is_taken_unless_another_comes_first(gpus: list[Device]) -> None:
    assert taken(take(gpus, 1, 4)) == [0]
    assert taken(take(gpus, 1, 4)) == [1]
    assert taken(take(gpus, 1, 4, first=lambda device: device.index == 1)) == [1]
    assert taken(take(gpus, 1, 4)) == [0]


def test_a_device_full_of_what_others_do_is_left_to_them(gpus: list[Device]) -> None:
    theirs = Device("pretended", 0, "Pretended", memory=1000, used=900)
    assert taken(take([theirs, gpus[1]], 1, 2)) == [1]
    ours = take([gpus[0]], 1, 2)  # what is taken of it is ours now
    assert ours is not None
    assert taken(take([theirs], 1, 2)) == [0]


TAKE_AND_SAY = """
import sys
from experiments.devices import Device
from experiments.slots import take
got = take([Device("pretended", 0, "Pretended")], 1, 1)
print("waiting" if got is None else "taken", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_loses_its_device(gpus: list[Device]) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TAKE_AND_SAY]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert take(gpus[:1], 1, 1) is None
        process.kill()
        process.wait()
        assert taken(take(gpus[:1], 1, 1)) == [0]


def test_who_waits_is_named_and_gets_what_is_freed(
    gpus: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "WAIT_S", 0)
    theirs = take(gpus, 2, 1)
    assert theirs is not None
    seen: list[set[str]] = []

    def still_wanted() -> bool:
        seen.append(set(slots.waiting()))
        theirs[1].close()
        return False

    with slots.wait(lambda: take(gpus, 1, 1), "a run", still_wanted) as got:
        assert got == gpus[:1]
        assert not slots.waiting()
        assert slots.shares() == {gpus[0].key: 1}
    assert seen == [{"a run"}]
    assert not slots.shares()


def test_waiting_ends_where_nothing_is_to_be_done_any_more(gpus: list[Device]) -> None:
    theirs = take(gpus, 2, 1)
    with slots.wait(lambda: take(gpus, 1, 1), "a run", lambda: True) as got:
        assert got is None
    assert theirs is not None


def test_who_holds_a_device(gpus: list[Device]) -> None:
    assert slots.holders(gpus) == []
    take(gpus, 1, 1, what="0123456789ab")
    assert slots.holders(gpus) == [f"pretended 0: process {os.getpid()}, run 0123456789ab"]
    assert slots.holders(gpus[1:]) == []
    assert slots.shares()[gpus[0].key] == 1
