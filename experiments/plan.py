"""Plans the runs of a command.

A sweep is a product of choices (`residual=true,false seed=0,1`) or a union of studies
(`study=residual,intermediate_activation`), as configured or tuned.
"""

import itertools
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import QuotedString

from ablations.errors import UserError
from ablations.lazily import lazily
from ablations.studies.results import Arm, Study, Swept
from experiments.check import check_factors
from experiments.configuration import (
    hydra_value,
    option_name,
    parse_override,
    quote_option_names,
    require_few_runs,
)
from experiments.overrides import (
    AUTO_KEYS,
    LARGEST_PRODUCT,
    changes_a_table,
    is_tuning,
    split_studies,
    sweep_output,
    swept_values,
    tuning_option,
    variations,
)
from experiments.planned_run import PlannedRun, require_different_arms
from experiments.planning import compose_runs, hydra_configuration, metrics_override, plan_study
from experiments.project import current
from experiments.scale import scale_of

with lazily():
    from experiments import tuning

WHOLE_NUMBER = re.compile("0|[1-9][0-9]*")


def plan_named(name: str, overrides: Sequence[str] = ()) -> tuple[Study, list[PlannedRun]]:
    """A study and its runs: as configured, or with `tuning=NAME` each arm at its best.

    Raises:
        UserError: As `plan_study` or `experiments.tuning.plan_tuned_study`.
    """
    if tuning_option(overrides) is None:
        return plan_study(name, overrides)
    return tuning.plan_tuned_study(name, overrides)


def plan_choices(arguments: Sequence[str]) -> tuple[Study, list[PlannedRun]]:
    """A sweep as a study: every combination is an arm, the first is the baseline.

    Raises:
        UserError: As `plan_sweep`; `tuning`, which needs a study; several results folders.
        HydraException: An option or key does not exist.
    """
    if (tuning := tuning_option(arguments)) is not None:
        raise UserError(f"tuning={tuning}: needs a study: name one")
    runs = _plan_product(arguments)
    swept: dict[str, list[Any]] = {}
    for argument in arguments:
        override = parse_override(argument)
        if override is None or not override.is_sweep_override() or override.key_or_group == "seed":
            continue
        if override.key_or_group == "results_dir":
            raise UserError(f"{argument}: a table needs all runs in one folder; name one")
        swept[override.key_or_group] = [
            value.text if isinstance(value, QuotedString) else value
            for value in swept_values(override).values()
        ]
    names = _short_names(list(swept))
    arms, values = [], {}
    for arm, chosen in zip(
        dict.fromkeys(run.arm for run in runs), itertools.product(*swept.values()), strict=True
    ):
        values[arm] = chosen
        choose = dict(zip(swept, chosen, strict=True))
        label = ", ".join(f"{names[key]}={option_name(value)}" for key, value in choose.items())
        arms.append(Arm(arm, label, choose))
    others = [word for word in arguments if changes_a_table(word.partition("=")[0])]
    study = Study(
        name=(output := sweep_output(arguments)),
        title=" by ".join(swept),
        output=output,
        source=f"python run.py -m {shlex.join(others)}",
        arms=tuple(arms),
        baseline=arms[0].name,
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        metrics=tuple(runs[0].configuration.metrics),
        target=None,
        declared=current().metrics(),
        scale=scale_of(runs),
        swept=Swept(tuple(swept), values),
    )
    return study, [replace(run, metrics=study.metrics) for run in runs]


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last word of each key, if these differ."""
    short = {key: key.rpartition(".")[2] for key in keys}
    return short if len(set(short.values())) == len(keys) else {key: key for key in keys}


def plan_sweep(arguments: Sequence[str]) -> list[PlannedRun]:
    """The runs of a command, each once; Hydra must be initialized.

    Raises:
        UserError: A sweep without listed values, an override that the study does not allow, or two studies
            that measure a shared run differently.
        HydraException: An option or key does not exist.
    """
    studies, others = split_studies(arguments)
    planned = (
        [run for of_one in variations(others) for study in studies for run in plan_named(study, of_one)[1]]
        if studies
        else _plan_product(others)
    )
    by_path: dict[Path, PlannedRun] = {}
    for run in planned:
        path = run.directory.path
        by_path[path] = _measuring_both(by_path[path], run) if path in by_path else run
    # Seed by seed, so that an interrupted sweep leaves whole pairs. Invalid seeds come first and are refused.
    return sorted(by_path.values(), key=lambda run: run.seed if isinstance(run.seed, int) else -1)


def first_run(arguments: Sequence[str]) -> tuple[list[str], int]:
    """Overrides of a sweep's first run, and the number of runs without tuning or added seeds."""
    plain = [item for item in arguments if not is_tuning(item) and item.partition("=")[0] not in AUTO_KEYS]
    with hydra_configuration():
        planned = plan_sweep(plain)
    return list(planned[0].overrides), len(planned)


def _measuring_both(run: PlannedRun, other: PlannedRun) -> PlannedRun:
    """A run that two studies share, with the diagnostics and metrics of both."""
    own, asked = run.configuration.diagnostics, other.configuration.diagnostics
    for name in own.keys() & asked.keys():
        if own[name] != asked[name]:
            raise UserError(
                f"diagnostics.{name}: {run.group} and {other.group} share a run and measure it differently; "
                "run one at a time, or set it for both"
            )
    missing = {name: settings for name, settings in asked.items() if name not in own}
    added = tuple(f"++diagnostics.{name}={hydra_value(settings)}" for name, settings in missing.items())
    configuration = run.configuration.with_diagnostics(missing) if missing else run.configuration
    names = dict.fromkeys((*configuration.asked_metrics, *other.configuration.asked_metrics))
    if len(names) > len(configuration.asked_metrics):
        configuration, added = configuration.with_metrics([*names]), (*added, *metrics_override([*names]))
    return replace(run, overrides=(*run.overrides, *added), configuration=configuration)


def _plan_product(arguments: Sequence[str]) -> list[PlannedRun]:
    choices: list[list[str]] = []
    swept: list[str] = []
    seeds: list[int] | None = None
    parsed = filter(None, map(parse_override, arguments))
    several_seeds = sum(override.key_or_group == "seed" for override in parsed) > 1
    for argument in arguments:
        override = parse_override(argument)
        if override is None or not override.is_sweep_override():
            choices.append([argument])
            continue
        key, values = override.get_key_element(), list(swept_values(override))
        if key == "seed" and not several_seeds and all(WHOLE_NUMBER.fullmatch(value) for value in values):
            seeds = [int(value) for value in values]  # planned together: see `RunConfiguration.for_seeds`
            continue
        choices.append([f"{key}={value}" for value in values])
        if key not in ("seed", "results_dir"):
            swept.append(f"{key}={','.join(value.strip(chr(39)) for value in values)}")
    group = " ".join(swept) or "sweep"
    keys = {item.partition("=")[0] for item in swept}
    combinations, named = math.prod(map(len, choices)), " x ".join(sorted(keys))
    if combinations > LARGEST_PRODUCT:
        raise UserError(
            f"{named}: {combinations} combinations; at most {LARGEST_PRODUCT} can be planned at once, "
            "each with many seeds: split the sweep"
        )
    require_few_runs(named, combinations * (1 if seeds is None else len(seeds)))
    planned = []
    for overrides in itertools.product(*choices):
        configurations = compose_runs(overrides, seeds)
        chosen = [item for item in overrides if item.partition("=")[0] in keys]
        arm = " ".join(item.replace("'", "") for item in chosen) or configurations[0].arm_name
        quoted = quote_option_names(overrides)
        for configuration in configurations:
            own = quoted if seeds is None else [*quoted, f"seed={configuration.seed}"]
            planned.append(PlannedRun(arm, tuple(own), configuration, group))
    for run in {run.arm: run for run in planned}.values():
        check_factors(run.configuration)  # first, because its message is clearer
    require_different_arms(planned)
    return planned
