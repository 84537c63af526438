"""Sweeps: what is planned, what is launched, and what becomes of runs that fail or are lost."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations.errors import RunsFailed, UserError
from ablations.runs.configuration import RunConfiguration, is_group
from ablations.studies.planned_run import PlannedRun
from ablations.studies.planning import compose_runs, plan_study
from ablations.sweeps import plan as plan_module
from ablations.sweeps import sweep as sweep_module
from ablations.sweeps.plan import plan_sweep
from ablations.sweeps.sweep import sweep

ROOT = Path(__file__).resolve().parents[3]


# What is planned


@pytest.mark.usefixtures("hydra")
def test_a_product_of_choices() -> None:
    runs = plan_sweep(
        ["model=xception", "intermediate_activation=none,relu,elu", "residual='true','false'", "seed=0,1,2"]
    )
    assert len({run.run_id for run in runs}) == len(runs) == 18
    found = {
        (
            run.configuration.choices["intermediate_activation"],
            run.configuration.choices["residual"],
            run.seed,
        )
        for run in runs
    }
    activations, residuals = ("none", "relu", "elu"), ("true", "false")
    assert found == {(a, r, s) for a in activations for r in residuals for s in (0, 1, 2)}
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6 + [2] * 6  # whole comparisons first
    assert {run.arm for run in runs} == {
        f"intermediate_activation={a} residual={r}" for a in activations for r in residuals
    }
    assert {run.group for run in runs} == {"intermediate_activation=none,relu,elu residual=true,false"}


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["residual=true,false"], [["residual=true"], ["residual=false"]]),  # as typed, unquoted
        (["seed=0,1"], [["seed=0"], ["seed=1"]]),
        (["seed=range(0,2)"], [["seed=0"], ["seed=1"]]),
        (["recipe.epochs=2"], [["recipe.epochs=2"]]),
        (["model.width=0.5,0.25", "seed=1"], [["model.width=0.5", "seed=1"], ["model.width=0.25", "seed=1"]]),
        (
            ["+recipe.optimizer.nesterov=true,false"],
            [[f"+recipe.optimizer.nesterov={n}"] for n in (True, False)],
        ),
        ([], [[]]),
        (["seed=1,1", "model.width=0.5,5e-1"], [["seed=1", "model.width=0.5"]]),  # each run once
    ],
)
def test_every_combination_is_planned_once(arguments: list[str], overrides: list[list[str]]) -> None:
    expected = {compose_runs(item)[0].run_id for item in overrides}
    runs = plan_sweep(arguments)
    assert len(runs) == len(expected)
    assert {run.run_id for run in runs} == expected


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("argument", ["trainer.threads=1,2", "logger.project=a,b", "diagnostics=none,all"])
def test_what_changes_no_outcome_is_not_swept_over(argument: str) -> None:
    with pytest.raises(UserError, match="changes no outcome"):
        plan_sweep([argument])


@pytest.mark.usefixtures("hydra")
def test_the_union_of_studies_has_what_they_share_once(results_dir: Path) -> None:
    others = [f"results_dir={results_dir}", "seed=0,1"]
    runs = plan_sweep(["study=residual,intermediate_activation", *others])
    alone = {
        name: {run.run_id for run in plan_study(name, others)[1]}
        for name in ("residual", "intermediate_activation")
    }
    assert len(runs) == 12  # 8 + 6 - 2
    assert {run.run_id for run in runs} == alone["residual"] | alone["intermediate_activation"]
    assert {run.run_id for run in plan_sweep(["study='residual'", *others])} == alone["residual"]
    assert {run.directory.path.parents[1] for run in runs} == {results_dir}


MEASURED = "{_target_: lightning_modules.diagnostics.DeadUnits, images: 8, tolerance: 0.5}"


@pytest.mark.usefixtures("hydra")
def test_a_run_that_two_ask_for_measures_what_both_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(*overrides: str) -> PlannedRun:
        (configuration,) = compose_runs(overrides)
        return PlannedRun("arm", overrides, configuration, "sweep")

    asked = [planned(), planned("diagnostics=dead_units"), planned("diagnostics=gradient_norm")]
    monkeypatch.setattr(plan_module, "_plan_product", lambda _: asked)
    (run,) = plan_sweep([])
    (everything,) = compose_runs(["diagnostics=all", "~diagnostics.effective_rank"])
    assert run.configuration.diagnostics == everything.diagnostics
    (launched,) = compose_runs(run.overrides)  # by the launcher, from its overrides alone
    assert launched.diagnostics == everything.diagnostics
    assert launched.run_id == run.run_id == asked[0].run_id

    asked.append(planned(f"++diagnostics.dead_units={MEASURED}"))
    with pytest.raises(UserError, match=r"^diagnostics\.dead_units: sweep and sweep share a run"):
        plan_sweep([])


@pytest.mark.usefixtures("hydra")
def test_two_results_directories_have_a_run_each(results_dir: Path) -> None:
    runs = plan_sweep([f"results_dir={results_dir}/a,{results_dir}/b"])
    assert [run.directory.path.parents[1].name for run in runs] == ["a", "b"]


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    "argument", ["seed=interval(0,1)", "residual=glob(*)", "study=glob(*)", "study=range(0,2)"]
)
def test_values_that_do_not_stand_there_are_refused(argument: str) -> None:
    with pytest.raises(UserError, match="separated by commas"):
        plan_sweep([argument])


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
    with pytest.raises(UserError, match=r"^dataset=fashion_mosaic: measures map100 and not top1, which"):
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
        assert not [item for item in overrides if is_group(item.partition("=")[0]) and "=true" in item]


# What is launched

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
    with pytest.raises(UserError, match="must be a whole number"):
        sweep(runs, launcher)
    assert not launcher.batches
    assert not results_dir.exists()


ALL_DONE = """
import sys
from pathlib import Path
from ablations.studies.planning import hydra_configuration
from ablations.sweeps.plan import plan_sweep
from ablations.sweeps.sweep import sweep
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
        f"8 of 8 runs done; records: {results_dir}/runs",
        "[]",
    ]


@pytest.mark.usefixtures("hydra")
def test_seeds_are_composed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[list[int] | None] = []

    def count(overrides: Sequence[str], seeds: Any = None) -> list[RunConfiguration]:
        composed.append(seeds)
        return compose_runs(overrides, seeds)

    monkeypatch.setattr(plan_module, "compose_runs", count)
    runs = plan_sweep(["residual='true','false'", "seed=range(200)"])
    assert len(runs) == 400
    assert composed == [list(range(200))] * 2
    assert [(run.arm, run.seed) for run in runs[:3]] == [
        ("residual=true", 0), ("residual=false", 0), ("residual=true", 1)
    ]  # fmt: skip
    (alone,) = compose_runs(runs[-1].overrides)
    assert alone.run_id == runs[-1].run_id
    composed.clear()
    assert [run.seed for run in plan_sweep(["seed=1,2", "++seed=5"])] == [5]  # the last one counts
    assert composed == [None, None]
