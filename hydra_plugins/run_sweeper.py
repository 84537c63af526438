"""The framework's Hydra plugins: the sweeper `runs`, the search path of options, and Hydra's defaults.

Hydra loads plugins only from the namespace package hydra_plugins.
"""

from dataclasses import dataclass
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from experiments import environment
from experiments.project import ProjectSearchPath as ProjectSearchPath  # Hydra looks for it here


@dataclass
class RunSweeperConfig:
    """`RunSweeper` has no settings."""

    _target_: str = "hydra_plugins.run_sweeper.RunSweeper"


class RunSweeper(Sweeper):
    """Plans a command's runs and launches missing ones."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        # Hydra forgets `hydra.searchpath` of the command line, with which the runs are composed too.
        loader: Any = hydra_context.config_loader
        for folder in config.hydra.searchpath:
            loader.get_search_path().prepend("hydra.searchpath", folder, "schema")
        loader.repository.initialize_sources(loader.get_search_path())
        self.config = config
        self.hydra_context = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

        if ray := getattr(self.launcher, "ray_cfg", None):
            environment.quieten_ray()
            # hydra-ray-launcher sets a default, which an existing cluster refuses.
            with open_dict(ray):
                ray.init.setdefault("object_store_memory", None)

    def sweep(self, arguments: list[str]) -> Any:
        # Not at the top, because Hydra inspects every name of this file at each command.
        from ablations.cli import sweeping

        sweeping.run_sweep(arguments, self.launcher)


ConfigStore.instance().store(
    group="hydra/sweeper", name="runs", node=RunSweeperConfig, provider="xception-ablations"
)

DEFAULTS = {
    "output": "records_only",
    "help": "xception_ablations",
    "job_logging": "none",
    "hydra_logging": "none",
    "launcher": "joblib",
    "sweeper": "runs",
}
"""Options of Hydra's own groups that differ from its defaults.

They are set here because Hydra takes `override hydra/...` only from the primary configuration, which is the
project's.
"""

ConfigStore.instance().store(
    group="hydra",
    name="config",
    node=HydraConf(
        defaults=[
            {group: DEFAULTS.get(group, option) for group, option in entry.items()}
            for entry in HydraConf().defaults
        ]
    ),
    provider="xception-ablations",
)
