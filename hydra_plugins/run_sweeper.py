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
        from ablations.errors import RunsFailed

        try:
            self._sweep(arguments)
        except RunsFailed:
            print_verdicts_of(arguments)
            raise
        print_verdicts_of(arguments)

    def _sweep(self, arguments: list[str]) -> None:
        from experiments.auto_seeds import sweep_auto_seeds
        from experiments.overrides import seed_budget, split_studies, variations
        from experiments.plan import plan_sweep
        from experiments.sweep import sweep
        from experiments.tuning import tune_studies

        studies, others = split_studies(arguments)
        of_studies = [f"study={','.join(studies)}"] if studies else []
        each = [[*of_studies, *of_one] for of_one in variations(others)] if studies else [arguments]
        if seed_budget(arguments) is None:
            for words in each:
                tune_studies(words, self.launcher)
            sweep(plan_sweep(arguments), self.launcher)
        else:
            for words in each:
                sweep_auto_seeds(words, self.launcher)


def print_verdicts_of(arguments: list[str]) -> None:
    """Print what the records say of the claims about the studies of a sweep, where it is over studies."""
    from ablations.cli.commands import print_verdicts
    from experiments.overrides import split_studies, variations

    studies, overrides = split_studies(arguments)
    for of_one in variations(overrides) if studies else ():
        print_verdicts(studies, of_one)


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
