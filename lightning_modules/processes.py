"""Distributed training: each process computes its share of every batch (synchronous descent).

DistributedDataParallel averages gradients. Functions here synchronize what else must agree, such as BN's
running averages; with one process they do nothing.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, distributed, nn

Value = TypeVar("Value")

SIGTERM_EXIT = 128 + signal.SIGTERM
GRACE_S = 10.0
"""Seconds for a process to clean up after SIGTERM."""


def several() -> bool:
    """Whether this is one of several initialized processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def start_processes(trainer: Trainer) -> None:
    """Start the other processes, if a launcher must, and wait for all.

    Lightning would do so in `fit`; a run must agree earlier on where to resume.
    """
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.launch(trainer.strategy.setup_environment)


class EndAtSigterm(Callback):
    """Exits this process with 143 at SIGTERM, without waiting for the others.

    Lightning's handler, which it installs first, communicates with other processes in the middle of their
    communication, which can deadlock.
    """

    def _take(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signal.signal(signal.SIGTERM, _end)  # Lightning restores the previous handler

    on_train_start = on_validation_start = on_test_start = _take


def end_at_sigterm(trainer: Trainer) -> None:
    """Exit this process and those it started at SIGTERM; call it before `start_processes`.

    Python runs signal handlers between bytecodes, so never in a process that waits for others. A thread
    therefore exits it after `GRACE_S`.
    """
    hear, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.signal(signal.SIGTERM, _end)
    signal.set_wakeup_fd(tell)

    def watch() -> None:
        while signal.SIGTERM not in os.read(hear, 1):
            pass
        time.sleep(GRACE_S)
        end_processes(trainer)
        os._exit(SIGTERM_EXIT)

    threading.Thread(target=watch, daemon=True).start()


def _end(*_: Any) -> None:
    raise SystemExit(SIGTERM_EXIT)


def end_processes(trainer: Trainer) -> None:
    """Kill the processes that `start_processes` started: they would wait for this one."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        trainer.strategy.launcher.kill(signal.SIGKILL)


def process_of(data: LightningDataModule) -> tuple[int, int]:
    """The rank of this process and the number of processes; (0, 1) without a trainer."""
    return (0, 1) if data.trainer is None else (data.trainer.global_rank, data.trainer.world_size)


def device_of(data: LightningDataModule) -> torch.device:
    """The training device; the CPU without a trainer."""
    strategy = getattr(data.trainer, "strategy", None)
    return torch.device("cpu") if strategy is None else strategy.root_device


def require_for_each_process(data: LightningDataModule, counts: Mapping[str, int], of_what: str) -> None:
    """Raise ValueError if a part has fewer images or shards than processes, which would block the others."""
    _, processes = process_of(data)
    for part, count in counts.items():
        if count < processes:
            raise ValueError(
                f"trainer.devices: {processes} processes (trainer.devices times trainer.num_nodes), but "
                f"only {count} {part} {of_what}"
            )


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a scalar; not finite if any process's is not. Every process must call this."""
    if not several():
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def of_each_process(value: Value) -> list[Value]:
    """The picklable value of every process. Every process must call this."""
    if not several():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def agree_on_buffers(network: nn.Module) -> None:
    """Copy the first process's buffers, so that all evaluate one network. Every process must call this."""
    if several():
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)
