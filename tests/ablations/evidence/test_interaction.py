"""Differences of differences and slopes, worked out by hand; unequal seeds, diverged and missing runs."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ablations.evidence.interaction import interactions
from ablations.notes import interaction_panel, interaction_table, slope_text
from ablations.studies.results import Study, StudyRun, outcomes
from ablations.tables.study import markdown_table, write_and_show

FINAL = {  # per arm: top-1 of seeds 0 and 1
    "one_none": (0.80, 0.82),
    "one_relu": (0.78, 0.79),
    "four_none": (0.81, 0.83),
    "four_relu": (0.82, 0.85),
    "all_none": (0.70, 0.72),
    "all_relu": (0.74, 0.73),
}
"""ReLU minus none, pp: at one -2, -3; four 1, 2; all 4, 1. Positions 1, 4 and 16: 0, 2 and 4 doublings."""


@pytest.fixture
def runs(make_run) -> list[StudyRun]:
    return [
        make_run(arm, seed, [0.5, final], final - 0.01)
        for arm, finals in FINAL.items()
        for seed, final in enumerate(finals)
    ]


def test_differences_of_differences_and_slope(factorial_study: Study, runs: list[StudyRun]) -> None:
    validation, test = interactions(factorial_study, outcomes(factorial_study, runs))
    assert (validation.split, test.split, validation.line) == ("val", "test", "relu")
    four, everything = validation.changes
    assert (four.level, four.position, four.seeds) == ("four", 4.0, (0, 1))
    assert four.of_seeds == pytest.approx([1 - -2, 2 - -3])
    assert everything.of_seeds == pytest.approx([4 - -2, 1 - -3])
    # Over x = 0, 2, 4: (y(4) - y(0)) * 2 / 8, whatever the middle is.
    assert validation.fit.slopes == pytest.approx([6 / 4, 4 / 4])
    assert validation.fit.slope is not None
    assert validation.fit.slope.mean == pytest.approx(1.25)
    half = 12.706204736 * 0.25  # t(1) at 97.5 %, times s / sqrt(2) = 0.25
    assert (validation.fit.slope.low, validation.fit.slope.high) == pytest.approx((1.25 - half, 1.25 + half))
    assert test.fit.slopes == pytest.approx(validation.fit.slopes)  # all arms have one point less there


def test_effects_and_what_their_line_predicts(factorial_study: Study, runs: list[StudyRun]) -> None:
    assert factorial_study.design is not None
    to_paper = replace(factorial_study, design=replace(factorial_study.design, paper=64.0))
    validation, _ = interactions(to_paper, outcomes(to_paper, runs))
    assert [effect.of_seeds.round(6).tolist() for effect in validation.effects] == [[-2, -3], [1, 2], [4, 1]]
    # Means 1 and 0 at 2 doublings, slopes 1.5 and 1 per doubling; 64 is at 6.
    assert validation.fit.at_paper is not None
    assert validation.fit.at_paper.mean == pytest.approx(((1 + 1.5 * 4) + (0 + 1 * 4)) / 2)
    table = interaction_table(to_paper, outcomes(to_paper, runs))
    assert list(table["quantity"])[-2:] == ["extrapolated, all levels", "extrapolated, last two levels"]
    assert list(table["position"])[-2:] == [64, 64]
    # From the last two levels: 4 and 1 at 4 doublings, slopes 1.5 and -0.5.
    assert list(table["val_pp_mean"])[-2:] == pytest.approx([5.5, ((4 + 1.5 * 2) + (1 - 0.5 * 2)) / 2])


def test_a_seed_enters_where_it_has_the_runs(factorial_study: Study, runs: list[StudyRun], make_run) -> None:
    left = [run for run in runs if (run.arm, run.seed) != ("four_relu", 1)]
    left.append(make_run("four_relu", 1, status="failed"))
    validation, _ = interactions(factorial_study, outcomes(factorial_study, left))
    assert [distance.seeds for distance in validation.changes] == [(0,), (0, 1)]
    assert validation.fit.slopes == pytest.approx([1.5])
    assert validation.changes[0].estimate is not None
    assert math.isnan(validation.changes[0].estimate.low)


@pytest.mark.parametrize("arm", ["all_relu", "all_none"])
@pytest.mark.parametrize(("status", "curve"), [("diverged", [0.5]), ("completed", [0.5, 0.12])])
def test_a_seed_that_failed_to_learn_is_left_out_and_counted(
    status: str, curve: list[float], arm: str, factorial_study: Study, runs: list[StudyRun], make_run
) -> None:
    left = [run for run in runs if (run.arm, run.seed) != (arm, 0)]
    left.append(make_run(arm, 0, curve, 0.12, status=status))
    for one in interactions(factorial_study, outcomes(factorial_study, left)):
        assert [effect.seeds for effect in one.effects] == [(0, 1), (0, 1), (1,)]
        assert [effect.left_out for effect in one.effects] == [0, 0, 1]
        assert [change.left_out for change in one.changes] == [0, 1]
        assert one.changes[1].of_seeds == pytest.approx([4])
        assert one.fit.slopes == pytest.approx([1])
    note = "left out: ReLU minus none at all: 1."
    assert note in markdown_table(factorial_study, left)
    assert note not in markdown_table(factorial_study, runs)


def test_an_arm_without_a_run_is_no_end(factorial_study: Study, runs: list[StudyRun], tmp_path) -> None:
    left = [run for run in runs if run.arm != "four_relu"]
    pair = tuple(interactions(factorial_study, outcomes(factorial_study, left)))
    validation, _ = pair
    assert validation.changes[0].estimate is None
    assert validation.fit.slope is None
    assert slope_text(factorial_study, pair) == (
        "ReLU minus none: no slope, because no seed learned at every level."
    )
    panel = interaction_panel(factorial_study, outcomes(factorial_study, left))
    assert [text == "–" for text in panel["validation, pp"]] == [True, False, True, True]
    assert "ReLU minus none: slope per doubling, all levels" in markdown_table(factorial_study, left)
    write_and_show(factorial_study, left, tmp_path)
    written = pd.read_csv(tmp_path / f"{factorial_study.output}_interaction.csv")
    assert list(written["n"]) == [0, 2, 0, 0]


def test_nothing_has_run(factorial_study: Study, make_run) -> None:
    missing = [make_run(arm, 0, status="missing") for arm in FINAL]
    assert list(interaction_table(factorial_study, outcomes(factorial_study, missing))["n"]) == [0, 0, 0, 0]
    assert "No completed run." in markdown_table(factorial_study, missing)


def test_levels_at_one_position_have_no_slope(factorial_study: Study, runs: list[StudyRun]) -> None:
    assert factorial_study.design is not None
    flat = replace(factorial_study.design, positions=dict.fromkeys(FINAL, 3.0))
    validation, _ = interactions(replace(factorial_study, design=flat), outcomes(factorial_study, runs))
    assert validation.fit.slope is None
    assert np.array_equal(validation.changes[0].of_seeds.round(6), [3, 5])


def test_the_table_has_a_row_per_interval(factorial_study: Study, runs: list[StudyRun]) -> None:
    table = interaction_table(factorial_study, outcomes(factorial_study, runs))
    assert list(table["quantity"]) == [
        *["difference of differences"] * 2,
        "slope, all levels",
        "slope, last two levels",
    ]
    assert table.loc[0, "val_pp_mean"] == pytest.approx(4)
    assert table.loc[2, "test_pp_mean"] == pytest.approx(1.25)
    panel = interaction_panel(factorial_study, outcomes(factorial_study, runs))
    assert list(panel["interaction"]) == [
        "ReLU minus none: four, minus that at one",
        "ReLU minus none: all, minus that at one",
        "ReLU minus none: slope per doubling, all levels",
        "ReLU minus none: slope per doubling, last two levels",
    ]
    assert panel.loc[2, "validation, pp"] == "+1.25 [-1.93, +4.43] p = 0.500"


def test_notes_and_panel_are_those_of_a_study_of_factors(
    factorial_study: Study, runs: list[StudyRun], residual_study: Study, make_runs
) -> None:
    told = markdown_table(replace(factorial_study, notes=("It says little.",)), runs)
    assert "- It says little." in told
    assert "- Slope per doubling:" in told
    assert "Slope" not in markdown_table(residual_study, make_runs(residual_study))
