"""Measured mechanism by depth: dead units, effective rank and gradient norm of every layer, per arm.

Not in the paper; it examines the conjecture of section 4.7 and the slow start in figure 9. A factorial study
has panels per level of its axis and lines per level of the other factor; others have panels per moment and
lines per arm.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablations.evidence.mechanism import BETWEEN, HEAD, MAIN, SHORTCUT, Measured, Moment
from ablations.figures.factorial import looks_of_lines
from ablations.figures.study import (
    CHARACTERS,
    LEFT,
    LINE,
    RIGHT,
    TITLE_CHARACTERS,
    WIDTH,
    Look,
    draw_legend,
    drawn_seeds,
    header_height,
    legend_height,
    looks_of,
    save_figure,
    small,
    subtitle_of,
    wrapped,
    write_texts,
)
from ablations.runs.schema import DIVERGED
from ablations.studies.results import Study, StudyRun, baseline_first
from ablations.text import amount

COLUMNS = 4  # panels per row in a paper
SCREEN_COLUMNS = 2
PANEL, TALL_PANEL = 1.5, 2.3  # inches, as all below; tall in a figure of one row
TITLE = 0.18  # per line
CHARACTER = 0.065  # width, in a title
BELOW, LABEL = 0.3, 0.22  # ticks below a panel; label below the last row
GAP = 0.2  # between panels
PANEL_WIDTH = (WIDTH - LEFT - RIGHT - GAP * (SCREEN_COLUMNS - 1)) / SCREEN_COLUMNS

LABEL_CHARACTERS = 28  # the height of a panel

KINDS = {MAIN: "the network's own activations", BETWEEN: "intermediate activations"}
"""Layers that are drawn. Projections of shortcuts have no place on a line from layer to layer."""


@dataclass(frozen=True)
class Panel:
    """What a panel shows.

    Attributes:
        heading: Above its row; "" for none.
        arms: Arm per line's name.
    """

    heading: str
    title: str
    moment: Moment
    kind: str
    arms: Mapping[str, str]

    def has_values(self, measured: Measured) -> bool:
        """Whether it shows anything but zeros."""
        places = measured.places(self.kind)
        found = (measured.of_seeds.get((self.moment.name, arm)) for arm in self.arms.values())
        return any(np.nan_to_num(values[:, places]).any() for values in found if values is not None)


def write_mechanism_figures(
    study: Study, runs: Sequence[StudyRun], found: Sequence[Measured], folder: Path
) -> list[Path]:
    """Write a figure per measured quantity; see `ablations.figures.study.save_figure`.

    Returns:
        The paths, `folder/<output>_<quantity>.png` and `.svg` each.
    """
    paths = []
    for measured in found:
        name = f"{study.output}_{measured.quantity.name}"
        paths += save_figure(partial(draw_mechanism, study, runs, measured), folder, name)
    return paths


def draw_mechanism(study: Study, runs: Sequence[StudyRun], measured: Measured) -> Figure:
    whole = grid_of(study, measured)
    rows = _screen_rows(whole, measured)
    looks, labels, legend_title = lines_of(study, measured)
    title = textwrap.wrap(f"{measured.quantity.title}, by depth", TITLE_CHARACTERS)
    subtitle = [*textwrap.wrap(study.title, CHARACTERS), *subtitle_of(study)]
    notes = wrapped(_notes(runs, measured, whole))
    header = header_height(title, subtitle)
    legend = legend_height(labels, legend_title) - 0.1
    footer = LABEL + LINE * len(notes) + 0.2
    titles = {
        panel.title: textwrap.fill(panel.title, int(PANEL_WIDTH / CHARACTER)) for row in rows for panel in row
    }
    above = TITLE * (1 + max(title.count("\n") for title in titles.values())) + 0.06
    panel_height = TALL_PANEL if len(rows) == 1 else PANEL
    one_row = LINE * bool(rows[0][0].heading) + above + panel_height + BELOW
    height = header + legend + len(rows) * one_row + footer
    figure = Figure(figsize=(WIDTH, height))
    write_texts(figure, title, subtitle, notes)
    draw_legend(figure, looks, labels, title=legend_title, above=header)
    shown: dict[str, list[float]] = {kind: [] for kind in KINDS}
    drawn: dict[str, list[Axes]] = {kind: [] for kind in KINDS}
    for i, row in enumerate(rows):
        bottom = height - header - legend - (i + 1) * one_row + BELOW
        if i == 0 or row[0].heading != rows[i - 1][0].heading:
            heading = (bottom + panel_height + above) / height
            figure.text(
                LEFT / WIDTH, heading, row[0].heading, fontsize="medium", fontweight="bold", va="bottom"
            )
        for column, panel in enumerate(row):
            left = LEFT + column * (PANEL_WIDTH + GAP)
            place = (left / WIDTH, bottom / height, PANEL_WIDTH / WIDTH, panel_height / height)
            axes = figure.add_axes(place)
            shown[panel.kind] += draw_panel(axes, measured, panel, looks)
            axes.set_title(titles[panel.title], loc="left")
            dress(axes, measured, panel, width=PANEL_WIDTH, labelled=column == 0)
            if i + 1 < len(rows):
                axes.set_xlabel("")
            drawn[panel.kind].append(axes)
    for kind, panels in drawn.items():
        share_scale(panels, shown[kind], logarithmic=measured.quantity.logarithmic)
    return figure


def _screen_rows(grid: Sequence[Sequence[Panel]], measured: Measured) -> list[list[Panel]]:
    """Rows of at most two panels, without panels of only zeros."""
    every = [panel for row in grid for panel in row]
    together: dict[tuple[str, str], list[Panel]] = {}
    for panel in [panel for panel in every if panel.has_values(measured)] or every[:1]:
        together.setdefault((panel.heading, panel.kind), []).append(panel)
    return [
        panels[start : start + SCREEN_COLUMNS]
        for panels in together.values()
        for start in range(0, len(panels), SCREEN_COLUMNS)
    ]


def lines_of(study: Study, measured: Measured) -> tuple[dict[str, Look], dict[str, str], str | None]:
    """Look and label per line, and the legend's title."""
    if study.design is not None:
        factor = study.design.factor(study.design.lines)
        return looks_of_lines(study, study.design), dict(factor.levels), factor.label
    arms = baseline_first(study)
    looks = looks_of([arm.name for arm in arms])  # of all arms, as in the study's other figures
    return looks, {arm.name: arm.label for arm in arms if arm.name in measured.arms()}, None


def grid_of(study: Study, measured: Measured) -> list[list[Panel]]:
    kinds = [kind for kind in KINDS if measured.places(kind)]
    shown = [(moment, kind) for kind in kinds for moment in measured.moments]
    if study.design is None:
        arms = {arm.name: arm.name for arm in study.arms if arm.name in measured.arms()}
        return [
            [Panel("", _title(moment, kind, kinds), moment, kind, arms) for moment in measured.moments]
            for kind in kinds
        ]
    groups = _groups(study, measured)
    chunks = [groups[start : start + COLUMNS] for start in range(0, len(groups), COLUMNS)]
    return [
        [Panel(_title(moment, kind, kinds), title, moment, kind, arms) for title, arms in chunk]
        for chunk in chunks
        for moment, kind in shown
    ]


def _groups(study: Study, measured: Measured) -> list[tuple[str, dict[str, str]]]:
    """Title, and arm per line, of each level of the axis in each set of arms."""
    design = study.design
    assert design is not None
    lines, found = design.factor(design.lines).levels, []
    for part in design.parts():
        sets = [factor.levels[part[factor.name]] for factor in design.others()]
        for level, label in design.factor(design.x).levels.items():
            arms = {line: design.arm({**part, design.x: level, design.lines: line}) for line in lines}
            measured_arms = {line: arm for line, arm in arms.items() if arm in measured.arms()}
            if measured_arms:
                found.append((", ".join([*sets, label]), measured_arms))
    return found


def _title(moment: Moment, kind: str, kinds: Sequence[str]) -> str:
    text = f"{KINDS[kind]} {moment.label}" if len(kinds) > 1 else moment.label
    return text[0].upper() + text[1:]


def draw_panel(axes: Axes, measured: Measured, panel: Panel, looks: Mapping[str, Look]) -> list[float]:
    """Draw seeds, band and mean of each line; returns values that must be in view."""
    places = measured.places(panel.kind)
    at = np.arange(1, len(places) + 1)
    shown: list[float] = []
    for line, arm in panel.arms.items():
        values = measured.of_seeds.get((panel.moment.name, arm))
        if values is None or not np.isfinite(values[:, places]).any():
            continue
        look, values = looks[line], values[:, places]
        for of_seed in drawn_seeds(list(values)):
            axes.plot(at, of_seed, color=look.color, linewidth=0.5, alpha=0.35, zorder=2)
            shown += [float(value) for value in of_seed if np.isfinite(value)]
        estimates = [measured.estimate(of_layer) for of_layer in values.T]
        mean, low, high = (
            np.array([getattr(estimate, name) if estimate else np.nan for estimate in estimates])
            for name in ("mean", "low", "high")
        )
        # Seeds that agree have no interval; keep the band without a gap.
        low, high = np.where(np.isfinite(low), low, mean), np.where(np.isfinite(high), high, mean)
        if len(values) > 1:
            axes.fill_between(at, low, high, color=look.color, alpha=0.15, linewidth=0, zorder=3)
        axes.plot(
            at, mean,
            color=look.color, linestyle=look.dash, linewidth=1.5,
            marker=look.marker, markersize=2.6, zorder=5,
        )  # fmt: skip
    return shown


def dress(axes: Axes, measured: Measured, panel: Panel, *, width: float, labelled: bool) -> None:
    """Labels, and the modules as numbered bands."""
    layers = [measured.layers[place] for place in measured.places(panel.kind)]
    spans: dict[int, list[int]] = {}
    for at, layer in enumerate(layers, start=1):
        spans.setdefault(layer.module, []).append(at)
    for module, span in spans.items():
        if module % 2 == 0:
            axes.axvspan(span[0] - 0.5, span[-1] + 0.5, color="#F3F3F3", linewidth=0, zorder=0)
    names = {layer.module: layer.shown_module for layer in layers}
    narrow = width < 2.5
    crowded = narrow and len(spans) > 8  # every number would touch its neighbours
    ticks = {
        (span[0] + span[-1]) / 2: names[module]
        for module, span in spans.items()
        if names[module].isdigit() and (not crowded or module % 2 == 0 or module == 1)
    }
    axes.set_xticks(list(ticks), list(ticks.values()), fontsize=small())
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(0.5, len(layers) + 0.5)
    axes.set_xlabel("module, from the image to the logits" if not narrow else "module, from the image on")
    axes.grid(axis="y")
    if labelled:
        in_one_piece = measured.quantity.axis.replace("(log scale)", "(log\N{NO-BREAK SPACE}scale)")
        axes.set_ylabel(textwrap.fill(in_one_piece, LABEL_CHARACTERS))
    else:
        axes.tick_params(labelleft=False)


def share_scale(panels: Sequence[Axes], shown: Sequence[float], *, logarithmic: bool) -> None:
    """One scale for all panels, from single seeds: a band of two seeds may be far wider."""
    if not shown:
        return
    low, high = min(shown), max(shown)
    for axes in panels:
        if logarithmic:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.3, high * 1.3)
        else:
            pad = 0.06 * (high - low) or 1.0
            axes.set_ylim(max(-pad, low - pad), high + pad)
            axes.yaxis.set_major_locator(MaxNLocator(5))


def _notes(runs: Sequence[StudyRun], measured: Measured, rows: Sequence[Sequence[Panel]]) -> list[str]:
    most: dict[str, int] = {}
    for (_, arm), seeds in measured.seeds.items():
        most[arm] = max(most.get(arm, 0), len(seeds))
    text = (
        f"{sum(most.values())} of {amount(len(runs), 'run')} measured. Lines: means over seeds; bands: 95 % "
        "t intervals; thin lines: single seeds. A marker is a layer; columns are the network's modules, "
        "numbered as the paper does."
    )
    if any(layer.block == HEAD for layer in measured.layers):
        text += " The last marker is the logistic regression."
    if any(layer.kind == SHORTCUT for layer in measured.layers):
        text += " Projections of shortcuts are left out; the table has them."
    if not all(panel.has_values(measured) for row in rows for panel in row):
        text += " Panels in which every value is 0 are left out."
    if any(run.status == DIVERGED for run in runs):
        text += " A diverged run is shown as far as it was measured."
    return [text, measured.quantity.note]
