"""Measured mechanism of a study: its runs' diagnostics, per arm and layer, over the seeds.

Each of the `MEASUREMENTS` is shown at some moments of the training, with a 95 % t interval of the mean over
seeds. Means of gradient norms are geometric, and the two operations of a separable convolution count as one
layer.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ablations.runs.records import DONE, RunDirectory, measured_diagnostics
from ablations.runs.schema import planned_epochs
from ablations.statistics.paired import Estimate, mean_interval
from ablations.studies.results import Study, StudyRun

EARLY = 20
"""The first steps: from 1 to this one."""

HEAD = "head"
"""The block after the last module: the logistic regression, and fully connected layers."""

MAIN, BETWEEN, SHORTCUT = "main", "between", "shortcut"
"""Kinds of layers: on the way through the network, an intermediate activation, a shortcut's projection."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Moment:
    """A moment of the training at which a measurement is shown.

    Attributes:
        holds: (Row of diagnostics.csv, planned epochs) -> whether the row belongs to it.
    """

    name: str
    label: str
    holds: Callable[[Row, int], bool]


@dataclass(frozen=True)
class Measurement:
    """A measurement of every layer.

    Attributes:
        name: Of the diagnostic, "dead_units"; also in file names.
        unit: Of a number in a table, "%"; "" for none.
        logarithmic: Whether it is averaged and drawn on a logarithmic scale.
        of_weights: Whether it is a norm over weights; a layer's norm is over all of them.
        value: Row -> the value, in the unit.
    """

    name: str
    title: str
    axis: str
    unit: str
    logarithmic: bool
    of_weights: bool
    moments: tuple[Moment, ...]
    note: str
    value: Callable[[Row], float]


LAST_EPOCH = Moment("last_epoch", "after the last epoch", lambda row, epochs: row["epoch"] == epochs)

MEASUREMENTS = (
    Measurement(
        "dead_units",
        "Dead units",
        "dead units (% of the layer)",
        "%",
        False,
        False,
        (
            Moment("first_epoch", "after the first epoch", lambda row, epochs: row["epoch"] == 1),
            LAST_EPOCH,
        ),
        "Dead: a ReLU's channel that is zero everywhere, on the first validation images; a channel of "
        "another activation that hardly varies. These are two measures: compare ReLU with ELU with care.",
        lambda row: 100 * row["value"],
    ),
    Measurement(
        "effective_rank",
        "Effective rank after the spatial operation",
        "effective rank (% of the channels)",
        "%",
        False,
        False,
        (
            Moment("before_training", "before the first step", lambda row, epochs: row["epoch"] == 0),
            LAST_EPOCH,
        ),
        "Effective rank: the number of directions in which the channels vary over positions and images, as a "
        "share of the number of channels: 100 % if none follows from others.",
        lambda row: 100 * row["value"] / row["channels"],
    ),
    Measurement(
        "gradient_norm",
        "Gradient norm in the first steps",
        "L2 norm of the gradient (log scale)",
        "",
        True,
        True,
        (
            Moment("first_step", "step 1", lambda row, epochs: row["step"] == 1),
            Moment("first_steps", f"mean of steps 1 to {EARLY}", lambda row, epochs: row["step"] <= EARLY),
            Moment("step_128", "step 128", lambda row, epochs: row["step"] == 128),
        ),
        "Gradient norm: of the loss with respect to a layer's weights, both operations of a separable "
        "convolution together; means over steps and seeds are geometric.",
        lambda row: row["value"],
    ),
)


@dataclass(frozen=True)
class Layer:
    """A layer of some of a study's networks.

    Attributes:
        name: Name of its module; of a separable convolution, without the operation.
        module: Number of its module in order of execution, from 1, as the paper counts Xception's.
        block: Name of that module, "middle_flow.3".
        kind: MAIN, BETWEEN or SHORTCUT.
    """

    name: str
    module: int
    block: str
    kind: str

    @property
    def shown_module(self) -> str:
        return HEAD if self.block == HEAD else str(self.module)


@dataclass(frozen=True)
class Measured:
    """A measurement in the runs of a study.

    Attributes:
        layers: Of all arms, in order of execution.
        of_seeds: Per moment and arm, `(S, L)`: NaN if a run lacks the layer or the value is not finite (or 0
            on a logarithmic scale).
        seeds: Per moment and arm, the seeds of those rows.
    """

    measurement: Measurement
    layers: tuple[Layer, ...]
    of_seeds: Mapping[tuple[str, str], np.ndarray]
    seeds: Mapping[tuple[str, str], tuple[int, ...]]

    @cached_property
    def moments(self) -> list[Moment]:
        return [m for m in self.measurement.moments if any(moment == m.name for moment, _ in self.of_seeds)]

    def arms(self) -> set[str]:
        return {arm for _, arm in self.of_seeds}

    def indices(self, kind: str) -> list[int]:
        """Indices of the layers of a kind."""
        return [index for index, layer in enumerate(self.layers) if layer.kind == kind]

    def estimate(self, values: np.ndarray) -> Estimate | None:
        """Mean over seeds (geometric on a logarithmic scale) and 95 % t interval; None without a number."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return None
        if not self.measurement.logarithmic:
            return mean_interval(finite)
        found = mean_interval(np.log10(finite))
        return Estimate(found.n, 10**found.mean, 10**found.low, 10**found.high)


def measured_of(study: Study, runs: Sequence[StudyRun]) -> list[Measured]:
    """What a study's runs measured."""
    by_run: list[tuple[StudyRun, list[dict[str, Any]]]] = []
    for run in sorted(runs, key=lambda run: run.seed):
        if run.status in DONE and measured_diagnostics(run.record):
            rows = RunDirectory(run.directory.parent.parent, run.run_id).diagnostic_rows(run.record)
            by_run += [(run, rows)] if rows else []
    found = [_measured(measurement, study, by_run) for measurement in MEASUREMENTS]
    return [measured for measured in found if measured is not None]


def _measured(
    measurement: Measurement, study: Study, by_run: Sequence[tuple[StudyRun, list[dict[str, Any]]]]
) -> Measured | None:
    values: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    orders: dict[tuple[str, ...], None] = {}
    for run, rows in by_run:
        assert run.record is not None, "completed and diverged runs have a record"
        epochs = planned_epochs(run.record["config"])
        of_measurement = [row for row in rows if row["diagnostic"] == measurement.name]
        orders[tuple(dict.fromkeys(_layer_name(measurement, row["layer"]) for row in of_measurement))] = None
        for moment in measurement.moments:
            at = [row for row in of_measurement if moment.holds(row, epochs)]
            if at:
                values[moment.name, run.arm].append(_by_layer(measurement, at))
                seeds[moment.name, run.arm].append(run.seed)
    if not values:
        return None
    names = merged(orders)
    blocks = list(dict.fromkeys(map(_block, names)))
    layers = tuple(Layer(name, blocks.index(_block(name)) + 1, _block(name), _kind(name)) for name in names)
    arrays = {
        key: np.array([[of_run.get(layer.name, np.nan) for layer in layers] for of_run in of_arm])
        for key, of_arm in values.items()
    }
    return Measured(measurement, layers, arrays, {key: tuple(of_arm) for key, of_arm in seeds.items()})


def _layer_name(measurement: Measurement, name: str) -> str:
    """For gradients, a separable convolution is one layer."""
    return re.sub(r"\.(depthwise|pointwise)\b.*", "", name) if measurement.of_weights else name


def _by_layer(measurement: Measurement, rows: Iterable[Row]) -> dict[str, float]:
    """A value per layer: the norm over its weights, and the mean over steps."""
    by_step: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        by_step[_layer_name(measurement, row["layer"]), row["step"]].append(measurement.value(row))
    of_layer: dict[str, list[float]] = defaultdict(list)
    for (layer, _), of_step in by_step.items():
        value = math.hypot(*of_step) if measurement.of_weights else of_step[0]
        of_layer[layer].append(value if math.isfinite(value) else math.nan)
    if not measurement.logarithmic:
        return {layer: float(np.mean(found)) for layer, found in of_layer.items()}
    return {
        layer: 10 ** float(np.mean(np.log10(found))) if min(found) > 0 else math.nan
        for layer, found in of_layer.items()
    }


def merged(orders: Iterable[Sequence[str]]) -> list[str]:
    """One order of all names that keeps each given order, the longest first, if they agree."""
    whole: list[str] = []
    for order in sorted(orders, key=len, reverse=True):
        at = 0
        for name in order:
            if name in whole:
                at = whole.index(name) + 1
            else:
                whole.insert(at, name)
                at += 1
    return whole


def _block(name: str) -> str:
    """The module of the network that contains a layer: "stem", "middle_flow.3", "exit_flow.module"."""
    first, *others = name.split(".")
    if others and (others[0].isdigit() or others[0] == "module"):
        return f"{first}.{others[0]}"
    return first


def _kind(name: str) -> str:
    parts = name.partition("#")[0].split(".")
    if "shortcut" in parts:
        return SHORTCUT
    return BETWEEN if "intermediate_activation" in parts else MAIN
