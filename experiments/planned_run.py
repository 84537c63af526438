"""A planned run."""

from collections.abc import Iterable
from dataclasses import dataclass

from ablations.errors import UserError
from ablations.runs.records import RunDirectory
from ablations.runs.schema import planned_epochs
from experiments.configuration import RunConfiguration


@dataclass(frozen=True)
class PlannedRun:
    """A planned run.

    Attributes:
        arm: E.g. "non_residual", or the swept choices, "residual=false".
        overrides: As on the command line.
        configuration: The resolved overrides.
        group: Name of the study or sweep.
        metrics: Compared by the study.
    """

    arm: str
    overrides: tuple[str, ...]
    configuration: RunConfiguration
    group: str
    metrics: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        return self.configuration.run_id

    @property
    def seed(self) -> int:
        return self.configuration.seed

    @property
    def directory(self) -> RunDirectory:
        run, metrics = self.configuration, (*self.metrics, *self.configuration.asked_metrics)
        return RunDirectory(run.results_dir, self.run_id, run.diagnostics, dict.fromkeys(metrics))

    @property
    def epochs(self) -> int:
        return planned_epochs(self.configuration.resolved)


def require_different_arms(runs: Iterable[PlannedRun]) -> None:
    """Raise UserError if two arms of a study or sweep are the same run."""
    arms: dict[str, str] = {}
    for run in runs:
        if (other := arms.setdefault(run.run_id, run.arm)) != run.arm:
            raise UserError(
                f"{other} and {run.arm}: identical runs, because no setting in which they differ is used; "
                "leave one out, or pass the setting on in the network's file (KEY: ${KEY})"
            )
