"""Gives records the key of a factor that was added later, at the option that they were trained with.

A network that built its pool itself gets an argument `pool`, and its file `pool: ${pool}`. Records lack that
key, so none is the run that `pool=max` plans, although it builds the same.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from ablations.errors import UserError
from ablations.runs import migration
from ablations.runs.identity import at, run_id_of
from ablations.runs.records import RunDirectory, UnreadableRecord
from ablations.text import integer
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import current
from experiments.sizes.network_cost import count_network


def add_factor(results_dir: Path, group: str, option: str) -> tuple[int, list[str]]:
    """Add an option to every record whose network has the factor now and had not when it was trained.

    Returns:
        How many changed, and a line per record that cannot be updated.

    Raises:
        UserError: No network has the factor, or there is no such option.
    """
    if option not in (options := current().options(group) if current().is_group(group) else []):
        raise UserError(f"{group}={option}: no such option; available: {', '.join(options) or 'none'}")
    if not any(_paths(model, group) for model in current().options("model")):
        raise UserError(f"{group}={option}: no file of conf/model has ${{{group}}}")
    changed, problems = 0, []
    with hydra_configuration():
        for path in sorted(results_dir.glob("runs/*/record.json")):
            directory = RunDirectory(results_dir, path.parent.name)
            record = directory.read_or_none()
            try:
                if record is None or (found := _with_option(record, group, option)) is None:
                    continue
                if (problem := directory.problem()) is not None:  # new checksums would accept damaged tables
                    raise UnreadableRecord(problem)
                _require_same_size(record, found)
                migration.rewrite(directory, found)
                changed += 1
            except UnreadableRecord as error:
                problems.append(str(error))
            except (ValueError, HydraException) as error:
                problems.append(f"{path}: {' '.join(str(error).split())}")
    return changed, problems


def _with_option(record: Mapping[str, Any], group: str, option: str) -> dict[str, Any] | None:
    """The record with the option; None if its network lacks the factor, or the record has it.

    Raises:
        ValueError: Its choices no longer compose, or it names code that they do not.
        HydraException: Its choices no longer compose.
    """
    project, choices = current(), record["choices"]
    model = choices.get("model")
    paths = _paths(model, group) if model in project.options("model") else []
    missing = [path for path in paths if at(record["config"]["model"], path, ...) is ...]
    if not missing:
        return None
    same = {
        key: name for key, name in choices.items() if project.is_group(key) and name in project.options(key)
    }
    (run,) = compose_runs([f"{key}={name}" for key, name in (same | {group: option}).items()])
    built = run.resolved["model"]
    config = copy.deepcopy(dict(record["config"]))
    if config["model"].get("_target_") != built["_target_"]:
        return None  # a library's network, which was timed next to this one
    if foreign := [code for code in _called(config["model"]) if code not in [*_called(built)]]:
        raise ValueError(f"its network has {foreign[0]}, which its choices do not name, so it is not built")
    for path in missing:
        above, _, key = path.rpartition(".")
        node = at(config["model"], above) if above else config["model"]
        if not isinstance(node, dict):
            raise ValueError(f"its network has no node {above} for {path}")
        node[key] = at(built, path)
    return {**record, "config": config, "choices": {**choices, group: option}, "run_id": run_id_of(config)}


def _require_same_size(record: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise ValueError if the option builds another network, as far as its size tells."""
    built = count_network(found["config"]).parameters
    if record["parameters"] not in (None, built):
        raise ValueError(
            f"was trained with {integer(record['parameters'])} parameters, the option gives "
            f"{integer(built)}; choose the option that builds what was built before"
        )


def _called(node: Any) -> Iterator[Any]:
    """What building a node may call: every `_target_`, and texts that interpolate."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from [value] if key == "_target_" else _called(value)
    elif isinstance(node, list):
        for item in node:
            yield from _called(item)
    elif isinstance(node, str) and "$" in node:
        yield node


def _paths(model: str, group: str) -> list[str]:
    """Where a network's file takes a factor, below `model`: "pool", "separable.norm"."""
    keys = current().keys_of("model", model)

    def walk(node: Any, above: str) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, Mapping) else ():
            if value == f"${{{group}}}":
                yield f"{above}{key}"
            yield from walk(value, f"{above}{key}.")

    return list(walk(keys.get("model", keys), ""))
