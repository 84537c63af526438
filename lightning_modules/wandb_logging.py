"""Weights & Biases as a convenience: whatever it cannot do, training goes on.

No disk, no network, no account, a broken install: the first failure is told in one line, and the rest
of the run is not logged.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger


class WandbLoggingFailed(UserWarning):
    """W&B could not do something; the run goes on without it."""


class TolerantWandbLogger(Logger):
    """Lightning's `WandbLogger` that gives up instead of raising.

    Nothing is asked and nothing printed. Online without an account falls back to offline.

    Args:
        mode: "offline" or "online".
        entity: Who owns the project; None: the account's default.
        project: W&B project.
        folder: Folder in which W&B makes its folder `wandb`; made if missing.
        run_id: Unique in the project; one that exists is gone on with.
        name: Of the run, as a person reads it.
        group: Of the run.
        job_type: Of the run.
        tags: Of the run.
        config: Logged as the run's configuration.
    """

    def __init__(
        self,
        *,
        mode: Literal["offline", "online"],
        entity: str | None,
        project: str,
        folder: Path,
        run_id: str,
        name: str,
        group: str | None,
        job_type: str | None,
        tags: Sequence[str],
        config: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self._run: Any = None
        self._logger: Any = None
        self._gave_up = False
        self._attempt(
            lambda: self._start(
                mode=mode,
                entity=entity,
                project=project,
                dir=str(folder),
                id=run_id,
                name=name,
                group=group,
                job_type=job_type,
                tags=list(tags),
                config=dict(config),
            )
        )

    def _start(self, *, mode: Literal["offline", "online"], **arguments: Any) -> None:
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
        if mode == "online" and not wandb.login(prompt=False):
            _warn("no W&B account is configured (`wandb login`), logging offline")
            mode = "offline"
        settings = wandb.Settings(
            silent=True,
            console="off",  # the run's output is in the terminal, not in W&B
            init_timeout=30,  # seconds
            finish_timeout=60,  # seconds; an upload that takes longer is left to `wandb sync`
        )
        arguments |= {"settings": settings, "resume": "allow"}
        try:
            self._run = wandb.init(mode=mode, **arguments)
        except Exception as error:  # whatever W&B raises
            if mode == "offline":
                raise
            _warn(f"W&B cannot be reached, logging offline: {type(error).__name__}: {_first_line(error)}")
            self._run = wandb.init(mode="offline", **arguments)
        # As WandbLogger does with a run of its own: training steps are the x-axis of every chart.
        self._run.define_metric("trainer/global_step")
        self._run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self._logger = WandbLogger(experiment=self._run)

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever W&B raises
            self._logger = None
            if not self._gave_up:
                self._gave_up = True
                _warn(f"W&B is switched off for this run: {type(error).__name__}: {_first_line(error)}")

    @property
    def name(self) -> str | None:
        return None

    @property
    def version(self) -> str | None:
        """The W&B run's id; None where nothing is logged."""
        return None if self._run is None else self._run.id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._logger is not None:
            self._attempt(lambda: self._logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """The configuration is logged at the start; Lightning's own view of it is not."""

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        if self._logger is not None:
            self._attempt(lambda: self._run.summary.update(dict(values)))

    def finish(self, *, succeeded: bool) -> None:
        """End the W&B run; to be called in every case, or the next run of the process joins it."""
        run = self._run
        if run is not None:
            self._attempt(lambda: run.finish(exit_code=0 if succeeded else 1))
        self._logger = None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _warn(message: str) -> None:
    warnings.warn(message, WandbLoggingFailed, stacklevel=2)
