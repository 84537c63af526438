"""`python -m benchmarks.device`: its code on a CPU in small, and what it leaves out."""

import json
import os
import select
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import device
from benchmarks.device import PARTS, Fit, OutOfTime, Part, run_for
from experiments import benchmark
from experiments.plan import plan_sweep
from experiments.planning import hydra_configuration

BY_NAME = {part.name: part for part in PARTS}


@pytest.fixture
def run(tmp_path: Path):
    """Runs some parts on the CPU; the exit code, and from the JSON what became of each."""

    def run_parts(*parts: Part, words=("--tiny",)):
        code = device.main(["--device", "cpu", *words, "--results-dir", str(tmp_path)], parts)
        found = json.loads((tmp_path / "benchmark" / "device.json").read_text())
        assert found["device"]["type"] == "cpu"
        return code, {part["part"]: part for part in found["parts"]}

    return run_parts


def test_without_a_gpu_it_says_what_it_would_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.main(["--results-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "No GPU is visible here" in shown
    assert all(name in shown for name in BY_NAME)
    assert list(tmp_path.iterdir()) == []


def test_all_parts_fit_eight_minutes_with_a_reserve() -> None:
    assert sum(part.seconds for part in PARTS) <= 0.95 * 8 * 60


def test_a_part_leaves_the_later_ones_their_seconds(run) -> None:
    parts = [
        Part("first", lambda setup: {"left": setup.left}, 10),
        Part("many", lambda setup: {}, 300, devices=99),
        Part("last", lambda setup: {"left": setup.left}, 100),
    ]
    _, found = run(*parts, words=("--minutes", "8"))
    assert 10 < found["first"]["found"]["left"] <= 480 - 100 < found["last"]["found"]["left"]


def test_what_was_found_is_written_after_each_part(run, tmp_path: Path) -> None:
    def interrupted(setup):
        raise KeyboardInterrupt

    parts = [Part("done", lambda setup: {"passed": True}, 0), Part("ended", interrupted, 0)]
    with pytest.raises(KeyboardInterrupt):
        run(*parts)
    written = json.loads((tmp_path / "benchmark" / "device.json").read_text())
    assert [part["part"] for part in written["parts"]] == ["done"]


def test_an_ended_command_leaves_no_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OutOfTime):
            run_for(["sh", "-c", f"exec 3>{tmp_path}/held; sleep 60 & wait"], 1)
        ended, _, _ = select.select([held], [], [], 30)  # readable once no process holds it open
        assert ended == [held]
        assert os.read(held, 1) == b""
    finally:
        os.close(held)


def test_a_device_that_is_not_deterministic_does_not_pass(
    run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(range(9))
    monkeypatch.setattr(device, "fit", lambda *_: Fit([{}], {"weight": torch.tensor(next(states))}, []))
    code, found = run(BY_NAME["twice, and resumed"])
    assert (code, found["twice, and resumed"]["outcome"]) == (0, "not judged")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "not deterministic here" in shown
    assert "equal twice False" in shown


def test_a_part_without_time_or_devices_or_that_fails_is_a_line(run) -> None:
    def raises(error):
        def part(setup):
            raise error

        return part

    parts = [
        Part("done", lambda setup: {"passed": True}, 0),
        Part("wrong", lambda setup: {"passed": False}, 0),
        Part("broken", raises(RuntimeError("two\nlines")), 0),
        Part("ended", raises(OutOfTime()), 0),
        Part("long", lambda setup: {}, 1000),
        Part("many", lambda setup: {}, 0, devices=99),
    ]
    code, found = run(*parts, words=("--minutes", "8"))
    assert code == 1
    assert {name: part["outcome"] for name, part in found.items()} == {
        "done": "passed",
        "wrong": "failed",
        "broken": "failed",
        "ended": "left out",
        "long": "left out",
        "many": "left out",
    }
    assert found["broken"]["why"] == "RuntimeError: two lines"
    assert found["many"]["why"].startswith("needs 99 devices, there is ")


@pytest.mark.slow
def test_training_on_the_device_is_checked(run) -> None:
    names = ("loss falls in bf16", "batches of a CPU", "twice, and resumed")
    code, found = run(*(BY_NAME[name] for name in names))
    assert (code, {part["outcome"] for part in found.values()}) == (0, {"passed"}), found
    resumed = found["twice, and resumed"]["found"]
    assert resumed["equal_twice"]
    assert resumed["equal_resumed"]


def test_two_processes_and_a_sweep_are_commands(run, write_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their words are planned; what they start is trained in other tests."""

    def record(command: Sequence[str], seconds: float) -> None:
        with hydra_configuration():
            planned = plan_sweep([word for word in command[2:] if word != "-m"])
        for one in planned:
            processes = one.configuration.processes
            write_run(one.configuration, device={"type": "cpu", "name": "A CPU", "processes": processes})

    monkeypatch.setattr(device, "run_for", record)
    code, found = run(BY_NAME["two processes"], BY_NAME["sweep, 2 per device"])
    assert (code, {part["outcome"] for part in found.values()}) == (0, {"passed"}), found
    assert found["sweep, 2 per device"]["found"]["runs_per_minute"] > 0


@pytest.mark.parametrize("name", ["speed, bf16", "speed, compiled"])
def test_speeds_are_measured(run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> nn.Module:
        layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*layers, nn.Linear(4, 5))

    monkeypatch.setattr(benchmark, "build", build)  # Xception takes a CPU minutes to compile
    code, found = run(BY_NAME[name])
    assert (code, found[name]["outcome"]) == (0, "measured"), found
    table = found[name]["found"]["table"]
    assert {row["precision"] for row in table} == {"bf16 autocast"}
    assert all(row["images_per_second_median"] > 0 for row in table)
