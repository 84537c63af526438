"""The figure of a tuning's trials, looked up in its artists, and the two files."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ablations.figures import tuning as figures_tuning
from ablations.figures.style import style
from ablations.figures.tuning import expected_best, write_tuning_figure
from ablations.studies.results import Study, Trial


def draw(study: Study) -> Figure:
    with style():
        return figures_tuning._draw(study, study.tuning)


def legend(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def trials_of(values: list[float]) -> list[Trial]:
    return [Trial({}, value, (), 0) for value in values]


def test_expected_best_is_the_mean_over_all_choices_of_the_drawn_trials() -> None:
    values = [0.6, 0.9, 0.2, 0.7, 0.5]
    expected = [
        np.mean([max(0.6, *drawn) for drawn in itertools.combinations(values[1:], size)]) if size else 0.6
        for size in range(5)
    ]
    np.testing.assert_allclose(expected_best(trials_of(values)), expected, rtol=1e-14)


def test_expected_best_by_hand() -> None:
    np.testing.assert_allclose(expected_best(trials_of([0.5, 0.8, 0.2])), [0.5, (0.8 + 0.5) / 2, 0.8])
    assert expected_best(trials_of([0.5])).tolist() == [0.5]


def test_a_curve_per_arm_and_every_trial_over_its_setting(tuned_study: Study) -> None:
    figure = draw(tuned_study)
    budget, rates = figure.axes
    curves = [line for line in budget.lines if line.get_linewidth() == 2]
    assert [line.get_color() for line in curves] == ["#000000", "#D55E00"]  # the baseline first
    for line, arm in zip(curves, ("with", "without"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), 100 * expected_best(tuned_study.tuning.trials[arm]))
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
    points = [line for line in rates.lines if len(line.get_xdata()) == 1]
    assert sum(line.get_markersize() == 12 for line in points) == 2  # the chosen
    assert sum(line.get_marker() == "x" for line in points) == 2  # diverged
    assert len(points) == 8 + 2
    assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in points} == {
        (trial.settings["learning_rate"], 100 * trial.value)
        for trials in tuned_study.tuning.trials.values()
        for trial in trials
    }
    assert rates.get_xscale() == "log"
    assert rates.get_xlabel() == "learning rate"
    assert budget.get_ylabel() == "expected best validation top-1 (%)"
    assert rates.get_ylabel() == "final validation top-1 (%)"
    assert budget.get_xlabel() == "trials of an arm"


def test_it_says_the_budget_what_was_chosen_and_what_is_assumed(tuned_study: Study) -> None:
    figure = draw(tuned_study)
    above = " ".join(text.get_text() for text in figure.texts)
    assert "4 trials × 2 seeds × 6 epochs for each of 2 arms, 16 runs, 14 min 02 s on one core" in above
    assert "independent draws of RandomSampler, the same for every arm" in above
    assert legend(figure)[:2] == [
        "with residual connections: best 87.0 % with learning rate 0.3 (trial 3)",
        "without residual connections: best 70.0 % with learning rate 0.1 (as configured)",
    ]
    learning = replace(
        tuned_study, tuning=replace(tuned_study.tuning, independent=False, sampler="TPESampler")
    )
    above = " ".join(text.get_text() for text in draw(learning).texts)
    assert "Draws of TPESampler are not independent, as the curve assumes" in above


def test_every_parameter_has_a_panel(tuned_study: Study) -> None:
    tuning = tuned_study.tuning
    kinds = ("a", "b", "a", None)
    trials = {
        arm: tuple(
            replace(
                trial, settings={**trial.settings, "decay": 10.0**-place, "kind": kinds[place], "size": 3}
            )
            for place, trial in enumerate(of_arm)
        )
        for arm, of_arm in tuning.trials.items()
    }
    names = ("learning_rate", "decay", "kind", "size")
    keys = {name: f"recipe.{name}" for name in names}
    figure = draw(replace(tuned_study, tuning=replace(tuning, trials=trials, keys=keys, space=keys)))
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "trials of an arm",
        *(name.replace("_", " ") for name in names),
    ]
    kind = figure.axes[3]
    assert [label.get_text() for label in kind.get_xticklabels()] == ["a", "b", "None"]
    joined = [line for axes in figure.axes[1:] for line in axes.lines if len(line.get_xdata()) > 1]
    assert not joined  # neighbours in one setting differ in the others


def test_it_is_written_as_two_files(tuned_study: Study, tmp_path: Path) -> None:
    paths = write_tuning_figure(tuned_study, tmp_path)
    assert [path.name for path in paths] == [
        f"figure09_residual__tuning=learning_rate_trials.{suffix}" for suffix in ("png", "svg")
    ]


def test_a_study_that_was_not_tuned_has_no_such_figure(residual_study: Study, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="study residual: its arms were not tuned"):
        write_tuning_figure(residual_study, tmp_path)
