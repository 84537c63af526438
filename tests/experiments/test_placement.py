"""Which device a run gets, and how a sweep packs its runs; on devices that there are not."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations.errors import RunsFailed, UserError
from experiments import devices, slots
from experiments import sweep as sweep_module
from experiments.check import check_run
from experiments.placement import Need, Packing, place
from experiments.plan import plan_sweep
from experiments.planned_run import PlannedRun
from experiments.sweep import sweep

GIB = 2**30


class JoblibLauncher:
    """Does with every run what `act` says; named as the launcher that takes devices of this machine."""

    def __init__(self, act: Callable[[PlannedRun], Any]) -> None:
        self.act = act
        self.runs: Sequence[PlannedRun] = ()
        self.joblib = {"n_jobs": -1}
        self.batches: list[list[str]] = []
        self.processes: list[int] = []
        self.per_device: list[list[str]] = []
        self.workers: list[list[str]] = []

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[Any]:
        batch = [self._run_of(overrides) for overrides in job_overrides]
        told = [[word for word in job if "runs_per_device" in word] for job in job_overrides]
        self.batches.append([f"{run.arm} {run.seed}" for run in batch])
        self.per_device.append([words[-1].rpartition("=")[2] if words else "" for words in told])
        self.workers += [[word for word in job if "++dataset.num_workers" in word] for job in job_overrides]
        self.processes.append(self.joblib["n_jobs"])
        return [SimpleNamespace(return_value=self.act(run)) for run in batch]

    def _run_of(self, overrides: list[str]) -> PlannedRun:
        (found,) = (run for run in self.runs if tuple(overrides[: len(run.overrides)]) == run.overrides)
        return found


@pytest.fixture
def plan(hydra: None, results_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[PlannedRun]]:
    """Plans runs of two arms, unchecked."""
    monkeypatch.setattr(sweep_module, "_check", lambda runs: None)

    def make(*words: str) -> list[PlannedRun]:
        return plan_sweep(["residual=true,false", *words, f"results_dir={results_dir}"])

    return make


def launched(runs: list[PlannedRun], act: Callable[[PlannedRun], Any]) -> JoblibLauncher:
    launcher = JoblibLauncher(act)
    launcher.runs = runs
    try:
        sweep(runs, launcher)  # type: ignore[arg-type]
    except RunsFailed as failed:
        launcher.failed = str(failed)  # type: ignore[attr-defined]
    return launcher


def record_on(index: int, **more: Any) -> dict[str, Any]:
    return {"type": "pretended", "name": "Pretended", "threads": 1, "indices": [index]} | more


@pytest.mark.parametrize(
    ("words", "processes"),
    [
        ((), 3),
        (("trainer.runs_per_device=2",), 6),
        (("trainer=ddp", "trainer.devices=2"), 2),
    ],
)
def test_as_many_processes_as_the_devices_have_room_for(
    plan, pretend, write_run, words: tuple[str, ...], processes: int
) -> None:
    pretend(3)
    runs = plan("seed=0,1,2,3", *words)
    launcher = launched(runs, lambda run: write_run(run.configuration))
    assert launcher.processes == [processes]


@pytest.mark.parametrize(
    ("words", "workers"),
    [
        (("seed=0,1,2,3",), {"4"}),  # three runs at once
        (("seed=0", "trainer.runs_per_device=2"), {"6"}),  # there are but two
        (("seed=0,1,2,3", "dataset.num_workers=5"), set()),
    ],
)
def test_runs_that_train_at_once_share_the_cores_that_decode(
    plan, pretend, write_run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], workers: set[str]
) -> None:
    pretend(3)
    monkeypatch.setattr("experiments.placement.usable_cores", lambda: 12)
    runs = plan("+dataset.num_workers=null", *words)
    launcher = launched(runs, lambda run: write_run(run.configuration))
    assert {word.rpartition("=")[2] for words in launcher.workers for word in words} == workers


def test_a_run_that_is_tried_alone_cannot_take_the_sweep_with_it(plan, pretend) -> None:
    """Joblib runs what has one process in the sweep's own."""
    pretend(1)
    launcher = launched(plan("seed=0"), lambda run: run.directory.path.mkdir(parents=True, exist_ok=True))
    assert [len(batch) for batch in launcher.batches] == [2, 1, 1]
    assert min(launcher.processes) > 1


def test_somebody_who_says_how_many_processes_has_that_many(plan, pretend, write_run) -> None:
    pretend(3)
    runs = plan("seed=0,1")
    launcher = JoblibLauncher(lambda run: write_run(run.configuration))
    launcher.runs, launcher.joblib = runs, {"n_jobs": 2}
    sweep(runs, launcher)  # type: ignore[arg-type]
    assert launcher.processes == [2]


@pytest.mark.parametrize(("cores", "threads", "processes"), [({4, 5, 6}, 2, 2), ({0}, 3, 2)])
def test_without_a_gpu_runs_share_the_cores_of_this_process(
    plan, write_run, cores: set[int], threads: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    runs = plan("seed=0,1,2,3", "trainer.accelerator=cpu", f"trainer.threads={threads}")
    launcher = launched(runs, lambda run: write_run(run.configuration))
    assert launcher.processes == [processes]


@pytest.mark.parametrize(("cores", "packed"), [(20, {"5", "1"}), (6, {"3", "1"}), (1, {"1"})])
def test_auto_measures_a_run_of_each_arm_and_packs_the_others(
    plan, pretend, write_run, monkeypatch: pytest.MonkeyPatch, cores: int, packed: set[str]
) -> None:
    pretend(2, memory=10 * GIB)
    monkeypatch.setattr("experiments.placement.usable_cores", lambda: cores)
    peaks = {"residual=true": GIB, "residual=false": 4 * GIB}

    def act(run: PlannedRun) -> None:
        write_run(run.configuration, device=record_on(0, peak_memory=peaks[run.arm]))

    runs = plan("seed=0,1,2,3,4,5", "trainer.runs_per_device=auto")
    launcher = launched(runs, act)
    first, others = launcher.batches
    assert sorted(first) == ["residual=false 0", "residual=true 0"]
    assert len(others) == 10
    assert launcher.per_device[0] == ["1", "1"]
    # Of nine tenths of 10 GiB: what a run took, and what a process takes of a GPU before it has a tensor.
    assert dict(zip([name.partition(" ")[0] for name in others], launcher.per_device[1], strict=True)) == {
        "residual=true": max(packed),
        "residual=false": "1",
    }
    assert launcher.processes == [2, 2 * int(max(packed))]


def test_auto_asks_the_driver_once_per_arm(plan, pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(2)
    runs = plan("seed=0,1,2,3,4,5,6,7", "trainer.runs_per_device=auto")
    visible, asked = devices.visible, []
    monkeypatch.setattr(devices, "visible", lambda accelerator: asked.append(0) or visible(accelerator))
    assert [run.seed for run in Packing(runs, JoblibLauncher(lambda run: None)).ready(runs)] == [0, 0]
    assert len(asked) <= 2


def test_auto_takes_what_was_measured_before_on_such_a_device(
    plan, pretend, write_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(1, memory=10 * GIB)
    monkeypatch.setattr("experiments.placement.usable_cores", lambda: 10)
    runs = plan("seed=0,1,2", "trainer.runs_per_device=auto")
    done = [run for run in runs if run.seed == 0]
    write_run(done[0].configuration, device=record_on(0, peak_memory=GIB))
    write_run(done[1].configuration, device={"type": "cpu", "name": "x", "threads": 1, "peak_memory": GIB})
    launcher = launched(
        runs, lambda run: write_run(run.configuration, device=record_on(0, peak_memory=2 * GIB))
    )
    measured, other = (run.arm for run in done)
    told = [dict(zip(*both, strict=True)) for both in zip(launcher.batches, launcher.per_device, strict=True)]
    assert told == [{f"{measured} 1": "5", f"{measured} 2": "5", f"{other} 1": "1"}, {f"{other} 2": "3"}]


TOO_SMALL = "Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
OF_LIBRARIES = (
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "MPS backend out of memory (MPS allocated: 17.88 GB, other allocations: 1.09 GB)",
)


@pytest.mark.parametrize("fits_alone", [True, False])
def test_a_run_that_does_not_fit_is_named_and_tried_once_more_alone(
    plan, pretend, write_run, fits_alone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(2)
    runs = plan("seed=0,1", "trainer.runs_per_device=4")
    large = runs[1]

    def act(run: PlannedRun) -> None:
        tries = sum(batch.count(f"{run.arm} {run.seed}") for batch in launcher.batches)
        if run is not large or (fits_alone and tries == 2):
            write_run(run.configuration)
            return
        device = record_on(1, peak_memory=3 * GIB)
        moment = f"2026-01-02T03:05:0{tries}+00:00"
        write_run(run.configuration, "failed", error=TOO_SMALL, device=device, finished=moment)

    launcher = JoblibLauncher(act)
    launcher.runs = runs
    if fits_alone:
        sweep(runs, launcher)  # type: ignore[arg-type]
    else:
        with pytest.raises(RunsFailed, match=r"1 of 4 runs failed:\n.*OutOfMemoryError"):
            sweep(runs, launcher)  # type: ignore[arg-type]
    assert launcher.batches[1:] == [[f"{large.arm} {large.seed}"]]
    assert launcher.per_device == [["4", "4", "4", "4"], ["1"]]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "tried again" in line)
    assert line.startswith(f"{large.arm} seed {large.seed}: ")
    assert all(word in line for word in ("pretended 1", "3 GiB", "Tried to allocate 2.00 GiB"))


@pytest.mark.parametrize("message", OF_LIBRARIES)
def test_memory_that_a_library_did_not_get_is_a_reason_to_try_alone(
    plan, pretend, write_run, message: str
) -> None:
    pretend(1)
    (run,) = plan("seed=0")[:1]
    packing = Packing([run], JoblibLauncher(lambda run: None))
    write_run(run.configuration, "failed", error=f"Traceback\nRuntimeError: {message}", device=record_on(0))
    line = packing.second_try(run)
    assert line is not None
    assert message in line


def test_a_run_whose_device_is_gone_is_tried_on_another(
    plan, pretend, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pretend(2)
    runs = plan("seed=0,1")
    lost = runs[2]

    def act(run: PlannedRun) -> None:
        if run is lost and len(launcher.batches) == 1:
            file.write_text(json.dumps(json.loads(file.read_text())[:1]))
            error = "Traceback\nRuntimeError: no such device"
            write_run(run.configuration, "failed", error=error, device=record_on(1))
        else:
            write_run(run.configuration)

    launcher = JoblibLauncher(act)
    launcher.runs = runs
    sweep(runs, launcher)  # type: ignore[arg-type]
    assert launcher.batches[1:] == [[f"{lost.arm} {lost.seed}"]]
    assert "pretended 1 is gone (RuntimeError: no such device)" in capsys.readouterr().out


def test_another_failure_is_no_reason_to_try_again(plan, pretend, write_run) -> None:
    pretend(1)
    runs = plan("seed=0")
    launcher = launched(runs, lambda run: write_run(run.configuration, "failed", device=record_on(0)))
    assert len(launcher.batches) == 1


def test_devices_that_differ_and_those_that_others_fill_are_told(
    plan, pretend, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pretend(3)
    listed = json.loads(file.read_text())
    listed[1]["name"] = "Another"
    listed[2]["used"] = 7 * GIB
    file.write_text(json.dumps(listed))
    launched(plan("seed=0"), lambda run: write_run(run.configuration))
    lines = capsys.readouterr().out.splitlines()
    assert sum("2 x Pretended, 1 x Another" in line for line in lines) == 1
    assert sum("pretended 2" in line and "7 GiB of its 8 GiB" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trainer=ddp", "trainer.devices=4"), "trainer.devices=4: not available; devices found: "),
        (("trainer.runs_per_device=0",), "trainer.runs_per_device=0: must be .* from 1 to .*auto"),
        (("trainer.runs_per_device=1.5",), "trainer.runs_per_device=1.5: must be a whole number"),
        (("trainer.runs_per_device=many",), "trainer.runs_per_device=many: must be a whole number"),
        (("trainer.runs_per_device=1000",), "trainer.runs_per_device=1000: .* has 8 GiB: "),
    ],
)  # fmt: skip
def test_what_the_devices_have_no_room_for_is_refused(
    configure, pretend, results_dir: Path, words: tuple[str, ...], told: str
) -> None:
    pretend(2)
    with pytest.raises(UserError, match=f"^{told}"):
        check_run(configure(*words))
    assert not results_dir.exists()


def test_a_run_of_several_processes_combines_no_slices(configure, pretend) -> None:
    file = pretend(3)
    listed = json.loads(file.read_text())
    for device in listed[1:]:
        device["id"] = f"MIG-{device['index']}"
    file.write_text(json.dumps(listed))
    with pytest.raises(UserError, match=r"^trainer\.devices=2: .*MIG"):
        check_run(configure("trainer=ddp", "trainer.devices=2"))
    assert Need.of(configure()).at_once == 3


def test_a_run_takes_a_device_while_it_trains_and_shows_it_to_its_libraries(configure, pretend) -> None:
    pretend(2)
    run = configure()
    with place(run, PlannedRun("", (), run, "").directory, "JoblibLauncher") as found:
        assert found is not None
        assert found.devices is not None
        (device,) = found.devices
        assert os.environ["PRETENDED_VISIBLE"] == device.id
        assert slots.shares() == {device.key: 1}
    assert not slots.shares()


def test_a_run_over_several_devices_takes_them_all(configure, pretend) -> None:
    pretend(3)
    run = configure("trainer=ddp", "trainer.devices=2")
    with place(run, PlannedRun("", (), run, "").directory, None) as found:
        assert found is not None
        assert [device.index for device in found.devices or ()] == [0, 1]
        assert os.environ["PRETENDED_VISIBLE"].count(",") == 1
        assert len(slots.shares()) == 2


def test_a_process_that_has_used_a_device_leaves_another_to_a_process_of_its_own(configure, pretend) -> None:
    pretend(2)
    run = configure()
    directory = PlannedRun("", (), run, "").directory
    _, second = devices.visible()
    devices.enter([second])
    with place(run, directory, "BasicLauncher") as found:  # it prefers its own
        assert found is not None
        assert found.devices == [second]
        with place(run, directory, "BasicLauncher") as other:  # the first alone is free
            assert other is not None
            assert (other.devices, other.apart) == (None, True)
            assert slots.shares() == {second.key: 1}


def test_a_run_by_itself_does_not_wait_for_what_sweeps_have(configure, pretend) -> None:
    pretend(1)
    run = configure()
    theirs = slots.take(devices.visible(), 1, 1)
    assert theirs is not None
    with place(run, PlannedRun("", (), run, "").directory, None) as found:
        assert found is not None
        assert found.devices is None
    theirs[1].close()


@pytest.mark.parametrize(
    ("variables", "launcher", "placed"),
    [
        ({"SLURM_STEP_NUM_TASKS": "1"}, "JoblibLauncher", True),  # a shell of srun's
        ({"SLURM_STEP_NUM_TASKS": "4"}, "JoblibLauncher", True),  # a sweep starts its own processes
        ({"SLURM_STEP_NUM_TASKS": "4"}, None, False),
        ({"TORCHELASTIC_RUN_ID": "x"}, None, False),
    ],
)
def test_processes_of_srun_and_torchrun_are_placed_already(
    configure, pretend, monkeypatch: pytest.MonkeyPatch, variables, launcher, placed: bool
) -> None:
    pretend(1)
    for name, value in ({"SLURM_STEP_ID": "0"} | variables).items():
        monkeypatch.setenv(name, value)
    run = configure()
    with place(run, PlannedRun("", (), run, "").directory, launcher) as found:
        assert found is not None
        assert (found.devices is not None) == placed


@pytest.mark.parametrize("launcher", ["RayLauncher", "SlurmLauncher"])
def test_other_launchers_place_runs_themselves(configure, pretend, launcher: str) -> None:
    pretend(1)
    run = configure()
    with place(run, PlannedRun("", (), run, "").directory, launcher) as found:
        assert found is not None
        assert (found.devices, found.apart) == (None, False)
        assert not slots.shares()


def test_a_run_that_waits_and_that_another_process_trains_is_left_to_it(
    configure, pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(1)
    run = configure()
    directory = PlannedRun("", (), run, "").directory
    theirs = slots.take(devices.visible(), 1, 1)
    assert theirs is not None
    with directory.lock(), place(run, directory, "JoblibLauncher") as found:
        assert found is None
    theirs[1].close()
