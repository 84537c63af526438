"""The tuning of each arm: the best validation value over the number of trials.

The first panel shows the expected best of each arm against the budget, after Dodge et al. 2019, "Show Your
Work" (arXiv:1909.03004). After b trials, it is the mean of the best value over all choices of b - 1 trials
and the first, which has the configured settings. There is no band: bootstrap intervals of such curves do not
cover with few trials (Tang et al. 2020, arXiv:2004.13705). The other panels show every trial over one
parameter each.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ablations.figures.style import (
    CHARACTERS,
    GREY,
    LEFT,
    LEGEND_CHARACTERS,
    LINE,
    RIGHT,
    TITLE_CHARACTERS,
    WIDTH,
    LineStyle,
    header_height,
    line_styles_of,
    save_figure,
    write_texts,
)
from ablations.metrics import Metric
from ablations.statistics.paired import expected_maximum
from ablations.studies.results import Arm, Study, Trial, Tuning, baseline_first, tuned_arms
from ablations.text import in_words, shown_settings

PANEL = 2.4  # inches, as all below
BELOW = 0.6  # a panel, for its axis' label


def arms_of(study: Study) -> list[Arm]:
    """The tuned arms, the baseline first."""
    tuned = tuned_arms(study)
    return [arm for arm in baseline_first(study) if arm in tuned]


def expected_best(trials: Sequence[Trial], sign: int = 1) -> np.ndarray:
    """The expected best value after 1 to n trials, `(n,)`, the first of which is always the same.

    Args:
        trials: Of one arm, the configured settings first.
        sign: 1 if higher values are better, -1 if lower.
    """
    first, *drawn = (sign * trial.value for trial in trials)
    if not drawn:
        return np.array([sign * first])
    return sign * np.concatenate([[first], expected_maximum(np.maximum(drawn, first))])


def write_tuning_figure(study: Study, folder: Path) -> list[Path]:
    """Draw how the arms were tuned; see `ablations.figures.style.save_figure`.

    Returns:
        `folder/<output>_trials.png` and `.svg`.

    Raises:
        ValueError: The study's arms were not tuned.
    """
    if study.tuning is None:
        raise ValueError(f"study {study.name}: its arms were not tuned")
    tuning = study.tuning
    return save_figure(lambda: _draw(study, tuning), folder, f"{study.output}_trials")


def _draw(study: Study, tuning: Tuning) -> Figure:
    arms = arms_of(study)
    panels = 1 + len(tuning.space)
    title = textwrap.wrap(f"{study.title}: every trial", TITLE_CHARACTERS)
    lines = [line for text in _texts(study, tuning) for line in textwrap.wrap(text, CHARACTERS)]
    labels = [_legend_label(study.deciding, tuning, arm.name) for arm in arms]
    labels.append("a trial; filled: as configured; ringed: chosen; ×: a run diverged, counted as chance")
    labels = [textwrap.fill(label, LEGEND_CHARACTERS) for label in labels]
    above = header_height(title, lines)
    legend = LINE * sum(label.count("\n") + 1 for label in labels) + 0.2
    height = above + panels * (PANEL + BELOW) + (panels - 1) * 0.3 + legend
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.add_gridspec(
        panels,
        1,
        left=LEFT / WIDTH,
        right=1 - RIGHT / WIDTH,
        bottom=(legend + BELOW) / height,
        top=1 - above / height,
        hspace=(BELOW + 0.3) / PANEL,
    )
    write_texts(figure, title, lines, ())

    axes = [figure.add_subplot(grid[index, 0]) for index in range(panels)]
    draw_budget(axes[0], study, tuning)
    for parameter, panel in zip(tuning.space, axes[1:], strict=True):
        draw_parameter(panel, study, tuning, parameter)
    handles = [_legend_line(line_style) for line_style in line_styles_of([arm.name for arm in arms]).values()]
    handles.append(Line2D([], [], color=GREY, linestyle="none", marker="o", markerfacecolor="none"))
    figure.legend(
        handles=handles,
        labels=labels,
        loc="lower left",
        bbox_to_anchor=(LEFT / WIDTH, 0.08 / height),
        borderaxespad=0,
        frameon=False,
        handlelength=4,
        labelspacing=0.35,
        fontsize="medium",
    )
    return figure


def _texts(study: Study, tuning: Tuning) -> list[str]:
    independent = (
        f"After the configured settings: independent draws of {tuning.sampler}, the same for every arm."
        if tuning.independent
        else f"Draws of {tuning.sampler} are not independent, as the curve assumes: it describes these "
        "trials and says nothing of another search."
    )
    return [study.scale, f"{tuning.budget}. {independent}"]


def draw_budget(axes: Axes, study: Study, tuning: Tuning) -> None:
    styles = line_styles_of([arm.name for arm in arms_of(study)])
    for name, line_style in styles.items():
        expected = expected_best(tuning.trials[name], tuning.sign)
        axes.plot(
            np.arange(1, len(expected) + 1),
            study.deciding.times * expected,
            color=line_style.color,
            linestyle=line_style.dash,
            linewidth=2,
            marker=line_style.marker if len(expected) <= 20 else None,
            markerfacecolor="none",
            markersize=5,
        )
    axes.set_title("Expected best of so many trials", loc="left")
    axes.set_xlabel("trials of an arm")
    axes.set_ylabel(study.deciding.on_axis(f"expected best validation {study.deciding.label}"))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y")


def draw_parameter(axes: Axes, study: Study, tuning: Tuning, parameter: str) -> None:
    styles, times = line_styles_of([arm.name for arm in arms_of(study)]), study.deciding.times
    values = [trial.settings[parameter] for name in styles for trial in tuning.trials[name]]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = [] if numbers else list(dict.fromkeys(map(str, values)))
    for name, line_style in styles.items():
        trials = tuning.trials[name]
        settings = [trial.settings[parameter] for trial in trials]
        at = settings if numbers else [names.index(str(value)) for value in settings]
        _draw_trials(axes, line_style, at, trials, tuning.best(name), times)
        if numbers and len(tuning.space) == 1:  # else joined trials would differ in other settings too
            order = np.argsort(at, kind="stable")
            axes.plot(
                np.array(at)[order],
                times * np.array([trial.value for trial in trials])[order],
                color=line_style.color,
                linestyle=line_style.dash,
                linewidth=0.9,
                alpha=0.6,
                zorder=2,
            )
    if parameter in tuning.logarithmic:
        axes.set_xscale("log")
        decades = math.log10(max(values) / min(values))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades <= 2 else (1,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif not numbers:
        axes.set_xticks(range(len(names)), names)
    axes.set_title(f"Every trial over its {in_words(parameter)}", loc="left")
    axes.set_xlabel(in_words(parameter))
    axes.set_ylabel(study.deciding.on_axis(f"final validation {study.deciding.label}"))
    axes.grid(axis="y")


def _draw_trials(
    axes: Axes, line_style: LineStyle, at: Sequence[float], trials: Sequence[Trial], best: int, times: float
) -> None:
    color = line_style.color
    for number, (x, trial) in enumerate(zip(at, trials, strict=True)):
        marker = "x" if trial.diverged else line_style.marker
        fill = color if number == 0 else "none"
        axes.plot(x, times * trial.value, marker, color=color, markerfacecolor=fill, markersize=5, zorder=3)
        if number == best:
            axes.plot(x, times * trial.value, "o", color=color, markerfacecolor="none", markersize=12)


def _legend_line(line_style: LineStyle) -> Line2D:
    return Line2D(
        [], [], color=line_style.color, linestyle=line_style.dash, linewidth=2, marker=line_style.marker,
        markerfacecolor="none", markersize=5,
    )  # fmt: skip


def _legend_label(metric: Metric, tuning: Tuning, arm: str) -> str:
    best = tuning.best(arm)
    chosen = tuning.trials[arm][best]
    which = "as configured" if best == 0 else f"trial {best + 1}"
    value = f"{metric.number(chosen.value)} {metric.shown_unit}".strip()
    return f"{tuning.labels[arm]}: best {value} with {shown_settings(chosen.settings)} ({which})"
