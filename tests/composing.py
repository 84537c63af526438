"""Hydra composes a configuration once for all tests of a process; who asks again gets a copy.

Composing takes a tenth of a second and copying a twentieth of that. A configuration is composed again where a
file of the search path was written; a copy of conf/ that has its files' times is the same search path. What
differs from test to test and from which nothing else is made while it is composed, the folders of the results
and of the process, is put into the copy.
"""

import copy
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, OmegaConf

RESULTS_DIR = re.compile(r"results_dir='?(/[\w./-]+)'?")
"""A folder that is given as it is."""

ELSEWHERE = "results_dir=/elsewhere"

COMPOSE = ConfigLoaderImpl._load_configuration_impl
"""Hydra's own, which remembers nothing."""


def _files_below(folder: str, name: str = "") -> Iterator[tuple[str, int, int]]:
    """Name, time and size of each file in a folder and below it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(entry.path, f"{name}/{entry.name}")
            else:
                yield f"{name}/{entry.name}", entry.stat().st_mtime_ns, entry.stat().st_size


@contextmanager
def composed_once() -> Iterator[None]:
    """Let Hydra remember what it composed."""
    composed: dict[Any, DictConfig] = {}

    def compose_or_copy(loader: ConfigLoaderImpl, overrides: list[str], **options: Any) -> DictConfig:
        if any("searchpath" in item for item in overrides):  # of what is found there nothing is known here
            return COMPOSE(loader, overrides=overrides, **options)
        given = {item: match[1] for item in overrides if (match := RESULTS_DIR.fullmatch(item))}
        others = [item for item in overrides if "results_dir" in item and item not in given]
        if others or len(given) != 1:
            given = {}
        general = [ELSEWHERE if item in given else item for item in overrides]
        path = [str(place.path).removeprefix("file://") for place in loader.config_search_path.get_path()]
        files = [tuple(sorted(_files_below(place))) if os.path.isdir(place) else place for place in path]
        asked = (*general, repr(options), JobRuntime.instance().get("name"), *files)
        if asked not in composed:
            composed[asked] = COMPOSE(loader, overrides=general, **options)
        config = copy.deepcopy(composed[asked])
        config.hydra.runtime.cwd = os.getcwd()
        if given:
            ((typed, config.results_dir),) = given.items()
            hydra = OmegaConf.to_container(config.hydra, resolve=False)
            as_typed = [typed if item == ELSEWHERE else item for item in hydra["overrides"]["task"]]
            config.hydra.overrides.task = as_typed
            config.hydra.job.override_dirname = hydra["job"]["override_dirname"].replace(ELSEWHERE, typed)
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", compose_or_copy)
        yield
