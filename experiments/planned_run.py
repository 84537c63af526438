"""A run that somebody asks for."""

from collections.abc import Iterable
from dataclasses import dataclass

from ablations.errors import UserError
from ablations.runs.records import RunDirectory
from ablations.runs.schema import planned_epochs
from experiments.configuration import RunConfiguration


@dataclass(frozen=True)
class PlannedRun:
    """One run that somebody asks for.

    Attributes:
        arm: Name of the arm, e.g. "non_residual", or the swept choices, "residual=false".
        overrides: What makes its configuration, as on the command line.
        configuration: Its configuration.
        group: Name of the study or sweep that asks for it.
        metrics: That the study compares.
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
    """Refuse two arms that build the same thing: they would be one run, compared with itself.

    Args:
        runs: Of one study or sweep.

    Raises:
        UserError: Two arms have a run in common.
    """
    arms: dict[str, str] = {}
    for run in runs:
        if (other := arms.setdefault(run.run_id, run.arm)) != run.arm:
            raise UserError(
                f"{other} and {run.arm}: identical runs, because no setting in which they differ is used; "
                "leave one out"
            )
