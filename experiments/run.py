"""One run: compose, skip if done, seed, data, module, fit (or validate), test, record.

`python run.py --help` says what can be chosen and how sweeps and studies are run. Heavy libraries are
imported once the configuration stands, so that --help and --cfg answer at once.
"""

import dataclasses
import secrets
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ablations.errors import RunsFailed, UserError, first_cause
from ablations.lazily import lazily
from ablations.runs.identity import as_json
from ablations.runs.records import DONE, RunDirectory, measured_diagnostics, measured_metrics
from ablations.runs.schema import (
    COMPLETED,
    DIVERGED,
    FAILED,
    RUNNING,
    SCHEMA,
    SCHEMA_VERSION,
    kind_of,
    planned_epochs,
)
from ablations.text import amount
from experiments import command_line, environment
from experiments.configuration import RunConfiguration, as_typed
from experiments.devices import Device, environment_before
from experiments.overrides import key_of
from experiments.placement import LOCAL, WAITS, Place, place
from experiments.progress import RunProgress
from experiments.project import Project, current

with lazily():
    from experiments import check
    from experiments import logger as run_loggers
    from experiments import recorder as recording
    from experiments.sizes import network_cost
    from lightning_modules import assembly, classifier, confusion, processes

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from experiments.recorder import Recorder


def run(config: DictConfig) -> None:
    """Train, test and record one run, unless that is done or is being done by another process.

    Raises:
        UserError: Something that the user chose cannot be; nothing was written.
        RunsFailed: The run failed, or another process is at it. Not in a sweep, where
            the sweep tells it from the record.
    """
    hydra_config = HydraConfig.get()
    configuration = RunConfiguration.from_composed(
        config, hydra_config.runtime.choices, hydra_config.overrides.task
    )
    if config.get("study") is not None:
        raise UserError(f"study={config.study.name} is a sweep: add -m")
    if config.get("tuning") is not None:
        raise UserError(f"tuning={hydra_config.runtime.choices['tuning']} tunes a study: add -m study=NAME")
    alone = hydra_config.mode == RunMode.RUN  # in a sweep the terminal belongs to the sweep
    directory = RunDirectory(
        configuration.results_dir,
        configuration.run_id,
        configuration.diagnostics,
        configuration.asked_metrics,
    )
    launcher = None if alone else hydra_config.launcher["_target_"].rpartition(".")[2]
    overrides = as_typed(hydra_config.overrides.task)
    if configuration.processes > 1 and not alone:
        return run_apart(overrides, waits=launcher in LOCAL)
    environment.check_launcher(configuration.processes)
    if configuration.processes > 1 and environment.process_rank(configuration.devices) > 0:
        return train_beside(configuration, directory)
    if alone and directory.status() not in DONE:
        directory.check_schema()
        check.check_run(configuration)  # a sweep has checked all of its runs before the first

    record = None
    if directory.status() not in DONE:
        with place(configuration, directory, launcher) as found:
            if found is not None and not found.apart:
                record = train_there(configuration, directory, found, alone=alone)
        if found is not None and found.apart:
            return run_apart(overrides, waits=True)
    trained = record is not None
    if not trained and directory.status() in DONE:
        record = directory.read()
    if alone:
        command_line.report_run(directory, record, trained=trained)


def train_there(
    configuration: RunConfiguration, directory: RunDirectory, found: Place, *, alone: bool
) -> dict[str, Any] | None:
    """Train a run on its devices; None where another process holds it or has finished it."""
    with directory.lock() as held:
        # Another process may have finished it while this one was on its way here.
        if not held or directory.status() in DONE:
            return None
        if (aside := directory.set_unreadable_aside()) and alone:
            print(f"unreadable record set aside: {aside}", file=sys.stderr)
        with RunProgress(configuration) if alone else nullcontext():
            record = train(configuration, directory, found.devices)
    environment.free_memory()  # this process may wait now, and others of the device train
    return record


def run_apart(overrides: Sequence[str], *, waits: bool) -> None:
    """Run a run as a command of its own: one of several processes, or on a device that this one cannot use.

    Args:
        overrides: What was typed for it.
        waits: Whether it waits until there are devices for it.
    """
    last = {key_of(override): override for override in overrides}  # a command takes a key once
    command = [sys.executable, str(current().root / "run.py"), *last.values()]
    own = environment_before() | ({WAITS: "1"} if waits else {})
    own.pop("HYDRA_FULL_ERROR", None)  # the sweep's
    subprocess.run(command, stdout=subprocess.DEVNULL, env=own, check=False)  # how it went is in its record


def train_beside(configuration: RunConfiguration, directory: RunDirectory) -> None:
    """Train a run whose record another process keeps, the first of several; silent but where this one fails.

    Raises:
        RunsFailed: This process failed.
        SystemExit: Interrupted; the first process says so.
    """
    if directory.status() in DONE:  # torchrun and srun start every process
        return
    try:
        record = train(configuration, directory, first=False)
    except KeyboardInterrupt:
        raise SystemExit(command_line.EXIT_INTERRUPTED) from None
    if record["status"] == FAILED:
        rank = environment.process_rank(configuration.devices)
        raise RunsFailed(f"process {rank} failed: {first_cause(record['error'])}")


def train(
    configuration: RunConfiguration,
    directory: RunDirectory,
    devices: Sequence[Device] | None = None,
    *,
    first: bool = True,
) -> dict[str, Any]:
    """Train and test from the last completed epoch on, and write the record; the caller holds the lock.

    Args:
        configuration: The run's.
        directory: Its directory.
        devices: That the run has taken; None where somebody else has placed it.
        first: Whether this is the first of its processes: the one that writes.

    Returns:
        The record: completed, diverged or failed.
    """
    environment.quieten()
    environment.forget_peak_memory()
    trainer = None
    configuration = configuration.with_measured(directory)  # or an earlier command's were lost
    record = begin_record(configuration, directory)
    diagnostics = assembly.make_diagnostics(configuration.resolved)
    recorder = recording.Recorder(directory, diagnostics)
    loggers = run_loggers.make_loggers(configuration, record) if first else []
    classes = configuration.resolved["dataset"]["num_classes"]
    is_logged = run_loggers.is_logged(configuration.resolved["logger"])
    shown = is_logged and classes <= confusion.MOST_CLASSES  # in all processes alike
    try:
        record |= dataclasses.asdict(
            network_cost.count_network(configuration.resolved)
        )  # parameters, multiply_adds, depth
        trainer = assembly.make_trainer(
            configuration.resolved,
            callbacks=[
                *(recorder, *diagnostics, recording.MemoryRecorder(directory, record)),
                *([confusion.ConfusionMatrix(classes)] if shown else []),
            ],
            loggers=loggers,
            folder=directory.path,
        )
        checkpoint = _start(configuration, directory, record, trainer, devices, first=first)
        record |= {"metrics": fit_and_test(configuration, trainer, recorder, checkpoint)}
        record |= {"status": COMPLETED}
    except classifier.TrainingDiverged as divergence:
        record |= {"status": DIVERGED, "diverged_at_step": divergence.step}
    except Exception:
        record |= {"status": FAILED, "error": traceback.format_exc()}
    finally:
        if trainer is not None and record["status"] not in DONE:
            processes.end_processes(trainer)
        record |= _ended(record, recorder)
        if trainer is not None and record["device"] is not None:
            record["device"]["peak_memory"] = environment.peak_memory(trainer.strategy.root_device)
        record["wandb_run_id"] = run_loggers.end(loggers, record)
    if first:
        directory.write(record)
        if not configuration.resolved["keep_checkpoint"]:
            directory.free_checkpoint()
    return record


def _start(
    configuration: RunConfiguration,
    directory: RunDirectory,
    record: dict[str, Any],
    trainer: "Trainer",
    devices: Sequence[Device] | None,
    *,
    first: bool,
) -> Path | None:
    """Start the run's processes, add their device to the record, and write it.

    Returns:
        The checkpoint to go on from.
    """
    import torch

    if configuration.processes > 1:
        processes.end_at_sigterm(trainer)
    processes.start_processes(trainer)
    torch.set_num_threads(configuration.resolved["trainer"]["threads"])  # Lightning sets them anew
    device = environment.device(trainer.strategy.root_device, devices or ())
    record |= {"device": device | {"processes": configuration.processes}}
    # One answer for all processes: the first one's record is about to change.
    checkpoint: Path | None = trainer.strategy.broadcast(
        checkpoint_of_same_kind(directory, record) if first else None
    )
    if first:
        if checkpoint is not None:
            done, planned = (
                len(directory.rows() or ()),
                amount(planned_epochs(configuration.resolved), "epoch"),
            )
            print(f"{configuration.arm_name} seed {configuration.seed} goes on after {done} of {planned}")
        directory.write(record)
    return checkpoint


def _ended(record: Mapping[str, Any], recorder: "Recorder") -> dict[str, Any]:
    """What a record has of how its training went, once that is over."""
    return {
        "git": environment.imported(record["git"]),
        "finished": now() if record["status"] != RUNNING else None,
        "steps": recorder.steps,
        "steps_per_second": recorder.steps_per_second,
        "wall_time_s": recorder.wall_time,
        "undecodable_images": recorder.undecodable_images,
    }


def checkpoint_of_same_kind(directory: RunDirectory, record: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from, unless another kind of device or other versions made it, or it lacks rows
    of diagnostics.

    A run that changed them half way would not be what its record says: it starts over.
    """
    previous = directory.read()
    if previous is None:
        return None
    same = previous["versions"] == record["versions"]
    same = same and kind_of(previous["device"]) == kind_of(record["device"])
    same = same and measured_diagnostics(previous) == measured_diagnostics(record)
    same = same and measured_metrics(previous) == measured_metrics(record)
    return directory.checkpoint() if same else None


def fit_and_test(
    configuration: RunConfiguration, trainer: "Trainer", recorder: "Recorder", checkpoint: Path | None
) -> dict[str, float]:
    """Fit the epochs that are left, or with train=false validate the weights; then read test once.

    Returns:
        Validation metrics of the final epoch or of the weights, and test metrics.

    Raises:
        ValueError: A metric is not a finite number.
        KeyboardInterrupt: Interrupted; Lightning would exit.
        SystemExit: Ended by SIGTERM, with 143 as shells have it; Lightning would exit with 0.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    datamodule, module = assembly.make_data_and_module(configuration.resolved)
    try:
        if configuration.resolved["train"]:
            trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)  # it runs no code
            validation = {key: value for key, value in recorder.rows[-1].items() if key.startswith("val_")}
        else:
            trainer.validate(module, datamodule, verbose=False)
            validation = {key: recording.number(value) for key, value in trainer.callback_metrics.items()}
            recorder.write_history()  # without rows: no epoch was trained
            recorder.write_diagnostics()
        trainer.test(module, datamodule, verbose=False)
    except SIGTERMException as terminated:
        raise SystemExit(processes.SIGTERM_EXIT) from terminated
    except SystemExit as interrupted:
        if interrupted.code == processes.SIGTERM_EXIT:  # one of several processes
            raise
        raise KeyboardInterrupt from interrupted
    metrics = validation | {key: recording.number(value) for key, value in trainer.callback_metrics.items()}
    recording.require_finite(metrics)
    return metrics


def begin_record(configuration: RunConfiguration, directory: RunDirectory) -> dict[str, Any]:
    """The record as it stands when training begins; an interrupted run keeps its first start."""
    previous = directory.read() if directory.checkpoint() else None
    asked = (configuration.diagnostics, list(configuration.metrics))
    if (measured_diagnostics(previous), measured_metrics(previous)) != asked:
        previous = None  # it starts over, to measure them from the first step on
    wandb_run_id = previous["wandb_run_id"] if previous else None
    if wandb_run_id is None and run_loggers.is_logged(configuration.resolved["logger"]):
        # Not the run_id alone: the same run may be trained in two results directories.
        wandb_run_id = f"{configuration.run_id}-{secrets.token_hex(4)}"
    return dict.fromkeys(SCHEMA) | {
        "schema_version": SCHEMA_VERSION,
        "run_id": configuration.run_id,
        "status": RUNNING,
        "process": environment.process(),
        "started": previous["started"] if previous else now(),
        "choices": dict(configuration.choices),
        "seed": configuration.seed,
        "config": as_json(configuration.resolved),
        "data_fingerprint": configuration.data_fingerprint,
        "versions": environment.versions(),
        "git": environment.git_state(),
        "wandb_run_id": wandb_run_id,
    }


def now() -> str:
    """Date and time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(script: str) -> int:
    """Run the command of a project's run.py on `sys.argv`.

    Args:
        script: The path of that run.py, `__file__`.

    Returns:
        The exit code: 0; 1 where runs failed; 2 where something the user chose cannot be; 130 where
        interrupted.
    """
    found: list[Project] = []
    code = command_line.exit_code_of(lambda: found.append(Project.of_script(script)))
    return code or command_line.main(run, *found)
