"""A heat map of two swept numbers: a cell per combination, with its mean as colour and as text.

The upper panel shows validation, for choosing settings; the lower one test, for reporting. Cells are in
order, not to scale.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ablations.evidence.interaction import SPLITS
from ablations.figures.study import figure_notes
from ablations.figures.style import (
    LEFT,
    LINE,
    RIGHT,
    TITLE_CHARACTERS,
    WIDTH,
    header_height,
    save_figure,
    small,
    subtitle_of,
    wrapped,
    write_nothing_completed,
    write_texts,
)
from ablations.metrics import Metric
from ablations.statistics.paired import mean_interval
from ablations.studies.results import Outcome, Study, StudyRun, outcomes
from ablations.text import shown_value

COLORS = "cividis"
"""Its lightness rises evenly, also for colour-blind readers."""

CELL, CELL_WIDTH = 0.62, 0.8  # inches, as all below
BAR = 0.75  # right of the panels
TITLE = 0.3
BELOW = 0.6


def write_heat_map(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[Path]:
    """Write the figure of two swept numbers; see `ablations.figures.study.write_figure`."""
    return save_figure(lambda: draw_heat_map(study, runs), folder, study.output)


def draw_heat_map(study: Study, runs: Sequence[StudyRun]) -> Figure:
    assert study.swept is not None
    by_arm = outcomes(study, runs)
    columns, rows = (len({of_arm[axis] for of_arm in study.swept.values.values()}) for axis in (0, 1))
    title, subtitle = textwrap.wrap(study.title, TITLE_CHARACTERS), subtitle_of(study)
    framed = next(arm.label for arm in study.arms if arm.name == study.baseline)
    read = f"A cell: mean over seeds, with its 95 % t interval below. Framed: the baseline, {framed}."
    notes = wrapped([read, *figure_notes(study, runs, by_arm)])
    panel = max(1.5, CELL * rows)
    above, below = header_height(title, subtitle), LINE * len(notes) + 0.15
    height = above + len(SPLITS) * (TITLE + panel + BELOW) + below
    whole = max(WIDTH, LEFT + CELL_WIDTH * columns + BAR + RIGHT)
    figure = Figure(figsize=(whole, height))
    write_texts(figure, title, subtitle, notes)
    if not any(by_arm.values()):
        write_nothing_completed(figure, below + panel)
        return figure
    metric = study.deciding
    values = {split: finals(study, by_arm, split) for split in SPLITS}
    scale = scale_of(values.values())
    width = whole - LEFT - BAR - RIGHT
    for row, (split, word) in enumerate(SPLITS.items()):
        bottom = height - above - row * (TITLE + panel + BELOW) - TITLE - panel
        axes = figure.add_axes((LEFT / whole, bottom / height, width / whole, panel / height))
        image = draw_cells(axes, study, by_arm, values[split], scale)
        axes.set_title(f"{word.capitalize()} {metric.label}", loc="left")
        axes.set_ylabel(study.swept.keys[1])
        axes.set_xlabel(study.swept.keys[0])
    place_of_bar = (
        (LEFT + width + 0.15) / whole,
        bottom / height,
        0.15 / whole,
        (2 * panel + TITLE + BELOW) / height,
    )
    bar = Colorbar(figure.add_axes(place_of_bar), image)
    bar.set_label(metric.on_axis(metric.label))
    bar.outline.set_visible(False)
    return figure


def finals(study: Study, by_arm: Mapping[str, Sequence[Outcome]], split: str) -> dict[str, list[float]]:
    """The values of each arm, in the unit shown."""
    name, times = f"{split}_{study.metric}", study.deciding.times
    return {arm: [times * outcome.final[name] for outcome in of_arm] for arm, of_arm in by_arm.items()}


def scale_of(values: Iterable[Mapping[str, Sequence[float]]]) -> Normalize:
    means = [float(np.mean(of_arm)) for of_split in values for of_arm in of_split.values() if of_arm]
    return Normalize(min(means), max(max(means), min(means) + 1e-9))


def draw_cells(
    axes: Axes,
    study: Study,
    by_arm: Mapping[str, Sequence[Outcome]],
    values: Mapping[str, Sequence[float]],
    scale: Normalize,
) -> AxesImage:
    """Returns the image for a colour bar."""
    assert study.swept is not None
    xs, ys = (sorted({of_arm[axis] for of_arm in study.swept.values.values()}) for axis in (0, 1))
    cell_of = {arm: (xs.index(of_arm[0]), ys.index(of_arm[1])) for arm, of_arm in study.swept.values.items()}
    grid = np.full((len(ys), len(xs)), np.nan)
    for arm, (x, y) in cell_of.items():
        if values[arm]:
            grid[y, x] = np.mean(values[arm])
    image = axes.imshow(grid, cmap=COLORS, norm=scale, origin="lower", aspect="auto")
    for arm, (x, y) in cell_of.items():
        if not values[arm]:
            corner = x - 0.5, y - 0.5
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#BBBBBB", linewidth=0))
            continue
        light = scale(grid[y, x]) > 0.55
        axes.text(
            x, y, _text(study.deciding, by_arm[arm], values[arm]),
            ha="center", va="center", fontsize=small(), color="black" if light else "white", linespacing=1.3,
        )  # fmt: skip
    x, y = cell_of[study.baseline]
    axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="#D55E00", linewidth=2))
    axes.set_xticks(range(len(xs)), [shown_value(x) for x in xs])
    axes.set_yticks(range(len(ys)), [shown_value(y) for y in ys])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _text(metric: Metric, of_arm: Sequence[Outcome], values: Sequence[float]) -> str:
    estimate = mean_interval(values).within(*metric.ends(metric.times))
    mean, low, high = (end / metric.times for end in (estimate.mean, estimate.low, estimate.high))
    shown = metric.interval(mean, low, high)
    lines = shown.split(" ", 1)
    if diverged := sum(outcome.diverged for outcome in of_arm):
        lines.append(f"{diverged} diverged")
    return "\n".join(lines)
