"""Charts: figures that Plotly takes, with the numbers of the tables."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from ablations.report import charts
from ablations.report.charts import (
    MAX_POINTS,
    curve_chart,
    difference_chart,
    factor_chart,
    layer_chart,
    run_chart,
)
from ablations.statistics.paired import mean_interval, seed_band
from ablations.studies.results import outcomes

T_HALF = 12.7062  # t quantile of 0.975 with one degree of freedom


def history(top1, seconds=1.0) -> pd.DataFrame:
    rows = np.arange(1, len(top1) + 1)
    losses = {"train_loss": 1 / rows, "val_loss": 2 / rows}
    return pd.DataFrame({"epoch": rows, "step": 10 * rows, "val_top1": top1, "seconds": seconds} | losses)


def traces(chart, layer, curve="val_top1", line=None):
    return [
        trace
        for trace in chart.figure["data"]
        if trace["meta"]["layer"] == layer and trace["meta"]["curve"] == curve
        if line is None or trace["meta"]["line"] == line
    ]


@pytest.fixture
def chart_of(residual_study, make_run):
    """The curves of runs, `chart_of(("with", [0.2, 0.5], "completed"), ...)`."""

    def make(*curves):
        runs = [make_run(arm, seed, top1, status=status) for seed, (arm, top1, status) in enumerate(curves)]
        histories = {run.run_id: history(curves[run.seed][1], 1.0 + run.seed) for run in runs}
        return curve_chart(residual_study, runs, histories)

    return make


def test_mean_and_band_by_hand(chart_of) -> None:
    chart = chart_of(("with", [0.29, 0.5, 0.6], "completed"), ("with", [0.31, 0.5, 0.6], "completed"))
    (mean,), (band,) = traces(chart, "mean"), traces(chart, "band")
    assert mean["y"] == pytest.approx([30, 50, 60])
    assert mean["meta"]["x"] == {"epoch": [1, 2, 3], "time": [1.5, 3.0, 4.5]}
    half = T_HALF * 1  # standard error of 29 and 31
    assert band["y"] == pytest.approx([30 + half, 50, 60, 60, 50, 30 - half], rel=1e-4)
    assert "time" not in band["meta"]["x"]
    assert chart.tables["val_top1"][1] == {
        "epoch": "2",
        "with residual connections (n = 2)": "50.0 [50.0, 50.0]",
    }
    wide = chart_of(("with", [0.2, 0.5, 0.6], "completed"), ("with", [0.4, 0.5, 0.6], "completed"))
    assert traces(wide, "band")[0]["y"] == [100, 50, 60, 60, 50, 0]  # no share is beyond
    low, high = chart.figure["curves"]["val_top1"]["range"]  # fits the runs, not the wide band
    assert 25 < low < 29 < 60 < high < 65


def test_a_diverged_run_counts_as_chance_in_the_metric_and_not_in_a_loss(chart_of) -> None:
    done = ("with", [0.3, 0.5], "completed"), ("with", [0.3, 0.7], "completed")
    chart = chart_of(*done, ("with", [0.3], "diverged"))
    (mean,) = traces(chart, "mean")
    assert mean["y"] == pytest.approx([30, (50 + 70 + 10) / 3], rel=1e-4)
    assert mean["hovertemplate"].startswith("mean of 3 runs")
    (loss,) = traces(chart, "mean", "train_loss")
    assert loss["hovertemplate"].startswith("mean of 2 runs")
    markers = [trace["marker"] for trace in traces(chart, "single")]
    ends = [(marker["symbol"][-1], marker["size"][0] > 0) for marker in markers]
    assert ends == [("circle", True), ("circle", True), ("x", True)]  # few epochs are points


def test_of_one_run_there_is_no_mean(chart_of) -> None:
    chart = chart_of(("with", [0.3, 0.5], "completed"), ("without", [0.3], "diverged"))
    assert traces(chart, "mean") == traces(chart, "band") == []
    assert len(traces(chart, "single")) == 2


def test_curves_are_offered_with_the_studys_metric_first(chart_of) -> None:
    chart = chart_of(("with", [0.3, 0.5], "completed"))
    assert list(chart.curves.values()) == [
        "validation top-1, %",
        "validation loss, nats",
        "training loss, nats",
    ]


def test_of_many_epochs_some_are_kept_with_the_first_and_the_last(chart_of) -> None:
    top1 = np.linspace(0, 1, 1000).tolist()
    chart = chart_of(("with", top1, "completed"), ("with", top1, "completed"))
    for trace in (*traces(chart, "mean"), *traces(chart, "single")):
        epochs = trace["meta"]["x"]["epoch"]
        assert (len(epochs), epochs[0], epochs[-1]) == (MAX_POINTS, 1, 1000)


def test_bands_are_those_of_the_tables(made_up) -> None:
    study, runs, _ = made_up
    histories = {run.run_id: pd.read_csv(run.directory / "metrics.csv") for run in runs if run.record}
    chart = curve_chart(study, runs, histories)
    for arm, results in outcomes(study, runs).items():
        band = seed_band(100 * np.stack([one.curve for one in results]))
        (mean,), (around,) = traces(chart, "mean", line=arm), traces(chart, "band", line=arm)
        assert mean["y"] == pytest.approx(band.mean, rel=1e-4)
        assert around["y"] == pytest.approx([*band.high, *band.low[::-1]], rel=1e-3)


def test_differences_are_paired_by_seed(made_up) -> None:
    study, runs, _ = made_up
    chart = difference_chart(study, runs)
    by_arm = outcomes(study, runs)
    shared = {one.run.seed: one for one in by_arm["evil"]}
    pairs = [(one, shared[one.run.seed]) for one in by_arm["third"] if one.run.seed in shared]
    values = [100 * (one.final["test_top1"] - other.final["test_top1"]) for one, other in pairs]
    dots = traces(chart, "single", "", "third")
    assert [trace["x"][0] for trace in dots] == pytest.approx(values, rel=1e-4)
    (mean,) = traces(chart, "mean", "", "third")
    assert mean["x"][0] == pytest.approx(mean_interval(values).mean, rel=1e-4)
    assert len(chart.figure["layout"]["yaxis"]["ticktext"]) == 2


def test_factors(factorial_study, make_runs, residual_study) -> None:
    runs = make_runs(factorial_study)
    chart = factor_chart(factorial_study, runs)
    (mean,) = traces(chart, "mean", "test_top1", "relu")
    assert mean["x"] == [1, 4, 16]
    finals = [
        [one.final["test_top1"] for one in outcomes(factorial_study, runs)[f"{x}_relu"]]
        for x in ("one", "four", "all")
    ]
    assert mean["y"] == pytest.approx(100 * np.mean(finals, axis=1), rel=1e-4)
    assert chart.figure["layout"]["xaxis"]["type"] == "log"
    assert factor_chart(residual_study, make_runs(residual_study)) is None


def test_layers(residual_study, make_run, tmp_path) -> None:
    header = "diagnostic,layer,depth,channels,epoch,step,value\n"
    runs = []
    for arm, seed in (("with", 0), ("with", 1), ("without", 0)):
        config = {"dataset": {"num_classes": 10}, "recipe": {"epochs": 1}, "diagnostics": {"dead_units": {}}}
        run = make_run(arm, seed, [0.5], config=config, files=None)
        run = replace(run, directory=tmp_path / "runs" / run.run_id)
        run.directory.mkdir(parents=True)
        values = {1: 0.1 + 0.2 * seed, 2: 0.5}
        rows = "".join(
            f"dead_units,entry_flow.{at}.act,{at},8,1,10,{value}\n" for at, value in values.items()
        )
        (run.directory / "diagnostics.csv").write_text(header + rows)
        runs.append(run)
    chart = layer_chart(residual_study, runs)
    (mean, *_) = (trace for trace in chart.figure["data"] if trace["meta"]["layer"] == "mean")
    assert mean["y"] == pytest.approx([20, 50])
    assert mean["text"] == ["entry_flow.1.act", "entry_flow.2.act"]
    assert layer_chart(residual_study, runs[:2]) is None  # of one arm alone nothing is compared


def test_plotly_takes_every_figure(made_up, factorial_study, make_runs) -> None:
    study, runs, _ = made_up
    histories = {run.run_id: pd.read_csv(run.directory / "metrics.csv") for run in runs if run.record}
    found = [
        curve_chart(study, runs, histories),
        difference_chart(study, runs),
        factor_chart(factorial_study, make_runs(factorial_study)),
        run_chart(study, histories[runs[0].run_id]),
    ]
    for chart in found:
        figure = go.Figure({name: chart.figure[name] for name in ("data", "layout")})
        for axis in chart.figure.get("curves", {}).values():
            figure.update_layout(yaxis=axis)
        text = json.dumps(chart.figure, allow_nan=False)
        assert "<img" not in text
        assert {color for color in charts.DARK if color in text} >= {charts.TEXT, charts.GRID}
