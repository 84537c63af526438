"""The scale of a study's runs, to which its verdicts apply."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.text import amount, in_words
from experiments.planned_run import PlannedRun
from experiments.project import current, load_yaml

LISTED_SIZES = 3
"""Most sizes of one network that are listed."""


def scale_of(runs: Sequence[PlannedRun]) -> str:
    """Networks with their sizes, data and epochs, in a line.

    "Xception (width 0.125, stem stride 1) on Fashion MNIST embedded (28×28 pixels, 10 classes), 6 epochs".
    """
    networks: dict[str, list[dict[str, Any]]] = {}
    for run in {run.arm: run for run in runs}.values():  # an arm has one network
        full, *_ = current().option_files("model", run.configuration.choices["model"])
        model = run.configuration.resolved["model"]
        # For a small variant, the full network's file.
        networks.setdefault(_class_label(model, full.stem), []).append(_scaling(full, model))
    described = [f"{label} ({_sizes(scalings) or 'full size'})" for label, scalings in networks.items()]
    data = dict.fromkeys(_data(run) for run in runs)
    epochs = sorted({run.epochs for run in runs})
    several = "".join(f"{number} or " for number in epochs[:-1])
    return f"{', '.join(described)} on {' or '.join(data)}, {several}{amount(epochs[-1], 'epoch')}"


def _class_label(node: Mapping[str, Any], option: str, other: str | None = None) -> str:
    """The name of a network or dataset: "Fashion MNIST embedded" for FashionMNIST, fashion_mnist_embedded.

    If the option is not named after its class, `other`, or without it the class's name.
    """
    name = str(node.get("_target_", option)).rpartition(".")[2]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    key = words.lower().replace(" ", "_")
    if f"{option}_".startswith(f"{key}_"):
        return words + in_words(option[len(key) :])
    return name if other is None or option.replace("_", "") == name.lower() else other


def _data(run: PlannedRun) -> str:
    dataset, option = run.configuration.resolved["dataset"], run.configuration.choices["dataset"]
    size, name = (
        dataset["image_size"],
        _class_label(dataset, option, in_words(option)),
    )  # not its reader's name
    return f"{name} ({size}×{size} pixels, {dataset['num_classes']} classes)"


def _sizes(scalings: Collection[Mapping[str, Any]]) -> str:
    """How a network's arms differ from the full one: "width 0.04 to 0.13, stem stride 1"."""
    values: dict[str, set[float]] = {}
    for scaling in scalings:
        for key, value in scaling.items():
            values.setdefault(key, set()).add(value)
    texts = []
    for key, found in values.items():
        numbers = [f"{value:g}" for value in sorted(found)]
        several = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > LISTED_SIZES else " or ".join(numbers)
        texts.append(f"{in_words(key)} {several}")
    return ", ".join(texts)


def _scaling(file: Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """The network's sizes that differ from those in the file, e.g. `{"width": 0.125}`."""
    content = load_yaml(file)
    full_size = content.get("model", content)  # some files set more than the network
    return {
        key: model[key]
        for key, value in full_size.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and model.get(key, value) != value
    }
