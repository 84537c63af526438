"""Checks a run before anything of it is written: its sizes, its data, where its results go."""

from collections.abc import Callable
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ablations.configuration import CONFIG_DIR, CONFIG_NAME, RunConfiguration
from ablations.errors import UserError
from ablations.files import check_results_dir
from ablations.network_cost import count_network
from lightning_modules.seeding import MAX_SEED
from lightning_modules.validation import require_integer


def check_run(run: RunConfiguration) -> None:
    """Check all of a run that a user can get wrong.

    Raises:
        UserError: One line that names the key, the value and what is allowed.
    """
    check_seed(run)
    check_results_dir(run.results_dir)
    config = run.resolved
    check_keys(run)
    try:
        require_integer("recipe.epochs", config["recipe"]["epochs"], 1)
        require_integer("trainer.threads", config["trainer"]["threads"], 1)
        with torch.device("meta"):
            network = _explained("model", lambda: instantiate(config["model"]))
            _explained("recipe", lambda: _make_schedule(config["recipe"], network))
            _explained("recipe.weight_init", lambda: _draw_once(config["recipe"], network))
        _explained("dataset", lambda: instantiate(config["dataset"]).prepare_data())
        count_network(config)
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
    top = {*OmegaConf.load(CONFIG_DIR / f"{CONFIG_NAME}.yaml"), *run.choices} - {"defaults", "hydra"}
    nodes = {"": (run.resolved, top)}
    for group, option in run.choices.items():
        node = run.resolved.get(group)
        if isinstance(node, dict) and "_target_" not in node:
            nodes[group] = (node, set(OmegaConf.load(CONFIG_DIR / group / f"{option}.yaml")))
    for path, (node, known) in nodes.items():
        if unknown := sorted(node.keys() - known):
            key = f"{path}.{unknown[0]}".lstrip(".")
            raise UserError(f"{key}: no such key; there are: {', '.join(sorted(known))}")


def _make_schedule(recipe: dict[str, Any], network: torch.nn.Module) -> None:
    optimizer = instantiate(recipe["optimizer"])(network.parameters())
    instantiate(recipe["scheduler"])(optimizer, total_steps=100)


def _draw_once(recipe: dict[str, Any], network: torch.nn.Module) -> None:
    weight = next(parameter for parameter in network.parameters() if parameter.ndim >= 2)
    instantiate(recipe["weight_init"])(torch.empty_like(weight))


def _explained(what: str, build: Callable[[], Any]) -> Any:
    """Call `build`; an exception of a part that got a wrong value becomes one line."""
    try:
        return build()
    except (InstantiationException, ValueError, TypeError, RuntimeError) as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())
        raise ValueError(text if "=" in text.split(":")[0] else f"{what}: {text}") from error
