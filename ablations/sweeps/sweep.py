"""Many runs: plan them, check them, launch what is missing, tell how it ended.

A sweep is a product of choices (`residual=true,false seed=0,1`) or the union of studies
(`study=residual,intermediate_activation`). Runs that are recorded are left alone, and so are those
that another process is training: the sweep waits for them and takes them over if that process dies.
"""

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep
from hydra.plugins.launcher import Launcher

from ablations.errors import RunsFailed, UserError
from ablations.runs.configuration import (
    is_outside_identity,
    lists_values,
    option_name,
    override_values,
    parse_override,
    quote_option_names,
    quoted,
)
from ablations.runs.records import COMPLETED, DONE, FAILED, RUNNING, UnreadableRecord
from ablations.studies.planning import PlannedRun, compose_runs, plan_study
from ablations.sweeps.progress import SweepProgress
from ablations.terminal.run_tables import counts

WHOLE_NUMBER = re.compile("0|[1-9][0-9]*")

WAIT_S = 2.0
"""Seconds between two looks at runs that another process is training."""


def plan_sweep(arguments: Sequence[str]) -> list[PlannedRun]:
    """The runs that a command asks for, each once; Hydra must be initialized.

    Args:
        arguments: As on the command line, sweeps included.

    Raises:
        UserError: A sweep that is none of choices, a study that cannot be varied that way, or two studies
            that measure a run that they share with different settings.
        HydraException: An option or key does not exist.
    """
    studies, others = split_studies(arguments)
    if studies:
        planned = [run for study in studies for run in plan_study(study, others)[1]]
    else:
        planned = _plan_product(others)
    by_place: dict[Path, PlannedRun] = {}
    for run in planned:
        place = run.directory.path
        by_place[place] = _measuring_both(by_place[place], run) if place in by_place else run
    # Seed by seed, so that a sweep that is cut short leaves whole comparisons. What is no seed comes
    # first; the check names it.
    return sorted(by_place.values(), key=lambda run: run.seed if isinstance(run.seed, int) else -1)


def split_studies(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take the names of the studies out of the arguments of a sweep.

    Raises:
        UserError: A sweep over studies that does not name them.
    """
    studies: list[str] = []
    others = []
    for argument in arguments:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "study":
            if override.is_sweep_override() and not isinstance(override.value(), ChoiceSweep):
                raise UserError(f"{argument}: give the studies' names, separated by commas")
            studies = [option_name(value) for value in override_values(override)]
        else:
            others.append(argument)
    return studies, others


def _measuring_both(run: PlannedRun, other: PlannedRun) -> PlannedRun:
    """A run that two studies share, with the diagnostics of both: it is trained once."""
    own, asked = run.configuration.diagnostics, other.configuration.diagnostics
    for name in own.keys() & asked.keys():
        if own[name] != asked[name]:
            raise UserError(
                f"diagnostics.{name}: {run.group} and {other.group} share a run and measure it differently"
            )
    missing = {name: settings for name, settings in asked.items() if name not in own}
    added = tuple(f"++diagnostics.{name}={_hydra_value(settings)}" for name, settings in missing.items())
    configuration = run.configuration.with_diagnostics(missing) if missing else run.configuration
    return replace(run, overrides=(*run.overrides, *added), configuration=configuration)


def _plan_product(arguments: Sequence[str]) -> list[PlannedRun]:
    """Every combination of the values that the arguments list."""
    axes: list[list[str]] = []
    swept: list[str] = []
    seeds: list[int] | None = None
    several_seeds = sum(_sets_seed(argument) for argument in arguments) > 1
    for argument in arguments:
        override = parse_override(argument)
        if override is None or not override.is_sweep_override():
            axes.append([argument])
            continue
        if not lists_values(override):
            raise UserError(f"{argument}: give the values themselves, separated by commas")
        key = override.get_key_element()
        if is_outside_identity(key) and key != "results_dir":
            raise UserError(f"{argument}: {key} changes no outcome, so there is nothing to sweep over")
        values = list(override.sweep_string_iterator())
        if key == "seed" and not several_seeds and all(WHOLE_NUMBER.fullmatch(value) for value in values):
            seeds = [int(value) for value in values]  # planned together: see `RunConfiguration.for_seeds`
            continue
        axes.append([f"{key}={value}" for value in values])
        if key != "seed" and not is_outside_identity(key):
            swept.append(f"{key}={','.join(value.strip(chr(39)) for value in values)}")
    group = " ".join(swept) or "sweep"
    keys = {item.partition("=")[0] for item in swept}
    planned = []
    for overrides in itertools.product(*axes):
        configurations = compose_runs(overrides, seeds)
        chosen = [item for item in overrides if item.partition("=")[0] in keys]
        arm = " ".join(item.replace("'", "") for item in chosen) or configurations[0].arm_name
        quoted = quote_option_names(overrides)
        for configuration in configurations:
            own = quoted if seeds is None else [*quoted, f"seed={configuration.seed}"]
            planned.append(PlannedRun(arm, tuple(own), configuration, group))
    return planned


def _sets_seed(argument: str) -> bool:
    override = parse_override(argument)
    return override is not None and override.key_or_group == "seed"


def sweep(runs: Sequence[PlannedRun], launcher: Launcher) -> None:
    """Check the runs that are missing, bring every run to an outcome, then tell what failed.

    Raises:
        UserError: A run cannot be as it is configured; nothing was written.
        RunsFailed: Runs failed or were lost, each named with its directory.
    """
    check_missing(runs)
    bring_to_outcome(runs, launcher)


def check_missing(runs: Sequence[PlannedRun]) -> None:
    """Check the runs that have no outcome yet.

    Raises:
        UserError: A run cannot be as it is configured.
    """
    if todo := [run for run in runs if run.directory.status() not in DONE]:
        _check(todo)


def bring_to_outcome(runs: Sequence[PlannedRun], launcher: Launcher) -> None:
    """As `sweep`, for runs that were checked."""
    todo = [run for run in runs if run.directory.status() not in DONE]
    with SweepProgress(runs) as progress:
        failed = _launch_all(todo, launcher)
    statuses = Counter(run.directory.status() for run in runs)
    done = sum(statuses[status] for status in DONE)
    how = "" if statuses[COMPLETED] == len(runs) else f" ({counts(statuses).plain})"
    progress.tell(f"{done} of {len(runs)} runs done{how}; records: {_records_folder(runs)}")
    if failed:
        lines = [f"{len(failed)} of {len(runs)} runs failed:"]
        lines += [f"  {run.arm} seed {run.seed}: {reason} ({run.directory.path})" for run, reason in failed]
        raise RunsFailed("\n".join(lines))


def _check(runs: Sequence[PlannedRun]) -> None:
    from ablations.runs.check import check_run, check_seed  # imports torch: only where runs are missing

    checked = set()
    for run in runs:
        check_seed(run.configuration)
        if (run.group, run.arm) not in checked:  # within an arm runs differ in the seed alone
            check_run(run.configuration, run.metrics)
            checked.add((run.group, run.arm))


def _launch_all(runs: Sequence[PlannedRun], launcher: Launcher) -> list[tuple[PlannedRun, str]]:
    """Launch until every run has an outcome, failed here, or was lost twice.

    A process that dies (killed, out of memory) may take other runs with it: joblib's pool dies with one
    of its processes, Ray and Slurm stop telling at the first. Runs that had not started are launched
    again together, the others one by one, so that only the run that kills its process is given up.

    Returns:
        The failed runs, with the reason.
    """
    failed: list[tuple[PlannedRun, str]] = []
    suspects: list[PlannedRun] = []
    queue = list(runs)
    earlier_failures = {run.run_id: _failure(run) for run in runs}
    job = 0
    while queue or suspects:
        batch, alone = (queue, False) if queue else (suspects[:1], True)
        error = _launch(batch, launcher, job)
        job += len(batch)
        queue, suspects = [], suspects[1:] if alone else suspects
        busy, not_started = [], []
        for run in batch:
            status, failure = run.directory.status(), _failure(run)
            if status in DONE:
                continue
            if status == RUNNING:
                busy.append(run)
            elif failure is not None and failure != earlier_failures[run.run_id]:
                failed.append((run, failure[1]))
            elif alone:
                failed.append((run, error or "its process ended without an outcome"))
            elif run.directory.path.exists():
                suspects.append(run)
            else:
                not_started.append(run)
        # Where none of a batch has started, its launcher cannot start any.
        (queue if len(not_started) < len(batch) else suspects).extend(not_started)
        queue += _wait_for(busy)
    return failed


def _launch(runs: Sequence[PlannedRun], launcher: Launcher, first_job: int) -> str | None:
    """Launch runs, side by side if each is one process; returns what went wrong outside of them."""
    overrides = [
        [
            *run.overrides,
            *_absolute_weights(run),
            f"results_dir={quoted(str(run.configuration.results_dir.absolute()))}",  # from any folder
            *_logger_overrides(run),
        ]
        for run in runs
    ]
    # A run of several processes has the machine to itself.
    several = any(run.configuration.processes > 1 for run in runs)
    batches = [[job] for job in overrides] if several else [overrides]
    try:
        for batch in batches:
            for job in launcher.launch(batch, initial_job_idx=first_job):
                _ = job.return_value
            first_job += len(batch)
    except Exception as error:  # whatever a launcher raises when a process dies
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None


def _absolute_weights(run: PlannedRun) -> list[str]:
    """The file of the weights from any folder, where there is one."""
    weights = run.configuration.resolved["weights"]
    return [] if weights is None else [f"weights={quoted(str(Path(weights).expanduser().absolute()))}"]


def _logger_overrides(run: PlannedRun) -> list[str]:
    """What groups the sweep's runs where they are logged."""
    if run.configuration.resolved["logger"]["backend"] is None:
        return []
    return [f"++logger.group={quoted(run.group)}", f"++logger.job_type={quoted(run.arm)}"]


def _hydra_value(value: Any) -> str:
    """A plain value as on Hydra's command line."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra_value, value)) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def _wait_for(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Wait until no other process trains any of the runs; returns those left without an outcome."""
    left = []
    for run in runs:
        while (status := run.directory.status()) == RUNNING:
            time.sleep(WAIT_S)
        if status not in DONE:
            left.append(run)
    return left


def _failure(run: PlannedRun) -> tuple[str, str] | None:
    """When a run failed, and why; None where no failure is recorded."""
    try:
        record = run.directory.read()
    except UnreadableRecord:
        return None
    if record is None or record["status"] != FAILED:
        return None
    return record["finished"], record["error"].strip().splitlines()[-1]


def _records_folder(runs: Sequence[PlannedRun]) -> str:
    return str(runs[0].directory.path.parent)
