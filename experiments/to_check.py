"""Networks and data of a project's configuration, for `lightning_modules.checks`."""

from pathlib import Path

from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import Project, use
from lightning_modules.checks import DataToCheck, NetworkToCheck


def configured_network(*overrides: str, folder: Path | None = None) -> NetworkToCheck:
    """The network that a command line chooses, on images of the dataset's size.

    Args:
        overrides: As after `python run.py`, e.g. "model=xception_small", "residual=false".
        folder: In the project; None: the working directory.

    Raises:
        UserError: There is no project.
        HydraException: An option or key does not exist.
    """
    config = _compose(overrides, folder).resolved
    return NetworkToCheck(
        config["model"], image_size=config["dataset"]["image_size"], name=_name(overrides, "network")
    )


def configured_data(*overrides: str, folder: Path | None = None) -> DataToCheck:
    """The data that a command line chooses; see `configured_network`."""
    return DataToCheck(_compose(overrides, folder).resolved["dataset"], name=_name(overrides, "data"))


def _compose(overrides: tuple[str, ...], folder: Path | None) -> RunConfiguration:
    project = Project.found_from(folder or Path.cwd())
    project.make_importable()
    with use(project), hydra_configuration():
        (run,) = compose_runs(overrides)
    return run


def _name(overrides: tuple[str, ...], otherwise: str) -> str:
    return " ".join(overrides) or otherwise
