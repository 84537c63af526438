"""Loggers that never stop training: after its first failure, a logger is off for the rest of the run.

The failure is reported in one line. All loggers get the same keys: `train/loss` etc. per step,
`train/loss_epoch`, `val/top1` etc. per epoch, and `test/top1`.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger


class LoggingFailed(UserWarning):
    """A logger failed; the run continues without it."""


def key_of(name: str) -> str:
    """A logger's key for the module's `val_top1`, `train_loss` or `learning_rate`."""
    part, _, rest = name.partition("_")
    if part in ("val", "test"):
        return f"{part}/{rest}"
    if part == "train":
        return f"train/{rest}_epoch"
    return f"train/{name}" if name == "learning_rate" else name


class TolerantLogger(Logger):
    """One of Lightning's loggers, which is switched off instead of raising.

    Its name `what` is for the warning; `config` are its hyperparameters; `alone` is held while it starts.
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

        def start() -> None:
            with alone or nullcontext():
                self._start(make, config)

        self._attempt(start)

    def _start(self, make: Callable[[], Logger], config: Mapping[str, Any]) -> None:
        self._logger = make()
        self._logger.log_hyperparams(dict(config))

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # of any type
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
        """Ignored: the configuration was logged at the start."""

    def log_confusion_matrix(self, counts: np.ndarray) -> None:
        """Log counts of true classes (rows) and predicted classes (columns), if the logger can."""

    def log_end(self, summary: Mapping[str, Any], changes: Mapping[str, str]) -> None:
        """Log final values, and uncommitted code changes by file."""

    def finish(self, *, succeeded: bool, ended: bool = True) -> None:
        """Close the log; must always be called.

        Args:
            succeeded: Whether the run completed.
            ended: Whether no later command resumes the run.
        """
        if self._logger is not None:
            self._attempt(lambda: self._logger.finalize("success" if succeeded else "failed"))
        self._logger = None


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def warn(message: str) -> None:
    warnings.warn(message, LoggingFailed, stacklevel=2)
