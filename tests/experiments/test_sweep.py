"""Sweeps: what is launched, and what becomes of runs that fail or are lost."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations.errors import RunsFailed, UserError
from experiments import sweep as sweep_module
from experiments.plan import plan_sweep
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs
from experiments.project import current
from experiments.sweep import sweep

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks

ROOT = Path(__file__).resolve().parents[2]

Act = Callable[[PlannedRun], Any]


def complete(run: PlannedRun) -> None:
    raise AssertionError("no run was to be launched")


class Launcher:
    """A launcher that does with every run what `act` says; an exception of `act` ends the batch."""

    def __init__(self, runs: Sequence[PlannedRun], act: Act) -> None:
        self.by_overrides = {run.overrides: run for run in runs}
        self.act = act
        self.batches: list[list[PlannedRun]] = []
        self.overrides: list[list[list[str]]] = []
        self.first_jobs: list[int] = []

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[Any]:
        batch = [self.by_overrides[tuple(overrides[:-3])] for overrides in job_overrides]
        self.batches.append(batch)
        self.overrides.append(job_overrides)
        self.first_jobs.append(initial_job_idx)
        return [SimpleNamespace(return_value=self.act(run)) for run in batch]


@pytest.fixture
def runs(hydra: None, results_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[PlannedRun]:
    """Four runs, unchecked."""
    monkeypatch.setattr(sweep_module, "_check", lambda runs: None)
    return plan_sweep(["study=residual", "seed=0,1", f"results_dir={results_dir}"])[:4]


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens in each sleep, in order; nothing sleeps, and no sleep is one too many."""
    actions: list[Callable[[], None]] = []
    monkeypatch.setattr(sweep_module, "time", SimpleNamespace(sleep=lambda seconds: actions.pop(0)()))
    return actions


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("seed", ["0,a", "null,0", "'0',1", "[0],1"])
def test_a_sweep_over_what_is_no_seed_is_refused_before_anything_is_written(
    seed: str, results_dir: Path
) -> None:
    launcher = Launcher([], complete)
    with pytest.raises(UserError, match=r"^seed=.*must be a whole number from 0 to 4294967295"):
        sweep(plan_sweep([f"seed={seed}", f"results_dir={results_dir}"]), launcher)
    assert not launcher.batches
    assert not results_dir.exists()


@pytest.mark.usefixtures("hydra")
def test_metrics_that_the_data_have_not_are_told_before_anything_is_trained(results_dir: Path) -> None:
    launcher = Launcher([], complete)
    planned = plan_sweep(["study=residual", "dataset=fashion_mosaic", "seed=0", f"results_dir={results_dir}"])
    with pytest.raises(
        UserError, match=r"^metrics=top1: needs one label per image; dataset=fashion_mosaic has"
    ):
        sweep(planned, launcher)
    assert not launcher.batches
    assert not results_dir.exists()


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    "arguments",
    [["residual=true,false", "seed=0"], ["study=residual", "seed=0"], ["seed=0", "model.width=0.5"]],
)
def test_what_is_launched_composes_to_what_was_planned(
    arguments: list[str], results_dir: Path, write_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_check", lambda runs: None)
    runs = plan_sweep([f"results_dir={results_dir}", *arguments])
    launcher = Launcher(runs, lambda run: write_run(run.configuration))
    sweep(runs, launcher)
    launched = [job for batch in launcher.overrides for job in batch]
    assert len(launched) == len(runs)
    for overrides, run in zip(launched, runs, strict=True):
        (composed,) = compose_runs(overrides)
        assert composed.run_id == run.run_id
        assert composed.results_dir == results_dir
        assert (composed.resolved["logger"]["group"], composed.resolved["logger"]["job_type"]) == (
            run.group,
            run.arm,
        )
        # Hydra reads the overrides of a job as they are: options are quoted.
        assert not [
            item for item in overrides if current().is_group(item.partition("=")[0]) and "=true" in item
        ]


def test_every_run_is_launched_once(runs, write_run, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = Launcher(runs, lambda run: write_run(run.configuration))
    sweep(runs, launcher)
    assert launcher.batches == [runs]
    assert launcher.first_jobs == [0]
    assert f"4 of 4 runs done; records: {runs[0].directory.path.parent}\n" in capsys.readouterr().out


def test_only_what_is_missing_is_launched(runs, write_run) -> None:
    write_run(runs[0].configuration, "completed")
    write_run(runs[1].configuration, "diverged")
    write_run(runs[2].configuration, "running", epochs=1)  # interrupted
    launcher = Launcher(runs, lambda run: write_run(run.configuration))
    sweep(runs, launcher)
    assert launcher.batches == [runs[2:]]


def test_when_all_is_done_nothing_is_launched(runs, write_run) -> None:
    for run in runs:
        write_run(run.configuration)
    launcher = Launcher(runs, complete)
    sweep(runs, launcher)
    assert not launcher.batches


def test_a_failing_run_is_named_and_the_others_go_on(runs, write_run) -> None:
    bad = runs[1]
    launcher = Launcher(
        runs, lambda run: write_run(run.configuration, "failed" if run is bad else "completed")
    )
    with pytest.raises(RunsFailed) as raised:
        sweep(runs, launcher)
    assert launcher.batches == [runs]  # it is not tried twice in one command
    assert str(raised.value).splitlines() == [
        "1 of 4 runs failed:",
        f"  {bad.arm} seed {bad.seed}: OSError: disk full ({bad.directory.path})",
    ]
    assert [run.directory.status() for run in runs] == ["completed", "failed", "completed", "completed"]


def test_a_run_that_failed_before_is_launched_again(runs, write_run) -> None:
    write_run(runs[0].configuration, "failed")
    launcher = Launcher(runs, lambda run: write_run(run.configuration))
    sweep(runs, launcher)
    assert launcher.batches == [runs]


def test_a_run_that_fails_again_is_named(runs, write_run) -> None:
    write_run(runs[0].configuration, "failed")

    def act(run: PlannedRun) -> None:
        status = "failed" if run is runs[0] else "completed"
        write_run(run.configuration, status, finished="2026-02-03T00:00:00+00:00", epochs=6)

    launcher = Launcher(runs, act)
    with pytest.raises(RunsFailed, match=r"1 of 4 runs failed:\n.*disk full"):
        sweep(runs, launcher)
    assert launcher.batches == [runs]


def test_an_earlier_failure_is_none_of_this_command(runs, write_run) -> None:
    write_run(runs[3].configuration, "failed")

    def act(run: PlannedRun) -> None:
        if run is runs[2] and len(launcher.batches) == 1:
            raise RuntimeError("the pool died before the last run began")
        write_run(run.configuration)

    launcher = Launcher(runs, act)
    sweep(runs, launcher)
    assert launcher.batches == [runs, [runs[2]], [runs[3]]]


def test_a_dead_pool_costs_only_the_run_that_killed_it(runs, write_run) -> None:
    culprit = runs[1]

    def act(run: PlannedRun) -> None:
        if run is culprit:
            write_run(run.configuration, "running")
            raise RuntimeError("a worker process\nwas killed")
        write_run(run.configuration)

    launcher = Launcher(runs, act)
    with pytest.raises(RunsFailed) as raised:
        sweep(runs, launcher)
    # runs[0] was done when the pool died; those that had not started go together, the suspect alone.
    assert launcher.batches == [runs, [runs[2], runs[3]], [runs[1]]]
    assert launcher.first_jobs == [0, 4, 6]
    assert str(raised.value).splitlines() == [
        "1 of 4 runs failed:",
        f"  {culprit.arm} seed {culprit.seed}: RuntimeError: a worker process was killed "
        f"({culprit.directory.path})",
    ]
    assert [run.directory.status() for run in runs] == ["completed", "missing", "completed", "completed"]


def test_a_run_that_leaves_no_trace_is_given_up_after_the_second_time(runs) -> None:
    launcher = Launcher(runs[:1], lambda run: None)
    with pytest.raises(RunsFailed, match="its process ended without an outcome"):
        sweep(runs[:1], launcher)
    assert launcher.batches == [runs[:1], runs[:1]]


def test_an_interrupt_is_no_failure_of_a_launcher(runs) -> None:
    def interrupt(run: PlannedRun) -> None:
        raise KeyboardInterrupt

    launcher = Launcher(runs, interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep(runs, launcher)
    assert len(launcher.batches) == 1


def test_a_run_of_another_process_is_waited_for(runs, write_run, sleeps) -> None:
    theirs = runs[0]
    other = ExitStack()
    other.enter_context(theirs.directory.lock())  # it has not even written its record

    def finish() -> None:
        write_run(theirs.configuration)
        other.close()

    sleeps += [lambda: None, lambda: write_run(theirs.configuration, "running"), finish]
    launcher = Launcher(runs, lambda run: None if run is theirs else write_run(run.configuration))
    sweep(runs, launcher)
    assert launcher.batches == [runs]  # not launched again
    assert not sleeps
    assert theirs.directory.status() == "completed"


def test_a_run_whose_process_dies_is_taken_over(runs, write_run, sleeps) -> None:
    theirs = runs[2]
    write_run(theirs.configuration, "running", epochs=1)
    other = ExitStack()
    other.enter_context(theirs.directory.lock())
    sleeps += [other.close]

    def act(run: PlannedRun) -> None:
        if not run.directory.is_locked():
            write_run(run.configuration)

    launcher = Launcher(runs, act)
    sweep(runs, launcher)
    assert launcher.batches == [runs, [theirs]]
    assert launcher.first_jobs == [0, 4]
    assert [run.directory.status() for run in runs] == ["completed"] * 4


def test_another_process_may_finish_while_we_launch(runs, write_run) -> None:
    for run in runs[:2]:
        write_run(run.configuration, "running")
    launcher = Launcher(runs, lambda run: write_run(run.configuration, "diverged"))
    sweep(runs, launcher)
    assert launcher.batches == [runs]


def test_an_unreadable_record_counts_as_missing(runs, write_run) -> None:
    write_run(runs[0].configuration).record_path.write_text("{")
    launcher = Launcher(runs, lambda run: write_run(run.configuration))
    sweep(runs, launcher)
    assert launcher.batches == [runs]


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    "arguments",
    [["residual=true,false", "recipe.epochs=2,0"], ["study=residual", "seed=0,-1"], ["seed=0,4294967296"]],
)
def test_one_bad_run_stops_a_sweep_before_anything_is_written(
    arguments: list[str], results_dir: Path
) -> None:
    runs = plan_sweep([*arguments, f"results_dir={results_dir}"])
    launcher = Launcher(runs, complete)
    with pytest.raises(UserError, match=r"(epochs=0|seed=-1|seed=4294967296): must be "):
        sweep(runs, launcher)
    assert not launcher.batches
    assert not results_dir.exists()


ALL_DONE = """
import sys
from pathlib import Path
from experiments.planning import hydra_configuration
from experiments.plan import plan_sweep
from experiments.sweep import sweep
with hydra_configuration():
    runs = plan_sweep(sys.argv[1:])
    sweep(runs, None)  # a launcher that is called would fail
print([name for name in ("torch", "lightning", "pandas", "wandb", "matplotlib") if name in sys.modules])
"""


@pytest.mark.usefixtures("hydra")
def test_a_sweep_that_is_done_imports_nothing_heavy(results_dir: Path, write_run) -> None:
    # None that matches parameters: that counts networks.
    arguments = ["study=intermediate_activation,operation_order", f"results_dir={results_dir}", "seed=0,1"]
    for run in plan_sweep(arguments):
        write_run(run.configuration)
    answer = subprocess.run(
        [sys.executable, "-c", ALL_DONE, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines() == [
        f"8 of 8 runs done; nothing trained; records: {results_dir}/runs",
        "[]",
    ]
