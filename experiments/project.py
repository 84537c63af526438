"""A project: the folder of one paper, with its own `conf/`, modules and `run.py`.

Options come from the project's `conf/`, then from the framework's, which is installed with the packages.
Studies and claims come only from the project. This repository's `conf/` is the framework's.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablations.errors import UserError
from ablations.metrics import METRIC, Metric
from ablations.validation import validated

PACKAGED_CONF = Path(__file__).resolve().parent / "conf"
FRAMEWORK_CONF = PACKAGED_CONF if PACKAGED_CONF.is_dir() else Path(__file__).resolve().parents[1] / "conf"
"""`experiments/conf` in an installed package; the folder next to the packages in a checkout."""

OWN_CONFIG = "project"
FRAMEWORK_CONFIG = "config"

NOT_GROUPS = ("claims", "hydra", "metric")
"""Folders of conf/ that are not groups of options."""

OWN = ("study", "claims")
"""Folders of conf/ that are not looked up in the framework."""


@dataclass(frozen=True)
class Project:
    """The folder of one paper, `root`, with `conf/` and `run.py`, which may be called otherwise."""

    root: Path
    script: str = "run.py"

    @classmethod
    def of_script(cls, script: str | Path) -> Self:
        """The project of a `run.py`; UserError if there is no `conf/` next to it."""
        root = Path(script).resolve().parent
        if not (root / "conf").is_dir():
            raise UserError(
                f"{root}: no folder conf/ next to {Path(script).name}; make one with: ablations new NAME"
            )
        return cls(root, Path(script).name)

    @classmethod
    def around(cls, folder: Path) -> Self | None:
        """The nearest parent of a folder with `conf/` and `run.py`, or None."""
        for root in (folder.resolve(), *folder.resolve().parents):
            if (root / "conf").is_dir() and (root / "run.py").is_file():
                return cls(root)
        return None

    @classmethod
    def found_from(cls, folder: Path) -> Self:
        """As `around`; UserError instead of None."""
        if (project := cls.around(folder)) is not None:
            return project
        if (folder / "conf").is_dir():
            raise UserError(
                f"{folder}: has conf/ but no run.py; copy one from a new project: ablations new NAME"
            )
        raise UserError(
            f"{folder}: not in a project (a folder with conf/ and run.py); make one with: ablations new NAME"
        )

    @property
    def conf(self) -> Path:
        """The project's own configuration."""
        return self.root / "conf"

    @property
    def reference(self) -> Path:
        """The committed reproduction, which `python -m ablations reference` writes."""
        return self.root / "results" / "reference"

    @property
    def conf_dirs(self) -> tuple[Path, ...]:
        """Folders of options, in order of precedence."""
        return tuple(dict.fromkeys((self.conf, FRAMEWORK_CONF)))

    @property
    def config_name(self) -> str:
        """Hydra's primary configuration: `conf/project.yaml`, or else `conf/config.yaml`."""
        return OWN_CONFIG if (self.conf / f"{OWN_CONFIG}.yaml").is_file() else FRAMEWORK_CONFIG

    @property
    def name(self) -> str:
        """Its name in titles, the key `project`."""
        return str(self.run_keys()["project"])

    def resolve(self, folder: Any) -> Any:
        """Resolve a folder from the project's configuration, for commands run elsewhere."""
        relative = isinstance(folder, str) and folder and not folder.startswith(("~", "/"))
        return str(self.root / folder) if relative and self.root != Path.cwd() else folder

    def option_file(self, group: str, option: str) -> Path | None:
        """The file of an option, or None."""
        files = (folder / group / f"{option}.yaml" for folder in self._conf_dirs(group))
        return next((file for file in files if file.is_file()), None)

    def options(self, group: str) -> list[str]:
        """The options of a group, by name."""
        folders = (folder / group for folder in self._conf_dirs(group))
        return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})

    def _conf_dirs(self, group: str) -> tuple[Path, ...]:
        return (self.conf,) if group in OWN else self.conf_dirs

    def groups(self) -> list[str]:
        """The config groups, by name, without Hydra's own."""
        folders = {path.name for conf in self.conf_dirs for path in conf.iterdir() if path.is_dir()}
        return sorted(folders - set(NOT_GROUPS))

    def is_group(self, key: str) -> bool:
        """Whether a key names a config group."""
        return bool(key) and key not in NOT_GROUPS and any((conf / key).is_dir() for conf in self.conf_dirs)

    def own_files(self, folder: str) -> list[Path]:
        """The project's files of studies or claims, by name."""
        return sorted((self.conf / folder).glob("*.yaml"))

    def metric(self, name: str) -> Metric:
        """The declaration of a metric in conf/metric; UserError if there is none or it is invalid."""
        file = self.option_file("metric", name)
        if file is None:
            raise UserError(f"metrics={name}: must be one of {', '.join(self.options('metric'))}")
        return validated(METRIC, load_yaml(file), f"conf/metric/{file.name}")

    def metrics(self) -> dict[str, Metric]:
        """All metrics, by name."""
        return {name: self.metric(name) for name in self.options("metric")}

    def run_keys(self) -> dict[str, Any]:
        """Keys of a run that belong to no group, with their defaults."""
        keys: dict[str, Any] = {}
        for name in dict.fromkeys((FRAMEWORK_CONFIG, self.config_name)):
            keys |= self._primary(name)
        return {key: value for key, value in keys.items() if key not in ("defaults", "hydra")}

    def default_option(self, group: str, recipe: str | None = None) -> str | None:
        """The default option of a group.

        It is set by the given recipe, the project's defaults list, the framework's, or the first network with
        the group, in this order.
        """
        chosen = self._declared("recipe", recipe) if recipe in self.options("recipe") else {}
        return chosen.get(group, self._default_options.get(group))

    @cached_property
    def _default_options(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        lists = [self.factors_of(model) for model in reversed(self.options("model"))]
        for name in dict.fromkeys((FRAMEWORK_CONFIG, self.config_name)):
            entries = [entry for entry in self._primary(name)["defaults"] if isinstance(entry, dict)]
            lists += [
                {key.removeprefix("override ").strip("/"): option for key, option in entry.items()}
                for entry in entries
            ]
        for options in lists:
            found |= options
        return found

    def factors_of(self, model: str) -> dict[str, str]:
        """Groups that a network declares, with their defaults: `- /pool@_global_.pool: max`."""
        return self._declared("model", model)

    def _declared(self, group: str, option: str) -> dict[str, str]:
        declared = {}
        for file in self.option_files(group, option):
            for entry in load_yaml(file).get("defaults", []):
                for key, default in entry.items() if isinstance(entry, dict) else ():
                    other, _, package = key.removeprefix("override ").strip("/").partition("@")
                    if package == f"_global_.{other}":
                        declared[other] = default
        return declared

    def option_files(self, group: str, option: str) -> list[Path]:
        """The file of an option, after those it inherits from; UserError if one does not exist."""
        file = self.option_file(group, option)
        if file is None:
            raise UserError(f"{group}={option}: no such option; available: {', '.join(self.options(group))}")
        taken = [entry for entry in load_yaml(file).get("defaults", []) if isinstance(entry, str)]
        others = [other for name in taken if name != "_self_" for other in self.option_files(group, name)]
        return [*others, file]

    def keys_of(self, group: str, option: str) -> dict[str, Any]:
        """The keys of an option with their values, including inherited ones; UserError as `option_files`."""
        keys: dict[str, Any] = {}
        for file in self.option_files(group, option):
            keys |= load_yaml(file)
        return {key: value for key, value in keys.items() if key != "defaults"}

    def _primary(self, name: str) -> Any:
        files = (folder / f"{name}.yaml" for folder in self.conf_dirs)
        return load_yaml(next(file for file in files if file.is_file()))

    def make_importable(self) -> None:
        """Let `_target_` name the project's modules in any working directory."""
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))


def load_yaml(path: Path) -> Any:
    """The content of a configuration file, cached until the file changes; do not modify it.

    Raises:
        UserError: It cannot be read.
    """
    return _load_yaml(path, path.stat().st_mtime_ns)


@cache
def _load_yaml(path: Path, written: int) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except (
        yaml.YAMLError,
        OmegaConfBaseException,
        UnicodeDecodeError,
        OSError,
    ) as error:  # OSError: the file is a plain number
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


_current: ContextVar[Project | None] = ContextVar("project", default=None)


def current() -> Project:
    """The project of the running command, or of the working directory; UserError if there is none."""
    return _current.get() or Project.found_from(Path.cwd())


@contextmanager
def use(project: Project) -> Iterator[None]:
    """Make a project the current one."""
    project.make_importable()
    token = _current.set(project)
    try:
        yield
    finally:
        _current.reset(token)


class ProjectSearchPath(SearchPathPlugin):
    """Lets Hydra find the framework's options after the project's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in current().conf_dirs[1:]:
            search_path.append("framework", f"file://{folder}")
