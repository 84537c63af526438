"""The configurations of a study's arms, composed by Hydra once for all that they share.

Hydra takes a tenth of a second to put the 24 files of a run together, and the arms of a study differ in an
option or two, or in the size that their width is solved for. Where such an option is a node of its own, all
that Hydra would do is to put its file's content in that place, so this is done here, in a copy: 84 arms
of axes are composed in the time of one. Everything else is left to Hydra, which has the rules and the errors.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from omegaconf import DictConfig, OmegaConf

from ablations.errors import refused_by_hydra
from experiments.configuration import (
    CONFIG_DIR,
    CONFIG_NAME,
    MATCHED_SIZES,
    load_yaml,
    option_name,
    parse_override,
    quote_option_names,
)

Composed = tuple[DictConfig, Mapping[str, str | None], Sequence[str]]
"""A configuration, Hydra's `runtime.choices` and its `overrides.task`."""


def composed_by_hydra(overrides: Sequence[str]) -> Composed:
    """Compose a run's configuration, with Hydra's own node; Hydra must be initialized.

    Args:
        overrides: As on the command line, without sweeps.
    """
    with refused_by_hydra():
        config = compose(CONFIG_NAME, quote_option_names(overrides), return_hydra_config=True)
    return config, config.hydra.runtime.choices, config.hydra.overrides.task


class Composer:
    """Composes what `composed_by_hydra` does, without Hydra's own node, as long as conf/ stays as it is."""

    def __init__(self) -> None:
        self._groups = own_nodes()
        self._shared: dict[tuple[str, ...], Composed] = {}

    def compose(self, overrides: Sequence[str]) -> Composed:
        """As `composed_by_hydra`."""
        arguments = quote_option_names(overrides)
        replaced = self._replaced(arguments)
        shared = tuple(argument for argument in arguments if argument not in replaced)
        if shared not in self._shared:
            self._shared[shared] = composed_by_hydra(shared)
        composed, default_choices, task = self._shared[shared]
        # Hydra's own node is half of it.
        config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        choices = dict(default_choices)
        for override in replaced.values():
            key, value = override.key_or_group, override.value()
            if key in self._groups:
                choices[key] = option_name(value)
                value = load_yaml(CONFIG_DIR / key / f"{choices[key]}.yaml")
            config[key] = value
        return config, choices, arguments if replaced else task

    def _replaced(self, arguments: Sequence[str]) -> dict[str, Override]:
        """Those of the arguments that Hydra need not see; none where one may reach beyond its own key."""
        parsed = {argument: parse_override(argument) for argument in arguments}
        overrides = [override for override in parsed.values() if override is not None]
        keys = [override.key_or_group for override in overrides]
        if len(set(keys)) < len(arguments) or any(
            "$" in argument or key.startswith("hydra") or override.package is not None
            for argument, key, override in zip(arguments, keys, overrides, strict=True)
        ):
            return {}
        written_to = {key.partition(".")[0] for key in keys if "." in key}
        return {
            argument: override
            for argument, override in parsed.items()
            if override is not None
            and override.type == OverrideType.CHANGE
            and override.key_or_group not in written_to
            and self._is_replaceable(override.key_or_group, override.value())
        }

    def _is_replaceable(self, key: str, value: Any) -> bool:
        if key in MATCHED_SIZES:
            return type(value) is int
        named = key in self._groups and isinstance(value, str | QuotedString)
        return named and (CONFIG_DIR / key / f"{option_name(value)}.yaml").is_file()


def own_nodes() -> frozenset[str]:
    """The groups whose options are each a node of its own.

    conf/config.yaml lists the group and names it nowhere else among its defaults; its files have neither a
    package nor defaults, and no file that has one of these names the group. So no other file writes there or
    is chosen by it. Words are looked for, not meanings: a group too few costs time, one too many an identity.
    """
    config = load_yaml(CONFIG_DIR / f"{CONFIG_NAME}.yaml")
    words = Counter(re.findall(r"\w+", str(config["defaults"])))
    listed = [item for entry in config["defaults"] if isinstance(entry, dict) for item in entry.items()]
    groups = {group for group, option in listed if option and words[group] == 1 and group not in config}
    if "searchpath" in config.get("hydra", {}):
        return frozenset()
    for file in CONFIG_DIR.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        if file.parent != CONFIG_DIR and re.search(r"@package|\bdefaults\b", text):
            groups -= {file.parent.name, *re.findall(r"\w+", text)}
    return frozenset(groups)
