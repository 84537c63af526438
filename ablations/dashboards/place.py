"""Where W&B's runs of the project are, on this machine and there, and whether its server can be asked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablations.errors import UserError
from ablations.files import check_results_dir
from ablations.studies.planning import compose_runs, hydra_configuration

GET_A_KEY = (
    "no W&B API key: `wandb login` says where to get one and asks for it; where nobody can type, set "
    "WANDB_API_KEY"
)
OF_THE_PLACE = ("results_dir", "logger")
"""Keys that say where the runs are."""

ANSWER_S = 20
"""Seconds that the server has for an answer."""


@dataclass(frozen=True)
class Place:
    """Of one project, as the logger is configured.

    Attributes:
        results_dir: Where the records are.
        folder: W&B's folder on this machine: a folder per run, and what this package makes of them.
        entity: Who owns the project there; None: the account's default.
        project: Its name there.
        online: Whether the server is to be told at once.
    """

    results_dir: Path
    folder: Path
    entity: str | None
    project: str
    online: bool

    @property
    def own(self) -> Path:
        """Folder of what is no run."""
        return self.folder / "dashboards"


def find_place(overrides: Sequence[str]) -> Place:
    """Where these overrides say; those of results_dir and of the logger count, others are of a study.

    Raises:
        UserError: The runs are not logged, or the results cannot be written.
    """
    ours = [word for word in overrides if word.lstrip("+~").split("=")[0].split(".")[0] in OF_THE_PLACE]
    with hydra_configuration():
        (configuration,) = compose_runs(ours)
    options = configuration.resolved["logger"]
    if options["backend"] is None:
        raise UserError("logger=none: nothing is logged to W&B; logger=wandb names the project")
    if options["mode"] not in ("offline", "online"):
        raise UserError(f"logger.mode={options['mode']}: must be offline or online")
    check_results_dir(configuration.results_dir)
    return Place(
        results_dir=configuration.results_dir,
        folder=Path(options["dir"]) / "wandb",
        entity=options["entity"],
        project=options["project"],
        online=options["mode"] == "online",
    )


@contextmanager
def quiet_wandb() -> Iterator[None]:
    """W&B prints nothing; what goes wrong is raised."""
    import wandb

    settings = wandb.setup().settings
    before = settings.silent
    settings.silent = True
    wandb.termsetup(settings, None)
    try:
        yield
    finally:
        settings.silent = before
        wandb.termsetup(settings, None)


def sign_in() -> str:
    """Check that there is a key and that the server takes it.

    Returns:
        The account's default entity.

    Raises:
        UserError: There is none, it is refused, or the server cannot be reached: one line.
    """
    import wandb

    with quiet_wandb():
        try:
            if not wandb.login(prompt=False):
                raise UserError(GET_A_KEY)
            entity = wandb.Api(timeout=ANSWER_S).default_entity
        except UserError:
            raise
        except Exception as error:  # whatever W&B raises
            raise UserError(f"W&B: {first_line(error)}") from error
    if entity is None:
        raise UserError("W&B: the account has no default entity; logger.entity=NAME names one")
    return entity


def first_line(error: BaseException) -> str:
    """What an exception says, in a line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
