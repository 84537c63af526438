"""Equal tuning with a launcher that writes made-up records: nothing is trained."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations import __main__ as command
from ablations.errors import RunsFailed, UserError
from ablations.runs.records import RunDirectory
from experiments import sweep as sweep_module
from experiments import trials as trials_module
from experiments import tuning as tuning_module
from experiments.configuration import RunConfiguration
from experiments.plan import plan_named, plan_sweep
from experiments.planning import compose_runs, hydra_configuration
from experiments.sweep import sweep
from experiments.tuning import TuningPlan, plan_tuning, tune_studies
from tests.processes import FORKED

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks

ARMS = "tuning.arms=[residual,non_residual]"
NOTHING_BESIDE = "diagnostics=none"
"""Made-up runs have metrics alone."""


def validation(configuration: RunConfiguration) -> float:
    """Best at a rate of 0.04 with shortcuts and of 0.018 without; test is best elsewhere."""
    best = 0.04 if configuration.choices["residual"] == "true" else 0.018
    rate = configuration.resolved["recipe"]["optimizer"]["lr"]
    return 0.9 - 0.1 * abs(math.log10(rate / best)) + 0.001 * (configuration.seed % 10)


class Launcher:
    """Writes a record for every job, made of what the job's own overrides compose to."""

    def __init__(self, write_run: Callable[..., RunDirectory]) -> None:
        self.write_run = write_run
        self.batches: list[list[RunConfiguration]] = []
        self.status: Callable[[RunConfiguration], str] = lambda configuration: "completed"

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        batch = [compose_runs(overrides)[0] for overrides in job_overrides]
        self.batches.append(batch)
        for configuration in batch:
            self.train(configuration)
        return [SimpleNamespace(return_value=None) for _ in batch]

    def train(self, configuration: RunConfiguration) -> None:
        value = validation(configuration)
        metrics = {"val_loss": 1.0, "val_top1": value, "test_loss": 1.0, "test_top1": 1 - value}
        status = self.status(configuration)
        epochs = 6 if status == "completed" else 0
        only = {"metrics": metrics if status == "completed" else None}
        self.write_run(configuration, status, epochs, **only)

    @property
    def trained(self) -> list[RunConfiguration]:
        return [configuration for batch in self.batches for configuration in batch]


@pytest.fixture
def launcher(hydra: None, write_run, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """What launches; runs are not checked."""
    monkeypatch.setattr(sweep_module, "_check", lambda runs: None)
    monkeypatch.setattr(tuning_module, "_check_space", lambda plan: None)
    return Launcher(write_run)


@pytest.fixture
def others(results_dir: Path) -> list[str]:
    """The choices beside study=residual: four trials of the paper's two arms."""
    return ["tuning=learning_rate", "tuning.trials=4", ARMS, NOTHING_BESIDE, f"results_dir={results_dir}"]


@pytest.fixture(scope="module")
def tuned(write_run, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RunConfiguration], list[str]]:
    """The results of four trials of two arms of study=residual, and the words behind them; read-only."""
    results_dir = tmp_path_factory.mktemp("tuned")
    others = ["tuning=learning_rate", "tuning.trials=4", ARMS, NOTHING_BESIDE, f"results_dir={results_dir}"]
    launcher = Launcher(write_run)
    with pytest.MonkeyPatch.context() as patch, hydra_configuration():
        patch.setattr(sweep_module, "_check", lambda runs: None)
        patch.setattr(tuning_module, "_check_space", lambda plan: None)
        tune_studies(["study=residual", *others], launcher)
    (batch,) = launcher.batches  # a sampler that does not look at results draws all at once
    return batch, others


def rates(configurations: Sequence[RunConfiguration], residual: str) -> list[float]:
    return [
        configuration.resolved["recipe"]["optimizer"]["lr"]
        for configuration in configurations
        if configuration.choices["residual"] == residual
    ]


# What is tried


def test_every_arm_has_the_same_trials_with_the_same_seeds_and_the_configured_first(tuned) -> None:
    batch, _ = tuned
    assert len(batch) == 2 * 4
    tried = rates(batch, "true")
    assert tried == rates(batch, "false")
    assert tried[0] == 0.05  # as configured
    assert len(set(tried)) == 4
    assert all(0.001 <= rate <= 1 for rate in tried)
    assert {configuration.seed for configuration in batch} == {100}


@pytest.mark.usefixtures("hydra")
def test_the_configured_trial_is_the_ordinary_run(tuned) -> None:
    batch, others = tuned
    _, runs = plan_named("residual", ["seed=100", NOTHING_BESIDE, others[-1]])
    configured = {run.run_id for run in runs if run.arm in ("residual", "non_residual")}
    assert configured <= {configuration.run_id for configuration in batch}


@pytest.mark.usefixtures("hydra")
def test_drawn_numbers_can_be_typed_and_are_what_the_storage_has(tuned) -> None:
    batch, others = tuned
    plan = plan_tuning("residual", others)
    for arm, residual in (("residual", "true"), ("non_residual", "false")):
        kept = [trial.settings["learning_rate"] for trial in plan.storage.read(plan.storage_names[arm])]
        assert kept == rates(batch, residual)
        assert all(rate == float(f"{rate:.3g}") for rate in kept)


def test_all_arms_are_tuned_where_none_is_named(launcher, results_dir: Path) -> None:
    overrides = ["tuning=learning_rate", "tuning.trials=2", f"results_dir={results_dir}"]
    tune_studies(["study=intermediate_activation", *overrides], launcher)
    found = [configuration.choices["intermediate_activation"] for configuration in launcher.trained]
    assert sorted(found) == ["elu", "elu", "none", "none", "relu", "relu"]


def test_a_learning_sampler_looks_at_results_between_batches(launcher, others) -> None:
    arguments = ["study=residual", *others, "tuning=learning_rate_weight_decay", "tuning.trials=5"]
    arguments.remove("tuning=learning_rate")
    more = ["tuning.batch=2", "tuning.seeds=[100]", "tuning.sampler.n_startup_trials=2"]
    tune_studies([*arguments, *more], launcher)
    assert [len(batch) for batch in launcher.batches] == [4, 4, 2]
    assert rates(launcher.batches[0], "true") == rates(launcher.batches[0], "false")  # still random
    assert rates(launcher.batches[2], "true") != rates(launcher.batches[2], "false")


def test_nothing_happens_without_tuning(launcher) -> None:
    tune_studies(["study=residual"], launcher)
    tune_studies(["residual=true,false"], launcher)
    assert not launcher.batches


# The tuned study


@pytest.mark.usefixtures("hydra")
def test_the_best_on_validation_is_trained_on_fresh_seeds(tuned) -> None:
    batch, others = tuned
    study, runs = plan_named("residual", others)
    tried = rates(batch, "true")
    best = {
        arm: max(tried, key=lambda rate: -abs(math.log10(rate / at)))
        for arm, at in (("residual", 0.04), ("non_residual", 0.018))
    }
    assert best["residual"] != best["non_residual"]
    tuned, as_configured = study.arms[:2], study.arms[2:]
    assert [arm.name for arm in tuned] == ["residual", "non_residual"]
    assert [arm.name for arm in as_configured] == ["residual_configured", "non_residual_configured"]
    assert [study.compared_with(arm) for arm in as_configured] == ["residual", "residual_configured"]
    for arm in as_configured:
        assert arm.label.endswith(", learning rate 0.05 (as configured)")
    _, untuned = plan_named("residual", ["seed=200,201,202,203,204,205,206,207", NOTHING_BESIDE, others[-1]])
    assert {run.run_id for run in runs if run.arm == "non_residual_configured"} == {
        run.run_id for run in untuned if run.arm == "non_residual"
    }
    for arm in tuned:
        assert arm.label.endswith(f", learning rate {best[arm.name]:g}")
        assert arm.choose["recipe.optimizer.lr"] == best[arm.name]
        found = {
            run.configuration.resolved["recipe"]["optimizer"]["lr"] for run in runs if run.arm == arm.name
        }
        assert found == {best[arm.name]}
    assert study.scale.count("Xception") == 1  # of the arms that are tuned
    assert study.seeds == tuple(range(200, 208))
    assert {run.seed for run in runs} == set(study.seeds)
    assert {run.seed for run in runs}.isdisjoint(configuration.seed for configuration in batch)
    assert len({run.run_id for run in runs}) == len(runs) == 32
    assert study.name == "residual"
    assert study.baseline == "residual"
    assert study.output == (
        "figure09_residual__tuning=learning_rate__tuning.arms=_residual,non_residual___tuning.trials=4"
    )


def test_the_sweep_behind_it_trains_what_was_planned(launcher, others) -> None:
    arguments = ["study=residual", *others, "seed=200"]
    tune_studies(arguments, launcher)
    launcher.batches.clear()
    planned = plan_sweep(arguments)
    sweep(planned, launcher)
    assert {configuration.run_id for configuration in launcher.trained} == {run.run_id for run in planned}
    assert {run.directory.status() for run in planned} == {"completed"}


def test_seeds_beside_it_are_the_fresh_ones(launcher, others) -> None:
    tune_studies(["study=residual", *others, "seed=7,8"], launcher)
    assert {configuration.seed for configuration in launcher.trained} == {100}
    study, _ = plan_named("residual", [*others, "seed=7,8"])
    assert study.seeds == (7, 8)
    assert study.output.endswith("__seed=7,8")
    assert plan_named("residual", others)[0].seeds[0] == 200  # the trials serve any fresh seeds


def test_a_diverged_trial_counts_as_chance(launcher, others) -> None:
    def status(configuration: RunConfiguration) -> str:
        rate = configuration.resolved["recipe"]["optimizer"]["lr"]
        return "diverged" if rate == 0.05 else "completed"

    launcher.status = status
    tune_studies(["study=residual", *others], launcher)
    tuning = plan_named("residual", others)[0].tuning
    for trials in tuning.trials.values():
        assert trials[0].value == 0.1  # of ten classes
        assert [trial.diverged for trial in trials] == [1, 0, 0, 0]
    assert 0 not in map(tuning.best, tuning.trials)


def test_the_value_of_a_trial_is_the_mean_over_its_seeds(launcher, others) -> None:
    choices = [others[0], "tuning.trials=2", *others[2:], "tuning.seeds=[101,105]"]
    tune_studies(["study=residual", *choices], launcher)
    assert [configuration.seed for configuration in launcher.trained] == [101, 105] * 4
    tuning = plan_named("residual", choices)[0].tuning
    expected = 0.9 - 0.1 * math.log10(0.05 / 0.04) + 0.001 * (1 + 5) / 2
    assert tuning.trials["residual"][0].value == pytest.approx(expected, abs=1e-12)


@pytest.mark.usefixtures("hydra")
def test_the_budget_is_counted_from_the_records(tuned) -> None:
    _, others = tuned
    tuning = plan_named("residual", others)[0].tuning
    assert tuning.recorded_runs == 8
    assert tuning.core_hours == pytest.approx(8 * 60.5 / 3600)  # of one thread each
    assert tuning.epochs == 6
    assert tuning.independent
    assert tuning.keys == {"learning_rate": "recipe.optimizer.lr"}
    assert tuning.space == {"learning_rate": "log-uniform from 0.001 to 1"}


def test_fewer_trials_are_the_first_ones(launcher, others) -> None:
    tune_studies(["study=residual", *others], launcher)
    launcher.batches.clear()
    fewer = [*others, "tuning.batch=4"]
    tune_studies(["study=residual", *fewer], launcher)
    fewer[1] = "tuning.trials=2"
    assert not launcher.batches  # recorded, so not trained for another batch size
    full, part = (
        plan_named("residual", choices)[0].tuning for choices in ([*others, "tuning.batch=4"], fewer)
    )
    assert part.trials == {arm: trials[:2] for arm, trials in full.trials.items()}


@pytest.mark.usefixtures("hydra")
def test_trials_of_other_settings_are_not_taken_for_these(tuned) -> None:
    _, others = tuned
    with pytest.raises(UserError, match="0 of 8 trials"):
        plan_named("residual", [*others, "tuning.space.learning_rate.distribution.high=2.0"])
    with pytest.raises(UserError, match="0 of 8 trials"):
        plan_named("residual", [*others, "recipe.dropout=0.1"])


def test_figures_of_arms_that_are_not_tuned_are_left_out(launcher, results_dir: Path) -> None:
    choices = ["tuning=learning_rate", "tuning.trials=2", f"results_dir={results_dir}"]
    choices.append("tuning.arms=[inception_v3,xception]")
    launcher.train = lambda configuration: launcher.write_run(
        configuration,
        metrics={"val_loss": 1.0, "val_map100": 0.5, "test_loss": 1.0, "test_map100": 0.5},
    )
    tune_studies(["study=jft_comparison", *choices], launcher)
    study, _ = plan_named("jft_comparison", choices)
    assert [figure.arms for figure in study.figures] == [("inception_v3", "xception")]
    assert study.figures[0].output.startswith("figure07_jft_no_fully_connected_layers__tuning=learning_rate")


def test_tables_and_figures_lie_beside_the_others(
    launcher, others, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    folder = Path(others[-1].partition("=")[2])
    others.append("seed=200,201")
    monkeypatch.setattr(sys, "argv", ["ablations", "residual", *others])
    assert command.main() == 2
    assert capsys.readouterr().err.startswith("error: tuning=learning_rate: 0 of 8 trials")
    with hydra_configuration():
        tune_studies(["study=residual", *others], launcher)
        sweep(plan_sweep(["study=residual", *others]), launcher)
    capsys.readouterr()
    assert command.main() == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    stem = "figure09_residual__tuning=learning_rate__tuning.arms=_residual,non_residual___tuning.trials=4"
    stem += "__seed=200,201"
    assert {path.relative_to(folder).as_posix() for path in folder.glob("*es/*")} == {
        *(f"tables/{stem}{kind}.{suffix}" for kind in ("", "_trials") for suffix in ("csv", "md", "tex")),
        f"tables/{stem}_slim.tex",
        *(f"figures/{stem}{kind}.{suffix}" for kind in ("", "_trials") for suffix in ("png", "svg", "pdf")),
    }
    page = (folder / "tables" / f"{stem}.md").read_text()
    assert "# Residual connections, each arm tuned" in page
    assert "4 trials × 1 seed × 6 epochs for each of 2 arms, 8 runs, 8 min" in page
    assert page.count("2 / 2") == 2 * 4  # four arms in two tables


@pytest.mark.usefixtures("hydra")
def test_a_part_of_a_product_of_factors_is_no_design(results_dir: Path) -> None:
    choices = ["tuning=learning_rate", f"results_dir={results_dir}"]
    whole = plan_tuning("spectrum", choices).study
    assert whole.design is not None
    names = [whole.baseline, next(arm.name for arm in whole.arms if arm.name != whole.baseline)]
    part = plan_tuning("spectrum", [*choices, f"tuning.arms=[{','.join(names)}]"]).study
    assert part.design is None
    assert {arm.name for arm in part.arms} == set(names)


# Interrupted, side by side, damaged


class Killed(BaseException):
    """What ends a process, as a test sees it."""


def test_what_is_told_is_not_run_again(launcher, others) -> None:
    tune_studies(["study=residual", *others], launcher)
    journal = plan_tuning("residual", others).storage_path
    before, runs = journal.read_bytes(), len(launcher.trained)
    tune_studies(["study=residual", *others], launcher)
    assert len(launcher.trained) == runs
    assert journal.read_bytes() == before


def test_any_order_of_the_words_finds_the_journal(hydra: None, others) -> None:
    words = ["recipe.epochs=2", "recipe.batch_size=16"]
    journal = plan_tuning("residual", [*others, *words]).storage_path
    assert plan_tuning("residual", [*others, *words[::-1]]).storage_path == journal


def test_killed_between_drawing_and_telling(launcher, others) -> None:
    trained = launcher.train

    def die(configuration: RunConfiguration) -> None:
        if len(list(Path(configuration.results_dir).glob("runs/*"))) == 3:
            raise Killed
        trained(configuration)

    launcher.train = die
    with pytest.raises(Killed):
        tune_studies(["study=residual", *others], launcher)
    planned = [configuration.run_id for configuration in launcher.trained]
    launcher.batches.clear()
    launcher.train = trained
    tune_studies(["study=residual", *others], launcher)
    assert [configuration.run_id for configuration in launcher.trained] == planned[3:]
    plan = plan_tuning("residual", others)
    assert [len(plan.storage.read(name)) for name in plan.storage_names.values()] == [4, 4]


def test_killed_at_any_write_of_the_storage(
    launcher, others, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = ["tuning=learning_rate_weight_decay", "tuning.trials=3", "tuning.batch=2", "tuning.seeds=[100]"]
    choices += ["tuning.sampler.n_startup_trials=1", ARMS, NOTHING_BESIDE]
    tune_studies(["study=residual", *choices, f"results_dir={tmp_path}/alone"], launcher)
    expected = [configuration.run_id for configuration in launcher.trained]
    backend = trials_module.JournalFileBackend
    left = 0

    class Dying(backend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                line = json.dumps(logs[0]).encode()
                with open(self._file_path, "ab") as file:
                    file.write(line[: len(line) // 2])  # half a line
                raise Killed
            super().append_logs(logs)

    for left in (2, 11, 33):
        launcher.batches.clear()
        here = [*choices, f"results_dir={tmp_path}/killed_{left}"]
        monkeypatch.setattr(trials_module, "JournalFileBackend", Dying)
        with pytest.raises(Killed):
            tune_studies(["study=residual", *here], launcher)
        monkeypatch.setattr(trials_module, "JournalFileBackend", backend)
        tune_studies(["study=residual", *here], launcher)
        assert [configuration.run_id for configuration in launcher.trained] == expected
        assert plan_named("residual", here)[0].tuning.recorded_runs == 6


def test_a_failed_trial_stops_the_tuning_and_is_tried_again(launcher, others) -> None:
    launcher.status = lambda configuration: (
        "failed" if rates([configuration], "false") == [0.05] else "completed"
    )
    with pytest.raises(
        RunsFailed, match=r"1 of 8 runs failed:\n  non_residual learning_rate=0.05 seed 100: "
    ):
        tune_studies(["study=residual", *others], launcher)
    with pytest.raises(UserError, match=r"7 of 8 trials of study=residual are finished; "):
        plan_named("residual", others)
    launcher.batches.clear()
    launcher.status = lambda configuration: "completed"
    tune_studies(["study=residual", *others], launcher)
    assert rates(launcher.trained, "false") == [0.05]
    assert len(launcher.trained) == 1


def draw_and_tell(plan: TuningPlan, start: Any) -> None:
    start.wait()
    names = list(plan.storage_names.values())
    first = {plan.storage_names[arm]: settings for arm, settings in plan.configured.items()}
    for count in range(1, plan.trials + 1):
        drawn = plan.storage.draw(names, count, plan.space, first, plan.sampler_of)
        for name in names:
            rate = drawn[name][count - 1].settings["learning_rate"]
            plan.storage.tell(name, count - 1, rate, [f"run at {rate}"])


def test_two_commands_at_once_share_the_trials(hydra: None, others) -> None:
    plan = plan_tuning("residual", others)
    start = FORKED.Barrier(3)
    both = [FORKED.Process(target=draw_and_tell, args=(plan, start)) for _ in range(2)]
    for process in both:
        process.start()
    start.wait()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    for name in plan.storage_names.values():
        trials = plan.storage.read(name)
        assert len(trials) == 4
        assert [trial.value for trial in trials] == [trial.settings["learning_rate"] for trial in trials]
        assert len({trial.value for trial in trials}) == 4


def test_another_commands_results_are_taken_over(launcher, others) -> None:
    """Two commands: the second draws what the first drew, and finds its trials told when it comes to tell."""

    def train_and_let_the_other_finish(configuration: RunConfiguration) -> None:
        launcher.train = trained
        trained(configuration)
        tune_studies(["study=residual", *others], launcher)

    trained = launcher.train
    launcher.train = train_and_let_the_other_finish
    tune_studies(["study=residual", *others], launcher)
    plan = plan_tuning("residual", others)
    assert [len(plan.storage.read(name)) for name in plan.storage_names.values()] == [4, 4]
    assert plan_named("residual", others)[0].tuning.recorded_runs == 8


def test_a_damaged_storage_is_a_line(launcher, others) -> None:
    content = b'{"op_code": 77}\n'
    path = plan_tuning("residual", others).storage_path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for call in (
        lambda: tune_studies(["study=residual", *others], launcher),
        lambda: plan_named("residual", others),
    ):
        with pytest.raises(UserError) as raised:
            call()
        assert str(raised.value).startswith(f"{path}: damaged (")
        assert "\n" not in str(raised.value)
    assert path.read_bytes() == content
    path.unlink()
    tune_studies(["study=residual", *others], launcher)
    assert len(launcher.trained) == 8


# What a user can get wrong

SPACE = "tuning.space.learning_rate"


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([f"{SPACE}.key=recipe.optimizer"], f"{SPACE}.key=recipe.optimizer: must be a single value, not "),
        ([f"{SPACE}.key=recipe.epochs"], f"{SPACE}.key=recipe.epochs: cannot be tuned, because every trial"),
        ([f"{SPACE}.distribution.low=1.0"], f"{SPACE}.distribution=.*only one value"),
        (
            [f"{SPACE}.distribution.low=0.5"],
            f"{SPACE}.key=.*the configured value of arm=residual, 0.05, must",
        ),
        ([f"{SPACE}.distribution=null"], f"{SPACE}.distribution=None: must be"),
        ([f"~{SPACE}"], "tuning.space: must have at least 1 item"),
        (["tuning.trials=1"], "tuning.trials=1: must be greater than or equal to 2"),
        (["tuning.seeds=[1,1]"], r"tuning.seeds=.*1, 1.*: must be different"),
        (["tuning.seeds=[200]"], r"seed=200: .*tuning.seeds=\[200\]"),
        (["seed=7,100"], r"seed=100: .*tuning.seeds=\[100\]"),
        (
            ["tuning.arms=[residual,none]"],
            r"tuning.arms=\['residual', 'none'\]: must be null \(all arms\) or a ",
        ),
        (["tuning.arms=[non_residual]"], r"tuning.arms=.* add residual, with which these arms are compared"),
        (["+tuning.sampler.speed=1"], "tuning.sampler: .*speed"),
        (["+tuning.budget=3"], "unknown key tuning.budget"),
    ],
)
def test_what_cannot_be_is_a_line(overrides: list[str], line: str, results_dir: Path) -> None:
    choices = ["tuning=learning_rate", *overrides, f"results_dir={results_dir}"]
    with pytest.raises(UserError, match=f"^{line}") as raised:
        plan_tuning("residual", choices)
    assert "\n" not in str(raised.value)
    assert not results_dir.exists()


@pytest.mark.usefixtures("hydra")
def test_two_parameters_cannot_set_one_key() -> None:
    choices = ["tuning=learning_rate_weight_decay", "tuning.space.weight_decay.key=recipe.optimizer.lr"]
    with pytest.raises(UserError, match="two parameters set this key"):
        plan_tuning("residual", choices)


@pytest.mark.usefixtures("hydra")
def test_a_part_that_refuses_a_value_of_the_space_is_told_before_anything_is_written(
    results_dir: Path, write_run
) -> None:
    choices = ["tuning=learning_rate", f"results_dir={results_dir}", f"{SPACE}.distribution.log=false"]
    launcher = Launcher(write_run)
    with pytest.raises(UserError, match=r"recipe.optimizer.lr=-0.5: must be greater than or equal to 0"):
        tune_studies(["study=residual", *choices, f"{SPACE}.distribution.low=-0.5"], launcher)
    with pytest.raises(UserError, match=r"tuning.seeds.0=-1: must be greater than or equal to 0"):
        tune_studies(["study=residual", *choices, "tuning.seeds=[-1]"], launcher)
    assert not launcher.batches
    assert not results_dir.exists()


@pytest.mark.usefixtures("hydra")
def test_tuning_needs_a_study(write_run) -> None:
    with pytest.raises(UserError, match=r"^tuning=learning_rate: needs a study: add study=NAME"):
        tune_studies(["tuning=learning_rate", "residual=true,false"], Launcher(write_run))
    with pytest.raises(UserError, match=r"^tuning=a,b: with a study only the seed"):
        tune_studies(["study=residual", "tuning=a,b"], Launcher(write_run))


@pytest.mark.usefixtures("hydra")
def test_without_optuna_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        UserError, match=r"^tuning=learning_rate: needs optuna: pip install 'xception-ablations\[tuning\]'$"
    ):
        plan_named("residual", ["tuning=learning_rate"])


@pytest.mark.usefixtures("hydra")
def test_tuning_is_no_part_of_a_runs_identity() -> None:
    (tuned,), (plain,) = compose_runs(["tuning=learning_rate"]), compose_runs([])
    assert tuned.run_id == plain.run_id
    assert tuned.choices == plain.choices
