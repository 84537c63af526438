"""A study's figures, drawn as the paper's figures 6 to 10: validation metric over training steps.

The upper panel shows the first metric of each arm: mean over seeds, 95 % t band and single seeds. The lower
panel shows each arm's final differences to the arm that the table compares it with. The paper has neither
bands, seeds nor differences.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablations.evidence.audit import audit_study
from ablations.figures.style import (
    FEW_EPOCHS,
    GREY,
    LEFT,
    LEGEND_CHARACTERS,
    LINE,
    RIGHT,
    SEEDS_DRAWN,
    TITLE_CHARACTERS,
    WIDTH,
    LineStyle,
    draw_band,
    drawn_seeds,
    header_height,
    legend_line,
    line_styles_of,
    save_figure,
    small,
    style,
    subtitle_of,
    wrapped,
    write_nothing_completed,
    write_texts,
)
from ablations.notes import audit_lines, diverged_notes, failure_notes, missing_notes
from ablations.runs.schema import COMPLETED
from ablations.statistics.paired import Band, mean_interval, seed_band
from ablations.studies.results import (
    Arm,
    Outcome,
    Study,
    StudyFigure,
    StudyRun,
    baseline_first,
    outcomes,
    pair_by_seed,
)
from ablations.text import UNCORRECTED, amount, cut, true_minus

PANEL = 2.7  # inches, as all below
BLOCK = 0.85  # an arm's differences
ROOM = 0.36  # more for the names of two arms
LEAST_DIFFERENCES = 1.1
AXIS_LABEL = 0.55
AXIS_CHARACTERS = 46
LABEL_CHARACTERS = 42  # per line of names in the differences

INSET_LEFT, INSET_RIGHT = 0.6, 0.97
"""Where the end of the curves is drawn again, enlarged, in shares of the width."""

LEAST_INSET, LEAST_ENLARGED = 0.3, 3
"""Its least height, in shares of the panel's, and by how much it must at least enlarge."""


@style()
def draw_study(study: Study, runs: Sequence[StudyRun]) -> Figure:
    """Draw a study in our style, in a figure 5.2 inches wide, without a window.

    A run that failed to learn ends with a cross. A diverged run is drawn to where it ends.

    Args:
        study: The study.
        runs: All its planned runs, in any order, also missing ones.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    arms, by_arm = baseline_first(study), outcomes(study, runs)
    styles = line_styles_of([arm.name for arm in arms])
    title, subtitle = textwrap.wrap(study.title, TITLE_CHARACTERS), subtitle_of(study)
    notes = wrapped(figure_notes(study, runs, by_arm))
    labels = [textwrap.fill(_legend_label(arm, study, runs), LEGEND_CHARACTERS) for arm in arms]
    block = BLOCK + (0 if one_baseline(study) else ROOM)
    lower = max(LEAST_DIFFERENCES, block * len(compared_arms(study)))
    above = header_height(title, subtitle)
    legend = AXIS_LABEL + LINE * sum(label.count("\n") + 1 for label in labels) + 0.1
    below = AXIS_LABEL + 2 * LINE + LINE * len(notes)
    height = above + PANEL + legend + 0.25 + LINE + lower + below
    figure = Figure(figsize=(WIDTH, height))
    write_texts(figure, title, subtitle, notes)
    if not any(by_arm.values()):
        write_nothing_completed(figure, below + lower)
        return figure
    left, width = LEFT / WIDTH, 1 - (LEFT + RIGHT) / WIDTH
    curves = figure.add_axes((left, 1 - (above + PANEL) / height, width, PANEL / height))
    differences = figure.add_axes((left, below / height, width, lower / height))
    draw_curves(curves, study, by_arm, styles)
    draw_differences(differences, study, by_arm, styles, inch=len(compared_arms(study)) / lower)
    curves.legend(
        handles=[legend_line(styles[arm.name], label) for arm, label in zip(arms, labels, strict=True)],
        loc="upper left",
        bbox_to_anchor=(0, -AXIS_LABEL / PANEL),
        borderaxespad=0,
        frameon=False,
        handlelength=4,
        labelspacing=0.35,
    )
    return figure


def write_figures(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[Path]:
    return [path for part, of_part in of_figures(study, runs) for path in write_figure(part, of_part, folder)]


def of_figures(study: Study, runs: Sequence[StudyRun]) -> list[tuple[Study, Sequence[StudyRun]]]:
    """The study of each of our figures with its runs."""
    ours = [figure for figure in study.figures if figure.draw is None]
    return [part_of(study, runs, figure) for figure in ours] or [(study, runs)]


def part_of(study: Study, runs: Sequence[StudyRun], figure: StudyFigure) -> tuple[Study, Sequence[StudyRun]]:
    """The study of a figure with its runs."""
    part = replace(
        study,
        title=figure.title,
        source=figure.source or study.source,
        output=figure.output,
        baseline=figure.baseline or study.baseline,
    )
    if not figure.arms:
        return part, runs
    arms = tuple(
        arm if arm.baseline in figure.arms and arm.name != part.baseline else replace(arm, baseline=None)
        for arm in study.arms
        if arm.name in figure.arms
    )
    return replace(part, arms=arms), [run for run in runs if run.arm in figure.arms]


def write_figure(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[Path]:
    """Write one figure of all arms; see `save_figure`.

    Returns:
        `folder/<output>.png` and `.svg`.

    Raises:
        ValueError: As `draw_study`; then nothing is written.
        OSError: The folder cannot be written.
    """
    return save_figure(lambda: draw_study(study, runs), folder, study.output)


def draw_curves(
    axes: Axes, study: Study, by_arm: Mapping[str, Sequence[Outcome]], styles: Mapping[str, LineStyle]
) -> None:
    """Draw the first validation metric over training steps."""
    metric, label, times = study.deciding, study.deciding.label, study.deciding.times
    shown = [] if study.target is None else [times * study.target]
    single, bands = list[np.ndarray](), dict[str, tuple[np.ndarray, Band]]()
    faint = min(0.5, max(0.15, 3 / max(map(len, by_arm.values()))))
    for name, of_arm in by_arm.items():
        line_style = styles[name]
        for outcome in drawn_seeds(of_arm):
            steps = outcome.steps[: outcome.measured]
            curve = times * outcome.curve[: outcome.measured]
            marker = "." if len(curve) <= FEW_EPOCHS else None
            axes.plot(
                steps, curve, color=line_style.color, linewidth=0.7, alpha=faint, marker=marker, zorder=2
            )
            if outcome.measured:
                single.append(np.stack([steps, curve]))
            if outcome.failed_to_learn and outcome.measured:
                axes.plot(steps[-1], curve[-1], "x", color=line_style.color, markersize=8, zorder=5)
            shown += list(curve)
        curves = [outcome.curve for outcome in of_arm if outcome.curve.size]
        if not curves:
            continue
        steps = of_arm[0].steps
        band = seed_band(np.stack(curves) * times).within(*metric.ends(times))
        shown += list(band.mean)
        bands[name] = steps, band
        draw_band(axes, steps, band, line_style)
    shown = shown or [0.0, 100.0]
    # Not from the bands: a band of two seeds may be wider than all accuracies.
    pad = 0.06 * (max(shown) - min(shown)) or 1.0
    low, high = min(shown) - pad, max(shown) + pad
    axes.set_ylim((max(0.0, low), min(101.0, high)) if metric.is_share else (low, high))
    axes.set_xlim(left=0)
    if study.target is not None:
        axes.axhline(times * study.target, color=GREY, linestyle=":", linewidth=1, zorder=1)
        axes.annotate(
            f"target {metric.text(study.target)}",
            (0, times * study.target),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=small(),
            color=GREY,
        )
    axes.grid(axis="y")
    axes.set_title(f"Validation {label}: mean, 95 % band, single seeds", loc="left")
    axes.set_xlabel("training steps")
    axes.set_ylabel(metric.on_axis(f"validation {label}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _enlarge_end(axes, single, bands, styles)


def _enlarge_end(
    axes: Axes,
    single: Sequence[np.ndarray],
    bands: Mapping[str, tuple[np.ndarray, Band]],
    styles: Mapping[str, LineStyle],
) -> None:
    """Draw the means of the last third again, enlarged, below or above curves that end close together."""
    longest = max((steps for steps, _ in bands.values()), key=len, default=np.empty(0))
    if len(bands) < 2 or len(longest) < 3:
        return
    start, end = longest[min(len(longest) - 2, 2 * len(longest) // 3)], longest[-1]
    ends = [np.stack([band.low, band.high, band.mean])[:, steps >= start] for steps, band in bands.values()]
    low, high = min(map(np.nanmin, ends)), max(map(np.nanmax, ends))
    means = [np.stack([steps, band.mean]) for steps, band in bands.values()]
    bottom, top = _room(axes, [*single, *means])
    if top - bottom < LEAST_INSET or (high - low) * LEAST_ENLARGED > np.ptp(axes.get_ylim()) * (top - bottom):
        return
    inset = axes.inset_axes((INSET_LEFT, bottom, INSET_RIGHT - INSET_LEFT, top - bottom), zorder=6)
    for name, (steps, band) in bands.items():
        draw_band(inset, steps, band, styles[name])
    pad = 0.1 * (high - low) or 1
    inset.set(xlim=(start - 0.15 * (end - start), end + 0.15 * (end - start)), ylim=(low - pad, high + pad))
    inset.set_xticks([])
    inset.yaxis.set_major_locator(MaxNLocator(4))
    inset.tick_params(labelsize=small())
    inset.grid(axis="y")
    inset.spines[["top", "right"]].set_visible(True)
    axes.indicate_inset_zoom(inset, edgecolor=GREY, linewidth=0.7)


def _room(axes: Axes, curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """The larger free part of the right side, below or above all curves, in shares of the height."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    start = x0 + (INSET_LEFT - 0.08) * (x1 - x0)  # with room for its ticks
    found = [np.interp(np.linspace(start, x1), *curve) for curve in curves if curve[0, -1] >= start]
    shares = (np.concatenate(found) - y0) / (y1 - y0)
    below, above = (0.06, shares.min() - 0.08), (shares.max() + 0.06, 0.97)
    return max(below, above, key=lambda part: part[1] - part[0])


def draw_differences(
    axes: Axes,
    study: Study,
    by_arm: Mapping[str, Sequence[Outcome]],
    styles: Mapping[str, LineStyle],
    inch: float,
) -> None:
    """Draw differences, a block of height 1 per compared arm; `inch` is the height of an inch."""
    ticks: dict[float, str] = {}
    metric, compared, baseline = study.deciding, compared_arms(study), one_baseline(study)
    room = 0 if baseline else ROOM
    at_name, at_validation, at_test = (
        (BLOCK * share + above) / (BLOCK + room)
        for share, above in ((0.14, room / 2), (0.42, room), (0.76, room))
    )
    for block, (arm, other) in enumerate(compared):
        line_style = styles[arm.name]
        pairs = pair_by_seed(by_arm[arm.name], by_arm[other.name])
        name = _cut(arm.label) if baseline else f"{cut(arm.label, 70)} − {cut(other.label, 70)}"
        _write_name(axes, block + at_name, f"{name}, n = {len(pairs)}", line_style)
        for split, y in (("validation", block + at_validation), ("test", block + at_test)):
            ticks[y - 0.08] = split
            if pairs:
                name = f"{'val' if split == 'validation' else split}_{study.metric}"
                mean = _draw_row(axes, y, pairs, name, line_style, metric.times, jitter=0.06 * inch)
                axes.text(
                    -0.012,
                    y + 0.08,
                    true_minus(metric.number(mean / metric.times, "+")),
                    transform=axes.get_yaxis_transform(),
                    color=line_style.color,
                    fontweight="bold",
                    ha="right",
                    va="center",
                )
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    low, high = axes.get_xlim()
    least = 0.5 if metric.is_share else 0.0
    axes.set_xlim(min(low, -least), max(high, least))
    axes.set_ylim(len(compared), 0)
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=small())
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(f"Differences, seed by seed: means with\n{UNCORRECTED}", loc="left")
    minus = f"{metric.label} minus “{_cut(baseline.label)}”" if baseline else f"difference in {metric.label}"
    difference = textwrap.fill(minus, AXIS_CHARACTERS)
    axes.set_xlabel(f"{difference}\n({metric.difference_words})" if metric.unit else difference)


def compared_arms(study: Study) -> list[tuple[Arm, Arm]]:
    """Each arm with the one that it is compared with."""
    arms = {arm.name: arm for arm in study.arms}
    return [(arm, arms[other]) for arm in baseline_first(study) if (other := study.compared_with(arm))]


def one_baseline(study: Study) -> Arm | None:
    """The arm that all others are compared with; None if they differ in it."""
    others = {other.name for _, other in compared_arms(study)} or {study.baseline}
    return next(arm for arm in study.arms if arm.name in others) if len(others) == 1 else None


def _write_name(axes: Axes, y: float, name: str, line_style: LineStyle) -> None:
    fits = len(name) <= LABEL_CHARACTERS
    if not fits:  # two lines; n = 6 stays on one
        name = textwrap.fill(name.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), LABEL_CHARACTERS)
    axes.text(
        0.015,
        y,
        name,
        fontsize=None if fits else small(),
        transform=axes.get_yaxis_transform(),
        color=line_style.color,
        fontweight="bold",
        va="center",
        zorder=2,  # above the grid, below the seeds
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


def _cut(label: str) -> str:
    """Shortened to two lines; the legend has all of it."""
    return cut(label, 2 * LABEL_CHARACTERS - 20)


def _draw_row(
    axes: Axes,
    y: float,
    pairs: Sequence[tuple[Outcome, Outcome]],
    name: str,
    line_style: LineStyle,
    times: float,
    jitter: float,
) -> float:
    """Draw one dot per seed (filled for validation, open for test); returns the mean difference as drawn."""
    estimate = mean_interval([times * (arm.final[name] - base.final[name]) for arm, base in pairs])
    drawn = drawn_seeds(pairs)
    differences = np.array([times * (arm.final[name] - base.final[name]) for arm, base in drawn])
    failed = np.array([arm.failed_to_learn or base.failed_to_learn for arm, base in drawn])
    apart = jitter if len(drawn) > 1 else 0.0  # equal seeds would hide each other
    at = y + apart * np.where(np.arange(len(drawn)) % 2, 1, -1)
    fill = line_style.color if name.startswith("val_") else "white"
    axes.scatter(
        differences[~failed], at[~failed],
        s=22, marker="o", facecolor=fill, edgecolor=line_style.color, alpha=0.75, linewidth=1, zorder=3,
    )  # fmt: skip
    axes.scatter(
        differences[failed], at[failed],
        s=32, marker="x", color=line_style.color, linewidth=1.2, zorder=3,
    )  # fmt: skip
    if np.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [y, y], color=line_style.color, linewidth=1.6, zorder=4)
    axes.plot(
        estimate.mean, y, marker="|", color=line_style.color, markersize=15, markeredgewidth=2.4, zorder=5
    )
    return estimate.mean


def _legend_label(arm: Arm, study: Study, runs: Sequence[StudyRun]) -> str:
    statuses = [run.status for run in runs if run.arm == arm.name]
    baseline = ", baseline" if arm.name == study.baseline else ""
    counted = f"({statuses.count(COMPLETED)} / {amount(len(statuses), 'run')})".replace(
        " ", "\N{NO-BREAK SPACE}"
    )
    return f"{arm.label}{baseline} {counted}"


def figure_notes(
    study: Study, runs: Sequence[StudyRun], by_arm: Mapping[str, Sequence[Outcome]]
) -> list[str]:
    """Notes below a figure."""
    notes = []
    if (most := max(map(len, by_arm.values()))) > SEEDS_DRAWN:
        notes.append(
            f"{SEEDS_DRAWN} of up to {most:,} single seeds per arm are drawn; means, bands and intervals "
            "use all."
        )
    notes += [f"×: {note}" for note in failure_notes(study, by_arm)]
    notes += diverged_notes(study, by_arm) + missing_notes(study, runs)
    return notes + audit_lines(study, audit_study(study, by_arm))
