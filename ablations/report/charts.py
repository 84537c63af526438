"""Charts of the report page as Plotly figures, drawn from the runs: curves, differences, factors, layers.

A figure has the traces of all choices; `meta` of a trace names its line, curve and layer. Colours are those
of the light theme.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from ablations.evidence.mechanism import BETWEEN, MAIN, measured_of
from ablations.figures.style import COLORS, FEW_EPOCHS
from ablations.metrics import LOSS, Metric
from ablations.runs.histories import metric_names
from ablations.runs.records import MISSING
from ablations.runs.schema import COMPLETED
from ablations.statistics.paired import mean_interval, seed_band
from ablations.studies.results import (
    Outcome,
    Study,
    StudyRun,
    baseline_first,
    outcomes,
    pair_by_seed,
)
from ablations.text import UNCORRECTED, digits_for, with_interval

DASHES = ("solid", "dash", "dashdot", "dot")
TEXT, GRID, AXIS, GROUND, CLEAR = "#1b1f23", "#e3e6e9", "#8a9199", "#ffffff", "rgba(0,0,0,0)"

ON_DARK = ("#f2f2f2", "#ff8a47", "#4f9fe8", "#23c299", "#e29bc4", "#f0b429", "#9bd6f7")
DARK = dict(
    zip(
        (*COLORS, TEXT, GRID, AXIS, GROUND),
        (*ON_DARK, "#e8eaed", "#2b3036", "#7b858f", "#1d2125"),
        strict=True,
    )
)
"""Colour of the dark theme per colour of a figure."""

MAX_SEEDS = 30
"""Single runs drawn per arm; more would hide each other and take seconds."""

MAX_POINTS = 200
"""Epochs kept per curve, evenly spread from first to last."""

MANY_LINES = 7
"""With more, only `FEW_LINES` are drawn at first, without single runs."""

FEW_LINES = 4

MEAN, BAND, SINGLE = "mean", "band", "single"
LAYERS = {MEAN: "means", BAND: "95 % bands", SINGLE: "single runs"}
AXES = {"step": "training steps", "epoch": "epochs", "time": "seconds in training steps"}
PARTS = {"val": "validation", "test": "test", "train": "training"}
INTERVALS = "Lines: means over seeds. Bands: uncorrected 95 % t intervals"
CHANCE = "A diverged run counts as chance"

Trace = dict[str, Any]
Histories = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Line:
    """What traces belong to; color and dash are indices of `COLORS` and `DASHES`."""

    key: str
    label: str
    color: int
    dash: int


@dataclass(frozen=True)
class Chart:
    """A chart and its choices.

    Attributes:
        figure: data and layout for Plotly, and what each curve changes of the vertical axis.
        curves: Label by key; empty if there is no choice.
        axes: Label by key of the horizontal axes; empty if there is one.
        tables: Per curve the numbers of the chart, rows by header.
    """

    title: str
    note: str
    figure: dict[str, Any]
    lines: Sequence[Line] = ()
    curves: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=lambda: LAYERS)
    tables: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(self.layers) if len(self.lines) <= MANY_LINES else (MEAN, BAND)

    @property
    def shown_lines(self) -> Sequence[Line]:
        return self.lines if len(self.lines) <= MANY_LINES else self.lines[:FEW_LINES]


def lines_of(labels: Mapping[str, str]) -> list[Line]:
    return [Line(*of, at % len(COLORS), at % len(DASHES)) for at, of in enumerate(labels.items())]


def arm_lines(study: Study) -> list[Line]:
    return lines_of({arm.name: arm.label for arm in baseline_first(study)})


def column_metric(study: Study, column: str) -> Metric:
    """The metric of a column of metrics.csv; for other columns, the name without a unit."""
    return study.declaration(column.partition("_")[2] or column)


def scale(study: Study, column: str) -> float:
    """Factor from a value to the shown one."""
    return column_metric(study, column).times


def column_label(study: Study, column: str) -> str:
    """Label of a column of metrics.csv: "validation top-1"."""
    part, _, name = column.partition("_")
    return f"{PARTS.get(part, part)} {column_metric(study, column).label}" if name else part


def with_unit(study: Study, column: str) -> str:
    """Label and unit of a column: "validation top-1, %"."""
    return column_metric(study, column).with_unit(column_label(study, column))


def curve_columns(study: Study, columns: Iterable[str]) -> list[str]:
    """Columns that are curves, the study's metrics first."""
    there = dict.fromkeys(columns)
    metrics = [f"val_{name}" for name in (*study.metrics, *metric_names(there))]
    wanted = dict.fromkeys([*metrics, "val_loss", "train_loss", *sorted(there)])
    return [key for key in wanted if key in there and key.partition("_")[0] in PARTS]


def curve_chart(study: Study, runs: Sequence[StudyRun], histories: Histories) -> Chart | None:
    """Curves of the arms over the training: mean, 95 % band per epoch, and single runs.

    For the study's metrics, a mean is over completed and diverged runs; for other columns, over completed
    runs. Over time, it is drawn at the mean time of its runs, without a band.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    columns = curve_columns(study, (str(column) for history in histories.values() for column in history))
    lines, by_arm, data, tables = arm_lines(study), outcomes(study, runs), list[Trace](), {}
    recorded = [run for run in runs if run.status != MISSING and run.run_id in histories]
    for curve in columns:
        rows: dict[int, dict[str, str]] = {}
        for line in lines:
            of_line = [run for run in recorded if run.arm == line.key and curve in histories[run.run_id]]
            data += [
                _run_trace(study, line, run, histories[run.run_id], curve) for run in of_line[:MAX_SEEDS]
            ]
            of_arm = by_arm[line.key]
            counted = [each for one in of_arm if (each := _counted(study, one, histories, curve)) is not None]
            if len(counted) < 2:
                continue
            kept = kept_epochs(len(counted[0]))
            metric = column_metric(study, curve)
            band = seed_band(metric.times * np.stack(counted)).within(*metric.ends(metric.times))
            values = [part[kept] for part in (band.mean, band.low, band.high)]
            x = {"step": of_arm[0].steps[kept], "epoch": kept + 1}
            if whole := [run.run_id for run in of_line if run.status == COMPLETED]:
                seconds = [histories[run_id]["seconds"].cumsum().to_numpy() for run_id in whole]
                x["time"] = np.mean(seconds, axis=0)[kept]
            data += _mean_traces(line, x, values, curve, f"mean of {len(counted)} runs")
            for epoch, mean, low, high in zip(kept + 1, *values, strict=True):
                row = rows.setdefault(epoch, {"epoch": str(epoch)})
                digits = digits_for(mean, low, high)
                row[f"{line.label} (n = {len(counted)})"] = with_interval(mean, low, high, digits=digits)
        tables[curve] = list(rows.values())
    if not data:
        return None
    notes = [f"{INTERVALS} at each epoch.", f"{CHANCE} from where it ended."]
    if any(run.status != COMPLETED for run in recorded):
        notes.append("A cross marks where a run ended early.")
    if len(runs) > MAX_SEEDS * len(lines):
        notes.append(f"At most {MAX_SEEDS} single runs of an arm are drawn.")
    curves = {curve: with_unit(study, curve) for curve in columns}
    figure = _figure(data, curves, AXES["step"])
    note = " ".join([*notes, "Click a point to open its run."])
    return Chart("Curves", note, figure, lines, curves, AXES, tables=tables)


def difference_chart(study: Study, runs: Sequence[StudyRun]) -> Chart | None:
    """Final test differences of each arm, seed by seed."""
    by_arm, metric = outcomes(study, runs), f"test_{study.metric}"
    arms, data, labels = {arm.name: arm for arm in study.arms}, list[Trace](), list[str]()
    unit_of = f" {study.deciding.difference_unit}".rstrip()
    unit = f",{unit_of}" if unit_of else ""
    for line in arm_lines(study):
        other = study.compared_with(arms[line.key])
        pairs = pair_by_seed(by_arm[line.key], by_arm[other]) if other else []
        if not pairs:
            continue
        values = [scale(study, metric) * (one.final[metric] - its.final[metric]) for one, its in pairs]
        for (one, _), value in zip(pairs, values, strict=True):
            data.append(_dot(line, one.run, value, len(labels), "", f"%{{x:+.3g}}{unit_of}"))
        mean = mean_interval(values)
        trace = _trace(line, [mean.mean], [len(labels) + 0.25], "", MEAN)
        trace |= {
            "mode": "markers",
            "hovertemplate": f"mean of {mean.n} pairs: %{{x:+.3g}}{unit_of}<extra></extra>",
        }
        trace["marker"] |= {"size": 9, "symbol": "diamond"}
        if np.isfinite(mean.low):
            trace["error_x"] = {"type": "data", "symmetric": False, "color": COLORS[line.color]}
            trace["error_x"] |= {"array": [mean.high - mean.mean], "arrayminus": [mean.mean - mean.low]}
        data.append(trace)
        wrapped = textwrap.wrap(f"{line.label} − {arms[str(other)].label}", 26)
        labels.append("<br>".join(map(escape, wrapped)))
    if not data:
        return None
    figure = _figure(data, {}, f"difference{unit}", height=90 + 75 * len(labels))
    figure["layout"]["xaxis"] |= {"rangemode": "tozero", "zeroline": True, "zerolinecolor": AXIS}
    ticks = {"tickvals": list(range(len(labels))), "ticktext": labels, "showgrid": False}
    figure["layout"]["yaxis"] |= ticks | {"range": [len(labels) - 0.5, -0.5]}
    note = "Dots: single seeds. Diamonds: means."
    title = f"Differences in {column_label(study, metric)}, with {UNCORRECTED}"
    return Chart(title, f"{note} {CHANCE}.", figure)


def factor_chart(study: Study, runs: Sequence[StudyRun]) -> Chart | None:
    """For a factorial study: the final metric over one factor, a line per level of another."""
    design, by_arm = study.design, outcomes(study, runs)
    if design is None or not any(by_arm.values()):
        return None
    across, along = design.factor(design.lines), design.factor(design.x)
    lines, data, curves = lines_of(across.levels), list[Trace](), {}
    for part in design.parts():
        levels = [other.levels[part[other.name]] for other in design.others()]
        for metric in (f"test_{study.metric}", f"val_{study.metric}"):
            curve = "/".join((metric, *part.values()))
            curves[curve] = ", ".join((with_unit(study, metric), *levels))
            for line in lines:
                arms = [design.arm(part | {across.name: line.key, along.name: x}) for x in along.levels]
                found = [by_arm[arm] for arm in arms if by_arm[arm]]
                finals = [[scale(study, metric) * one.final[metric] for one in of_arm] for of_arm in found]
                x = [design.positions[of_arm[0].run.arm] for of_arm in found]
                ends = _ends(
                    mean_interval(values).within(*study.deciding.ends(study.deciding.times))
                    for values in finals
                )
                data += _mean_traces(line, {"step": x}, ends, curve, "mean over seeds")
                for at, of_arm, values in zip(x, found, finals, strict=True):
                    for one, value in zip(of_arm, values, strict=True):
                        data.append(_dot(line, one.run, at, value, curve, "%{y:.3g}"))
    figure = _figure(data, curves, design.axis)
    kind = "log" if min(design.positions.values()) > 0 else "linear"
    figure["layout"]["xaxis"] |= {"type": kind, "tickvals": sorted(set(design.positions.values()))}
    note = f"{INTERVALS}. Dots: single runs. {CHANCE}."
    return Chart(f"Final metric by {along.label} and {across.label}", note, figure, lines, curves)


def layer_chart(study: Study, runs: Sequence[StudyRun]) -> Chart | None:
    """Diagnostics per layer; None unless two or more arms have them."""
    lines, data, notes = arm_lines(study), list[Trace](), list[str]()
    curves, titles, logarithmic = dict[str, str](), dict[str, str](), list[str]()
    for measured in (each for each in measured_of(study, runs) if len(each.arms()) > 1):
        measurement = measured.measurement
        notes.append(measurement.note)
        for moment, kind in ((moment, kind) for kind in (MAIN, BETWEEN) for moment in measured.moments):
            curve, indices = f"{measurement.name}/{moment.name}/{kind}", measured.indices(kind)
            for line in lines:
                values = measured.of_seeds.get((moment.name, line.key), np.empty((0, len(measured.layers))))
                every = {x: measured.estimate(values[:, at]) for x, at in enumerate(indices, start=1)}
                found = {x: estimate for x, estimate in every.items() if estimate is not None}
                if not any(estimate.mean for estimate in found.values()):
                    continue
                traces = _mean_traces(line, {"step": list(found)}, _ends(found.values()), curve, "%{text}")
                traces[0]["text"] = [escape(measured.layers[indices[x - 1]].name) for x in found]
                data += traces
                of = " of intermediate activations" if kind == BETWEEN else ""
                curves[curve], titles[curve] = f"{measurement.title}{of}, {moment.label}", measurement.axis
                logarithmic += [curve] if measurement.logarithmic else []
    if not data:
        return None
    figure = _figure(data, titles, "layer, from the image to the logits", logarithmic)
    layers = {key: LAYERS[key] for key in (MEAN, BAND)}
    note = " ".join([*notes, f"{INTERVALS}."])
    return Chart("Layer by layer", note, figure, lines, curves, layers=layers)


def run_chart(study: Study, history: pd.DataFrame) -> Chart:
    """Metrics in one panel, losses in another."""
    columns, data, kept = curve_columns(study, history.columns), list[Trace](), kept_epochs(len(history))
    figure = _figure(data, {}, AXES["step"], legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    layout = figure["layout"] | {"showlegend": True}
    layout["grid"] = {"rows": 1, "columns": 2, "pattern": "independent"}
    losses = all(key.endswith(LOSS) for key in columns if scale(study, key) == 1.0)
    own = {"title": {"text": "loss"}, "type": "log"} if losses else {"title": {"text": "other units"}}
    layout |= {"xaxis2": layout["xaxis"], "yaxis2": layout["yaxis"] | own}
    layout["yaxis"] = layout["yaxis"] | {"title": {"text": "%"}}
    for number, times in (("", 100.0), ("2", 1.0)):
        for line in lines_of(
            {key: column_label(study, key) for key in columns if scale(study, key) == times}
        ):
            trace = _trace(line, history["step"].iloc[kept], times * history[line.key].iloc[kept], "", MEAN)
            data.append(trace | {"xaxis": f"x{number}", "yaxis": f"y{number}", "mode": "lines+markers"})
    return Chart("Curves", "", {"data": data, "layout": layout})


def kept_epochs(epochs: int) -> np.ndarray:
    """Indices of the epochs that the page keeps."""
    return np.unique(np.linspace(0, epochs - 1, min(epochs, MAX_POINTS)).round().astype(int))


def _figure(
    data: list[Trace], titles: Mapping[str, str], x: str, logarithmic: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Data and common layout; a curve's axis fits means and runs, not the widest band."""
    axis = {"gridcolor": GRID, "linecolor": AXIS, "zeroline": False, "automargin": True}
    layout = {
        "font": {"color": TEXT, "family": "system-ui, sans-serif", "size": 13},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "hoverlabel": {"bgcolor": GROUND, "namelength": -1, "font": {"color": TEXT}},
        "hovermode": "closest",
        "dragmode": False,  # a finger on a chart scrolls the page
        "showlegend": False,
        "xaxis": axis | {"showline": True, "title": {"text": escape(x)}},
        "yaxis": axis,
    }
    axes: dict[str, dict[str, Any]] = {}
    for curve, title in titles.items():
        axes[curve] = {"title": {"text": escape(title)}}
        traces = [trace for trace in data if trace["meta"]["curve"] == curve]
        shown = [y for trace in traces if trace["meta"]["layer"] != BAND for y in trace["y"] if y is not None]
        if curve in logarithmic:
            axes[curve] |= {"type": "log", "dtick": "D2"}
        elif shown:
            room = 0.05 * ((max(shown) - min(shown)) or 1.0)
            axes[curve] |= {"type": "linear", "range": [min(shown) - room, max(shown) + room]}
    return {"data": data, "layout": layout | more, "curves": axes}


def _counted(study: Study, one: Outcome, histories: Histories, key: str) -> np.ndarray | None:
    """What a result counts as at each epoch, `(E,)`, if it has values."""
    metrics = [f"val_{name}" for name in study.metrics]
    if key == metrics[0]:
        return one.curve if len(one.curve) else None
    if key not in metrics and one.diverged:
        return None
    values = histories.get(one.run.run_id, pd.DataFrame()).get(key, pd.Series(dtype=float)).to_numpy()
    if key in metrics:
        chance = np.full(len(one.steps) - one.measured, one.final[key])
        values = np.concatenate([values[: one.measured], chance])
    return values if len(values) == len(one.steps) > 0 and np.isfinite(values).all() else None


def _ends(estimates: Iterable[Any]) -> list[np.ndarray]:
    found = list(estimates)
    return [np.array([getattr(each, name) for each in found], float) for name in ("mean", "low", "high")]


def _numbers(values: Iterable[float]) -> list[float | None]:
    """With five digits; None for those that are not finite."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _trace(line: Line, x: Iterable[float], y: Iterable[float], curve: str, layer: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape(line.label),
        "x": _numbers(x),
        "y": _numbers(y),
        "line": {"color": COLORS[line.color], "dash": DASHES[line.dash], "width": 2},
        "marker": {"color": COLORS[line.color], "size": 5},
        "meta": {"line": line.key, "curve": curve, "layer": layer},
    }


def _run_trace(study: Study, line: Line, run: StudyRun, history: pd.DataFrame, curve: str) -> Trace:
    kept = kept_epochs(len(history))
    shown, seconds = history.iloc[kept], history["seconds"].cumsum().iloc[kept]
    trace = _of_run(
        _trace(line, shown["step"], scale(study, curve) * shown[curve], curve, SINGLE),
        run,
        "%{x:.6~g}: %{y:.3g}",
    )
    trace["meta"]["x"] = {"epoch": _numbers(shown["epoch"]), "time": _numbers(seconds)}
    trace["line"] |= {"width": 1, "dash": "solid"}
    few, ended_early = len(kept) <= FEW_EPOCHS, run.status != COMPLETED
    if few or ended_early:
        trace["mode"] = "lines+markers"
        sizes = [4 if few else 0] * (len(kept) - 1) + [9 if ended_early or len(kept) == 1 else 4]
        symbols = ["circle"] * (len(kept) - 1) + ["x" if ended_early else "circle"]
        trace["marker"] |= {"size": sizes, "symbol": symbols}
    return trace


def _dot(line: Line, run: StudyRun, x: float, y: float, curve: str, value: str) -> Trace:
    trace = _of_run(_trace(line, [x], [y], curve, SINGLE), run, value) | {"mode": "markers"}
    trace["marker"]["size"] = 7
    return trace


def _of_run(trace: Trace, run: StudyRun, value: str) -> Trace:
    about = f"seed {run.seed} ({run.status})<br>{value}<extra>%{{fullData.name}}</extra>"
    return trace | {"opacity": 0.6, "hovertemplate": about, "meta": trace["meta"] | {"run": run.run_id}}


def _mean_traces(
    line: Line, x: Mapping[str, Sequence[float]], values: Sequence[np.ndarray], curve: str, hover: str
) -> list[Trace]:
    """The mean as a line and its interval as a band."""
    mean, low, high = values
    trace, others = _trace(line, x["step"], mean, curve, MEAN), [key for key in x if key != "step"]
    trace["line"]["width"] = 3
    trace["meta"]["x"] = {key: _numbers(x[key]) for key in others}
    finite = np.isfinite(low) & np.isfinite(high)
    ends = [f" [{a:.3g}, {b:.3g}]" if there else "" for a, b, there in zip(low, high, finite, strict=True)]
    hover += "<br>%{x:.6~g}: %{y:.3g}%{customdata}<extra>%{fullData.name}</extra>"
    trace |= {
        "customdata": ends,
        "hovertemplate": hover,
        "mode": "lines" if len(mean) > FEW_EPOCHS else "lines+markers",
    }
    if len(mean) <= FEW_EPOCHS:
        trace["marker"]["size"] = 8
    around = [*np.flatnonzero(finite), *np.flatnonzero(finite)[::-1]]
    edge = [*high[finite], *low[finite][::-1]]
    band = _trace(line, np.asarray(x["step"])[around], edge, curve, BAND) if edge else {}
    if band:
        band["meta"]["x"] = {key: _numbers(x[key][at] for at in around) for key in others if key != "time"}
        band |= {"fill": "toself", "fillcolor": COLORS[line.color], "opacity": 0.15, "hoverinfo": "skip"}
        band["line"] = {"width": 0}
    return [trace, band] if band else [trace]
