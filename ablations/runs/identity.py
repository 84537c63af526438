"""The identity of a run: what of its configuration is instantiated, and the hash of it.

A factor that is added later changes no identity if its option builds what was built before.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

WHOLE = (
    *("outcome_version", "seed", "train", "initialize", "new_head", "weights_sha256"),
    *("model", "recipe", "dataset", "timing"),
)
"""Keys that name what is instantiated; a neutral value counts as absent. `weights_sha256` replaces the path
of the weights. `timing`, of a run that only timed steps, names the machine."""

COMPILE = "trainer.compile"
"""The one key of a trainer that counts: compiled steps round differently."""

DEFAULT_COMPILER = "inductor"
"""The backend of `trainer.compile=true`."""

LEFT_OUT: Mapping[str, Mapping[str, Any]] = {
    "": {"train": True, "initialize": "seed", "new_head": False, "weights_sha256": None, "norm": None},
    "recipe": {
        "gradient_clipping": None,
        "gradient_accumulation": 1,
        "scheduler_interval": None,
        "augmentation": None,
        "loss": None,
        "tf32": False,
        "fused_optimizer": False,
    },
    "trainer": {
        "compile": False,
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "sync_batchnorm": False,
        "runs_per_device": 1,
    },
}
"""Keys that older records and a user's options may lack, by node, and what they mean then."""

NEUTRAL: Mapping[str, Any] = {
    f"{node}.{key}".lstrip("."): value for node, keys in LEFT_OUT.items() for key, value in keys.items()
} | {"dataset.train_images": None}
"""Values that count as absent in an identity, by key."""

OF_RECIPE = ("optimizer", "scheduler", "augmentation", "loss")
"""Groups whose option lies below `recipe`: `optimizer=adamw` is `recipe.optimizer`."""

NOT_OF_DATA = ("root", "download", "files", "num_workers", "max_undecodable_share", "metrics")
"""Keys of a dataset that change no outcome: checksums replace `files`, and `max_undecodable_share` decides
only whether a run ends."""

OUTSIDE = (
    *("project", "results_dir", "keep_checkpoint", "logger", "trainer", "study", "seeds", "seed_budget"),
    *("metrics", "diagnostics", "tuning", "hydra"),
)
"""Keys and groups that nothing instantiated takes."""


def filled(config: Mapping[Any, Any]) -> dict[str, Any]:
    """A resolved configuration with the keys that it leaves out."""
    nodes = {node: {**keys, **(config.get(node) or {})} for node, keys in LEFT_OUT.items() if node}
    return {**LEFT_OUT[""], **config, **nodes}


def at(config: Any, path: str, absent: Any = None) -> Any:
    """The value of a configuration at a dotted path."""
    for key in path.split("."):
        if not isinstance(config, Mapping) or key not in config:
            return absent
        config = config[key]
    return config


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that can change a run's outcome.

    The number of processes counts if each has separate BN statistics, draws dropout or mixes images, or if it
    changes the dataset's order of images.
    """
    config = filled(config)
    found = {key: config[key] for key in WHOLE if key in config}
    found = {key: value for key, value in found.items() if key not in NEUTRAL or value != NEUTRAL[key]}
    for group, outside in (("recipe", ()), ("dataset", NOT_OF_DATA)):
        found[group] = {
            key: value
            for key, value in config[group].items()
            if key not in outside and (f"{group}.{key}" not in NEUTRAL or value != NEUTRAL[f"{group}.{key}"])
        }
    recipe, trainer = config["recipe"], config["trainer"]
    processes = trainer["devices"] * trainer["num_nodes"]
    if processes > 1 and (
        not trainer["sync_batchnorm"]
        or recipe.get("dropout")
        or (recipe["augmentation"] or {}).get("batch")
        or config["dataset"].get("processes_change_order")
    ):
        found["processes"] = processes
    if config["train"] and trainer["compile"]:
        found["compile"] = True if trainer["compile"] == DEFAULT_COMPILER else trainer["compile"]
    return found


def run_id_of(config: Mapping[str, Any]) -> str:
    """The name of a run's directory: the hash of its identity."""
    return hash_of(identity_of(config))


def hash_of(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256."""
    text = json.dumps(_canonical(identity), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _canonical(value: Any) -> Any:
    """The same for `1.0` and `1`; infinity as in a record."""
    if isinstance(value, str | int | None):  # most are, and checking for a Mapping is slow
        return value
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else as_json(value)
    return value


def as_json(value: Any) -> Any:
    """The value for JSON, with infinity as ".inf"."""
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    return value


def is_outside_identity(key: str) -> bool:
    """Whether a key, or the group or node that contains it, is not instantiated."""
    top, _, rest = key.lstrip("+~").partition(".")
    if top == "dataset":
        return rest.partition(".")[0] in NOT_OF_DATA
    return top in OUTSIDE and key.lstrip("+~") != COMPILE
