"""A run that somebody asks for."""

from dataclasses import dataclass

from ablations.runs.records import RunDirectory, planned_epochs
from experiments.configuration import RunConfiguration


@dataclass(frozen=True)
class PlannedRun:
    """One run that somebody asks for.

    Attributes:
        arm: Name of the arm, e.g. "non_residual", or the swept choices, "residual=false".
        overrides: What makes its configuration, as on the command line.
        configuration: Its configuration.
        group: Name of the study or sweep that asks for it.
        metrics: That the study compares; its dataset's task must measure them.
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
        return RunDirectory(self.configuration.results_dir, self.run_id, self.configuration.diagnostics)

    @property
    def epochs(self) -> int:
        return planned_epochs(self.configuration.resolved)
