"""What is drawn of a study of factors, looked up in the figure's artists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from ablations.figures.factorial import SCREEN_COLUMNS, draw_factorial, write_factorial_figure
from ablations.studies.results import Arm, Factor, Study, StudyRun


@pytest.fixture
def runs(factorial_study: Study, make_run) -> list[StudyRun]:
    """ReLU minus none: -2 points at one, 1 at four, 4 at all; a third seed has them all 1 point higher."""
    finals = {
        "one_none": 80,
        "one_relu": 78,
        "four_none": 81,
        "four_relu": 82,
        "all_none": 70,
        "all_relu": 74,
    }
    return [
        make_run(arm, seed, [0.5, (final + seed) / 100], (final - 5 + seed) / 100)
        for arm, final in finals.items()
        for seed in (0, 1)
    ]


def sets_of_arms(study: Study, number: int) -> Study:
    """The study once per level of a third factor."""
    assert study.design is not None
    names = [f"set{i}" for i in range(number)]
    levels = {
        f"{name}_{arm}": {"part": name, **of_arm}
        for name in names
        for arm, of_arm in study.design.levels.items()
    }
    design = replace(
        study.design,
        factors=(Factor("part", "part", {name: f"the {name}" for name in names}), *study.design.factors),
        levels=levels,
        positions={arm: study.design.positions[arm.partition("_")[2]] for arm in levels},
    )
    arms = tuple(Arm(arm, arm, of_arm, "") for arm, of_arm in levels.items())
    return replace(study, arms=arms, baseline=f"set0_{study.baseline}", design=design)


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def means(axes: Axes) -> dict[str, list[float]]:
    """Heights of the thick lines by colour, rounded."""
    return {
        str(line.get_color()): [round(float(y), 6) for y in line.get_ydata()]
        for line in axes.lines
        if line.get_linewidth() == 1.6
    }


def dots(axes: Axes, marker: str) -> int:
    return sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == marker)


def test_means_bands_and_seeds_of_every_arm(factorial_study: Study, runs: list[StudyRun]) -> None:
    figure = draw_factorial(factorial_study, runs)
    validation, test, effect, effect_test = figure.axes
    assert means(validation) == {"#000000": [80.5, 81.5, 70.5], "#D55E00": [78.5, 82.5, 74.5]}
    assert means(test)["#000000"] == [75.5, 76.5, 65.5]
    assert [dots(axes, ".") for axes in figure.axes] == [12, 12, 6, 6]
    bands = [sum(isinstance(c, FillBetweenPolyCollection) for c in axes.collections) for axes in figure.axes]
    assert bands == [2, 2, 1, 1]
    assert means(effect) == means(effect_test) == {"#D55E00": [-2, 1, 4]}
    assert "ReLU minus none, slope per doubling: validation +1.50 pp, test +1.50 pp (n = 2)." in texts(figure)


def test_axes_say_what_they_are(factorial_study: Study, runs: list[StudyRun]) -> None:
    validation, _, effect, _ = draw_factorial(factorial_study, runs).axes
    assert validation.get_xlabel() == ""  # it is below the last row
    assert effect.get_xlabel().split() == ["channels", "per", "segment", "(log₂", "scale)"]
    assert list(validation.get_xticks()) == [0, 2, 4]
    assert [label.get_text() for label in validation.get_xticklabels()] == ["1", "4", "16\nevery one"]
    assert validation.get_title(loc="left") == "Validation top-1"
    assert validation.get_ylabel() == "top-1 (%)"
    assert effect.get_ylabel() == "difference in top-1\n(percentage points)"
    assert effect.get_title(loc="left").split() == ["Difference", "from", "“none”,", "validation"]


def test_levels_of_nearly_one_size_stand_side_by_side(factorial_study: Study, runs: list[StudyRun]) -> None:
    assert factorial_study.design is not None
    assert "side by side" not in texts(draw_factorial(factorial_study, runs))
    near = {arm: min(position, 4.0) for arm, position in factorial_study.design.positions.items()}
    study = replace(factorial_study, design=replace(factorial_study.design, positions=near))
    figure = draw_factorial(study, runs)
    assert list(figure.axes[0].get_xticks()) == [0, 2, 2.6]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "4", "4\nevery one"]
    assert "drawn side by side" in texts(figure)


def test_what_is_missing_leaves_a_gap_and_what_diverged_a_cross_and_no_effect(
    factorial_study: Study, runs: list[StudyRun], make_run
) -> None:
    left = [run for run in runs if run.arm != "four_relu" and (run.arm, run.seed) != ("all_relu", 1)]
    left += [make_run("four_relu", seed, status="missing") for seed in (0, 1)]
    left.append(make_run("all_relu", 1, [0.5], status="diverged"))
    figure = draw_factorial(factorial_study, left)
    validation, _, effect, _ = figure.axes
    relu = means(validation)["#D55E00"]
    assert np.isnan(relu[1])
    assert (relu[0], relu[2]) == (78.5, (74 + 10) / 2)
    assert np.isnan(means(effect)["#D55E00"][1])
    assert (dots(validation, "x"), dots(effect, "x"), means(effect)["#D55E00"][2]) == (1, 0, 4)
    told = texts(figure)
    assert "9 of 12 runs completed." in told
    assert "Diverged: all, ReLU, seed 1" in told
    assert "Left out: four, ReLU, seeds 0, 1 (missing)." in told
    assert "ReLU minus none: no slope, because no seed learned at every level." in told


def test_one_seed_is_drawn(factorial_study: Study, runs: list[StudyRun]) -> None:
    figure = draw_factorial(factorial_study, [run for run in runs if run.seed == 0])
    assert means(figure.axes[2]) == {"#D55E00": [-2, 1, 4]}


def test_without_a_completed_run_it_says_so(factorial_study: Study, make_run) -> None:
    figure = draw_factorial(factorial_study, [make_run("one_none", 0, status="missing")])
    assert figure.axes == []
    assert "no completed run" in texts(figure)


@pytest.mark.parametrize(("number", "panels"), [(2, 8), (5, 20)])
def test_sets_of_arms_are_columns_of_one_scale(
    factorial_study: Study, make_run, number: int, panels: int
) -> None:
    study = sets_of_arms(factorial_study, number)
    runs = [make_run(arm.name, 0, [0.5, 0.7 + 0.01 * i], 0.6) for i, arm in enumerate(study.arms)]
    figure = draw_factorial(study, runs)
    assert len(figure.axes) == panels
    first_row = figure.axes[: min(number, SCREEN_COLUMNS)]
    assert [axes.get_title(loc="left") for axes in first_row] == [
        f"the set{i}" for i in range(len(first_row))
    ]
    assert len({axes.get_position().y0 for axes in first_row}) == 1
    assert len({axes.get_ylim() for axes in first_row}) == 1
    assert [bool(axes.get_ylabel()) for axes in first_row] == [True] + [False] * (len(first_row) - 1)
    assert len({label for axes in figure.axes if (label := axes.get_ylabel())}) == 4
    assert "the set1: ReLU minus none, slope per doubling" in texts(figure)


def test_many_notes_are_cut_and_the_table_named(factorial_study: Study, make_run) -> None:
    study = sets_of_arms(factorial_study, 5)
    runs = [make_run(study.baseline, 0, [0.5, 0.7])]
    runs += [make_run(arm.name, 1, status="missing") for arm in study.arms]
    assert "more lines: see the table." in texts(draw_factorial(study, runs))


def test_it_is_written_as_two_files(factorial_study: Study, runs: list[StudyRun], tmp_path: Path) -> None:
    paths = write_factorial_figure(factorial_study, runs, tmp_path)
    assert [path.name for path in paths] == ["section_spectrum.png", "section_spectrum.svg"]
    assert all(path.stat().st_size > 1000 for path in paths)
