"""Several processes that train one network: each computes its share of every batch (synchronous descent).

Gradients are averaged by torch's DistributedDataParallel. What each process computes by itself and all must
agree on (a loss that is not finite, BN's running averages) is agreed on here. With one process nothing here
does anything.
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
"""Seconds that a process has at SIGTERM to close what it has open."""


def several() -> bool:
    """Whether this process is one of several, which know of each other."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def start_processes(trainer: Trainer) -> None:
    """Start the other processes, where nobody else has, and wait until all know of each other.

    Lightning would do so when it fits; a run has to agree before on what it goes on from.
    """
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.launch(trainer.strategy.setup_environment)


class EndAtSigterm(Callback):
    """Ends this process at SIGTERM with 143, as shells have it, without waiting for the others.

    Lightning's own handler, which it puts before ours when it begins, exchanges a message with the others, in
    the middle of whatever they exchange just then, so that they may wait for each other for ever.
    """

    def _take(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signal.signal(signal.SIGTERM, _end)  # Lightning puts back what was there before it began

    on_train_start = on_validation_start = on_test_start = _take


def end_at_sigterm(trainer: Trainer) -> None:
    """End this process and those that it started at SIGTERM, from now on; call it before `start_processes`.

    Python calls a handler between two of its own instructions only, which a process that waits for the others
    may never come to. So a thread hears of the signal as well, and ends what has not ended after `GRACE_S`.
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
    """End the processes that `start_processes` started: this one ends, and they would wait for it."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        trainer.strategy.launcher.kill(signal.SIGKILL)


def process_of(data: LightningDataModule) -> tuple[int, int]:
    """Which process this is, and how many there are; (0, 1) outside of a trainer."""
    return (0, 1) if data.trainer is None else (data.trainer.global_rank, data.trainer.world_size)


def device_of(data: LightningDataModule) -> torch.device:
    """Where this process trains; the CPU outside of a trainer."""
    strategy = getattr(data.trainer, "strategy", None)
    return torch.device("cpu") if strategy is None else strategy.root_device


def require_for_each_process(data: LightningDataModule, counts: Mapping[str, int], of_what: str) -> None:
    """Require that every process has its share of each part: one without would leave the others waiting.

    Args:
        data: Its trainer knows the processes.
        counts: What there is, by part.
        of_what: E.g. "images".

    Raises:
        ValueError: There are more processes.
    """
    _, processes = process_of(data)
    for part, count in counts.items():
        if count < processes:
            raise ValueError(
                f"trainer.devices: {processes} processes (trainer.devices times trainer.num_nodes) are more "
                f"than the {count} {part} {of_what}"
            )


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a value (); not finite where one process has it so. Every process must call this."""
    if not several():
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def of_each_process(value: Value) -> list[Value]:
    """A value of each process, such as a list or a number. Every process must call this."""
    if not several():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def agree_on_buffers(network: nn.Module) -> None:
    """Take the first process's buffers, so that all evaluate one network. Every process must call this."""
    if several():
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)
