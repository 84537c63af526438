"""From a study's file to its planned runs, and from those to how they stand.

A study selects runs, it does not own them: a run that two studies plan is one run. What takes time is done
once per arm, not once per run, so that 100,000 runs are planned in seconds.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from ablations.errors import UserError, explained
from ablations.memory import without_collecting
from ablations.runs.configuration import (
    CONFIG_DIR,
    CONFIG_NAME,
    MATCHED_SIZES,
    RunConfiguration,
    default_option,
    is_group,
    is_outside_identity,
    lists_values,
    load_yaml,
    option_name,
    parse_override,
    quote_option_names,
)
from ablations.runs.records import COMPLETED, RunDirectory, UnreadableRecord, planned_epochs
from ablations.studies.composition import Composer, composed_by_hydra
from ablations.studies.factorial import make_design, with_arms
from ablations.studies.results import METRICS, Arm, PaperRow, Study, StudyFigure, StudyRun
from lightning_modules.validation import require_integer

STUDY_KEYS = {
    "name", "title", "source", "output", "base", "arms", "baseline", "seeds", "metrics", "target",
}  # fmt: skip
OPTIONAL_STUDY_KEYS = {"figures", "paper_only", "notes", "only_by_name"}
FACTORIAL_KEYS = {"factors", "design"}
ARM_KEYS = {"name", "label", "choose", "paper"}
OPTIONAL_ARM_KEYS = {"paper_values", "baseline"}
FIGURE_KEYS = {"output", "title", "source", "arms", "baseline"}
PAPER_ROW_KEYS = {"label", "paper_values"}

AUTO_KEYS = ("seeds", "seed_budget")
"""What asks for as many seeds as a study's verdicts need; no run is configured with it."""

AS_BASELINE = "baseline"
"""In place of a number in an arm's match_parameters: as many as the arm that it is compared with has."""

LONGEST_SEEDS = 60
"""Characters that the seeds of a varied study take in the names of its files; more are a hash."""

LARGEST_BUDGET = 1000
"""Seeds per arm that seeds=auto may be given: the levels of all looks are solved before the first."""

LISTED_SIZES = 3
"""Sizes of one network that are named one by one."""


@dataclass(frozen=True)
class PlannedRun:
    """One run that somebody asks for.

    Attributes:
        arm: Name of the arm, e.g. "non_residual", or the swept choices, "residual=false".
        overrides: What makes its configuration, as on the command line.
        configuration: Its configuration.
        group: Name of the study or sweep that asks for it.
        metrics: That the study compares; its dataset's task must measure them.
    """

    arm: str
    overrides: tuple[str, ...]
    configuration: RunConfiguration
    group: str
    metrics: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        return self.configuration.run_id

    @property
    def seed(self) -> int:
        return self.configuration.seed

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.configuration.results_dir, self.run_id, self.configuration.diagnostics)

    @property
    def epochs(self) -> int:
        return planned_epochs(self.configuration.resolved)


@contextmanager
def hydra_configuration() -> Iterator[None]:
    """Make Hydra compose from this project's configuration; then it is as it was before."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), job_name="ablations", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def study_names(*, unasked: bool = False) -> list[str]:
    """The studies there are, in the order of the paper's figures (of their outputs' names).

    Args:
        unasked: Leave out those that are dealt with where they are named, and not as one of all.
    """
    files = {file.stem: load_yaml(file) for file in sorted(CONFIG_DIR.joinpath("study").glob("*.yaml"))}
    for name, node in files.items():
        if not isinstance(node, dict) or not _is_file_name(node.get("output")):
            raise UserError(f"conf/study/{name}.yaml: output: must be the stem of its files' names")
        other = next(other for other in files if files[other]["output"] == node["output"])
        if other != name:
            raise UserError(
                f"conf/study/{name}.yaml: output={node['output']}: conf/study/{other}.yaml has it, and one "
                "would overwrite the other's files"
            )
    names = [name for name, node in files.items() if not (unasked and node.get("only_by_name"))]
    return sorted(names, key=lambda name: files[name]["output"])


def _is_file_name(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\w[\w.-]{0,99}", text) is not None


def compose_runs(
    overrides: Sequence[str], seeds: Iterable[int] | None = None, composer: Composer | None = None
) -> list[RunConfiguration]:
    """Compose once for all seeds; Hydra must be initialized.

    Args:
        overrides: As on the command line, without sweeps.
        seeds: One run each; None: the one seed that the configuration has.
        composer: Of others that share choices with these; None: Hydra composes them.
    """
    config, choices, task = composer.compose(overrides) if composer else composed_by_hydra(overrides)
    return RunConfiguration.for_seeds(config, choices, task, [config.seed] if seeds is None else list(seeds))


def plan_study(
    name: str, overrides: Sequence[str] = (), *, auto_seeds: Sequence[int] | None = None
) -> tuple[Study, list[PlannedRun]]:
    """The runs of a study: every arm with every seed; with `tuning=NAME` among the overrides every arm at
    its best settings with every fresh seed (see `ablations.sweeps.tuning`).

    Args:
        name: Of the file in conf/study.
        overrides: What the user sets beside it. They go before the study's base; a list of seeds
            replaces the study's.
        auto_seeds: The seeds of a look, where the overrides ask for seeds=auto
            (`ablations.sweeps.auto_seeds`).

    Raises:
        UserError: An override sets what the arms differ in, or sweeps over anything but the seed;
            the study's file has unknown or missing keys; nothing would be trained; the arms are to be
            tuned and trials are missing.
        HydraException: An option or key does not exist.
    """
    assert (auto_seeds is None) == (seed_budget(overrides) is None)
    if tuning_option(overrides) is not None:
        from ablations.sweeps.tuning import plan_tuned_study  # which plans with this function

        return plan_tuned_study(name, overrides)
    suffix = output_suffix(overrides)
    seeds_override, overrides = split_seed(overrides)
    with_study = [f"study={name}", *overrides]
    config = compose(CONFIG_NAME, quote_option_names(with_study))
    if config.get("train") is False:
        raise UserError(f"train=false: study={name} compares how networks train; evaluate without a study")
    node = OmegaConf.to_container(config.study, resolve=True)
    assert isinstance(node, dict)
    node = _check_study(name, node)
    set_by_user = {parsed.key_or_group for item in overrides if (parsed := parse_override(item))}
    chosen_by_arms = {group for arm in node["arms"] for group in arm["choose"]}
    sizes = _sizes_of_arms(node)
    chosen_by_arms -= sizes
    if clash := sorted(key for key in set_by_user if {key, key.partition(".")[0]} & chosen_by_arms):
        raise UserError(f"{clash[0]}: the arms of study={name} differ in it, so it cannot be set")
    base = [f"{group}={option}" for group, option in node["base"].items()]
    base = [item for item in base if item.partition("=")[0] not in set_by_user]
    seeds = node["seeds"] if seeds_override is None else seeds_override
    seeds = seeds if auto_seeds is None else auto_seeds

    runs, composer = [], Composer()
    for arm in node["arms"]:
        arm_overrides = _arm_overrides(node, arm, base, overrides)
        quoted = quote_option_names(arm_overrides)
        for configuration in compose_runs(arm_overrides, seeds, composer):
            runs.append(
                PlannedRun(
                    arm=arm["name"],
                    overrides=(*quoted, f"seed={configuration.seed}"),
                    configuration=configuration,
                    group=name,
                    metrics=tuple(node["metrics"]),
                )
            )
    resolved = {run.arm: run.configuration.resolved for run in runs}
    study = Study(
        name=name,
        title=node["title"],
        output=node["output"] + suffix,
        source=node["source"],
        arms=tuple(Arm(**arm) for arm in node["arms"]),
        baseline=node["baseline"],
        seeds=tuple(seeds),
        metrics=tuple(node["metrics"]),
        target=node["target"],
        scale=scale_of(runs),
        figures=tuple(
            StudyFigure(**figure | {"output": figure["output"] + suffix, "arms": tuple(figure["arms"])})
            for figure in node.get("figures", ())
        ),
        paper_only=tuple(PaperRow(**row) for row in node.get("paper_only", ())),
        notes=tuple(node.get("notes", ())),
        design=make_design(f"conf/study/{name}.yaml", node, resolved) if "factors" in node else None,
    )
    return study, runs


def _sizes_of_arms(node: Mapping[Any, Any]) -> set[str]:
    """The sizes that arms are matched to as numbers: the user may set another number in their place."""
    chosen = [arm["choose"] for arm in node["arms"]]
    return {
        key
        for key in MATCHED_SIZES
        if any(key in choose for choose in chosen)
        and not any(choose.get(key) == AS_BASELINE for choose in chosen)
    }


def _arm_overrides(
    node: Mapping[Any, Any], arm: Mapping[Any, Any], base: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    """What composes an arm, but for the seed.

    Where the arm has as many parameters as the one that it is compared with, the number is counted for what
    the user set beside the study: another dataset has another number. A width set there is that arm's. A size
    that the user set stands in place of the arm's number, and is no business of an arm that has none.

    Raises:
        UserError: The network that is to be counted cannot be built.
    """
    choose = dict(arm["choose"])
    for item in overrides:
        key = item.partition("=")[0]
        if key in _sizes_of_arms(node):
            overrides = [other for other in overrides if other != item]
            if key in choose:
                choose[key] = item.partition("=")[2]
    if choose.get("match_parameters") == AS_BASELINE:
        from ablations.sizes.network_cost import (
            count_parameters,  # imports torch: only where it is to be counted
        )

        name = arm.get("baseline", node["baseline"])
        other = next(other for other in node["arms"] if other["name"] == name)
        (counted,) = compose_runs(_arm_overrides(node, other, base, overrides))
        model = counted.resolved["model"]
        try:
            choose["match_parameters"] = explained("model", lambda: count_parameters(model))
        except ValueError as error:
            raise UserError(str(error)) from error
        overrides = [item for item in overrides if not item.lstrip("+").startswith("model.width=")]
    return [*base, *(f"{key}={value}" for key, value in choose.items()), *overrides]


def seed_budget(overrides: Sequence[str]) -> int | None:
    """The largest number of seeds per arm, where overrides ask for seeds=auto; None where they do not.

    Raises:
        UserError: A value that is not allowed, a budget without seeds=auto, or a seed beside it.
    """
    words: dict[str, tuple[str, Any]] = {}
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group in ("seed", *AUTO_KEYS):
            words[override.key_or_group] = argument, override.value()
    word, seeds = words.get("seeds", ("", None))
    if seeds not in ("auto", None):
        raise UserError(f"{word}: must be auto or null; seeds of your own: seed=0,1,2")
    word, budget = words.get("seed_budget", ("", _default_budget()))
    if seeds is None:
        if word:
            raise UserError(f"{word}: only beside seeds=auto")
        return None
    if "seed" in words:
        raise UserError(f"{words['seed'][0]}: seeds=auto chooses the seeds, so it cannot be set beside it")
    if (tuning := tuning_option(overrides)) is not None:
        raise UserError(f"tuning={tuning}: tuned arms meet on fresh seeds, so not beside seeds=auto")
    from ablations.statistics.sequential import FIRST_LOOK  # imports scipy: only where it is asked for

    try:
        require_integer("seed_budget", budget, FIRST_LOOK, LARGEST_BUDGET)
    except ValueError as error:
        raise UserError(str(error)) from error
    return int(budget)


def _default_budget() -> int:
    return int(load_yaml(CONFIG_DIR / f"{CONFIG_NAME}.yaml")["seed_budget"])


@without_collecting()
def standing(
    runs: Sequence[PlannedRun], metrics: Collection[str] | None = None
) -> tuple[list[StudyRun], list[str]]:
    """How planned runs stand, read from their records.

    Args:
        runs: What is planned.
        metrics: Those that histories are to have; None: all there are.

    Returns:
        One entry per planned run, and a line per record that cannot be used and counts as missing.
    """
    entries, problems = [], []
    for run in runs:
        directory = run.directory
        record, history = None, None
        try:
            record = directory.read()
        except UnreadableRecord as error:
            problems.append(f"unreadable record, counted as missing: {error}")
        if record is not None:
            history = directory.validation_history(metrics)
            if record["config"] == run.configuration.resolved:
                # Most of a record's memory; planned configurations share all but their seeds.
                record["config"] = run.configuration.resolved
        status = directory.status_of(record, history)
        if record is not None and record["status"] == COMPLETED != status:
            problems.append(directory.why_missing(record, history))
            history = None
        entries.append(StudyRun(run.arm, run.seed, run.run_id, directory.path, status, record, history))
    return entries, problems


def _check_study(name: str, node: Mapping[Any, Any]) -> dict[Any, Any]:
    """The study with its arms: those that it lists, or those that its factors give.

    Raises:
        UserError: It has unknown or missing keys, or values that are not allowed.
    """
    file = f"conf/study/{name}.yaml"
    node = with_arms(file, node)
    factorial = FACTORIAL_KEYS if "factors" in node else set()
    arms = node.get("arms")
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise UserError(f"{file}: arms: must be a list of name, label, choose, paper")
    figures, paper_only = node.get("figures", []), node.get("paper_only", [])
    for key, items in (("figures", figures), ("paper_only", paper_only)):
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(f"{file}: {key}: must be a list")
    for what, given, required, optional in [
        ("the study", node, STUDY_KEYS, OPTIONAL_STUDY_KEYS | factorial),
        *((f"arm {arm.get('name')}", arm, ARM_KEYS, OPTIONAL_ARM_KEYS) for arm in arms),
        *((f"figure {figure.get('output')}", figure, FIGURE_KEYS, set()) for figure in figures),
        *((f"paper_only {row.get('label')}", row, PAPER_ROW_KEYS, set()) for row in paper_only),
    ]:
        if difference := (required ^ set(given)) - optional:
            raise UserError(f"{file}: {what} lacks or does not know {', '.join(sorted(difference))}")
    texts = {key: node[key] for key in ("title", "source")}
    texts |= {f"arm {arm['name']}: {key}": arm[key] for arm in arms for key in ("name", "label", "paper")}
    for what, text in texts.items():
        if not isinstance(text, str) or not (text or what.endswith("paper")):
            raise UserError(f"{file}: {what}={text}: must be a text")
    for row in (*arms, *paper_only):
        if not isinstance(row.get("paper_values", {}), dict):
            raise UserError(f"{file}: paper_values={row['paper_values']}: must name a value per metric")
    for figure in figures:
        if not isinstance(figure["arms"], list) or not _is_file_name(figure["output"]):
            raise UserError(f"{file}: figure {figure['output']}: must have a list of arms, and a file's name")
    names = [arm["name"] for arm in arms]
    if not all(isinstance(choices, dict) for choices in (node["base"], *(arm["choose"] for arm in arms))):
        raise UserError(f"{file}: base and choose: must name an option per config group")
    if not isinstance(node.get("only_by_name", False), bool):
        raise UserError(f"{file}: only_by_name={node['only_by_name']}: must be true or false")
    if node["name"] != name or len(set(names)) < len(names) or node["baseline"] not in names:
        raise UserError(
            f"{file}: name={node['name']}, baseline={node['baseline']}, arms={names}: must be named as "
            "the file, with one of its arms as baseline, each of a name of its own"
        )
    for arm in arms:
        if arm.get("baseline", node["baseline"]) not in names or arm.get("baseline") == arm["name"]:
            raise UserError(f"{file}: arm {arm['name']}: baseline={arm['baseline']}: must be another arm")
        if "seed" in arm["choose"]:
            raise UserError(f"{file}: arm {arm['name']}: choose: seed: must be in seeds, which every arm has")
    _check_choices(file, node["base"], arms)
    matched = {arm["name"] for arm in arms if arm["choose"].get("match_parameters") == AS_BASELINE}
    for arm in arms:
        if arm["name"] in matched and arm.get("baseline", node["baseline"]) in matched:
            raise UserError(
                f"{file}: arm {arm['name']}: match_parameters={AS_BASELINE}: must be a number, "
                "because the arm that it is compared with has none of its own"
            )
    for figure in figures:
        if figure["baseline"] not in figure["arms"] or not set(figure["arms"]) <= set(names):
            raise UserError(
                f"{file}: figure {figure['output']}: arms={figure['arms']}, arms of the study={names}"
            )
    seeds = node["seeds"] if isinstance(node["seeds"], list) else []
    integers = {seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool)}
    if not seeds or len(integers) < len(seeds):
        raise UserError(f"{file}: seeds={node['seeds']}: must be a list of different integers")
    metrics = [str(metric) for metric in node["metrics"]] if isinstance(node["metrics"], list) else []
    named = {*metrics, *(metric for row in (*arms, *paper_only) for metric in row.get("paper_values", {}))}
    if not metrics or not named <= METRICS.keys():
        raise UserError(f"{file}: metrics={node['metrics']}, paper_values: must be of {', '.join(METRICS)}")
    if not isinstance(node["target"], int | float) or not 0 < node["target"] < 1:
        raise UserError(f"{file}: target={node['target']}: must lie between 0 and 1")
    notes = node.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise UserError(f"{file}: notes: must be a list of texts")
    return node


def _check_choices(file: str, base: Mapping[Any, Any], arms: Sequence[Mapping[Any, Any]]) -> None:
    """Check what base and arms choose: an option per group, and not the same in two arms.

    Raises:
        UserError: A value that names no option of its group, or two arms that are the same runs.
    """
    named: dict[str, Mapping[Any, Any]] = {"base": base}
    named |= {f"arm {arm['name']}: choose": arm["choose"] for arm in arms}
    for where, choices in named.items():
        for key, value in choices.items():
            if is_group(str(key)) and isinstance(value, dict | list):
                raise UserError(f"{file}: {where}: {key}={value}: must name an option of conf/{key}")
    chosen: dict[frozenset[tuple[str, str]], str] = {}
    for arm in arms:
        options = {str(key): option_name(value) for key, value in {**base, **arm["choose"]}.items()}
        varied = frozenset(item for item in options.items() if default_option(item[0]) != item[1])
        if (other := chosen.setdefault(varied, arm["name"])) != arm["name"]:
            raise UserError(f"{file}: arms {other} and {arm['name']}: choose the same, so they do not differ")


def tuning_option(overrides: Sequence[str]) -> str | None:
    """The option of conf/tuning that a study's arms are to be tuned by; None where they are not.

    Raises:
        UserError: Several options.
    """
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "tuning" and not override.is_delete():
            if override.is_sweep_override():
                raise UserError(f"{argument}: beside a study only the seed can take several values")
            return option_name(override.value())
    return None


def is_tuning(argument: str) -> bool:
    """Whether an override chooses how arms are tuned, or sets a value of that."""
    return argument.lstrip("+~").partition("=")[0].partition(".")[0] == "tuning"


def split_seed(overrides: Sequence[str]) -> tuple[list[Any] | None, list[str]]:
    """Take the seeds out of the overrides, and what asks for seeds=auto; refuse any other sweep.

    Returns:
        The seeds, None where none are set, and the other overrides.

    Raises:
        UserError: A seed that is none, one that stands there twice, or another sweep.
    """
    seeds: list[Any] | None = None
    others = []
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "seed":
            seeds = list(override.sweep_iterator()) if lists_values(override) else [override.value()]
            if not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
                raise UserError(f"{argument}: must be whole numbers, separated by commas")
            if len(set(seeds)) < len(seeds):
                raise UserError(f"{argument}: a seed stands there twice")
        elif override is not None and override.key_or_group in AUTO_KEYS:
            continue
        elif override is not None and override.is_sweep_override():
            raise UserError(f"{argument}: beside a study only the seed can take several values")
        else:
            others.append(argument)
    return seeds, others


def output_suffix(overrides: Sequence[str]) -> str:
    """What the names of a study's files end with where it is planned with these overrides; "" for none.

    Raises:
        UserError: As `plan_study`, of the overrides alone.
    """
    seeds, others = split_seed(overrides)
    changes = [item for item in others if is_tuning(item) or not is_outside_identity(item.partition("=")[0])]
    if seeds is not None:
        text = ",".join(map(str, seeds))
        if len(text) > LONGEST_SEEDS:  # the name of a file ends at 255 characters
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            text = f"{min(seeds)}-{max(seeds)}.n{len(seeds)}.{digest}"
        changes.append(f"seed={text}")
    if (budget := seed_budget(overrides)) is not None:
        changes += ["seeds=auto"] + ([f"seed_budget={budget}"] if budget != _default_budget() else [])
    return "".join("__" + re.sub(r"[^\w=.,-]", "_", change) for change in changes)


def scale_of(runs: Sequence[PlannedRun]) -> str:
    """One line: which networks, in what they differ from the paper's, on which data, for how long."""
    networks: dict[str, dict[Any, dict[str, Any]]] = {}
    for run in {run.arm: run for run in runs}.values():  # runs of an arm have one network
        option = run.configuration.choices["model"]
        changed = _scaling(option, run.configuration.resolved["model"])
        networks.setdefault(option, {})[tuple(changed.items())] = changed
    described = [
        text for option, scalings in networks.items() for text in _describe(option, scalings.values())
    ]
    configuration = runs[0].configuration
    dataset = configuration.resolved["dataset"]
    size = dataset["image_size"]
    return (
        f"{', '.join(described)} on {configuration.choices['dataset']} "
        f"({size}x{size} pixels, {dataset['num_classes']} classes), {runs[0].epochs} epochs"
    )


def _describe(option: str, scalings: Collection[Mapping[str, Any]]) -> list[str]:
    """A network at each of its sizes, or above `LISTED_SIZES` at once: "xception (width 0.04 to 0.13)"."""
    if len(scalings) > LISTED_SIZES:
        values: dict[str, list[Any]] = {}
        for scaling in scalings:
            for key, value in scaling.items():
                values.setdefault(key, []).append(value)
        ranges = {key: sorted({min(found), max(found)}) for key, found in values.items()}
        scalings = [{key: " to ".join(f"{value:g}" for value in ends) for key, ends in ranges.items()}]
    else:
        scalings = [{key: f"{value:g}" for key, value in scaling.items()} for scaling in scalings]
    texts = [
        ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in scaling.items()) for scaling in scalings
    ]
    return [f"{option} ({text or 'full size'})" for text in texts]


def _scaling(option: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a network that differ from those in its file, e.g. `{"width": 0.125}`."""
    file = CONFIG_DIR / "model" / f"{option}.yaml"
    full_size: Any = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    return {
        key: model[key]
        for key, value in full_size.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and model.get(key, value) != value
    }
