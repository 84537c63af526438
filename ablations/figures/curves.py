"""Curves of any table of runs by epoch: mean, 95 % band and single runs."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.figures.style import draw_band, drawn_seeds, legend_line, line_styles_of, style
from ablations.metrics import BEFORE_DECLARATIONS, metric_of
from ablations.statistics.paired import seed_band


def plot_curves(
    history: pd.DataFrame,
    by: str,
    metric: str = "val_top1",
    *,
    x: str = "step",
    run: str = "run_id",
    axes: Axes | None = None,
) -> Axes:
    """Draw the curves of the options of a factor.

    Args:
        history: A row per run and epoch, from `load_histories` or elsewhere.
        by: Column of the factor: a line per option.
        metric: Column to draw; rows without it are left out.
        x: Horizontal axis. An option has a mean and a band if all its runs have the same values.
        run: Column that identifies runs.
        axes: Where to draw; None: on a new figure, `axes.figure`.

    Returns:
        The axes, with a legend.

    Raises:
        ValueError: A column is missing, or nothing is left to draw.
    """
    if missing := [column for column in (by, metric, x, run) if column not in history]:
        raise ValueError(f"{missing[0]}: no such column; available: {', '.join(map(str, history))}")
    known = history[history[metric].notna() & history[by].notna()]
    if known.empty:
        raise ValueError(f"{metric}, {by}: no row has a value of both")
    part, _, name = metric.partition("_")
    declared = metric_of(name, {}) if name in BEFORE_DECLARATIONS else metric_of(metric, {})
    words = {"val": "validation ", "train": "training "}.get(part, "") if name in BEFORE_DECLARATIONS else ""
    with style():
        axes = Figure(figsize=(6.0, 3.6), layout="constrained").add_subplot() if axes is None else axes
        options = sorted(known[by].unique(), key=str)
        styles, handles = line_styles_of([str(option) for option in options]), []
        for option in options:
            line_style = styles[str(option)]
            curves = [
                of_run.sort_values(x)[[x, metric]].to_numpy(float)
                for _, of_run in known[known[by] == option].groupby(run)
            ]
            for curve in drawn_seeds(curves):
                at, values = curve.T
                marker = "." if len(at) == 1 else None  # a line of one point is invisible
                axes.plot(
                    at, declared.times * values,
                    color=line_style.color, linewidth=0.7, alpha=0.45, marker=marker, zorder=2,
                )  # fmt: skip
            _draw_mean(axes, curves, declared.times, line_style)
            handles.append(legend_line(line_style, f"{by}={option} (n = {len(curves)})"))
        axes.set_xlabel({"step": "training steps"}.get(x, x))
        axes.set_ylabel(declared.on_axis(f"{words}{declared.label}"))
        axes.grid(axis="y")
        axes.legend(handles=handles, frameon=False, handlelength=4)
    return axes


def _draw_mean(axes: Axes, curves: list[np.ndarray], times: float, line_style: Any) -> None:
    """Draw mean and band if all runs have the same x."""
    at = curves[0][:, 0]
    if not all(np.array_equal(curve[:, 0], at) for curve in curves):
        return
    band = seed_band(times * np.stack([curve[:, 1] for curve in curves]))
    draw_band(axes, at, band, line_style)
