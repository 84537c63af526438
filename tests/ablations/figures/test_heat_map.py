"""The heat map of two swept numbers: what its cells, axes and colours say."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ablations.figures.heat_map import draw_heat_map
from ablations.studies.results import Arm, Study, StudyRun, Swept

RATES, DECAYS = (0.2, 0.05), (0, 1e-4)


@pytest.fixture
def study(residual_study: Study) -> Study:
    values = {f"lr={rate} decay={decay}": (rate, decay) for rate in RATES for decay in DECAYS}
    return replace(
        residual_study,
        arms=tuple(Arm(name, name, {"lr": rate, "decay": decay}) for name, (rate, decay) in values.items()),
        baseline="lr=0.2 decay=0",
        seeds=(0, 1),
        target=None,
        swept=Swept(("recipe.optimizer.lr", "weight_decay"), values),
    )


@pytest.fixture
def runs(study: Study, make_run) -> list[StudyRun]:
    """One cell without a result, one of a single run that diverged."""
    planned = [(arm.name, seed) for arm in study.arms for seed in study.seeds]
    made = {(name, seed): make_run(name, seed, [0.5, 0.6 + 0.02 * seed], 0.4) for name, seed in planned}
    for seed in study.seeds:
        made["lr=0.05 decay=0", seed] = make_run("lr=0.05 decay=0", seed, status="missing")
    made["lr=0.05 decay=0.0001", 0] = make_run("lr=0.05 decay=0.0001", 0, [0.5], status="diverged")
    return list(made.values())


def texts(figure: Figure, panel: int) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text() for text in figure.axes[panel].texts}


def test_a_cell_has_mean_interval_and_what_diverged_at_the_place_of_its_values(study, runs) -> None:
    figure = draw_heat_map(study, runs)
    validation, test, bar = figure.axes
    assert [label.get_text() for label in validation.get_xticklabels()] == ["0.05", "0.2"]
    assert [label.get_text() for label in validation.get_yticklabels()] == ["0", "0.0001"]
    assert (validation.get_xlabel(), validation.get_ylabel()) == study.swept.keys
    cells = texts(figure, 0)
    assert cells[1, 0].splitlines()[0] == "61.0"  # the mean of 60 and 62
    low, high = map(float, cells[1, 0].splitlines()[1].strip("[]").split(", "))
    assert (low + high) / 2 == pytest.approx(61, abs=0.1)
    assert "1 diverged" in cells[0, 1]  # chance and 62
    assert cells[0, 1].splitlines()[0] == "36.0"
    assert (0, 0) not in cells
    assert texts(figure, 1)[1, 0] == "40.0"
    assert "%" in bar.get_ylabel()
    frames = [patch for patch in validation.patches if isinstance(patch, Rectangle) and not patch.get_hatch()]
    assert [(frame.get_x() < 1 < frame.get_x() + 1, frame.get_y() < 0) for frame in frames] == [(True, True)]
    assert test.images[0].norm is validation.images[0].norm


def test_without_a_result_it_says_so(study, make_run) -> None:
    runs = [make_run(arm.name, seed, status="missing") for arm in study.arms for seed in study.seeds]
    figure = draw_heat_map(study, runs)
    assert not figure.axes
    assert "no completed run" in [text.get_text() for text in figure.texts]
