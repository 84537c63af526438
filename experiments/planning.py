"""Plans the runs of a study from its file and overrides.

Slow steps are done once per arm, so that 100,000 runs are planned in seconds.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict

from ablations.errors import UserError, as_user_error, did_you_mean
from ablations.lazily import lazily
from ablations.metrics import BEFORE_DECLARATIONS
from ablations.studies.results import Arm, Study
from ablations.studies.schema import AS_BASELINE, BENCHMARK_FILE, BenchmarkFile, StudyFile, TimedNetwork
from ablations.validation import validated
from experiments.configuration import (
    MATCHED_SIZES,
    RunConfiguration,
    option_name,
    parse_override,
    quote_option_names,
    require_few_runs,
)
from experiments.errors import explained, refused_by_hydra
from experiments.factorial import make_design
from experiments.overrides import output_suffix, seed_budget, split_seed, tuning_option
from experiments.planned_run import PlannedRun, require_different_arms
from experiments.project import FRAMEWORK_CONF, current, load_yaml, use
from experiments.scale import scale_of
from experiments.study_file import check_study
from lightning_modules.validation import require_integer

with lazily():
    from experiments.sizes import network_cost


@contextmanager
def hydra_configuration() -> Iterator[None]:
    """Let Hydra compose from the current project's configuration."""
    project = current()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    conf = str(project.conf)
    try:
        # One project for all, because it caches its groups' defaults.
        with use(project), initialize_config_dir(conf, job_name="ablations", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose_runs(overrides: Sequence[str], seeds: Iterable[int] | None = None) -> list[RunConfiguration]:
    """Compose once for all seeds (None: the configured one); Hydra must be initialized."""
    config = compose(current().config_name, quote_option_names(overrides), return_hydra_config=True)
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    return RunConfiguration.for_seeds(
        config, hydra.runtime.choices, hydra.overrides.task, [config.seed] if seeds is None else list(seeds)
    )


def project_benchmark() -> BenchmarkFile:
    """What conf/benchmark.yaml measures; without one, the project's default network on its default data.

    Raises:
        UserError: The file is invalid.
    """
    file = current().conf / "benchmark.yaml"
    if file.is_file():
        return validated(BENCHMARK_FILE, load_yaml(file), "conf/benchmark.yaml")
    with hydra_configuration():
        (run,) = compose_runs([])
    model, data = run.choices["model"], run.resolved["dataset"]
    return BenchmarkFile(
        title="Size and speed",
        output="size_and_speed",
        **{key: data[key] for key in ("image_size", "channels", "num_classes")},
        batch_size=run.resolved["recipe"]["batch_size"],
        networks=(TimedNetwork(model=model, label=model),),
        equals=load_yaml(FRAMEWORK_CONF / "benchmark.yaml")["equals"],
    )


def plan_study(
    name: str, overrides: Sequence[str] = (), *, auto_seeds: Sequence[int] | None = None
) -> tuple[Study, list[PlannedRun]]:
    """The runs of a study: every arm with every seed.

    Args:
        name: Of the file in conf/study.
        overrides: The user's, without tuning. They override the study's base; seeds replace the study's, and
            `arms={ARM: {KEY: VALUE}}` an arm's choices.
        auto_seeds: The seeds, with seeds=auto.

    Raises:
        UserError: An override sets what the arms differ in, or sweeps over anything but the seed;
            the study's file is invalid; nothing would be trained.
        HydraException: An option or key does not exist.
    """
    assert (auto_seeds is None) == (seed_budget(overrides) is None)
    assert tuning_option(overrides) is None, "experiments.plan.plan_named plans what is tuned"
    suffix = output_suffix(overrides)
    seeds_override, overrides = split_seed(overrides)
    overrides, of_arms = _split_arms(overrides)
    study = _with_choices(_study_file(name, overrides), of_arms)
    _require_free(study, overrides)
    seeds: Sequence[int] = study.seeds if seeds_override is None else seeds_override
    seeds = seeds if auto_seeds is None else auto_seeds
    require_few_runs(f"study={name}", len(study.arms) * len(seeds))
    runs = _runs_of_arms(study, overrides, seeds)
    with as_user_error():  # the study's title names it
        require_integer("recipe.epochs", runs[0].configuration.resolved["recipe"]["epochs"], 1)
    if study.factors is None:  # with factors, two arms may be one network; the notes say so
        require_different_arms(runs)
    return _study_of(study, seeds, suffix, runs), runs


def _study_file(name: str, overrides: Sequence[str]) -> StudyFile:
    if current().option_file("study", name) is None:  # Hydra would use the framework's
        there = current().options("study")
        near = did_you_mean(name, there)
        raise UserError(f"study={name}: no such study; available: {', '.join(there)}{near}")
    with refused_by_hydra():
        config = compose(current().config_name, quote_option_names([f"study={name}", *overrides]))
    if config.get("train") is False:
        raise UserError(f"train=false: study={name} compares training; leave out study= to evaluate weights")
    node = OmegaConf.to_container(config.study, resolve=True)
    assert isinstance(node, dict)
    return check_study(name, node)


def _split_arms(overrides: Sequence[str]) -> tuple[list[str], Any]:
    """Take out `arms={ARM: {KEY: VALUE}}`."""
    others, chosen = [], None
    for item in overrides:
        parsed = parse_override(item)
        if parsed is not None and parsed.key_or_group == "arms" and not parsed.is_delete():
            chosen = parsed.value()
        else:
            others.append(item)
    return others, chosen


def _with_choices(study: StudyFile, chosen: Any) -> StudyFile:
    if chosen is None:
        return study
    if not isinstance(chosen, dict) or not all(isinstance(choose, dict) for choose in chosen.values()):
        raise UserError(f"arms={chosen}: must be {{ARM: {{KEY: VALUE}}}}")
    arms = {arm.name: arm for arm in study.arms}
    if unknown := [str(arm) for arm in chosen if arm not in arms]:
        raise UserError(f"arms: {unknown[0]}: no arm of study={study.name}; available: {', '.join(arms)}")
    for arm, choose in chosen.items():
        named = {str(key): option_name(value) for key, value in choose.items()}
        arms[arm] = replace(arms[arm], choose={**arms[arm].choose, **named})
    return study.model_copy(update={"arms": tuple(arms.values())})


def _require_free(study: StudyFile, overrides: Sequence[str]) -> None:
    """Raise UserError for overrides of what the arms differ in."""
    chosen_by_arms = {group for arm in study.arms for group in arm.choose} - _sizes_of_arms(study)
    if clash := sorted(key for key in _set_by(overrides) if {key, key.partition(".")[0]} & chosen_by_arms):
        raise UserError(
            f"{clash[0]}: the arms of study={study.name} differ in it, so it cannot be set for all; "
            "to set it per arm: 'arms={ARM: {KEY: VALUE}}'"
        )


def _set_by(overrides: Sequence[str]) -> set[str]:
    return {parsed.key_or_group for item in overrides if (parsed := parse_override(item))}


def _runs_of_arms(study: StudyFile, overrides: Sequence[str], seeds: Sequence[int]) -> list[PlannedRun]:
    """Every arm with every seed. The user's overrides replace the study's base."""
    base = [f"{key}={option}" for key, option in study.base.items() if key not in _set_by(overrides)]
    runs = []
    for arm in study.arms:
        arm_overrides = _arm_overrides(study, arm, base, overrides)
        quoted = quote_option_names(arm_overrides)
        configurations = compose_runs(arm_overrides, seeds)
        asked = _asked_metrics(configurations[0], study.metrics)
        for configuration in configurations:
            measuring = configuration.with_metrics(asked) if asked else configuration
            own = (*quoted, *metrics_override(asked), f"seed={configuration.seed}")
            runs.append(PlannedRun(arm.name, own, measuring, study.name, study.metrics))
    return runs


def _asked_metrics(run: RunConfiguration, compared: Sequence[str]) -> tuple[str, ...]:
    """Metrics to request from a study's runs, the compared ones first.

    None if the runs measure them anyway, so that older records count.
    """
    if all(name in run.metrics and name in BEFORE_DECLARATIONS for name in compared):
        return ()
    return tuple(dict.fromkeys((*compared, *run.asked_metrics)))


def metrics_override(names: Sequence[str]) -> tuple[str, ...]:
    return (f"metrics=[{','.join(names)}]",) if names else ()


def _study_of(study: StudyFile, seeds: Sequence[int], suffix: str, runs: Sequence[PlannedRun]) -> Study:
    return Study(
        name=study.name,
        title=study.title,
        output=study.output + suffix,
        source=study.source,
        arms=study.arms,
        baseline=study.baseline,
        seeds=tuple(seeds),
        metrics=study.metrics,
        target=study.target,
        scale=scale_of(runs),
        figures=tuple(replace(figure, output=figure.output + suffix) for figure in study.figures),
        paper_only=study.paper_only,
        notes=study.notes,
        design=make_design(study, {run.arm: run.configuration.resolved for run in runs}),
        declared=current().metrics(),
    )


def _sizes_of_arms(study: StudyFile) -> set[str]:
    """Keys that match arms to sizes given as numbers, which the user may override."""
    chosen = [arm.choose for arm in study.arms]
    return {
        key
        for key in MATCHED_SIZES
        if any(key in choose for choose in chosen)
        and not any(choose.get(key) == AS_BASELINE for choose in chosen)
    }


def _arm_overrides(study: StudyFile, arm: Arm, base: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The overrides of an arm, without the seed.

    With `match_parameters: baseline`, the baseline's parameters are counted under the user's overrides,
    because the dataset changes them; a width set by the user is then the baseline's. A size set by the user
    replaces the arm's number, if it has one.

    Raises:
        UserError: The counted network cannot be built.
    """
    choose = dict(arm.choose)
    for item in overrides:
        key = item.partition("=")[0]
        if key in _sizes_of_arms(study):
            overrides = [other for other in overrides if other != item]
            if key in choose:
                choose[key] = item.partition("=")[2]
    if choose.get("match_parameters") == AS_BASELINE:
        name = arm.baseline or study.baseline
        other = next(other for other in study.arms if other.name == name)
        (counted,) = compose_runs(_arm_overrides(study, other, base, overrides))
        model = counted.resolved["model"]
        with as_user_error():
            choose["match_parameters"] = explained("model", lambda: network_cost.count_parameters(model))
        overrides = [item for item in overrides if not item.lstrip("+").startswith("model.width=")]
    return [*base, *(f"{key}={value}" for key, value in choose.items()), *overrides]
