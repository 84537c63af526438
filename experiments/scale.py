"""At which scale a study's runs are: a verdict is about that one."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.text import amount
from experiments.planned_run import PlannedRun
from experiments.project import current, load_yaml

LISTED_SIZES = 3
"""Sizes of one network that are named one by one."""


def scale_of(runs: Sequence[PlannedRun]) -> str:
    """One line: which networks, in what they differ from the paper's, on which data, for how long."""
    networks: dict[str, dict[Any, dict[str, Any]]] = {}
    for run in {run.arm: run for run in runs}.values():  # runs of an arm have one network
        full, *_ = current().option_files("model", run.configuration.choices["model"])
        option = full.stem  # of a small variant the full network, whose sizes it changes
        changed = _scaling(full, run.configuration.resolved["model"])
        networks.setdefault(option, {})[tuple(changed.items())] = changed
    described = [
        text for option, scalings in networks.items() for text in _describe(option, scalings.values())
    ]
    data = dict.fromkeys(_data(run) for run in runs)
    epochs = sorted({run.epochs for run in runs})
    several = "".join(f"{number} or " for number in epochs[:-1])
    return f"{', '.join(described)} on {' or '.join(data)}, {several}{amount(epochs[-1], 'epoch')}"


def _data(run: PlannedRun) -> str:
    dataset = run.configuration.resolved["dataset"]
    size = dataset["image_size"]
    name = run.configuration.choices["dataset"]
    return f"{name} ({size}x{size} pixels, {dataset['num_classes']} classes)"


def _describe(option: str, scalings: Collection[Mapping[str, Any]]) -> list[str]:
    """A network at each of its sizes, or above `LISTED_SIZES` at once: "xception (width 0.04 to 0.13)"."""
    if len(scalings) > LISTED_SIZES:
        values: dict[str, list[Any]] = {}
        for scaling in scalings:
            for key, value in scaling.items():
                values.setdefault(key, []).append(value)
        ranges = {key: sorted({min(found), max(found)}) for key, found in values.items()}
        scalings = [{key: " to ".join(f"{value:g}" for value in ends) for key, ends in ranges.items()}]
    else:
        scalings = [{key: f"{value:g}" for key, value in scaling.items()} for scaling in scalings]
    texts = [
        ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in scaling.items()) for scaling in scalings
    ]
    return [f"{option} ({text or 'full size'})" for text in texts]


def _scaling(file: Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a network that differ from those in the file, e.g. `{"width": 0.125}`."""
    content = load_yaml(file)
    full_size = content.get("model", content)  # a file that sets more than the network has it below `model`
    return {
        key: model[key]
        for key, value in full_size.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and model.get(key, value) != value
    }
