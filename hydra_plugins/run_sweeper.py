"""What Hydra loads of the framework: the sweeper `runs`, where options are found, and Hydra's own defaults.

Hydra loads plugins from the namespace package hydra_plugins alone; this file is all there is of ours.
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
    """Configuration of `RunSweeper`: nothing to set."""

    _target_: str = "hydra_plugins.run_sweeper.RunSweeper"


class RunSweeper(Sweeper):
    """Plans the runs that a command asks for and launches what of them is missing."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

        if ray := getattr(self.launcher, "ray_cfg", None):
            environment.quieten_ray()
            # hydra-ray-launcher sets it where nothing is set, and a cluster that exists refuses it.
            with open_dict(ray):
                ray.init.setdefault("object_store_memory", None)

    def sweep(self, arguments: list[str]) -> Any:
        # Here, because Hydra looks at every name of this file before it answers, which would import it.
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
"""Options of Hydra's own groups that differ from Hydra's defaults.

They are set here because Hydra takes an `override hydra/...` from the primary configuration alone, and a
project's is its own.
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
