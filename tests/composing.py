"""Hydra composes the same options once for all tests of a process; who asks again gets a copy.

Composing takes a tenth of a second, nearly all of it for reading files and for the defaults list; a copy
takes a fiftieth of that. Setting single values changes neither, so Hydra sets them in the copy. The options
are composed again where a file of the search path was written; a copy of conf/ that has its files' times is
the same search path.
"""

import os
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any

import pytest
from hydra._internal import defaults_list, target_policy
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.instantiate import _instantiate2
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import OverrideParseException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, base

COMPOSE = ConfigLoaderImpl._load_configuration_impl
READ = ConfigRepository.load_config
MAP = defaults_list._create_interpolation_map
"""Hydra's own, which remember nothing."""

SETS_A_KEY = re.compile(r"\+{0,2}([\w.]+)=", re.ASCII)
"""A key with a value, which is an option where the key names a group."""


def _files_below(folder: str, name: str = "") -> Iterator[tuple[str, int, int]]:
    """Name, time and size of each file in a folder and below it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(entry.path, f"{name}/{entry.name}")
            else:
                yield f"{name}/{entry.name}", entry.stat().st_mtime_ns, entry.stat().st_size


def _folders(loader: ConfigLoaderImpl) -> list[str]:
    return [str(place.path).removeprefix("file://") for place in loader.config_search_path.get_path()]


@cache
def _parsed(item: str) -> Override:
    (override,) = OverridesParser.create().parse_overrides([item])
    return override


def _sets_a_value(item: str, folders: Sequence[str]) -> bool:
    match = SETS_A_KEY.match(item)
    if match is None or match[1].partition(".")[0] == "hydra":
        return False
    if any(os.path.isdir(os.path.join(folder, match[1])) for folder in folders):  # a group
        return False
    try:
        return not _parsed(item).is_sweep_override()
    except OverrideParseException:
        return False


def _written(source: ConfigSource, config_path: str) -> tuple[Any, ...] | None:
    """What a configuration that is read again is known by; None where it may change without a trace."""
    if source.path == "hydra.conf":  # Hydra's own
        return source.scheme(), config_path
    file = os.path.join(source.path, source._normalize_file_name(config_path))
    if source.scheme() != "file" or not os.path.isfile(file):
        return None
    return source.provider, config_path, os.stat(file).st_mtime_ns, os.stat(file).st_size


@contextmanager
def composed_once() -> Iterator[None]:
    """Let Hydra remember what it composed."""
    composed: dict[Any, bytes] = {}

    def compose_or_copy(loader: ConfigLoaderImpl, overrides: list[str], **options: Any) -> DictConfig:
        # Of what a search path has nothing is known here, and what is deleted depends on what was set before.
        if any("searchpath" in item or item.startswith("~") for item in overrides):
            return COMPOSE(loader, overrides=overrides, **options)
        folders = _folders(loader)
        values = [item for item in overrides if _sets_a_value(item, folders)]
        others = [item for item in overrides if item not in values]
        files = [tuple(sorted(_files_below(place))) if os.path.isdir(place) else place for place in folders]
        where = (options["config_name"], options["run_mode"], JobRuntime.instance().get("name"), *files)
        asked = (*sorted(others), *where)  # other options concern errors alone
        if asked not in composed:
            composed[asked] = pickle.dumps(COMPOSE(loader, overrides=others, **options))
        config: DictConfig = pickle.loads(composed[asked])
        loader._apply_overrides_to_config([_parsed(item) for item in values], config)
        config.hydra.runtime.cwd = os.getcwd()
        of_hydra = [item for item in overrides if _parsed(item).is_hydra_override()]
        typed = [item for item in overrides if item not in of_hydra]
        config.hydra.overrides.hydra, config.hydra.overrides.task = of_hydra, typed
        of_name = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            [_parsed(item) for item in typed], of_name.exclude_keys, of_name.item_sep, of_name.kv_sep
        )
        return config

    read: dict[Any, bytes] = {}

    def read_or_copy(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = repository._find_object_source(config_path, ObjectType.CONFIG)
        written = None if source is None else _written(source, config_path)
        if written is None:
            return READ(repository, config_path)
        if written not in read:
            read[written] = pickle.dumps(READ(repository, config_path))
        result: ConfigResult = pickle.loads(read[written])
        result.path = f"{source.scheme()}://{source.path}"  # a copy of conf/ may have been read
        return result

    def map_where_asked(overrides: Any, items: list[InputDefault], self_added: bool) -> DictConfig | None:
        return MAP(overrides, items, self_added) if any(item.is_interpolation() for item in items) else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", compose_or_copy)
        patch.setattr(ConfigRepository, "load_config", read_or_copy)
        patch.setattr(base, "parse", cache(base.parse))  # of "${dataset.channels}", a quarter of resolving
        # A node of every choice so far, made for each file though only ${} in a defaults list asks for it.
        patch.setattr(defaults_list, "_create_interpolation_map", map_where_asked)
        # Hydra copies it to fill a list of its own, with every structured configuration that there is.
        patch.setattr(ConfigRepository, "__deepcopy__", lambda self, _: copy(self), raising=False)
        # What may be called is validated once, not for every layer of a network.
        validated = cache(target_policy._validated_target_policy)
        patch.setattr(target_policy, "_validated_target_policy", validated)
        patch.setattr(_instantiate2, "_validated_target_policy", validated)
        yield
