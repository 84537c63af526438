"""One run: compose, skip if done, seed, data, module, fit (or validate), test, record.

Heavy libraries are imported after composing, so that --help and --cfg are fast.
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
    """Train, test and record one run, unless it is done or another process is training it.

    Raises:
        UserError: A choice is invalid; nothing was written.
        RunsFailed: The run failed or another process is training it; a sweep reads this from the record.
    """
    hydra_config = HydraConfig.get()
    configuration = RunConfiguration.from_composed(
        config, hydra_config.runtime.choices, hydra_config.overrides.task
    )
    if config.get("study") is not None:
        raise UserError(f"study={config.study.name} needs -m (it is a sweep)")
    if config.get("tuning") is not None:
        raise UserError(f"tuning={hydra_config.runtime.choices['tuning']} needs a study: add -m study=NAME")
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
        check.check_run(configuration)  # a sweep checks all runs first

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
    """Train a run on its devices; None if another process is training it or has finished it."""
    with directory.lock() as held:
        # Another process may have finished it by now.
        if not held or directory.status() in DONE:
            return None
        if (aside := directory.set_unreadable_aside()) and alone:
            print(f"moved an unreadable record to {aside}", file=sys.stderr)
        with RunProgress(configuration) if alone else nullcontext():
            record = train(configuration, directory, found.devices)
    environment.free_memory()  # for other processes on the device
    return record


def run_apart(overrides: Sequence[str], *, waits: bool) -> None:
    """Train a run in a new command: with several processes, or on a device that this process cannot use."""
    hydra_config = HydraConfig.get()
    last = {key_of(override): override for override in overrides}  # no duplicate keys
    sources = hydra_config.runtime.config_sources
    folders = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    searched = [word for word in hydra_config.overrides.hydra if key_of(word) == "hydra.searchpath"]
    project = current()
    command = [sys.executable, str(project.root / project.script), *folders, *searched, *last.values()]
    own = environment_before() | ({WAITS: "1"} if waits else {})
    own.pop("HYDRA_FULL_ERROR", None)  # the sweep's
    subprocess.run(command, stdout=subprocess.DEVNULL, env=own, check=False)  # the record has the outcome


def train_beside(configuration: RunConfiguration, directory: RunDirectory) -> None:
    """Train as one of a run's processes; the first one writes the record.

    Raises:
        RunsFailed: This process failed.
        SystemExit: Interrupted; the first process reports it.
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
    """Train from the last completed epoch, test and write the record; the caller holds the lock.

    `devices` are those taken by the run; only its first process writes.
    """
    environment.quieten()
    environment.forget_peak_memory()
    trainer = None
    configuration = configuration.with_measured(directory)  # keeps what earlier commands measured
    record = begin_record(configuration, directory)
    diagnostics = assembly.make_diagnostics(configuration.resolved)
    recorder = recording.Recorder(directory, diagnostics)
    loggers = run_loggers.make_loggers(configuration, record) if first else []
    classes = configuration.resolved["dataset"]["num_classes"]
    is_logged = run_loggers.is_logged(configuration.resolved["logger"])
    shown = is_logged and classes <= confusion.MOST_CLASSES  # equal in all processes
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
    """Start the run's processes and write the record with its device; returns the checkpoint to resume."""
    import torch

    if configuration.processes > 1:
        processes.end_at_sigterm(trainer)
    processes.start_processes(trainer)
    torch.set_num_threads(configuration.resolved["trainer"]["threads"])  # Lightning has reset them
    device = environment.device(trainer.strategy.root_device, devices or ())
    record |= {"device": device | {"processes": configuration.processes}}
    # Before the first process changes the record.
    checkpoint: Path | None = trainer.strategy.broadcast(
        checkpoint_of_same_kind(directory, record) if first else None
    )
    if first:
        if checkpoint is not None:
            done, planned = (
                len(directory.rows() or ()),
                amount(planned_epochs(configuration.resolved), "epoch"),
            )
            print(f"{configuration.arm_name} seed {configuration.seed} continues after {done} of {planned}")
        directory.write(record)
    return checkpoint


def _ended(record: Mapping[str, Any], recorder: "Recorder") -> dict[str, Any]:
    return {
        "git": environment.imported(record["git"]),
        "finished": now() if record["status"] != RUNNING else None,
        "steps": recorder.steps,
        "steps_per_second": recorder.steps_per_second,
        "wall_time_s": recorder.wall_time,
        "undecodable_images": recorder.undecodable_images,
    }


def checkpoint_of_same_kind(directory: RunDirectory, record: dict[str, Any]) -> Path | None:
    """The checkpoint to resume; None if device, versions or measurements changed, so the run starts over."""
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
    """Train the remaining epochs, or with train=false validate the weights; then test once.

    Returns:
        Validation metrics of the final epoch or of the weights, and test metrics.

    Raises:
        ValueError: A metric is not finite.
        KeyboardInterrupt: Interrupted, where Lightning would exit.
        SystemExit: SIGTERM, with code 143, where Lightning would exit with 0.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    datamodule, module = assembly.make_data_and_module(configuration.resolved)
    try:
        if configuration.resolved["train"]:
            trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)  # executes nothing
            validation = {key: value for key, value in recorder.rows[-1].items() if key.startswith("val_")}
        else:
            trainer.validate(module, datamodule, verbose=False)
            validation = {key: recording.number(value) for key, value in trainer.callback_metrics.items()}
            recorder.write_history()  # empty: no epoch was trained
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
    """The record when training begins; an interrupted run keeps its first start."""
    previous = directory.read() if directory.checkpoint() else None
    asked = (configuration.diagnostics, list(configuration.metrics))
    if (measured_diagnostics(previous), measured_metrics(previous)) != asked:
        previous = None  # it starts over, to measure from the first step
    wandb_run_id = previous["wandb_run_id"] if previous else None
    if wandb_run_id is None and run_loggers.is_logged(configuration.resolved["logger"]):
        # The same run may be trained in two results folders.
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
    """UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(script: str) -> int:
    """Run the run.py at path `script` on `sys.argv`.

    Returns:
        The exit code: 0; 1 if runs failed; 2 for a user error; 130 if interrupted.
    """
    found: list[Project] = []
    code = command_line.exit_code_of(lambda: found.append(Project.of_script(script)))
    return code or command_line.main(run, *found)
