"""A factorial study: the metric along one factor, a line per level of another, and their interaction.

Not in the paper; it tests the conjecture of section 4.7. Panels show validation and test values over the
position of each arm (log2 scale), and the effect, a line minus the baseline's line
(`ablations.evidence.interaction`). One set of arms has two by two panels; of several, each is a column.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablations.evidence.audit import audit_study
from ablations.evidence.interaction import SPLITS, Interaction, interactions
from ablations.figures.style import (
    CHARACTERS,
    LEFT,
    LINE,
    RIGHT,
    SMALL_CHARACTERS,
    TITLE_CHARACTERS,
    WIDTH,
    LineStyle,
    draw_legend,
    header_height,
    legend_height,
    line_styles_of,
    save_figure,
    small,
    subtitle_of,
    write_nothing_completed,
    write_texts,
)
from ablations.notes import audit_lines, diverged_notes, missing_notes, slope_text
from ablations.runs.schema import COMPLETED
from ablations.statistics.paired import mean_interval
from ablations.studies.results import Design, Outcome, Study, StudyRun, outcomes
from ablations.text import UNCORRECTED, amount

COLUMNS = 4  # sets of arms per row in a paper
SCREEN_COLUMNS = 2
PANEL = 2.0  # inches, as all below
TITLE = 0.18  # per line
TICKS = 0.35
GAP = 0.25  # between panels
PANEL_WIDTH = (WIDTH - LEFT - RIGHT - GAP * (SCREEN_COLUMNS - 1)) / SCREEN_COLUMNS
PANEL_CHARACTERS, LABEL_CHARACTERS = 27, 31
APART = 0.6  # doublings; the least distance of drawn levels
DODGE = 0.07  # doublings between lines at one position
NOTE_LINES = 24

Cell = tuple[str, str, Mapping[str, str]]
"""What a panel shows: "accuracy" or "effect", "val" or "test", and its set of arms."""


def write_factorial_figure(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[Path]:
    """Write the figure of a study with a design; see `ablations.figures.study.write_figure`."""
    return save_figure(lambda: draw_factorial(study, runs), folder, study.output)


def draw_factorial(study: Study, runs: Sequence[StudyRun]) -> Figure:
    """Draw a factorial study; arms without a result leave a gap."""
    design, by_arm = study.factorial, outcomes(study, runs)
    found = interactions(study, by_arm)
    styles = styles_of_lines(study, design)
    rows = grid_of(design, SCREEN_COLUMNS)
    title = textwrap.wrap(study.title, TITLE_CHARACTERS)
    subtitle = [*subtitle_of(study), *textwrap.wrap(f"Bands: {UNCORRECTED}", CHARACTERS)]
    notes = _notes(study, runs, by_arm, found)
    lines, header = design.factor(design.lines), header_height(title, subtitle)
    legend = legend_height(lines.levels, lines.label)
    footer = LINE * len(notes) + 0.2
    titles = [_title(study, design, cell).count("\n") + 1 for row in rows for cell in row]
    one_row = TITLE * max(titles) + 0.12 + PANEL + TICKS + LINE * bool(design.factor(design.x).ticks)
    panels = len(rows) * one_row
    footer += LINE * (_label(design).count("\n") + 1) + 0.1  # only the last row has labels
    height = header + legend + panels + footer
    figure = Figure(figsize=(WIDTH, height))
    write_texts(figure, title, subtitle, notes)
    if not any(by_arm.values()):
        write_nothing_completed(figure, footer + panels / 2)
        return figure
    draw_legend(figure, styles, lines.levels, title=lines.label, above=header)
    shown: dict[str, list[tuple[Axes, Sequence[float]]]] = {}
    for i, row in enumerate(rows):
        bottom = footer + panels - i * one_row - TITLE * max(titles) - 0.12 - PANEL
        for column, cell in enumerate(row):
            left = (LEFT + column * (PANEL_WIDTH + GAP)) / WIDTH
            axes = figure.add_axes((left, bottom / height, PANEL_WIDTH / WIDTH, PANEL / height))
            drawn = draw_panel(axes, study, by_arm, styles, found, cell, labelled=column == 0)
            shown.setdefault(cell[0], []).append((axes, drawn))
            if i + 1 < len(rows):
                axes.set_xlabel("")
    share_scale(shown.values())
    return figure


def draw_panel(
    axes: Axes,
    study: Study,
    by_arm: Mapping[str, Sequence[Outcome]],
    styles: Mapping[str, LineStyle],
    found: Sequence[Interaction],
    cell: Cell,
    *,
    labelled: bool,
) -> list[float]:
    """Draw one panel; returns values that must be in view."""
    kind, split, part = cell
    design, at = study.factorial, _drawn_at(study.factorial, part)
    if kind == "accuracy":
        shown = _draw_values(axes, study, design, by_arm, styles, split, part, at)
    else:
        of_cell = [each for each in found if (each.split, dict(each.part)) == (split, dict(part))]
        shown = _draw_effects(axes, design, styles, of_cell, at)
    _dress(axes, study, design, cell, at, labelled=labelled)
    return shown


def share_scale(kinds: Iterable[Sequence[tuple[Axes, Sequence[float]]]]) -> None:
    """Give the panels of each kind one vertical axis, on which all their values are in view."""
    for panels in kinds:
        values = [value for _, shown in panels for value in shown]
        low, high = min(values, default=0.0), max(values, default=0.0)
        pad = 0.07 * (high - low) or 1.0
        for axes, _ in panels:
            axes.set_ylim(low - pad, high + pad)


def grid_of(design: Design, columns: int = COLUMNS) -> list[list[Cell]]:
    """Rows of panels: one set is two by two; several are columns of four panels."""
    parts, kinds = design.parts(), ("accuracy", "effect")
    if len(parts) == 1:
        return [[(kind, split, parts[0]) for split in SPLITS] for kind in kinds]
    chunks = [parts[start : start + columns] for start in range(0, len(parts), columns)]
    return [[(kind, split, part) for part in chunk] for chunk in chunks for kind in kinds for split in SPLITS]


def styles_of_lines(study: Study, design: Design) -> dict[str, LineStyle]:
    """The baseline's line is black, as in every figure."""
    base = design.levels[study.baseline][design.lines]
    levels = sorted(design.factor(design.lines).levels, key=lambda level: level != base)
    return line_styles_of(levels)


def _drawn_at(design: Design, part: Mapping[str, str]) -> dict[str, float]:
    """Where each level of a set is drawn, in doublings; equal positions are side by side."""
    line = next(iter(design.factor(design.lines).levels))
    levels = design.factor(design.x).levels
    positions = {level: _position(design, part, level, line) for level in levels}
    at: dict[str, float] = {}
    last = -np.inf
    for level in sorted(levels, key=lambda level: positions[level]):
        last = max(float(np.log2(positions[level])), last + APART)
        at[level] = last
    return at


def _near(design: Design, part: Mapping[str, str]) -> bool:
    """Whether some levels are not drawn at their positions."""
    line = next(iter(design.factor(design.lines).levels))
    at = _drawn_at(design, part)
    return any(x > np.log2(_position(design, part, level, line)) for level, x in at.items())


def _position(design: Design, part: Mapping[str, str], level: str, line: str) -> float:
    return design.positions[design.arm({**part, design.x: level, design.lines: line})]


def _dodged(design: Design, at: float, line: str) -> float:
    """Side by side, so that the seeds of one line do not hide another's."""
    lines = list(design.factor(design.lines).levels)
    return at + DODGE * (lines.index(line) - (len(lines) - 1) / 2)


def _draw_values(
    axes: Axes,
    study: Study,
    design: Design,
    by_arm: Mapping[str, Sequence[Outcome]],
    styles: Mapping[str, LineStyle],
    split: str,
    part: Mapping[str, str],
    at: Mapping[str, float],
) -> list[float]:
    """Draw the first metric of every arm of a set; returns values that must be in view."""
    shown: list[float] = []
    for line, line_style in styles.items():
        xs = [_dodged(design, x, line) for x in at.values()]
        means, lows, highs = (np.full(len(xs), np.nan) for _ in range(3))
        for i, level in enumerate(at):
            of_arm = by_arm[design.arm({**part, design.x: level, design.lines: line})]
            if not of_arm:
                continue
            values = np.array(
                [study.deciding.times * outcome.final[f"{split}_{study.metric}"] for outcome in of_arm]
            )
            _draw_seeds(
                axes, xs[i], values, np.array([outcome.failed_to_learn for outcome in of_arm]), line_style
            )
            estimate = mean_interval(values).within(*study.deciding.ends(study.deciding.times))
            means[i], lows[i], highs[i] = estimate.mean, estimate.low, estimate.high
            shown += [float(values.min()), float(values.max())]
        _draw_line(axes, xs, means, line_style)
        axes.fill_between(xs, lows, highs, color=line_style.color, alpha=0.15, linewidth=0, zorder=2)
    return shown


def _draw_effects(
    axes: Axes,
    design: Design,
    styles: Mapping[str, LineStyle],
    of_cell: Sequence[Interaction],
    at: Mapping[str, float],
) -> list[float]:
    """Draw the effect at each level; returns values that must be in view."""
    shown = [0.0]
    axes.axhline(0, color="black", linewidth=1, zorder=1)
    for interaction in of_cell:
        line_style, line = styles[interaction.line], interaction.line
        effects = {effect.level: effect for effect in interaction.effects}
        xs = [_dodged(design, x, line) for x in at.values()]
        means, lows, highs = (np.full(len(xs), np.nan) for _ in range(3))
        for i, effect in enumerate(effects[level] for level in at):
            if effect.estimate is None:
                continue
            _draw_seeds(axes, xs[i], effect.of_seeds, np.zeros(len(effect.seeds), dtype=bool), line_style)
            means[i], lows[i], highs[i] = effect.estimate.mean, effect.estimate.low, effect.estimate.high
            shown += [float(effect.of_seeds.min()), float(effect.of_seeds.max())]
        _draw_line(axes, xs, means, line_style)
        axes.fill_between(xs, lows, highs, color=line_style.color, alpha=0.15, linewidth=0, zorder=2)
    return shown


def _draw_seeds(axes: Axes, x: float, values: np.ndarray, failed: np.ndarray, line_style: LineStyle) -> None:
    for marker, which in ((".", ~failed), ("x", failed)):
        axes.plot(
            np.full(which.sum(), x), values[which],
            linestyle="none", marker=marker, markersize=5, color=line_style.color, alpha=0.55, zorder=4,
        )  # fmt: skip


def _draw_line(axes: Axes, xs: Sequence[float], means: np.ndarray, line_style: LineStyle) -> None:
    axes.plot(
        xs, means,
        color=line_style.color, linestyle=line_style.dash, linewidth=1.6, marker=line_style.marker,
        markersize=4.5, zorder=5,
    )  # fmt: skip


def _dress(
    axes: Axes, study: Study, design: Design, cell: Cell, at: Mapping[str, float], *, labelled: bool
) -> None:
    kind, split, part = cell
    metric = study.deciding.label
    axes.set_title(_title(study, design, cell), loc="left")
    axes.set_xticks(list(at.values()), [_tick(design, part, name) for name in at], fontsize=small())
    axes.set_xlim(min(at.values()) - 0.3, max(at.values()) + 0.3)
    axes.set_xlabel(_label(design))
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if not labelled:
        axes.tick_params(labelleft=False)
        return
    # Validation or test is in the title, or where the title names other factors, here.
    of_split = f"{SPLITS[split]} {metric}" if design.others() else metric
    if kind == "effect":
        axes.set_ylabel(f"difference in {of_split}\n({study.deciding.difference_words})")
    else:
        axes.set_ylabel(study.deciding.on_axis(of_split))


def _title(study: Study, design: Design, cell: Cell) -> str:
    kind, split, part = cell
    if sets := [factor.levels[part[factor.name]] for factor in design.others()]:
        return "\n".join(textwrap.fill(level, PANEL_CHARACTERS) for level in sets)
    if kind == "accuracy":
        return f"{SPLITS[split].capitalize()} {study.deciding.label}"
    line = design.factor(design.lines).levels[design.levels[study.baseline][design.lines]]
    return textwrap.fill(f"Difference from “{line}”, {SPLITS[split]}", PANEL_CHARACTERS)


def _label(design: Design) -> str:
    return textwrap.fill(f"{design.axis} (log₂\N{NO-BREAK SPACE}scale)", LABEL_CHARACTERS)


def _tick(design: Design, part: Mapping[str, str], level: str) -> str:
    line = next(iter(design.factor(design.lines).levels))
    number = f"{_position(design, part, level, line):,.6g}"
    named = design.factor(design.x).ticks.get(level)
    return number if named is None else f"{number}\n{named}"


def _notes(
    study: Study,
    runs: Sequence[StudyRun],
    by_arm: Mapping[str, Sequence[Outcome]],
    found: Sequence[Interaction],
) -> list[str]:
    base, design = study.factorial.levels[study.baseline], study.factorial
    line = design.factor(design.lines).levels[base[design.lines]]
    completed = sum(run.status == COMPLETED for run in runs)
    notes = [
        f"{completed} of {amount(len(runs), 'run')} completed. Lines: means over seeds; dots: single "
        f"seeds. Differences from “{line}” are taken seed by seed, of the seeds that learned in both.",
    ]
    if any(_near(design, part) for part in design.parts()):
        notes[-1] += f" Levels less than {APART:g} doublings apart are drawn side by side."
    notes += [slope_text(study, pair) for pair in zip(found[::2], found[1::2], strict=True)]
    notes += diverged_notes(study, by_arm) + missing_notes(study, runs)
    notes += audit_lines(study, audit_study(study, by_arm))
    lines = [line for note in notes for line in textwrap.wrap(note, SMALL_CHARACTERS)]
    if len(lines) > NOTE_LINES:
        left = len(lines) - NOTE_LINES
        lines = [
            *lines[:NOTE_LINES],
            f"… and {left} more lines: see the table.",
        ]
    return lines
