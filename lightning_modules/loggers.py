"""Loggers as a convenience: whatever one cannot do, training goes on.

No disk, no network, no account, a broken install: the first failure is reported in one line, and that logger
logs nothing more of the run. Every logger gets the same keys: `train/loss` and the like of a step,
`train/loss_epoch` of an epoch, `val/top1`, `test/top1`.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger


class LoggingFailed(UserWarning):
    """A logger could not do something; the run goes on without it."""


def key_of(name: str) -> str:
    """How loggers call what the module calls `val_top1`, `train_loss` or `learning_rate`."""
    part, _, rest = name.partition("_")
    if part in ("val", "test"):
        return f"{part}/{rest}"
    if part == "train":
        return f"train/{rest}_epoch"
    return f"train/{name}" if name == "learning_rate" else name


class TolerantLogger(Logger):
    """One of Lightning's loggers that gives up instead of raising.

    Args:
        what: Its name, for the warning.
        make: Makes the logger.
        config: Logged as the run's hyperparameters.
        alone: Held meanwhile, because runs that start at once may share a file that the first one makes;
            None: nothing.
    """

    def __init__(
        self,
        what: str,
        make: Callable[[], Logger],
        config: Mapping[str, Any],
        alone: AbstractContextManager[Any] | None = None,
    ) -> None:
        super().__init__()
        self._what = what
        self._logger: Any = None
        self._gave_up = False
        self._attempt(lambda: self._start_alone(make, config, alone or nullcontext()))

    def _start_alone(
        self, make: Callable[[], Logger], config: Mapping[str, Any], alone: AbstractContextManager[Any]
    ) -> None:
        with alone:
            self._start(make, config)

    def _start(self, make: Callable[[], Logger], config: Mapping[str, Any]) -> None:
        self._logger = make()
        self._logger.log_hyperparams(dict(config))

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever it raises
            self._logger = None
            if not self._gave_up:
                self._gave_up = True
                told = f"{type(error).__name__}: {first_line(error)}"
                warn(f"{self._what} is switched off for this run: {told}")

    @property
    def name(self) -> str | None:
        return None

    @property
    def version(self) -> str | None:
        return None

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._logger is not None:
            named = {key_of(name): value for name, value in metrics.items()}
            self._attempt(lambda: self._logger.log_metrics(named, step))

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """The configuration is logged at the start; Lightning's own view of it is not."""

    def log_confusion_matrix(self, counts: np.ndarray) -> None:
        """Log how often each class, in rows, was taken for each, in columns; not every logger can."""

    def log_end(self, summary: Mapping[str, Any], changes: Mapping[str, str]) -> None:
        """Log what is known when the run ends: values, and uncommitted changes of code by file."""

    def finish(self, *, succeeded: bool, ended: bool = True) -> None:
        """End the log; to be called in every case.

        Args:
            succeeded: Whether the run completed.
            ended: Whether no later command goes on with the run.
        """
        if self._logger is not None:
            self._attempt(lambda: self._logger.finalize("success" if succeeded else "failed"))
        self._logger = None


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return next(iter(str(error).splitlines()), "")


def warn(message: str) -> None:
    """Tell that something is not logged."""
    warnings.warn(message, LoggingFailed, stacklevel=2)
