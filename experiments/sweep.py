"""Trains many planned runs: checks them, launches missing ones, reports outcomes.

Recorded runs are left alone. The sweep waits for runs that another process is training, and trains them if
that process dies.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from hydra.plugins.launcher import Launcher

from ablations.errors import RunsFailed, first_cause
from ablations.lazily import lazily
from ablations.runs.records import DONE
from ablations.runs.schema import COMPLETED, FAILED, RUNNING
from ablations.terminal.run_tables import counts
from ablations.text import amount
from experiments.configuration import quoted
from experiments.placement import Packing
from experiments.planned_run import PlannedRun
from experiments.progress import SweepProgress

with lazily():
    from experiments import check

WAIT_S = 2.0
"""Seconds between checks of runs that another process is training."""


def sweep(runs: Sequence[PlannedRun], launcher: Launcher) -> None:
    """Check missing runs, bring every run to an outcome, then report failures.

    Raises:
        UserError: A run is invalid; nothing was written.
        RunsFailed: Runs failed or were lost, each named with its directory.
    """
    check_missing(runs)
    bring_to_outcome(runs, launcher)


def check_missing(runs: Sequence[PlannedRun]) -> None:
    """Check runs without an outcome; UserError if one is invalid."""
    if todo := [run for run in runs if run.directory.status() not in DONE]:
        _check(todo)


def bring_to_outcome(runs: Sequence[PlannedRun], launcher: Launcher) -> None:
    """As `sweep`, for checked runs."""
    todo = [run for run in runs if run.directory.status() not in DONE]
    packing = Packing(runs, launcher)
    with SweepProgress(runs, waiting=packing.waiting, holders=packing.holders) as progress:
        for line in packing.notices() if todo else ():
            progress.tell(line)
        failed = _launch_all(todo, launcher, packing, progress.tell)
    statuses = Counter(run.directory.status() for run in runs)
    done = sum(statuses[status] for status in DONE)
    how = "" if statuses[COMPLETED] == len(runs) else f" ({counts(statuses).plain})"
    how += "" if todo else "; nothing trained"
    folder = runs[0].directory.path.parent
    progress.tell(f"{done} of {amount(len(runs), 'run')} done{how}; records: {folder}")
    if failed:
        lines = [f"{len(failed)} of {amount(len(runs), 'run')} failed:"]
        lines += [f"  {run.arm} seed {run.seed}: {reason} ({run.directory.path})" for run, reason in failed]
        raise RunsFailed("\n".join(lines))


def _check(runs: Sequence[PlannedRun]) -> None:
    checked = set()
    for run in runs:
        run.directory.check_schema()
        if problem := run.directory.problem():
            print(f"{problem}; training it again", file=sys.stderr)
        check.check_seed(run.configuration)
        run.configuration.with_measured(run.directory)
        if (run.group, run.arm) not in checked:  # an arm's runs differ only in the seed
            check.check_run(run.configuration)
            checked.add((run.group, run.arm))


def _launch_all(
    runs: Sequence[PlannedRun], launcher: Launcher, packing: Packing, tell: Callable[[str], None]
) -> list[tuple[PlannedRun, str]]:
    """Launch until every run has an outcome, failed here, or was lost twice.

    A process that dies (killed, out of memory) may end other runs: joblib's pool dies with it, Ray and Slurm
    stop reporting. Runs that had not started are launched again together, the others one by one, so that only
    the run that kills its process is given up. Runs that lost their device, or ran out of its memory, are
    also retried once. Returns the failed runs, with the reason.
    """
    failed: list[tuple[PlannedRun, str]] = []
    suspects: list[PlannedRun] = []
    queue = list(runs)
    earlier_failures = {run.run_id: _failure(run) for run in runs}
    job = 0
    while queue or suspects:
        batch, alone = (packing.ready(queue), False) if queue else (suspects[:1], True)
        error = _launch(batch, launcher, packing, job, alone=alone)
        job += len(batch)
        launched = {run.run_id for run in batch}
        queue = [run for run in queue if run.run_id not in launched]
        suspects = suspects[1:] if alone else suspects
        busy, not_started = [], []
        for run in batch:
            status, failure = run.directory.status(), _failure(run)
            if status in DONE:
                continue
            if status == RUNNING:
                busy.append(run)
            elif failure is not None and failure != earlier_failures[run.run_id]:
                if not alone and (why := packing.second_try(run)) is not None:
                    tell(f"{run.arm} seed {run.seed}: {why}")
                    earlier_failures[run.run_id] = failure
                    suspects.append(run)
                else:
                    failed.append((run, failure[1]))
            elif alone:
                failed.append((run, error or "its process ended without an outcome"))
            elif run.directory.path.exists():
                suspects.append(run)
            else:
                not_started.append(run)
        # If none of a batch has started, they are launched one by one.
        (queue if len(not_started) < len(batch) else suspects).extend(not_started)
        queue += _wait_for(busy)
    return failed


def _launch(
    runs: Sequence[PlannedRun], launcher: Launcher, packing: Packing, first_job: int, *, alone: bool
) -> str | None:
    """Launch runs, in parallel as far as there are devices; returns an error outside of the runs."""
    overrides = [
        [
            *run.overrides,
            *packing.overrides(run, alone=alone, runs=len(runs)),
            *_absolute_weights(run),
            f"results_dir={quoted(str(run.configuration.results_dir.absolute()))}",
            *_logger_overrides(run),
        ]
        for run in runs
    ]
    # A run of several processes runs alone, unless it takes this machine's devices like others.
    several = any(
        run.configuration.processes > (run.configuration.devices if packing.is_local else 1) for run in runs
    )
    batches = [[job] for job in overrides] if several else [overrides]
    try:
        packing.set_jobs(runs)
        for batch in batches:
            for job in launcher.launch(batch, initial_job_idx=first_job):
                _ = job.return_value
            first_job += len(batch)
    except Exception as error:  # of any type, if a process dies
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None


def _absolute_weights(run: PlannedRun) -> list[str]:
    """The path of the weights for any working directory, if there are weights."""
    weights = run.configuration.resolved["weights"]
    return [] if weights is None else [f"weights={quoted(os.path.abspath(os.path.expanduser(weights)))}"]


def _logger_overrides(run: PlannedRun) -> list[str]:
    """Grouping of the sweep's runs in loggers."""
    if not run.configuration.resolved["logger"].get("every_n_steps"):  # nothing is logged
        return []
    return [f"++logger.group={quoted(run.group)}", f"++logger.job_type={quoted(run.arm)}"]


def _wait_for(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Wait while other processes train the runs; returns those left without an outcome."""
    left = []
    for run in runs:
        while (status := run.directory.status()) == RUNNING:
            time.sleep(WAIT_S)
        if status not in DONE:
            left.append(run)
    return left


def _failure(run: PlannedRun) -> tuple[str, str] | None:
    """When a run failed, and why; None if it did not."""
    record = run.directory.read_or_none()
    if record is None or record["status"] != FAILED:
        return None
    return record["finished"], first_cause(record["error"])
