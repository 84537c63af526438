"""A run's configuration and identity. Imports neither torch nor pandas.

The hash of everything in the resolved configuration that can change a run's outcome, the `run_id`, names its
directory, so no run is trained twice. This includes checksums of the data, which are computed for a user's
own files (`lightning_modules.data.checksums`) and verified when loading.
"""

import copy
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, RangeSweep, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from ablations.errors import UserError, as_user_error
from ablations.lazily import lazily
from ablations.runs.identity import OF_RECIPE, at, filled, run_id_of
from ablations.runs.records import RunDirectory, measured_diagnostics, measured_metrics
from ablations.text import amount
from experiments.project import current, load_yaml
from lightning_modules.data.checksums import filled_checksums
from lightning_modules.validation import require_boolean, require_integer

with lazily():
    from experiments.sizes import width as sizes
    from lightning_modules import classes
    from lightning_modules import weights as weights_files

if TYPE_CHECKING:
    from lightning_modules.weights import Source

FOLDERS = ("results_dir", "logger.dir")
"""Folders that a run writes to; `~` is expanded before other keys copy them."""

DATA_LOCATIONS = ("dataset.root", "dataset.files")
"""Where the data is. The identity has its content instead."""

OWN_METRICS = ("top1", "top5")
"""Default metrics of a dataset, for single labels."""

NOT_OF_A_RUN = ("study", "tuning")
"""Groups that select runs."""

NOT_FACTORS = (
    *("model", "dataset", "recipe", "trainer", "logger", "diagnostics"),
    *NOT_OF_A_RUN,
)
"""Groups that are not a factor of the network."""

MATCHED_SIZES = ("match_parameters", "match_multiply_adds")
"""Keys that solve the network's width; not part of the configuration."""

REQUIRED = (
    *("seed", "train", "weights", "weights_sha256"),
    *("results_dir", "keep_checkpoint"),
    *(f"dataset.{key}" for key in ("checksums", "num_classes", "channels", "image_size", "task")),
    *(f"recipe.{key}" for key in ("epochs", "batch_size", "channels_last", "precision", "averaging")),
    *(f"recipe.{key}" for key in ("weight_init", "optimizer", "scheduler")),
    *("trainer.accelerator", "trainer.threads"),
    *("model._target_", "dataset._target_"),
)
"""Keys that no override may delete."""


OWN_LOSSES = {
    "lightning_modules.tasks.SingleLabel": "torch.nn.CrossEntropyLoss",
    "lightning_modules.tasks.MultiLabel": "lightning_modules.losses.BinaryCrossEntropy",
}
"""The default loss of each task."""

OFF: Mapping[str, Any] = {
    "horizontal_flip": False,
    "crop_padding": 0,
    "min_crop_area": 1.0,
    "max_aspect_ratio": 1.0,
}
"""Keys that switch the dataset's own augmentation off."""

NORMS = ("norm", "norm_layer")
"""Keys of a network's norm: ours and torchvision's."""

QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
"""A text in quotes, as Hydra reads it."""

CONVERTED = re.compile(
    rf"(?i){QUOTED.pattern}|(?<=[=,(])\s*(true|false|null|[+-]?(?:inf|nan|[\d.][\w.+-]*))\s*(?=[,)]|$)"
)
"""A text in quotes, or a word that Hydra would read as a boolean, a number or null (group 1)."""

PACKAGE = "lightning_modules"
"""Networks of this package start from the seed by default; others set their own initial values."""

LARGEST_INTEGER = 10**300
"""The largest whole number that a float can hold."""

LARGEST_PLAN = 100_000
"""Most runs of a study or sweep: planned in seconds, in 1.4 GB."""


@dataclass(frozen=True)
class RunConfiguration:
    """The configuration of one run.

    Attributes:
        resolved: Plain values, without Hydra's own.
        choices: Option per group, e.g. `{"model": "xception", ...}`.
        asked_metrics: Requested in addition to the dataset's.
    """

    resolved: Mapping[str, Any]
    choices: Mapping[str, str]
    asked_metrics: tuple[str, ...] = ()

    @classmethod
    def from_composed(
        cls, config: DictConfig, choices: Mapping[str, str | None], overrides: Sequence[str] = ()
    ) -> Self:
        """Resolve a composed configuration; solve the width if a size is to be matched.

        `config` lacks Hydra's node and is changed. `choices` are Hydra's `runtime.choices`, `overrides` its
        `overrides.task`.

        Raises:
            UserError: A key or value is missing or invalid.
        """
        overrides = as_typed(overrides)
        typed = {override.key_or_group for item in overrides if (override := parse_override(item))}
        recipe = str(choices.get("recipe"))
        of_recipe = current().keys_of("recipe", recipe) if recipe in current().options("recipe") else {}
        for group in OF_RECIPE:
            if choices.get(group) is not None:
                own = of_recipe.get(group) or {}
                _leave_out_keys_of_another_class(config, group, str(choices[group]), own, overrides)
        if "results_dir" in config and "results_dir" not in typed:
            config.results_dir = current().resolve(config.results_dir)
        for key in FOLDERS:
            folder = OmegaConf.select(config, key)
            if isinstance(folder, str) and folder.startswith("~"):
                OmegaConf.update(config, key, home_expanded(key, folder))
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(resolved, dict)
        _refuse_study_keys(resolved, overrides)
        _require_keys(resolved)
        _settle_loss(resolved)
        _settle_augmentation(resolved, choices, typed)
        _settle_norm(resolved, choices)
        _settle_initialization(resolved)
        resolved = filled(resolved)
        resolved["dataset"]["checksums"] = filled_checksums(resolved["dataset"])
        if not isinstance(folder := resolved["results_dir"], str) or not folder:
            raise UserError(
                f"results_dir={folder}: expected a path; write ./2026 for a folder named like a number"
            )
        with as_user_error():
            for key in ("devices", "num_nodes"):
                require_integer(f"trainer.{key}", resolved["trainer"][key], 1)
            require_boolean("trainer.sync_batchnorm", resolved["trainer"]["sync_batchnorm"])
        _match_size(resolved, overrides)
        own = _own_choices(resolved, choices)
        if resolved["weights"] is not None:
            _follow_weights(resolved, overrides, own)
        _require_storable(resolved)
        asked = _names("metrics", resolved.pop("metrics", ()))
        run = cls(resolved={str(key): value for key, value in resolved.items()}, choices=own)
        of_data = _names("dataset.metrics", resolved["dataset"].get("metrics", OWN_METRICS))
        return replace(run.with_metrics((*asked, *of_data)), asked_metrics=asked)

    @classmethod
    def for_seeds(
        cls,
        config: DictConfig,
        choices: Mapping[str, str | None],
        overrides: Sequence[str],
        seeds: Sequence[Any],
    ) -> list["RunConfiguration"]:
        """`from_composed` for many seeds.

        Resolving takes 5 ms, so it is done once if the seed appears only as whole values
        (`dataset.seed: ${seed}`).
        """

        def resolve(config: DictConfig, seed: Any) -> "RunConfiguration":
            with open_dict(config):
                config.seed = seed
            return cls.from_composed(config, choices, overrides)

        raw: Any = OmegaConf.to_container(config, resolve=False)
        found = dict(_reading_the_seed(raw, raw))
        # The network and the trainer are read while resolving.
        whole = all(
            value == "${seed}" and path[0] not in ("model", "trainer") for path, value in found.items()
        )
        if not whole or not all(type(seed) is int for seed in seeds):
            return [resolve(copy.deepcopy(config), seed) for seed in seeds]
        runs, paths = [resolve(config, seed) for seed in seeds[:1]], [("seed",), *found]
        return runs + [
            replace(runs[0], resolved=_with_seed(runs[0].resolved, paths, seed)) for seed in seeds[1:]
        ]

    @cached_property
    def run_id(self) -> str:
        """The run's identity: see `ablations.runs.identity`."""
        return run_id_of(self.resolved)

    @property
    def data_fingerprint(self) -> str:
        """SHA-256 of the checksums of the data's files."""
        checksums = json.dumps(self.resolved["dataset"]["checksums"], sort_keys=True)
        return "sha256:" + hashlib.sha256(checksums.encode()).hexdigest()

    @property
    def arm_name(self) -> str:
        """The factors that differ from their defaults, e.g. "residual=false", or "default"."""
        varied = [group for group in sorted(self.choices) if group not in NOT_FACTORS]
        recipe = self.choices.get("recipe")
        chosen = [group for group in varied if self.choices[group] != current().default_option(group, recipe)]
        return " ".join(f"{group}={self.choices[group]}" for group in chosen) or "default"

    @property
    def seed(self) -> int:
        return self.resolved["seed"]

    @property
    def devices(self) -> int:
        """Processes per machine, one device each."""
        return self.resolved["trainer"]["devices"]

    @property
    def processes(self) -> int:
        """Number of processes that train the run."""
        return self.devices * self.resolved["trainer"]["num_nodes"]

    @property
    def diagnostics(self) -> Mapping[str, Any]:
        """Diagnostics: settings by name. They change no outcome."""
        return self.resolved.get("diagnostics") or {}

    def with_diagnostics(self, diagnostics: Mapping[str, Any]) -> Self:
        """The same run with these diagnostics too; existing settings stay."""
        return replace(self, resolved={**self.resolved, "diagnostics": {**diagnostics, **self.diagnostics}})

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Metrics: declarations by name, the main one first. They change no outcome."""
        return self.resolved.get("metrics") or {}

    def with_metrics(self, names: Sequence[str]) -> Self:
        """The same run with these metrics first; UserError if conf/metric lacks one."""
        names = tuple(dict.fromkeys(names))
        declared: Any = {name: current().metric(name).model_dump() for name in names}
        if read := re.findall(r"\$\{([^}]*)", str(declared)):
            plain = all(re.fullmatch(r"\w[\w.]*", name) for name in read)  # else computed, from any key
            paths = {tuple(name.split(".")) for name in read}
            others = _only(self.resolved, paths) if plain else self.resolved
            config = OmegaConf.create({**others, "metrics": declared})
            declared = OmegaConf.to_container(config.metrics, resolve=True)
        own = {name: node for name, node in self.metrics.items() if name not in declared}
        return replace(self, resolved={**self.resolved, "metrics": declared | own}, asked_metrics=names)

    def with_measured(self, directory: RunDirectory) -> Self:
        """The same run with everything that its record measured.

        A record must not name code to call: only a metric's name is read, and only diagnostics that differ
        from conf/diagnostics in plain settings; UserError for others.
        """
        record = directory.read_or_none()
        measured = measured_diagnostics(record)
        added = {name: node for name, node in measured.items() if name not in self.diagnostics}
        for name, node in added.items():
            if not any(_has_settings(node, known.get(name)) for known in _diagnostics()):
                raise UserError(
                    f"{directory.record_path}: diagnostics.{name} is not in conf/diagnostics; "
                    "choose it with diagnostics=..., or delete the record"
                )
        more = [name for name in measured_metrics(record) if name not in self.metrics]
        if unknown := [name for name in more if name not in current().options("metric")]:
            raise UserError(
                f"{directory.record_path}: metrics.{unknown[0]} is not in conf/metric; add it there, or "
                "delete the record"
            )
        run = self.with_metrics((*self.metrics, *more)) if more else self
        return replace(run.with_diagnostics(added), asked_metrics=self.asked_metrics)

    @property
    def results_dir(self) -> Path:
        return _path(self.resolved["results_dir"])


def _diagnostics() -> Iterator[Mapping[str, Any]]:
    project = current()
    for option in project.options("diagnostics"):
        file = project.option_file("diagnostics", option)
        assert file is not None, option
        yield load_yaml(file)


def _names(key: str, given: Any) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{key}={given}: must be a list of files in conf/metric, e.g. {key}=[macro_f1]")
    return tuple(dict.fromkeys(names))


def _only(node: Any, paths: Collection[tuple[str, ...]]) -> Any:
    """The part of a node that paths lead to."""
    if () in paths or not isinstance(node, Mapping):
        return node
    first = {path[0] for path in paths} & node.keys()
    return {key: _only(node[key], {path[1:] for path in paths if path[0] == key}) for key in first}


def _has_settings(node: Any, known: Any) -> bool:
    """Whether two nodes differ at most in plain settings."""
    if isinstance(known, dict):
        return isinstance(node, dict) and all(
            node.get(key) == known.get(key)
            if str(key).startswith("_")
            else key in node.keys() & known.keys() and _has_settings(node[key], known[key])
            for key in node.keys() | known.keys()
        )
    values = node if isinstance(node, list) else [node]
    return all(
        value is None or isinstance(value, int | float) or (isinstance(value, str) and "$" not in value)
        for value in values
    )


_path = cache(Path)
"""Shared by the thousands of runs of a study."""


def _reading_the_seed(
    node: Any, raw: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    """Paths and texts of an unresolved configuration that may depend on the seed."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _reading_the_seed(value, raw, (*path, str(key)))
    elif "${" in (text := str(node)) and _may_read_the_seed(text, raw):
        yield path, node


def _may_read_the_seed(node: Any, raw: Mapping[str, Any], above: tuple[str, ...] = ()) -> bool:
    """Whether a value interpolates the seed, what a resolver computes, or a value that does."""
    if isinstance(node, Mapping | list):
        values = node.values() if isinstance(node, Mapping) else node
        return any(_may_read_the_seed(value, raw, above) for value in values)
    for name in re.findall(r"\$\{([^}]*)", str(node)):
        if name.startswith("oc.env:"):
            continue
        read = at(raw, name, ...)
        if name == "seed" or name in above or read is ...:
            return True
        if _may_read_the_seed(read, raw, (*above, name)):
            return True
    return False


def _with_seed(node: Mapping[str, Any], paths: Sequence[tuple[str, ...]], seed: Any) -> dict[str, Any]:
    """A copy with another seed at these paths; the rest is shared."""
    copy = dict(node)
    for key, *below in paths:
        copy[key] = _with_seed(copy[key], [tuple(below)], seed) if below else seed
    return copy


def _require_storable(node: Any, key: str = "") -> None:
    """Require values that a record can hold. Only the network's may be infinite (Hardtanh's max_val)."""
    if isinstance(node, dict):
        for name, item in node.items():
            _require_storable(item, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for number, item in enumerate(node):
            _require_storable(item, f"{key}[{number}]")
    elif isinstance(node, float) and not math.isfinite(node):
        group = key.partition(".")[0]
        if math.isnan(node) or (group in NOT_FACTORS and group != "model"):
            raise UserError(f"{key}={node}: must be a finite number")
    elif isinstance(node, int) and abs(node) > LARGEST_INTEGER:
        raise UserError(f"{key}: must be at most 1e300")
    elif not isinstance(node, str | int | float | None):
        raise UserError(f"{key}: {type(node).__name__} cannot be stored; use a number, a text or a boolean")


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Overrides as plain texts. Reading items of Hydra's list would resolve `${...}`."""
    if isinstance(overrides, ListConfig):
        plain: Any = OmegaConf.to_container(overrides, resolve=False)
        return list(plain)
    return list(overrides)


def _leave_out_keys_of_another_class(
    config: DictConfig, group: str, option: str, recipe_s: Collection[str], overrides: Sequence[str]
) -> None:
    """If `recipe.GROUP._target_` is another class, drop the arguments of the option's class.

    Arguments from the user and the recipe's file (`recipe_s`) stay, and weight decay if the class takes it;
    the rate becomes the class's default. The check later refuses arguments that the class does not take.
    """
    path = f"recipe.{group}"
    node = OmegaConf.select(config, path)
    set_by_user = {*_keys_set_below(path, overrides), *recipe_s}
    files = current().option_files(group, option) if option in current().options(group) else []
    if "_target_" not in set_by_user or not isinstance(node, DictConfig) or not files:
        return
    name, option_s = node.get("_target_"), current().keys_of(group, option).get("_target_")
    if name == option_s or not isinstance(name, str):
        return

    if not (arguments := classes.arguments_of(name)):  # unknown class: the check says so
        return
    rate = arguments.get("lr")
    with open_dict(config):
        for key in [str(key) for key in node if key not in ("_target_", "_partial_")]:
            stays = (key == "weight_decay" and key in arguments) or (key == "lr" and rate is None)
            if key not in set_by_user and not stays:
                del node[key]
        if group == "optimizer" and "lr" not in node and isinstance(rate, int | float):
            node["lr"] = rate  # for the schedule and the record


def _keys_set_below(path: str, overrides: Sequence[str]) -> Iterator[str]:
    """Keys below a node that overrides set: `recipe.optimizer.lr=1` or `recipe.optimizer={lr: 1}`."""
    for item in overrides:
        override = parse_override(item)
        if override is None or override.is_delete():
            continue
        key = override.key_or_group
        if key == path and isinstance(value := override.value(), dict):
            yield from map(str, value)
        elif key.startswith(f"{path}."):
            yield key.removeprefix(f"{path}.").partition(".")[0]


def _require_keys(resolved: Mapping[Any, Any]) -> None:
    for key in REQUIRED:
        if at(resolved, key, ...) is ...:
            raise UserError(f"{key}: required, so it cannot be deleted")


def _own_choices(resolved: Mapping[Any, Any], choices: Mapping[str, str | None]) -> dict[str, str]:
    """The option of each group, without Hydra's."""
    own = {
        group: option
        for group, option in choices.items()
        if option is not None and not group.startswith("hydra/") and group not in NOT_OF_A_RUN
    }
    if "logger" not in own:  # Hydra has no name for logger=[wandb,csv]
        wandb = ["wandb"] if resolved["logger"].get("backend") else []
        others = [name for name, node in resolved["logger"].items() if isinstance(node, dict)]
        own["logger"] = ",".join(wandb + others)
    return own


def _require_node_or_null(key: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        group = key.rpartition(".")[2]
        raise UserError(f"{key}={value}: must be null or a node with _target_, as in conf/{group}")


def _settle_loss(resolved: dict[Any, Any]) -> None:
    """Set the task's own loss to null, so that it is the same run."""
    _require_node_or_null("recipe.loss", resolved["recipe"].get("loss"))
    recipe, task = resolved["recipe"], resolved["dataset"]["task"]
    own = OWN_LOSSES.get(str(task.get("_target_"))) if isinstance(task, dict) else None
    if own is not None and recipe.get("loss") == {"_target_": own}:
        recipe["loss"] = None


def _settle_augmentation(
    resolved: dict[Any, Any], choices: Mapping[str, str | None], typed: set[str]
) -> None:
    """Let `augmentation` set the dataset's own augmentation keys, unless they were typed."""
    recipe, dataset = resolved["recipe"], resolved["dataset"]
    chosen = recipe.get("augmentation")
    _require_node_or_null("recipe.augmentation", chosen)
    if chosen is None:
        return
    for key in chosen.keys() & OFF.keys():
        value = chosen.pop(key)
        if key in dataset:
            if f"dataset.{key}" not in typed:
                dataset[key] = value
        elif value != OFF[key]:
            raise UserError(
                f"augmentation={choices.get('augmentation')}: dataset={choices.get('dataset')} has no {key}"
            )
    if unknown := sorted(chosen.keys() - {"image", "batch"}):
        known = ", ".join(sorted({"image", "batch", *OFF}))
        raise UserError(f"unknown key recipe.augmentation.{unknown[0]}; known: {known}")
    recipe["augmentation"] = chosen or None


def _settle_norm(resolved: dict[Any, Any], choices: Mapping[str, str | None]) -> None:
    norm, model = resolved.get("norm"), resolved["model"]
    if norm is None:
        return
    keys = [key for key in NORMS if key in model]
    if not keys:
        raise UserError(
            f"norm={choices.get('norm')}: model={choices.get('model')} has no key {' or '.join(NORMS)}; "
            "leave norm out"
        )
    for key in keys:
        model[key] = copy.deepcopy(norm)


def _settle_initialization(resolved: dict[Any, Any]) -> None:
    """Set `initialize` by the network's package if it is null."""
    if resolved.get("initialize") is None:
        target = resolved["model"]["_target_"]
        own = isinstance(target, str) and target.startswith(f"{PACKAGE}.")
        resolved["initialize"] = "seed" if own else "network"


def _refuse_study_keys(resolved: dict[Any, Any], overrides: Sequence[str]) -> None:
    """Remove a study's keys; UserError if they are set without a study."""
    seeds, budget, arms = (resolved.pop(key, None) for key in ("seeds", "seed_budget", "arms"))
    keys = {override.key_or_group for item in overrides if (override := parse_override(item))}
    if seeds is not None:
        raise UserError(f"seeds={seeds}: needs a study: -m study=NAME seeds=auto")
    if arms is not None:
        raise UserError(f"arms={arms}: needs a study: -m study=NAME")
    if "seed_budget" in keys:
        raise UserError(f"seed_budget={budget}: needs seeds=auto: -m study=NAME seeds=auto")


def _follow_weights(resolved: dict[Any, Any], overrides: Sequence[str], choices: Mapping[str, str]) -> None:
    """Set the hash of the weights and the constants of their network."""
    path, expected = resolved["weights"], resolved["weights_sha256"]
    with as_user_error():
        source = weights_files.inspect_weights(path)
    if expected not in (None, source.sha256):
        raise UserError(f"weights_sha256={expected}: weights={path} has {source.sha256}")
    resolved["weights_sha256"] = source.sha256
    set_by_user = [override.key_or_group for item in overrides if (override := parse_override(item))]
    for key, value in source.follows.items():
        *parents, last = key.split(".")
        node = resolved["model"]
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            continue  # another network's weights; the check refuses them
        if node[last] != value and any(f"{set_key}.".startswith(f"model.{key}.") for set_key in set_by_user):
            raise UserError(
                f"model.{key}={node[last]}: the network of weights={path} has {weights_files.shown(value)}"
            )
        node[last] = dict(value) if isinstance(value, Mapping) else value
    if resolved["train"] is False:
        _require_network(resolved["model"], source, path, choices["model"])


def _require_network(model: Mapping[str, Any], source: "Source", path: str, option: str) -> None:
    """Require the network of the weights, also in settings without parameters.

    Keys that the weights' source lacks must have their defaults.
    """
    found = weights_files.flattened(model)
    for key, value in source.requires.items():
        if found.get(key) != value:
            has = weights_files.shown(value)
            raise UserError(f"model.{key}={found.get(key)}: the network of weights={path} has {has}")
    known = (*source.requires, *source.follows)
    added = [
        key
        for key in found
        if not re.fullmatch(weights_files.NO_OUTCOME, key)
        and not any(f"{key}.".startswith(f"{one}.") for one in known)
    ]
    if added:
        composed = compose(current().config_name, [f"model={quoted(option)}"])
        default: Any = OmegaConf.to_container(composed.model, resolve=True)
        as_by_default = weights_files.flattened(default)
        for key in added:
            if key not in as_by_default or found[key] != as_by_default[key]:
                raise UserError(
                    f"model.{key}={found[key]}: not in the network of weights={path}; "
                    f"must be {as_by_default.get(key, 'left out')}"
                )


def _match_size(resolved: dict[Any, Any], overrides: Sequence[str]) -> None:
    wanted = {key: resolved.pop(key, None) for key in MATCHED_SIZES}
    wanted = {key: number for key, number in wanted.items() if number is not None}
    if not wanted:
        return
    asked = ", ".join(f"{key}={number}" for key, number in wanted.items())
    if len(wanted) > 1:
        raise UserError(f"{asked}: one width cannot match both; set one to null")
    keys = [override.key_or_group for item in overrides if (override := parse_override(item))]
    if "model.width" in keys:
        raise UserError(f"model.width: {asked} sets it; leave out one of them")

    model, dataset = resolved["model"], resolved["dataset"]
    with as_user_error():
        if "match_parameters" in wanted:
            model["width"] = sizes.solve_width(model, wanted["match_parameters"])
        else:
            model["width"] = sizes.solve_width_by_multiply_adds(
                model,
                wanted["match_multiply_adds"],
                channels=dataset["channels"],
                image_size=dataset["image_size"],
            )


def locates_data(key: str) -> bool:
    return any(f"{key.lstrip('+~')}.".startswith(f"{one}.") for one in DATA_LOCATIONS)


def parse_override(argument: str) -> Override | None:
    """Parse an argument; None for a flag or a syntax error, UserError for a duplicate key within it.

    Options stay text, which Hydra would convert (`1e-3`, `true`).
    """
    try:
        return None if argument.startswith("-") else parsed(argument)
    except HydraException:
        return None


def parsed(argument: str) -> Override:
    """As `parse_override`, but HydraException for a flag or a syntax error."""
    return _parse(argument, current().is_group(re.split("[@=]", argument.lstrip("+~"), maxsplit=1)[0]))


@lru_cache(maxsize=4096)  # the arms of a study share most arguments
def _parse(argument: str, of_group: bool) -> Override:
    override = _parser.parse_override(_with_quotes(argument) if of_group else argument)
    override.input_line = argument
    braces = QUOTED.sub("''", argument)
    while inner := re.search(r"[\[{][^][{}]*[]}]", braces):  # Hydra takes the last of two equal keys
        keys = re.findall(r"[{,]\s*([^\s{},:]+)\s*:", inner[0]) if inner[0].startswith("{") else []
        if repeated := [key for number, key in enumerate(keys) if key in keys[:number]]:
            raise UserError(f"{argument}: duplicate {repeated[0]}; give it once")
        braces = braces.replace(inner[0], "0")
    return override


_parser = OverridesParser.create()


def _with_quotes(argument: str) -> str:
    """Quote the options that Hydra would convert, but not the numbers of functions."""
    if re.search(r"\b(range|interval|int|float)\(", argument):
        return argument

    def with_quotes(found: re.Match[str]) -> str:
        is_option = found[1] and not re.search(r",\s*\w+=\s*$", argument[: found.start(1)])  # reverse=true
        return quoted(_as_named(found[1])) if is_option else found[0]

    return CONVERTED.sub(with_quotes, argument)


def _as_named(word: str) -> str:
    return word.lower() if word.lower() in ("true", "false", "null") else word


def override_values(override: Override) -> list[Any]:
    """The values of an override; UserError for duplicates or an invalid or too long range."""
    value = override.value()
    if isinstance(value, RangeSweep):
        _check_range(value, str(override.input_line))
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    plain = [item.text if isinstance(item, QuotedString) else item for item in values]
    for i, item in enumerate(plain):
        if any(item == other and isinstance(item, bool) == isinstance(other, bool) for other in plain[:i]):
            raise UserError(
                f"{override.input_line}: duplicate {override.key_or_group} {option_name(item)}; give it once"
            )
    return values


def lists_values(override: Override) -> bool:
    """Whether a sweep lists its values, unlike glob(...) or interval(...)."""
    return override.is_discrete_sweep() and override.value_type != ValueType.GLOB_CHOICE_SWEEP


def _check_range(swept: RangeSweep, argument: str) -> None:
    assert swept.start is not None
    assert swept.stop is not None
    bounds = (swept.start, swept.stop, swept.step)
    # An integer too large for a float is finite.
    if not swept.step or not all(isinstance(number, int) or math.isfinite(number) for number in bounds):
        raise UserError(
            f"{argument}: must be range(start, stop, step) of finite numbers, with a step other than 0"
        )
    number = math.ceil((Fraction(swept.stop) - Fraction(swept.start)) / Fraction(swept.step))
    if number < 1:
        raise UserError(f"{argument}: empty range; stop must be beyond start")
    require_few_runs(argument, number)


def require_few_runs(what: str, number: int) -> None:
    """Raise UserError for more than `LARGEST_PLAN` runs."""
    if number > LARGEST_PLAN:
        raise UserError(
            f"{what}: {amount(number, 'run')}; at most {LARGEST_PLAN:,} can be planned at once: split them"
        )


def option_name(value: Any) -> str:
    """An option as its file is named, e.g. "true"."""
    if isinstance(value, QuotedString):
        return value.text
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def home_expanded(key: str, folder: str) -> str:
    """Expand `~`; UserError if there is no such user."""
    if (expanded := os.path.expanduser(folder)).startswith("~"):
        raise UserError(f"{key}={folder}: no such user; write ./{folder} for a folder of this name")
    return expanded


def quoted(text: str) -> str:
    """Quote a text for Hydra's command line."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def hydra_value(value: Any) -> str:
    """A plain value as on Hydra's command line."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    return quoted(value) if isinstance(value, str) else option_name(value)


def quote_option_names(arguments: Sequence[str]) -> list[str]:
    """Quote options that Hydra would convert: `residual='true','false'` for `residual=true,false`.

    Raises:
        UserError: A list for a group; as `override_values`.
    """
    return [_quote_option_name(argument) for argument in arguments]


def _quote_option_name(argument: str) -> str:
    if argument.startswith("="):
        raise UserError(f"{argument}: no key before the =")
    override = parse_override(argument)
    if override is None:
        return argument
    values = override_values(override)
    if override.is_delete() or not current().is_group(override.key_or_group):
        return argument
    if any(isinstance(value, list) for value in values) and override.key_or_group != "logger":
        raise UserError(f"{argument}: expected one option; for several use -m {override.key_or_group}=A,B")
    return _with_quotes(argument)
