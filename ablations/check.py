"""Checks a run before anything of it is written: its sizes, its data, where its results go.

What needs no torch comes first, so that a wrong seed is told at once.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ablations.configuration import CONFIG_DIR, CONFIG_NAME, RunConfiguration
from ablations.errors import UserError
from ablations.files import check_results_dir
from lightning_modules.seeding import MAX_SEED
from lightning_modules.validation import (
    require_boolean,
    require_integer,
    require_number,
    require_one_of,
)


def check_run(run: RunConfiguration) -> None:
    """Check all of a run that a user can get wrong.

    Raises:
        UserError: One line that names the key, the value and what is allowed.
    """
    check_seed(run)
    check_results_dir(run.results_dir)
    check_keys(run)
    try:
        _check_values(run.resolved)
        _check_parts(run.resolved)
    except ValueError as error:
        raise UserError(str(error)) from error


def check_seed(run: RunConfiguration) -> None:
    """Check the seed: all that runs of one arm differ in.

    Raises:
        UserError: It is out of range.
    """
    try:
        require_integer("seed", run.seed, 0, MAX_SEED)
    except ValueError as error:
        raise UserError(str(error)) from error


def check_keys(run: RunConfiguration) -> None:
    """Check that no key was added (`+key=value`) that nothing reads: it would be ignored.

    Nodes with a `_target_` are left to what they name, which refuses what it does not know.

    Raises:
        UserError: A key that nothing reads.
    """
    scaling = run.choices.get("dataset_model")  # optional, so Hydra lets pass what does not exist
    if scaling is not None and scaling != f"{run.choices.get('dataset')}_{run.choices.get('model')}":
        options = GlobalHydra.instance().config_loader().get_group_options("dataset_model")
        if scaling not in options:
            raise UserError(f"dataset_model={scaling}: no such option; there are: {', '.join(options)}")
    top = {*OmegaConf.load(CONFIG_DIR / f"{CONFIG_NAME}.yaml"), *run.choices} - {"defaults", "hydra"}
    nodes = {"": (run.resolved, top)}
    for group, option in run.choices.items():
        node = run.resolved.get(group)
        file = CONFIG_DIR / group / f"{option}.yaml"
        if isinstance(node, dict) and "_target_" not in node and file.is_file():
            known = set(OmegaConf.load(file))
            if "defaults" not in known:  # else it takes keys from other options
                nodes[group] = (node, known)
    for path, (node, known) in nodes.items():
        if unknown := sorted(node.keys() - known):
            key = f"{path}.{unknown[0]}".lstrip(".")
            raise UserError(f"{key}: no such key; there are: {', '.join(sorted(known))}")


def _check_values(config: Mapping[str, Any]) -> None:
    """Check values that no part refuses before it trains."""
    recipe, logger = config["recipe"], config["logger"]
    require_boolean("train", config["train"])
    if not config["train"] and config["weights"] is None:
        raise ValueError("train=False: needs weights=FILE to evaluate")
    if config["weights"] is None and config["weights_sha256"] is not None:
        raise ValueError(f"weights_sha256={config['weights_sha256']}: of what? weights=FILE is missing")
    require_integer("recipe.epochs", recipe["epochs"], 1)
    require_boolean("recipe.channels_last", recipe.get("channels_last"))
    if "lr" in recipe["optimizer"]:
        require_number("recipe.optimizer.lr", recipe["optimizer"]["lr"], 0)
    momentum = recipe.get("norm_momentum", 1)
    if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 < momentum <= 1:
        raise ValueError(f"recipe.norm_momentum={momentum}: must be a number above 0 and at most 1")
    require_integer("trainer.threads", config["trainer"].get("threads"), 1)
    if logger.get("backend") is not None:
        require_one_of("logger.mode", logger.get("mode"), ("offline", "online"))
        require_integer("logger.every_n_steps", logger.get("every_n_steps"), 1)


def _check_parts(config: Mapping[str, Any]) -> None:
    """Build everything that a run is made of; a part refuses the values it cannot take."""
    import torch
    from lightning.pytorch.accelerators import AcceleratorRegistry

    from ablations.network_cost import count_network
    from lightning_modules.assembly import make_data, make_task
    from lightning_modules.weights import fit_weights, read_weights

    accelerators = ("auto", "gpu", *AcceleratorRegistry.available_accelerators())
    require_one_of("trainer.accelerator", config["trainer"].get("accelerator"), accelerators)
    recipe = config["recipe"]
    with torch.device("meta"):
        network = explained("model", lambda: instantiate(config["model"]))
        optimizer = explained("recipe", lambda: instantiate(recipe["optimizer"])(network.parameters()))
        explained("recipe", lambda: instantiate(recipe["scheduler"])(optimizer, total_steps=100))
        explained("recipe.weight_init", lambda: instantiate(recipe["weight_init"])(torch.empty(2, 2, 3, 3)))
    if (weights := config["weights"]) is not None:
        fit_weights(network, read_weights(weights), weights)
    explained("dataset.task", lambda: make_task(config))
    explained("dataset", lambda: make_data(config).prepare_data())
    explained("model", lambda: count_network(config))


def explained(what: str, build: Callable[[], Any]) -> Any:
    """Call `build`; an exception of a part that got a wrong value becomes one line.

    Args:
        what: Names the part where the exception does not.
        build: Makes it.

    Raises:
        ValueError: It got a wrong value.
    """
    try:
        return build()
    except (InstantiationException, ValueError, TypeError, RuntimeError) as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())
        raise ValueError(text if re.match(r"[\w.]+=", text) else f"{what}: {text}") from error
