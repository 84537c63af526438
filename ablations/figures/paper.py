"""Figures for a paper: PDF in column width, fonts embedded, without title and notes.

They show what the figures for the screen show, whose notes have what a caption should say.
"""

import io
import textwrap
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ablations.evidence.interaction import SPLITS, interactions
from ablations.figures import factorial, heat_map, tuning
from ablations.figures.own import draw_own, of_own_figures
from ablations.figures.study import (
    LABEL_CHARACTERS,
    ROOM,
    compared_arms,
    draw_curves,
    draw_differences,
    of_figures,
    one_baseline,
)
from ablations.figures.style import STYLE, legend_line, line_styles_of, without_formulas
from ablations.files import write_forms
from ablations.studies.results import Study, StudyRun, Tuning, baseline_first, outcomes

Where = Literal["outside lower left", "outside upper left"]

SIZE = 7  # points
THINNER = 0.65
"""Sizes of lines and markers, relative to the screen's."""

PANEL = 1.55  # inches, as all below
BLOCK = 0.62  # an arm's differences
TALLER = 0.84  # the same if a name takes two lines
CHARACTERS = 18  # per inch
TWO_COLUMNS = 1.4  # the narrowest panel of two in a row


def write_paper(study: Study, runs: Sequence[StudyRun], folder: Path, width: float) -> list[Path]:
    """Write every figure of a study that has something to show, so many inches wide.

    Returns:
        The paths, named as the PNG files.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`; then nothing is written.
        OSError: The folder cannot be written.
    """
    paths = []

    def write(name: str, draw: Callable[[], Figure]) -> None:
        with paper_style():
            paths.extend(write_forms(folder, name, {".pdf": pdf_of(draw())}))

    for part, of_part in of_figures(study, runs):
        if any(outcomes(part, of_part).values()):
            write(part.output, partial(_draw, part, of_part, width))
    for draw, part, of_part in of_own_figures(study, runs):
        if any(outcomes(part, of_part).values()):
            write(part.output, partial(draw_own, draw, part, of_part, width))
    if (tuned := study.tuning) is not None:
        write(f"{study.output}_trials", lambda: _draw_tuning(study, tuned, width))
    return paths


def paper_style() -> AbstractContextManager[None]:
    """Our style in a paper's size, with text as text."""
    sizes = dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize", "legend.fontsize"), SIZE)
    own = {"pdf.fonttype": 42, "axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5}
    ticks = {"xtick.labelsize": "small", "ytick.labelsize": "small", "axes.labelpad": 2}
    return matplotlib.style.context(["default", {**STYLE, **sizes, **own, **ticks}])


def pdf_of(figure: Figure) -> bytes:
    """A figure as PDF, without a date."""
    without_formulas(figure)
    for line in figure.findobj(Line2D):
        line.set_linewidth(THINNER * line.get_linewidth())
        line.set_markersize(THINNER * line.get_markersize())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _legend(
    figure: Figure, lines: Sequence[Line2D], where: Where = "outside lower left", columns: int = 1
) -> None:
    figure.legend(
        handles=list(lines), loc=where, frameon=False, ncols=columns,
        handlelength=3, labelspacing=0.3, borderpad=0, columnspacing=1.2,
    )  # fmt: skip


def _filled(text: str, width: float) -> str:
    return textwrap.fill(text, max(20, int((width - 0.5) * CHARACTERS)))


def _draw(study: Study, runs: Sequence[StudyRun], width: float) -> Figure:
    if study.design is not None:
        return _draw_factorial(study, runs, width)
    if study.swept is not None and study.swept.two_numbers:
        return _draw_heat_map(study, runs, width)
    by_arm, arms = outcomes(study, runs), baseline_first(study)
    styles = line_styles_of([arm.name for arm in arms])
    labels = [_filled(arm.label, width) for arm in arms]
    blocks = len(compared_arms(study))
    if one_baseline(study) is None:
        block = TALLER + ROOM
    else:
        two_lines = any(len(f"{arm.label}, n = 99") > LABEL_CHARACTERS for arm in arms[1:])
        block = TALLER if two_lines else BLOCK
    lower = max(1.2, block * blocks + 0.5)
    height = PANEL + 0.4 + lower + 0.13 * sum(label.count("\n") + 1 for label in labels)
    figure = _figure(width, height)
    grid = figure.add_gridspec(2, 1, height_ratios=(PANEL, lower))
    upper, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    draw_curves(upper, study, by_arm, styles)
    draw_differences(below, study, by_arm, styles, inch=blocks / lower)
    for axes in (upper, below):
        axes.set_title("", loc="left")
    _legend(figure, [legend_line(styles[arm.name], label) for arm, label in zip(arms, labels, strict=True)])
    return figure


def _draw_factorial(study: Study, runs: Sequence[StudyRun], width: float) -> Figure:
    design, by_arm = study.factorial, outcomes(study, runs)
    found, styles = interactions(study, by_arm), factorial.styles_of_lines(study, design)
    rows = factorial.grid_of(design, max(1, min(factorial.COLUMNS, int(width / TWO_COLUMNS))))
    columns, metric = max(map(len, rows)), study.deciding
    sets = len(design.others())
    figure = _figure(width, len(rows) * (PANEL + 0.25 + 0.12 * sets) + 0.5)
    shown: dict[str, list[tuple[Axes, Sequence[float]]]] = {}
    for i, row in enumerate(rows):
        for column, cell in enumerate(row):
            kind, split, part = cell
            axes = figure.add_subplot(len(rows), columns, i * columns + column + 1)
            drawn = factorial.draw_panel(axes, study, by_arm, styles, found, cell, labelled=column == 0)
            shown.setdefault(kind, []).append((axes, drawn))
            named = [factor.levels[part[factor.name]] for factor in design.others()]
            axes.set_title("\n".join([*named, SPLITS[split].capitalize()]), loc="left")
            axes.set_xlabel("")
            if column == 0:
                label = metric.on_axis(metric.label)
                axes.set_ylabel(label if kind == "accuracy" else f"difference ({metric.difference_words})")
    factorial.share_scale(shown.values())
    figure.supxlabel(
        textwrap.fill(f"{design.axis} (log₂\N{NO-BREAK SPACE}scale)", int(width * CHARACTERS) - 6),
        fontsize=SIZE,
    )
    labels = design.factor(design.lines).levels
    lines = [legend_line(styles[name], label) for name, label in labels.items()]
    _legend(figure, lines, "outside upper left", _side_by_side(labels.values(), width))
    return figure


def _draw_heat_map(study: Study, runs: Sequence[StudyRun], width: float) -> Figure:
    assert study.swept is not None
    by_arm = outcomes(study, runs)
    rows = len({values[1] for values in study.swept.values.values()})
    figure = _figure(width, 2 * (max(1.0, 0.36 * rows) + 0.45))
    values = {split: heat_map.finals(study, by_arm, split) for split in SPLITS}
    panels = [figure.add_subplot(2, 1, index) for index in (1, 2)]
    for axes, (split, word) in zip(panels, SPLITS.items(), strict=True):
        image = heat_map.draw_cells(axes, study, by_arm, values[split], heat_map.scale_of(values.values()))
        axes.set_title(f"{word.capitalize()} {study.deciding.label}", loc="left")
        axes.set_xlabel(study.swept.keys[0])
        axes.set_ylabel(study.swept.keys[1])
    figure.colorbar(image, ax=panels, label=study.deciding.on_axis(study.deciding.label), aspect=40)
    return figure


def _draw_tuning(study: Study, tuned: Tuning, width: float) -> Figure:
    arms = tuning.arms_of(study)
    panels = 1 + len(tuned.space)
    figure = _figure(width, panels * (PANEL + 0.5) + 0.15 * len(arms))
    for index in range(panels):
        axes = figure.add_subplot(panels, 1, index + 1)
        if index == 0:
            tuning.draw_budget(axes, study, tuned)
        else:
            tuning.draw_parameter(axes, study, tuned, list(tuned.space)[index - 1])
        axes.set_title("", loc="left")
        axes.yaxis.set_major_locator(MaxNLocator(5))
    styles = line_styles_of([arm.name for arm in arms])
    lines = [legend_line(styles[arm.name], _filled(tuned.labels[arm.name], width)) for arm in arms]
    _legend(figure, lines)
    return figure


def _side_by_side(labels: Collection[str], width: float) -> int:
    return len(labels) if sum(map(len, labels)) + 8 * len(labels) < CHARACTERS * width else 1
