"""metrics.csv: one row per trained epoch.

A file is whole if it has every column, a row for every epoch from 1, rising steps and, in its rows, finite
validation metrics.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from ablations.metrics import LOSS

HISTORY_COLUMNS = (
    "epoch",  # from 1
    "step",  # optimizer steps taken by the end of the epoch
    "train_loss",
    "val_loss",
    "learning_rate",  # of the epoch's last step
    "seconds",  # spent in the epoch's training steps
)
"""Columns of every metrics.csv. The run's metrics follow the losses, the main one first: `train_top1`,
`val_top1`, `val_top5`. Shares are fractions."""

INTEGER_COLUMNS = ("epoch", "step")


@dataclass(frozen=True, eq=False)
class History:
    """A run's metrics.csv, or some of its columns.

    Attributes:
        columns: Floats of `(E,)` each, in the order of the file.
    """

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["epoch"])

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]


def metric_names(names: Iterable[str]) -> list[str]:
    """Metrics of a run without the loss, the main one first, from column names.

    Returns:
        E.g. `["top1", "top5"]`.
    """
    return [name.removeprefix("val_") for name in names if name.startswith("val_") and name != f"val_{LOSS}"]


def validation_columns(names: Sequence[str], metrics: Collection[str] | None = None) -> list[str]:
    """Epoch, step and validation metrics (None: all): the columns that studies compare."""
    asked = [f"val_{name}" for name in metric_names(names) if metrics is None or name in metrics]
    loss = [f"val_{LOSS}"] if metrics is not None and LOSS in metrics else []
    return [*INTEGER_COLUMNS, *asked, *loss]


def read_history(
    data: bytes | None, columns: Callable[[Sequence[str]], Sequence[str]] = lambda names: names
) -> History | None:
    """metrics.csv from its content, exactly; None if absent or damaged.

    Args:
        columns: All columns -> those to read, epoch and step among them.
    """
    if data is None:
        return None
    try:
        header, _, body = data.decode().partition("\n")
        names = header.strip().split(",")
        if len(set(names)) < len(names) or not set(HISTORY_COLUMNS) <= set(names):
            return None
        lines = body.splitlines()
        ragged = set(map(str.count, lines, repeat(","))) - {len(names) - 1}
        if ragged or (lines and not metric_names(names)):
            return None
        wanted = columns(names)
        numbers = [names.index(name) for name in wanted]
        # pandas takes three times as long, most of the time for tables of 10,000 runs.
        rows = (
            np.loadtxt(lines, delimiter=",", comments=None, ndmin=2, usecols=numbers)
            if lines
            else np.empty((0, len(numbers)))
        )
    except ValueError:
        return None
    history = History(dict(zip(wanted, rows.T, strict=True)))
    return history if _is_whole(history) else None


def _is_whole(history: History) -> bool:
    epochs, steps = history["epoch"].tolist(), history["step"].tolist()
    return (
        all(np.isfinite(history[f"val_{name}"]).all() for name in metric_names(history.columns))
        and epochs == list(range(1, len(epochs) + 1))
        and all(map(float.is_integer, steps))
        and all(map(operator.lt, [0, *steps], steps))
    )
