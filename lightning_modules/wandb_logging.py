"""Weights & Biases: one W&B run per run, even if it is interrupted.

Rows have the training step. Online, W&B drops the steps that a resumed run repeats. Offline it would not, so
an epoch's rows wait until the epoch is recorded.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightning_modules.loggers import TolerantLogger, first_line, key_of, warn

STEP = "trainer/global_step"
"""The horizontal axis of charts, named as by Lightning's WandbLogger."""


class TolerantWandbLogger(TolerantLogger):
    """W&B without prompts or output. Falls back to offline without an account or network.

    It resumes an existing run of this `run_id`. `folder` is the parent of W&B's folder; other arguments are
    `wandb.init`'s.
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
        self._waiting: list[tuple[dict[str, Any], int | None]] = []
        self._run: Any = None
        self._live = False
        arguments = {
            "entity": entity,
            "project": project,
            "dir": str(folder),
            "id": run_id,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
        }
        super().__init__("W&B", lambda: self._init(mode, arguments | {"config": dict(config)}), {})

    def _init(self, mode: Literal["offline", "online"], arguments: dict[str, Any]) -> Any:
        import wandb

        Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
        if mode == "online" and not wandb.login(prompt=False):
            warn("no W&B account is configured (`wandb login`), logging offline")
            mode = "offline"
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=30,  # seconds
            finish_timeout=60,  # seconds; then the upload is left to `wandb sync`
            x_save_requirements=False,  # would read every package's metadata for every run: see `_packages`
        )
        arguments |= {"settings": settings, "resume": "allow"}
        try:
            run = wandb.init(mode=mode, **arguments)
        except Exception as error:  # of any type
            if mode == "offline":
                raise
            warn(f"W&B cannot be reached, logging offline: {type(error).__name__}: {first_line(error)}")
            mode = "offline"
            run = wandb.init(mode=mode, **arguments)
        self._live, self._run = mode == "online", run
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        self._save("requirements.txt", _packages())
        return run

    def _start(self, make: Any, config: Mapping[str, Any]) -> None:
        self._logger = make()

    @property
    def version(self) -> str | None:
        """The W&B run's id; None if nothing is logged."""
        return None if self._run is None else self._run.id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._logger is None:
            return
        row = {key_of(name): value for name, value in metrics.items()}
        self._waiting.append((row if step is None else row | {STEP: step}, step))
        # An epoch's own values are logged last, after the checkpoint.
        if self._live or "train_loss" in metrics or any(name.startswith("test_") for name in metrics):
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for row, step in waiting:
            if self._logger is not None:
                self._attempt(partial(self._run.log, row, step=step))

    def log_confusion_matrix(self, counts: np.ndarray) -> None:
        if self._logger is not None:
            self._attempt(lambda: self._run.log({"test/confusion_matrix": _plot(counts)}))

    def log_end(self, summary: Mapping[str, Any], changes: Mapping[str, str]) -> None:
        if self._logger is None:
            return
        self._attempt(lambda: self._run.summary.update(dict(summary)))
        if changes and self._logger is not None:
            self._attempt(lambda: self._save("changes.diff", "\n".join(changes.values())))

    def _save(self, name: str, text: str) -> None:
        path = Path(self._run.dir, name)
        path.write_text(text, encoding="utf-8")
        self._run.save(str(path), base_path=self._run.dir, policy="now")

    def finish(self, *, succeeded: bool, ended: bool = True) -> None:
        """End the W&B run; without this, the process's next run joins it."""
        if ended:
            self._flush()
        if (run := self._run) is not None:
            self._attempt(lambda: run.finish(exit_code=0 if succeeded else 1))
        self._logger = None


@cache
def _packages() -> str:
    """The installed packages, one per line, as W&B lists them."""
    installed = (distribution.metadata for distribution in metadata.distributions())
    return "\n".join(sorted({f"{one['Name']}=={one['Version']}" for one in installed}))


def _plot(counts: np.ndarray) -> Any:
    import wandb

    actual, predicted = np.nonzero(counts)
    times = counts[actual, predicted]
    return wandb.plot.confusion_matrix(
        y_true=np.repeat(actual, times).tolist(),
        preds=np.repeat(predicted, times).tolist(),
        class_names=[str(name) for name in range(len(counts))],
    )
