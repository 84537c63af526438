"""Mean and band of an arm's curves: those of the figures, for every column that the page offers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ablations.report.bands import arm_bands
from ablations.report.build import read_histories
from ablations.report.runs import MAX_POINTS, Grids
from ablations.statistics.paired import seed_band
from ablations.studies.results import outcomes

T_HALF = 12.7062  # t quantile of 0.975 with one degree of freedom


def history(top1, loss, seconds=1.0) -> pd.DataFrame:
    rows = np.arange(1, len(top1) + 1)
    return pd.DataFrame(
        {"epoch": rows, "step": 10 * rows, "val_top1": top1, "train_loss": loss, "seconds": seconds}
    )


@pytest.fixture
def bands(residual_study, make_run):
    """Of runs with these curves, `bands(("with", [0.2, 0.5], "completed"), ...)`, and the grids."""

    def make(*curves):
        runs, histories = [], {}
        for seed, (arm, top1, status) in enumerate(curves):
            run = make_run(arm, seed, top1, status=status)
            histories[run.run_id] = history(top1, [1 / (1 + seed)] * len(top1), 1.0 + seed)
            runs.append(run)
        grids = Grids()
        found = arm_bands(residual_study, runs, histories, ["val_top1", "train_loss"], grids)
        return dict(zip(["with", "without"], found, strict=True)), grids

    return make


def test_by_hand(bands) -> None:
    found, grids = bands(("with", [0.2, 0.5], "completed"), ("with", [0.4, 0.5], "completed"))
    band = found["with"]["val_top1"]
    assert (band["n"], band["runs"]) == (2, "results")
    assert band["mean"] == [0.3, 0.5]
    half = T_HALF * 0.1  # standard error of 0.2 and 0.4
    assert band["low"] == pytest.approx([0.3 - half, 0.5], abs=1e-5)
    assert band["high"] == pytest.approx([0.3 + half, 0.5], abs=1e-5)
    assert band["seconds"] == [1.5, 3.0]
    assert grids.all[band["grid"]]["epochs"] == [1, 2]
    assert found["with"]["train_loss"]["mean"] == [0.75, 0.75]
    assert found["without"] == {}


def test_a_diverged_run_counts_as_chance_where_there_is_such_a_value(bands) -> None:
    found, _ = bands(
        ("with", [0.3, 0.5], "completed"), ("with", [0.3, 0.7], "completed"), ("with", [0.3], "diverged")
    )
    top1, loss = found["with"]["val_top1"], found["with"]["train_loss"]
    assert (top1["n"], top1["runs"]) == (3, "results")
    assert top1["mean"] == pytest.approx([0.3, (0.5 + 0.7 + 0.1) / 3], abs=1e-6)
    assert (loss["n"], loss["runs"]) == (2, "completed")
    assert top1["seconds"] == [1.5, 3.0]  # of the completed ones


def test_every_metric_of_the_study_counts_as_the_first_does(residual_study, make_run) -> None:
    study = replace(residual_study, metrics=("top1", "top5"))
    metrics = {"val_top1": 0.5, "val_top5": 0.9, "test_top1": 0.5, "test_top5": 0.9}
    runs = [make_run("with", 0, [0.4, 0.5], metrics=metrics), make_run("with", 1, [0.4], status="diverged")]
    # Beside the first, metrics are read from the whole histories; a diverged run's last epoch may have a row.
    histories = {
        runs[0].run_id: history([0.4, 0.5], [1.0, 0.5]).assign(val_top5=[0.8, 0.9]),
        runs[1].run_id: history([0.4, np.nan], [1.0, np.nan]).assign(val_top5=[0.6, np.nan]),
    }
    (found, _) = arm_bands(study, runs, histories, ["val_top5", "train_loss"], Grids())
    assert found["val_top5"]["mean"] == pytest.approx([0.7, (0.9 + 0.5) / 2])  # 5 of 10 classes by chance
    assert found.keys() == {"val_top5"}  # one run completed


def test_of_one_run_there_is_no_band(bands) -> None:
    found, _ = bands(("with", [0.3, 0.5], "completed"), ("with", [0.3], "failed"), ("with", [0.3], "running"))
    assert found == {"with": {}, "without": {}}


def test_where_a_run_has_no_finite_value_there_is_a_gap(residual_study, make_run) -> None:
    runs = [make_run("with", seed, [0.1, 0.2, 0.3]) for seed in (0, 1)]
    histories = {run.run_id: history([0.1, 0.2, 0.3], [1.0, 1.0, 1.0]) for run in runs}
    histories[runs[1].run_id].loc[1, "train_loss"] = np.inf
    (found, _) = arm_bands(residual_study, runs, histories, ["train_loss"], Grids())
    assert found["train_loss"]["mean"] == [1.0, None, 1.0]
    assert found["train_loss"]["low"] == [1.0, None, 1.0]


def test_of_many_epochs_those_are_kept_that_curves_keep(bands) -> None:
    top1 = np.linspace(0, 1, 1000).tolist()
    found, grids = bands(("with", top1, "completed"), ("with", top1, "completed"))
    band = found["with"]["val_top1"]
    assert len(band["mean"]) == len(band["seconds"]) == MAX_POINTS
    epochs = grids.all[band["grid"]]["epochs"]
    assert band["mean"] == pytest.approx([top1[epoch - 1] for epoch in epochs], abs=1e-6)


def test_the_band_is_that_of_the_figure(made_up) -> None:
    study, runs, _ = made_up
    found = arm_bands(study, runs, read_histories(runs), ["val_top1"], Grids())
    for of_arm, results in zip(found, outcomes(study, runs).values(), strict=True):
        band = seed_band(np.stack([one.curve for one in results]))
        assert of_arm["val_top1"]["n"] == len(results)
        for name in ("mean", "low", "high"):
            assert of_arm["val_top1"][name] == pytest.approx(getattr(band, name), rel=1e-5)
