"""Equal tuning: every arm gets the same search, then the arms are compared at their best.

The paper trains the network without residual connections with the settings of the one with them, which "may
be uncharitable" (section 4.6). `python run.py -m study=residual tuning=learning_rate` tests this:

1. Every arm has the same number of trials, with the same seeds and space (`conf/tuning`). The first trial has
   the configured settings. A sampler that does not learn draws the same for every arm.
2. An arm's best is the trial with the best validation value.
3. Each arm is trained on fresh seeds at its best and with the configured settings, so that the effect of
   tuning is a paired difference. This tuned study has its own tables, figures and verdicts.

A trial is an ordinary run per seed. `seed=0,1` replaces the fresh seeds, not those of the trials.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ablations.errors import RunsFailed, UserError, as_user_error
from ablations.files import check_writable
from ablations.lazily import lazily
from ablations.runs.identity import at, identity_of, is_outside_identity
from ablations.runs.records import DONE, RunDirectory
from ablations.studies.results import CONFIGURED, Arm, Study, Trial, Tuning, final_value
from ablations.studies.schema import TUNING
from ablations.text import amount, shown_settings
from ablations.validation import validated
from experiments.configuration import hydra_value, quote_option_names
from experiments.errors import explained
from experiments.overrides import is_tuning, output_suffix, split_seed, split_studies, tuning_option
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, plan_study
from experiments.project import current
from experiments.scale import scale_of
from experiments.sweep import sweep

with lazily():
    from ablations.evidence import verdicts as judging
    from ablations.tables import tuning as tables
    from experiments import check
    from experiments import trials as storing

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from experiments.trials import DrawnTrial, TrialStorage

BUDGET_KEYS = ("seed", "recipe.epochs", "recipe.batch_size")
"""Keys that trials may not set: budgets would differ, or seeds would not be paired."""


@dataclass(frozen=True)
class TuningPlan:
    """The plan of a tuning.

    Attributes:
        study: As configured, with the tuned arms.
        option: File in conf/tuning.
        overrides: Per arm, without the seed.
        configured: Per arm, the value of each parameter.
        keys: Key per parameter.
        space: Distribution per parameter.
        trials: Number per arm, including the configured settings.
        batch: Trials per arm that are drawn before results are used.
        seeds: Of each trial.
        fresh_seeds: Of the runs at the best settings.
        sampler: Node.
        storage_names: Per arm, with a hash of everything that the trials depend on.
        storage_path: File of the trials.
        suffix: Of the tuned study's files.
    """

    study: Study
    option: str
    overrides: Mapping[str, tuple[str, ...]]
    configured: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, str]
    space: Mapping[str, "BaseDistribution"]
    trials: int
    batch: int
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    sampler: Mapping[str, Any]
    storage_names: Mapping[str, str]
    storage_path: Path
    results_dir: Path
    suffix: str

    @cached_property
    def storage(self) -> "TrialStorage":
        return storing.TrialStorage(self.storage_path)

    def sampler_of(self, index: int) -> "BaseSampler":
        """A new sampler for a trial's index, so that every process draws the same."""
        return _sampler(self.sampler, index)

    def runs(
        self, arm: str, settings: Mapping[str, Any], seeds: Sequence[int], name: str
    ) -> list[PlannedRun]:
        """The runs of an arm with these settings, one per seed, called `name`."""
        for parameter, value in settings.items():  # read from a file
            if parameter not in self.space or not storing.contains(self.space[parameter], value):
                raise UserError(
                    f"{self.storage_path}: damaged: {parameter}={value} is not in tuning.space; delete "
                    "the file and rerun the command, which trains only what is not recorded"
                )
        set_here = [f"{self.keys[parameter]}={hydra_value(value)}" for parameter, value in settings.items()]
        overrides = [*self.overrides[arm], *set_here]
        return [
            PlannedRun(
                arm=name,
                overrides=(*overrides, f"seed={configuration.seed}"),
                configuration=configuration,
                group=f"{self.study.name} tuning={self.option}",
                metrics=self.study.metrics,
            )
            for configuration in compose_runs(overrides, seeds)
        ]

    def trial_runs(self, arm: str, settings: Mapping[str, Any]) -> list[PlannedRun]:
        name = " ".join([arm, *(f"{parameter}={value}" for parameter, value in settings.items())])
        return self.runs(arm, settings, self.seeds, name)


def plan_tuning(name: str, overrides: Sequence[str]) -> TuningPlan:
    """Plan the study `name` with `overrides`, which have `tuning=NAME`; Hydra must be initialized.

    Raises:
        UserError: Optuna is not installed, the option has an invalid value, the space names a key that an
            arm lacks or must keep, or trials and fresh seeds share a seed.
        HydraException: An option or key does not exist.
    """
    option = tuning_option(overrides)
    assert option is not None, "only called where arms are to be tuned"
    fresh_seeds, others = split_seed(overrides)
    seed_override = [] if fresh_seeds is None else ["seed=" + ",".join(map(str, fresh_seeds))]
    of_tuning = [item for item in others if is_tuning(item)]
    others = [item for item in others if not is_tuning(item)]
    node = _settings([f"study={name}", *others, *of_tuning], fresh_seeds)
    space = _space(option, node)
    _sampler(node["sampler"], 0)
    study, runs = plan_study(name, others)
    arms = _tuned_arms(study, node["arms"])
    first_runs = {arm: next(run for run in runs if run.arm == arm) for arm in arms}
    keys = {parameter: item["key"] for parameter, item in node["space"].items()}
    _check_keys(study, keys)
    configured = {
        arm: {
            parameter: _configured(run, parameter, keys[parameter], space[parameter]) for parameter in space
        }
        for arm, run in first_runs.items()
    }
    results_dir = runs[0].configuration.results_dir
    # The file is named after the overrides; the names inside have a hash of the details.
    suffix = output_suffix([*others, f"tuning={option}"])
    return TuningPlan(
        study=_part_of(study, arms, [run for run in runs if run.arm in arms]),
        option=option,
        overrides={arm: run.overrides[:-1] for arm, run in first_runs.items()},
        configured=configured,
        keys=keys,
        space=space,
        trials=node["trials"],
        batch=node["batch"],
        seeds=tuple(node["seeds"]),
        fresh_seeds=tuple(node["fresh_seeds"]),
        sampler=node["sampler"],
        storage_names={
            arm: f"{arm} {_fingerprint(run, study.metric, node)}" for arm, run in first_runs.items()
        },
        storage_path=results_dir / "tuning" / f"{name}{suffix}.log",
        results_dir=results_dir,
        suffix=output_suffix([*of_tuning, *seed_override]),
    )


def _settings(overrides: Sequence[str], fresh_seeds: Sequence[int] | None) -> dict[str, Any]:
    """The tuning's settings, validated; `fresh_seeds` are the user's, if any."""
    composed = compose(current().config_name, quote_option_names(overrides))
    content = OmegaConf.to_container(composed.tuning, resolve=True)
    node: dict[str, Any] = validated(TUNING, content, "", "tuning").model_dump(mode="json", by_alias=True)
    if fresh_seeds is not None:
        node["fresh_seeds"] = fresh_seeds
    if clash := sorted(set(node["seeds"]) & set(node["fresh_seeds"])):
        raise UserError(
            f"seed={clash[0]}: the trials use it (tuning.seeds={node['seeds']}), so it is not fresh; "
            "choose other seeds"
        )
    return node


def tune_studies(arguments: Sequence[str], launcher: Launcher) -> None:
    """With `tuning`, complete every trial of a sweep's studies.

    Raises:
        UserError: As `plan_tuning`, no study is named, or a trial's configuration is invalid.
        RunsFailed: Runs of a trial failed.
    """
    names, others = split_studies(arguments)
    option = tuning_option(others)
    if option is None:
        return
    if not names:
        raise UserError(f"tuning={option}: needs a study: add study=NAME")
    plans = [plan_tuning(name, others) for name in names]
    for plan in plans:
        check_writable(f"results_dir={plan.results_dir}", plan.results_dir, ["tuning"])
    for plan in plans:
        tune(plan, launcher)


def tune(plan: TuningPlan, launcher: Launcher) -> None:
    """Complete every trial of every arm; see `tune_studies`."""
    if not any(plan.storage.read(name) for name in plan.storage_names.values()):
        _check_space(plan)  # before anything is written
    budget = amount(plan.trials, "trial")
    print(f"{plan.study.name}, tuning={plan.option}: {budget} per arm in {plan.storage_path}")
    for first in range(0, plan.trials, plan.batch):
        drawn = plan.storage.draw(
            list(plan.storage_names.values()),
            min(first + plan.batch, plan.trials),
            plan.space,
            {plan.storage_names[arm]: settings for arm, settings in plan.configured.items()},
            plan.sampler_of,
            "maximize" if plan.study.deciding.sign > 0 else "minimize",
        )
        _run_trials(plan, {arm: drawn[name] for arm, name in plan.storage_names.items()}, launcher)
    tuning, metric = _tuning(plan, _results(plan)), plan.study.deciding
    for arm, trials in tuning.trials.items():
        best, configured = trials[tuning.best(arm)], trials[0]
        compared = f"as configured, {shown_settings(configured.settings)}: {metric.text(configured.value)}"
        print(
            f"{arm}: best of {budget}: {shown_settings(best.settings)}, validation {metric.label} "
            f"{metric.text(best.value)}; {'as configured' if best is configured else compared}"
        )
        if edge := tables.edge_of(trials, tuning.best(arm)):
            print(f"{arm}: its best has {edge}; a better one may lie beyond")


def _run_trials(plan: TuningPlan, drawn: Mapping[str, Sequence["DrawnTrial"]], launcher: Launcher) -> None:
    """Run all drawn trials without a result in one launch; store their results."""
    pending = [
        (arm, index, plan.trial_runs(arm, trial.settings))
        for index, of_trial in enumerate(zip(*drawn.values(), strict=True))
        for arm, trial in zip(drawn, of_trial, strict=True)
        if trial.value is None
    ]
    by_directory = {run.directory.path: run for _, _, runs in pending for run in runs}
    failure: RunsFailed | None = None
    if any(run.directory.status() not in DONE for run in by_directory.values()):
        try:
            sweep(list(by_directory.values()), launcher)
        except RunsFailed as error:
            failure = error
    for arm, index, runs in pending:
        records = [_outcome_record(run.directory) for run in runs]
        values = [
            final_value(plan.study, record, "val", plan.study.metric)
            for record in records
            if record is not None
        ]
        if len(values) == len(runs):
            mean = sum(values) / len(values)
            plan.storage.tell(plan.storage_names[arm], index, mean, [run.run_id for run in runs])
    if failure is not None:
        raise failure


def plan_tuned_study(name: str, overrides: Sequence[str]) -> tuple[Study, list[PlannedRun]]:
    """The tuned study, and its runs: every arm at its best and as configured, with every fresh seed.

    Raises:
        UserError: As `plan_tuning`, or trials have no result yet.
    """
    plan = plan_tuning(name, overrides)
    trials = _results(plan)
    done, planned = sum(map(len, trials.values())), plan.trials * len(trials)
    if done < planned:
        raise UserError(
            f"tuning={plan.option}: {done} of {amount(planned, 'trial')} of study={name} are finished; "
            f"continue with python run.py -m {shlex.join([f'study={name}', *overrides])}"
        )
    tuning = _tuning(plan, trials)
    best = {arm: of_arm[tuning.best(arm)].settings for arm, of_arm in tuning.trials.items()}
    runs = [run for arm in best for run in plan.runs(arm, best[arm], plan.fresh_seeds, arm)]
    for arm, settings in plan.configured.items():
        runs += plan.runs(arm, settings, plan.fresh_seeds, arm + CONFIGURED)
    study = plan.study
    tuned = replace(
        study,
        title=f"{study.title}, each arm tuned",
        output=study.output + plan.suffix,
        arms=(
            *(_with_settings(arm, plan.keys, best[arm.name]) for arm in study.arms),
            *(_as_configured(study, arm, plan) for arm in study.arms),
        ),
        seeds=plan.fresh_seeds,
        scale=f"{study.scale}; settings of each arm: best of {amount(plan.trials, 'trial')} on validation",
        figures=tuple(
            replace(figure, title=f"{figure.title}, each arm tuned", output=figure.output + plan.suffix)
            for figure in study.figures
        ),
        tuning=tuning,
    )
    return tuned, runs


def _with_settings(arm: Arm, keys: Mapping[str, str], settings: Mapping[str, Any]) -> Arm:
    """The arm with settings in its label and choices."""
    chosen = {keys[parameter]: value for parameter, value in settings.items()}
    return replace(arm, label=f"{arm.label}, {shown_settings(settings)}", choose={**arm.choose, **chosen})


def _as_configured(study: Study, arm: Arm, plan: TuningPlan) -> Arm:
    """The arm as configured, compared with another such arm; the baseline is compared with its best."""
    against = study.compared_with(arm)
    same = _with_settings(arm, plan.keys, plan.configured[arm.name])
    return replace(
        same,
        name=arm.name + CONFIGURED,
        label=f"{same.label} (as configured)",
        baseline=None if against is None else against + CONFIGURED,
    )


def _results(plan: TuningPlan) -> dict[str, list["DrawnTrial"]]:
    return {
        arm: [trial for trial in plan.storage.read(name)[: plan.trials] if trial.value is not None]
        for arm, name in plan.storage_names.items()
    }


def _tuning(plan: TuningPlan, trials: Mapping[str, Sequence["DrawnTrial"]]) -> Tuning:
    records: dict[str, Mapping[str, Any]] = {}
    for of_arm in trials.values():
        for run_id in (run_id for trial in of_arm for run_id in trial.runs):
            if (record := _outcome_record(RunDirectory(plan.results_dir, run_id))) is not None:
                records[run_id] = record

    def with_runs(trial: "DrawnTrial") -> Trial:
        assert trial.value is not None, "only called with results"
        statuses = [records[run_id]["status"] for run_id in trial.runs if run_id in records]
        return Trial(trial.settings, trial.value, trial.runs, statuses.count("diverged"))

    sampler = plan.sampler_of(0)
    return Tuning(
        option=plan.option,
        keys=plan.keys,
        space={parameter: storing.described(distribution) for parameter, distribution in plan.space.items()},
        logarithmic=tuple(
            parameter for parameter, distribution in plan.space.items() if getattr(distribution, "log", False)
        ),
        sampler=type(sampler).__name__,
        independent=storing.is_independent(sampler),
        seeds=plan.seeds,
        epochs=plan.runs(plan.study.baseline, {}, plan.seeds[:1], "")[0].epochs,
        labels={arm.name: arm.label for arm in plan.study.arms},
        trials={arm: tuple(map(with_runs, of_arm)) for arm, of_arm in trials.items()},
        core_hours=sum(map(judging.core_hours, records.values())),
        recorded_runs=len(records),
        journal=plan.storage_path.name,
        sign=plan.study.deciding.sign,
    )


def _outcome_record(directory: RunDirectory) -> dict[str, Any] | None:
    record = directory.read_or_none()
    return record if record is not None and record["status"] in DONE else None


# User errors


def _space(option: str, node: Mapping[str, Any]) -> dict[str, "BaseDistribution"]:
    if find_spec("optuna") is None:
        raise UserError(f"tuning={option}: needs optuna: pip install 'xception-ablations[tuning]'")
    from optuna.distributions import BaseDistribution

    space = {}
    for parameter, item in node["space"].items():
        key = f"tuning.space.{parameter}.distribution"
        build = partial(instantiate, item["distribution"], _convert_="all")
        with as_user_error():
            distribution = explained(key, build)
        if not isinstance(distribution, BaseDistribution):
            raise UserError(f"{key}={item['distribution']}: must be a distribution of optuna.distributions")
        if distribution.single():
            raise UserError(f"{key}={item['distribution']}: has only one value; give a range")
        space[parameter] = distribution
    return space


def _sampler(node: Mapping[str, Any], index: int) -> "BaseSampler":
    from optuna.samplers import BaseSampler

    build = partial(instantiate, {**node, "seed": node["seed"] + index}, _convert_="all")
    with as_user_error():
        sampler = explained("tuning.sampler", build)
    if not isinstance(sampler, BaseSampler):
        raise UserError(f"tuning.sampler._target_={node['_target_']}: must be a sampler of optuna.samplers")
    return sampler


def _tuned_arms(study: Study, chosen: Any) -> list[str]:
    """Names of the tuned arms, in the study's order."""
    names = [arm.name for arm in study.arms]
    if chosen is None:
        return names
    if not set(chosen) <= set(names):
        raise UserError(f"tuning.arms={chosen}: must be null (all arms) or a list of: {', '.join(names)}")
    for arm in study.arms:
        needed = {study.baseline, study.compared_with(arm) or study.baseline}
        if arm.name in (*chosen, study.baseline) and not needed <= set(chosen):
            missing = ", ".join(sorted(needed - set(chosen)))
            raise UserError(f"tuning.arms={chosen}: add {missing}, with which these arms are compared")
    return [name for name in names if name in chosen]


def _part_of(study: Study, arms: Sequence[str], runs: Sequence[PlannedRun]) -> Study:
    """The study with some arms and the figures that need no others; its design only if all stay."""
    return replace(
        study,
        arms=tuple(arm for arm in study.arms if arm.name in arms),
        scale=scale_of(runs),
        design=study.design if len(arms) == len(study.arms) else None,
        figures=tuple(figure for figure in study.figures if set(figure.arms) <= set(arms)),
    )


def _check_keys(study: Study, keys: Mapping[str, str]) -> None:
    chosen_by_arms = {group for arm in study.arms for group in arm.choose}
    for parameter, key in keys.items():
        where = f"tuning.space.{parameter}.key={key}"
        if key in BUDGET_KEYS:
            raise UserError(f"{where}: cannot be tuned, because every trial must have the same value")
        if key.partition(".")[0] in chosen_by_arms:
            raise UserError(f"{where}: cannot be tuned, because the arms of study={study.name} differ in it")
        if is_outside_identity(key):
            raise UserError(f"{where}: cannot be tuned, because it changes no outcome")
        if sum(key == other for other in keys.values()) > 1:
            raise UserError(f"{where}: two parameters set this key")


def _configured(run: PlannedRun, parameter: str, key: str, distribution: "BaseDistribution") -> Any:
    where = f"tuning.space.{parameter}.key={key}"
    if (node := at(run.configuration.resolved, key, ...)) is ...:
        raise UserError(f"{where}: arm={run.arm} has no such key")
    if isinstance(node, dict | list):
        raise UserError(f"{where}: must be a single value, not {', '.join(map(str, node))}")
    if not storing.contains(distribution, node):
        raise UserError(
            f"{where}: the configured value of arm={run.arm}, {node}, must be within "
            f"{storing.described(distribution)}"
        )
    return node


def _check_space(plan: TuningPlan) -> None:
    """Check every seed, and every arm as configured and at both ends of each parameter."""
    for arm, configured in plan.configured.items():
        for run in plan.runs(arm, configured, [*plan.seeds, *plan.fresh_seeds], arm):
            check.check_seed(run.configuration)
        ends = [
            {parameter: end} for parameter in plan.space for end in storing.extremes(plan.space[parameter])
        ]
        for settings in [{}, *ends]:
            (run,) = plan.runs(arm, {**configured, **settings}, plan.seeds[:1], arm)
            check.check_run(run.configuration)


def _fingerprint(run: PlannedRun, metric: str, node: Mapping[str, Any]) -> str:
    """Hash of everything that an arm's trials depend on: twelve hexadecimal digits."""
    identity = {key: value for key, value in identity_of(run.configuration.resolved).items() if key != "seed"}
    search = {key: node[key] for key in ("space", "sampler", "seeds", "batch")}
    text = json.dumps([identity, metric, search], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
