"""metrics.csv: one row per epoch that was trained; read whole, or in what studies compare.

It is whole where it has every column and, if it has rows, a validation metric, every epoch from the first on
has its row, steps rise and validation metrics are finite. A study of 10,000 runs reads a million rows, and
most of that time goes into turning digits into numbers: `validation_of` takes the cells that it is asked
for, and of all others it sees that they are numbers.
"""

import csv
import functools
import io
import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HISTORY_COLUMNS = (
    "epoch",  # from 1
    "step",  # optimizer steps taken by the end of the epoch
    "train_loss",
    "val_loss",
    "learning_rate",  # of the epoch's last step
    "seconds",  # spent in the epoch's training steps
)
"""Columns of every metrics.csv. Beside them, at each loss, are the metrics of the run's task as fractions,
the main one first: `train_top1`, `val_top1`, `val_top5`, or `val_map100`."""

INTEGER_COLUMNS = ("epoch", "step")

_INTEGER = "[0-9]{1,17}+"
_NUMBER = rf"-?+{_INTEGER}\.?+[0-9]*+(?:e[-+]?+[0-9]{{1,2}}+|)"
"""A finite one as Python prints it; too short to be read as infinite. Possessive, without an optional group:
it is matched a thousand times per file."""


@dataclass(frozen=True, eq=False)
class History:
    """What studies compare of a run's metrics.csv.

    Attributes:
        columns: epoch, step and validation metrics, floats of `(E,)` each; runs that were validated at the
            same steps share these, so none is written to.
    """

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Epochs."""
        return len(self.columns["epoch"])

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]


def metric_names(names: Iterable[str]) -> list[str]:
    """Metrics of a run's task, the main one first, from its columns or the keys of its final metrics.

    Returns:
        E.g. `["top1", "top5"]`, what validation measured beside the loss.
    """
    return [name.removeprefix("val_") for name in names if name.startswith("val_") and name != "val_loss"]


def columns_of(data: bytes | None) -> dict[str, list[float]] | None:
    """metrics.csv by column; None where there is none or it is not whole."""
    text = _text(data)
    return None if text is None else _columns(io.StringIO(text, newline=""))


def validation_of(data: bytes | None, metrics: Collection[str] | None = None) -> History | None:
    """What studies compare of metrics.csv; None where there is none or it is not whole.

    Args:
        data: Content of the file.
        metrics: Those that are asked for, of those that the file has; None: all.
    """
    text = _text(data)
    if text is None:
        return None
    first, _, body = text.partition("\n")
    asked, line = _header(first, None if metrics is None else tuple(metrics))
    if line is not None:
        lines = line.findall(body)
        if lines and len(lines) == body.count("\n") and body.endswith("\n"):
            epoch, step, *values = zip(*lines, strict=True)
            common = _rising(epoch, step)
            if common is None:
                return None
            return History({**common, **dict(zip(asked, map(_floats, values), strict=True))})
    # Not as run.py writes it: without rows, with other numbers (nan), or damaged.
    whole = _columns(io.StringIO(text, newline=""))
    if whole is None:
        return None
    return History({name: _floats(whole[name]) for name in (*INTEGER_COLUMNS, *_asked(whole, metrics))})


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _columns(text: Iterable[str]) -> dict[str, list[float]] | None:
    """Columns of numbers from lines; None where they are not whole."""
    try:
        header, *lines = csv.reader(text)
        cells = zip(*lines, strict=True) if lines else [()] * len(header)
        columns = {
            name: list(map(int if name in INTEGER_COLUMNS else float, column))
            for name, column in zip(header, cells, strict=True)
        }
    except (ValueError, csv.Error):
        return None
    return columns if _is_complete(header) and _is_whole(columns) else None


def _is_complete(header: Sequence[str]) -> bool:
    return set(HISTORY_COLUMNS) <= set(header) and len(set(header)) == len(header)


def _is_whole(columns: Mapping[str, Sequence[float]]) -> bool:
    """See the module's docstring, for a complete header."""
    metrics, epochs = metric_names(columns), columns["epoch"]
    finite = all(all(map(math.isfinite, columns[f"val_{name}"])) for name in metrics)
    return (not epochs or bool(metrics)) and finite and _is_rising(epochs, columns["step"])


def _is_rising(epochs: Sequence[float], steps: Sequence[float]) -> bool:
    return epochs == list(range(1, len(epochs) + 1)) and all(map(operator.lt, [0, *steps], steps))


@functools.lru_cache(maxsize=1_000)
def _rising(epoch: Sequence[str], step: Sequence[str]) -> Mapping[str, np.ndarray] | None:
    """The columns epoch and step, which most runs of a study have in common; None where not whole."""
    epochs, steps = list(map(int, epoch)), list(map(int, step))
    if not _is_rising(epochs, steps):
        return None
    return dict(zip(INTEGER_COLUMNS, map(_floats, (epochs, steps)), strict=True))


def _floats(cells: Sequence[float | str]) -> np.ndarray:
    """By Python's own float: not every other reader is right to the last bit."""
    values = np.fromiter(map(float, cells), dtype=float, count=len(cells))
    values.flags.writeable = False
    return values


def _asked(columns: Iterable[str], metrics: Collection[str] | None) -> tuple[str, ...]:
    """Of a file's columns those of validation metrics that are asked for."""
    return tuple(f"val_{name}" for name in metric_names(columns) if metrics is None or name in metrics)


@functools.cache
def _header(first: str, metrics: tuple[str, ...] | None) -> tuple[tuple[str, ...], re.Pattern[str] | None]:
    """What a first line says of the lines below.

    Returns:
        The columns of validation metrics that are asked for; and, where the header is as run.py writes it, a
        line of numbers, with a group for epoch, step and each of these columns.
    """
    header = tuple(first.split(","))
    asked = _asked(header, metrics)
    usual = header[:2] == INTEGER_COLUMNS and '"' not in first
    if not (usual and _is_complete(header) and metric_names(header)):
        return asked, None
    numbers = {name: _INTEGER if name in INTEGER_COLUMNS else _NUMBER for name in header}
    wanted = (*INTEGER_COLUMNS, *asked)
    cells = [f"({number})" if name in wanted else number for name, number in numbers.items()]
    return asked, re.compile(f"^{','.join(cells)}$", re.MULTILINE)
