"""What is drawn of measured mechanism, looked up in the figures' artists, and their files."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from ablations.evidence.mechanism import Measured, measured_of
from ablations.figures.mechanism import draw_mechanism, write_mechanism_figures
from ablations.figures.study import COLORS, style
from ablations.studies.results import Study, StudyRun

LAYERS = [
    "stem.relu1",
    "middle_flow.0.body.relu1",
    "middle_flow.0.body.separable1.intermediate_activation",
    "middle_flow.1.body.relu1",
    "middle_flow.1.body.separable1.intermediate_activation",
    "head.relu1",
]


def rows(run: StudyRun, *, between: bool) -> list[tuple[str, str, int, int, int, float]]:
    """Dead units rise by 10 % per layer of those there are, and by 1 % per seed."""
    layers = [layer for layer in LAYERS if between or "intermediate" not in layer]
    return [
        ("dead_units", layer, 4, epoch, 10 * epoch, place / 10 + run.seed / 100)
        for epoch in (1, 2)
        for place, layer in enumerate(layers)
    ]


@pytest.fixture
def residual_runs(residual_study: Study, make_run, measure) -> list[StudyRun]:
    runs = [make_run(arm.name, seed, [0.5, 0.6]) for arm in residual_study.arms for seed in (0, 1)]
    return [measure(run, rows(run, between=False)) for run in runs]


@pytest.fixture
def factorial_runs(factorial_study: Study, make_run, measure) -> list[StudyRun]:
    runs = [make_run(arm.name, seed, [0.5, 0.6]) for arm in factorial_study.arms for seed in (0, 1)]
    return [measure(run, rows(run, between=run.arm.endswith("relu"))) for run in runs]


def drawn(study: Study, runs: list[StudyRun]) -> tuple[Figure, Measured]:
    (measured,) = measured_of(study, runs)
    with style():
        return draw_mechanism(study, runs, measured), measured


def thick(figure: Figure, panel: int) -> dict[str, list[float]]:
    """Means of a panel by colour."""
    lines = [line for line in figure.axes[panel].lines if line.get_linewidth() > 1]
    return {str(line.get_color()): np.round(np.asarray(line.get_ydata()), 6).tolist() for line in lines}


def test_arms_are_lines_and_moments_are_panels(residual_study: Study, residual_runs: list[StudyRun]) -> None:
    figure, _ = drawn(residual_study, residual_runs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "After the first epoch",
        "After the last epoch",
    ]
    line = [0.5, 10.5, 20.5, 30.5]  # mean of two seeds
    assert thick(figure, 0) == dict.fromkeys(COLORS[:2], line)
    assert figure.axes[0].get_ylabel() == "dead units (% of the layer)"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["1", "2", "3"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["with residual connections", "without residual connections"]


def test_the_single_seeds_and_the_band_are_behind(
    residual_study: Study, residual_runs: list[StudyRun]
) -> None:
    figure, _ = drawn(residual_study, residual_runs)
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() < 1]
    assert len(thin) == 4
    bands = [item for item in figure.axes[0].collections if isinstance(item, FillBetweenPolyCollection)]
    assert len(bands) == 2
    # Two seeds 1 point apart: 12.706 * 0.7071 / sqrt(2) = 6.353 about the mean.
    heights = bands[0].get_paths()[0].vertices[:, 1]
    assert [heights.min(), heights.max()] == pytest.approx([0.5 - 6.353, 30.5 + 6.353], abs=1e-3)


def test_one_seed_has_no_band(residual_study: Study, residual_runs: list[StudyRun]) -> None:
    figure, _ = drawn(residual_study, [run for run in residual_runs if run.seed == 0])
    assert not [item for item in figure.axes[0].collections if isinstance(item, FillBetweenPolyCollection)]
    assert "2 of 2 runs measured" in "\n".join(text.get_text() for text in figure.texts)


def test_levels_are_panels_and_activations_lines(
    factorial_study: Study, factorial_runs: list[StudyRun]
) -> None:
    figure, measured = drawn(factorial_study, factorial_runs)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["one", "four", "all"]
    headings = [text.get_text() for text in figure.texts if text.get_text().endswith("epoch")]
    whose = ("The network's own activations", "Intermediate activations")
    assert headings == [f"{own} after the {which} epoch" for own in whose for which in ("first", "last")]
    assert len(titles) == 3 * 2 * 2  # levels, moments, kinds of layers
    rows = [axes.get_position().y0 for axes in figure.axes]
    assert max(rows.count(row) for row in rows) == 2  # a phone shows two side by side
    assert thick(figure, 0) == {COLORS[0]: [0.5, 10.5, 20.5, 30.5], COLORS[1]: [0.5, 10.5, 30.5, 50.5]}
    assert thick(figure, 9) == {COLORS[1]: [20.5, 40.5]}  # without activation nothing is between
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "ReLU"]
    shared = {axes.get_ylim() for axes in figure.axes[:3]}
    assert len(shared) == 1
    assert len(measured.layers) == 6


def test_arms_that_were_not_measured_have_no_line(
    residual_study: Study, residual_runs: list[StudyRun]
) -> None:
    figure, _ = drawn(residual_study, [run for run in residual_runs if run.arm == "without"])
    assert list(thick(figure, 0)) == [COLORS[1]]  # its colour of the study's other figures
    assert len(figure.legends[0].get_texts()) == 1


def test_gradients_are_on_a_logarithmic_scale_without_projections(
    residual_study: Study, make_run, measure
) -> None:
    layers = ["stem.conv1.conv", "entry_flow.0.shortcut.projection.conv", "head.logits"]
    norms = [("gradient_norm", layer, 4, 1, 1, 10.0**place) for place, layer in enumerate(layers)]
    runs = [measure(make_run("with", seed, [0.5, 0.6]), norms) for seed in (0, 1)]
    figure, _ = drawn(residual_study, runs)
    assert figure.axes[0].get_yscale() == "log"
    assert thick(figure, 0) == {COLORS[0]: [1.0, 100.0]}
    text = " ".join(text.get_text() for text in figure.texts)
    assert "Projections of shortcuts are left out" in text
    assert "logistic regression" in text


def test_the_files_are_small_and_the_same_each_time(
    factorial_study: Study, factorial_runs: list[StudyRun], tmp_path: Path
) -> None:
    found = measured_of(factorial_study, factorial_runs)
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        paths = write_mechanism_figures(factorial_study, factorial_runs, found, folder)
        assert [path.name for path in paths] == [
            "section_spectrum_dead_units.png",
            "section_spectrum_dead_units.svg",
        ]
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert write_mechanism_figures(factorial_study, factorial_runs, [], tmp_path / "c") == []
    assert not (tmp_path / "c").exists()


def test_a_panel_of_zeros_is_left_out(residual_study: Study, make_run, measure) -> None:
    runs = []
    for arm in residual_study.arms:
        run = make_run(arm.name, 0, [0.5, 0.6])
        of_run = [(*row[:-1], 0.0 if row[3] == 1 else row[-1]) for row in rows(run, between=False)]
        runs.append(measure(run, of_run))
    figure, _ = drawn(residual_study, runs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["After the last epoch"]
    assert any("every value is 0" in text.get_text() for text in figure.texts)
