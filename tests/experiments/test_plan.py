"""What a command asks for: products of choices and unions of studies, each run once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import UserError
from experiments import plan as plan_module
from experiments.check import check_values
from experiments.configuration import RunConfiguration
from experiments.plan import plan_choices, plan_sweep
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.project import Project, use

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks


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
    with pytest.raises(UserError, match="does not affect results"):
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
    check_values(launched)  # though its own option of diagnostics is none
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


def test_two_choices_that_build_the_same_are_refused(hydra, tmp_path: Path) -> None:
    """A factor that a user adds, of which two options name the same part."""
    conf = tmp_path / "conf"
    (conf / "pool").mkdir(parents=True)
    for option in ("one", "other"):
        (conf / "pool" / f"{option}.yaml").write_text("_target_: torch.nn.Identity\n_partial_: true\n")
    (conf / "project.yaml").write_text("defaults:\n  - config\n  - pool: one\n  - _self_\n")
    with (
        use(Project(tmp_path)),
        hydra_configuration(),
        pytest.raises(UserError, match=r"pool=one and pool=other: identical runs"),
    ):
        plan_sweep(["pool=one,other"])


SWEPT = ("recipe.optimizer.lr=0.05,0.1", "residual=true,false", "seed=0,1")


@pytest.mark.usefixtures("hydra")
def test_swept_choices_are_a_study_of_their_combinations() -> None:
    study, runs = plan_choices(SWEPT)
    assert {run.run_id for run in runs} == {run.run_id for run in plan_sweep(SWEPT)}
    assert [arm.label for arm in study.arms] == [
        f"lr={rate}, residual={option}" for rate in ("0.05", "0.1") for option in ("true", "false")
    ]
    assert {run.arm for run in runs} == {arm.name for arm in study.arms}
    assert study.baseline == study.arms[0].name
    assert study.seeds == (0, 1)
    assert study.target is None
    assert study.swept is not None
    assert not study.swept.two_numbers
    numbers, _ = plan_choices(["recipe.optimizer.lr=0.05,0.1", "weight_decay=0,1e-4", "recipe.epochs=1"])
    assert numbers.swept is not None
    assert numbers.swept.two_numbers
    assert [numbers.swept.values[arm.name] for arm in numbers.arms] == [
        (rate, decay) for rate in (0.05, 0.1) for decay in (0, 1e-4)
    ]


@pytest.mark.usefixtures("hydra")
def test_a_study_that_is_varied_by_a_list_has_the_runs_of_each() -> None:
    beside = ["study=residual", "seed=0"]
    each = [plan_sweep([*beside, f"recipe.epochs={epochs}"]) for epochs in (1, 2)]
    both = plan_sweep([*beside, "recipe.epochs=1,2"])
    assert [run.run_id for run in both] == [run.run_id for runs in each for run in runs]


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("beside", "message"),
    [("tuning=learning_rate", "tuning=learning_rate: needs a study"), ("results_dir=a,b", "one folder")],
)
def test_what_a_table_of_swept_choices_cannot_have(beside: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_choices(["residual=true,false", beside])
