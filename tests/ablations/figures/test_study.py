"""What is drawn, looked up in the figure's artists, and the two files."""

import itertools
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from ablations.figures import study as figures
from ablations.figures import style as figures_style
from ablations.figures.study import draw_study, write_figure, write_figures
from ablations.figures.style import save_figure
from ablations.studies.results import Study, StudyRun
from ablations.tables.study import study_contents


def texts(figure: Figure) -> str:
    """Every text of a figure; what was broken into lines of its own is whole."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.get_yticklabels()]
        if legend := axes.get_legend():
            found += [text.get_text() for text in legend.get_texts()]
    return " ".join(found).replace("\N{NO-BREAK SPACE}", " ")


def bands(figure: Figure) -> list[FillBetweenPolyCollection]:
    return [c for c in figure.axes[0].collections if isinstance(c, FillBetweenPolyCollection)]


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.fixture
def broken_runs(activation_study: Study, make_run, make_runs) -> list[StudyRun]:
    """Of three arms and six seeds one run failed, one diverged in epoch 4, two are missing."""
    gone = {("none", 5), ("relu", 2), ("elu", 3), ("elu", 4)}
    runs = [run for run in make_runs(activation_study) if (run.arm, run.seed) not in gone]
    return [
        *runs,
        make_run("none", 5, status="failed"),
        make_run("relu", 2, [0.5, 0.7, 0.75], status="diverged"),
        make_run("elu", 3, status="missing"),
        make_run("elu", 4, status="missing"),
    ]


def test_mean_seeds_band_and_target(residual_study: Study, make_runs) -> None:
    runs = make_runs(residual_study)
    figure = draw_study(residual_study, runs)
    curves = {line.get_linewidth(): 0 for line in figure.axes[0].lines}
    for line in figure.axes[0].lines:
        curves[line.get_linewidth()] += 1
    assert curves == {0.7: 12, 2.0: 2, 1.0: 1}  # seeds, means, target
    baseline = next(line for line in figure.axes[0].lines if line.get_linewidth() == 2)
    assert baseline.get_color() == "#000000"
    expected = np.mean([run.history["val_top1"] for run in runs if run.arm == "with"], axis=0)
    np.testing.assert_allclose(baseline.get_ydata(), 100 * expected)
    np.testing.assert_array_equal(baseline.get_xdata(), 94 * np.arange(1, 7))
    assert len(bands(figure)) == 2


def test_differences_are_paired_percentage_points(residual_study: Study, make_run) -> None:
    runs = [
        make_run("with", 0, [0.80], 0.75),
        make_run("with", 1, [0.90], 0.85),
        make_run("without", 0, [0.70], 0.60),
        make_run("without", 1, [0.78], 0.72),
        make_run("without", 2, [0.50], 0.50),  # its baseline is not there
    ]
    figure = draw_study(residual_study, runs)
    dots = [c.get_offsets()[:, 0] for c in figure.axes[1].collections if len(c.get_offsets())]
    assert [list(x) for x in dots] == [pytest.approx([-10, -12]), pytest.approx([-15, -13])]
    assert [text.get_text() for text in figure.axes[1].texts[1:]] == ["−11.0", "−14.0"]
    assert "without residual connections, n = 2" in texts(figure)


def test_words_and_units(activation_study: Study, make_runs) -> None:
    found = texts(draw_study(activation_study, make_runs(activation_study)))
    for phrase in [
        "Intermediate activation",
        activation_study.scale,
        activation_study.source,
        "training steps",
        "validation top-1 (%)",
        "target 80 %",
        "top-1 minus “no intermediate activation”\n(percentage points)",
        "no intermediate activation, baseline (6 / 6 runs)",
        "intermediate ELU (6 / 6 runs)",
    ]:
        assert phrase in found
    assert "Left out" not in found
    assert "Diverged" not in found
    assert "According to the records, the compared arms differ only in the declared factor." in found


def test_what_is_not_declared_is_named_below(residual_study: Study, make_run) -> None:
    runs = [make_run("with", 0, [0.8]), make_run("without", 0, [0.7], parameters=323_000)]
    line = (
        "Differences beyond the declared factor: “without residual connections” has 5.0 % fewer parameters."
    )
    assert line in texts(draw_study(residual_study, runs))


def test_missing_and_diverged_runs_are_named(activation_study: Study, broken_runs) -> None:
    figure = draw_study(activation_study, broken_runs)
    found = texts(figure)
    for phrase in [
        "intermediate ReLU (5 / 6 runs)",
        "intermediate ELU (4 / 6 runs)",
        "Diverged: intermediate ReLU, seed 2; counted as chance, 10 %, from there on.",
        "Left out: no intermediate activation, seed 5 (failed).",
        "Left out: intermediate ELU, seeds 3, 4 (missing).",
    ]:
        assert phrase in found
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [(*cross.get_xdata(), *cross.get_ydata()) for cross in crosses] == [(282, 75)]


def test_a_single_epoch_is_a_point(residual_study: Study, make_run) -> None:
    figure = draw_study(residual_study, [make_run("with", seed, [0.5]) for seed in (0, 1)])
    drawn = [line for line in figure.axes[0].lines if line.get_linewidth() in (0.7, 2)]
    assert len(drawn) == 3
    assert "None" not in {line.get_marker() for line in drawn}


def test_no_line_touches_an_arm_s_name(residual_study: Study, make_run) -> None:
    runs = [make_run("with", seed, [0.5], 0.5) for seed in (0, 1)]
    runs += [make_run("without", seed, [0.6 + seed / 10], 0.6) for seed in (0, 1)]  # zero is at the left
    differences = draw_study(residual_study, runs).axes[1]
    name = next(text for text in differences.texts if text.get_text().startswith("without"))
    box = name.get_bbox_patch()
    assert box is not None
    assert box.get_alpha() is None
    zero = next(line for line in differences.lines if list(line.get_xdata()) == [0, 0])
    assert name.get_zorder() > zero.get_zorder()


def test_one_seed_has_no_band(residual_study: Study, make_run) -> None:
    figure = draw_study(residual_study, [make_run("with", 0, [0.5, 0.8])])
    assert bands(figure) == []
    assert "without residual connections, n = 0" in texts(figure)


def test_nothing_completed(residual_study: Study, make_run) -> None:
    figure = draw_study(residual_study, [make_run("with", 0, status="running")])
    assert "no completed run" in texts(figure)
    assert "Left out: with residual connections, seed 0 (running)." in texts(figure)
    assert figure.axes == []


@pytest.mark.parametrize("kind", ["broken", "many", "confounded"])
def test_text_is_inside_readable_and_apart(
    activation_study: Study, make_runs, broken_runs, kind: str
) -> None:
    study, runs = activation_study, broken_runs
    if kind == "many":
        arms = tuple(replace(study.arms[0], name=f"arm{i}", label=f"arm {i}") for i in range(9))
        study = replace(study, arms=arms, baseline="arm0", scale="long words " * 20)
        runs = make_runs(study)
    if kind == "confounded":
        label = "without residual connections and with {} parameters"
        names = ("few", "many", "some more")
        arms = tuple(replace(study.arms[0], name=name, label=label.format(name)) for name in names)
        study = replace(study, arms=(study.arms[0], *arms))
        runs = make_runs(study)
        for place, run in enumerate(runs):
            assert run.record is not None
            runs[place] = replace(run, record={**run.record, "parameters": 1000 * len(run.arm)})
    figure = draw_study(study, runs)
    figure.draw_without_rendering()
    ticks_outside = [
        tick.label1
        for axes in figure.findobj(Axes)
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    ]
    shown = [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in ticks_outside
    ]
    for text in shown:
        assert text.get_fontsize() >= 8
        assert figure.bbox.containsx(text.get_window_extent().x0), text
        assert figure.bbox.containsx(text.get_window_extent().x1), text
        assert figure.bbox.containsy(text.get_window_extent().y0), text
        assert figure.bbox.containsy(text.get_window_extent().y1), text
    for one, other in itertools.combinations(shown, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one, other)


def test_files_are_reproducible_and_global_state_is_left_alone(
    activation_study: Study, broken_runs, tmp_path: Path
) -> None:
    before = dict(matplotlib.rcParams)
    first = write_figure(activation_study, broken_runs, tmp_path / "a")
    second = write_figure(activation_study, broken_runs[::-1], tmp_path / "b")
    assert dict(matplotlib.rcParams) == before
    names = [f"figure10_intermediate_activation.{suffix}" for suffix in ("png", "svg")]
    assert [path.name for path in first] == names
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    width = int.from_bytes(first[0].read_bytes()[16:20])  # of the PNG's header
    assert width == 5.2 * 200
    svg = first[1].read_text()
    assert "dc:date" not in svg
    assert ">training steps</text>" in svg


def test_a_figure_drawn_outside_of_our_style_is_in_it(residual_study: Study, make_runs) -> None:
    runs = make_runs(residual_study)
    with figures_style.style():
        expected = pixels(draw_study(residual_study, runs))
    with matplotlib.rc_context({"axes.titlesize": 14, "xtick.color": "red", "axes.spines.top": True}):
        np.testing.assert_array_equal(pixels(draw_study(residual_study, runs)), expected)


def test_a_study_of_several_figures_draws_each_of_its_arms(
    jft_study, jft_runs, tmp_path, monkeypatch
) -> None:
    drawn = {}

    def spy(study, runs, draw=figures.draw_study):
        drawn[study.output] = draw(study, runs)
        return drawn[study.output]

    monkeypatch.setattr(figures, "draw_study", spy)
    paths = write_figures(jft_study, jft_runs, tmp_path)
    assert [path.name for path in paths] == [
        f"{name}.{kind}" for name in ("figure07", "figure08") for kind in ("png", "svg")
    ]
    found = texts(drawn["figure08"])
    for phrase in ("FC", "figure 8", "validation MAP@100 (%)", "validation", "+5.0"):
        assert phrase in found
    assert "MAP@100 minus “Inception V3, FC”" in found
    assert "Xception (" not in found  # the arms of the other figure


def test_differences_are_those_of_the_table_where_arms_have_their_own_baseline(
    jft_study: Study, jft_runs: list[StudyRun]
) -> None:
    study = replace(jft_study, figures=())
    figure = draw_study(study, jft_runs)
    rows = study_contents(study, jft_runs)[0].dropna(subset="val_difference_pp_mean")
    assert set(rows["compared_with"]) == {"inception", "inception_fc"}
    drawn = [text.get_text() for text in figure.axes[1].texts if text.get_text()[0] in "+−"]
    in_table = [
        f"{row[f'{part}_difference_pp_mean']:+.1f}" for _, row in rows.iterrows() for part in ("val", "test")
    ]
    assert [number.replace("−", "-") for number in drawn] == in_table
    names = " ".join(texts(figure).split())
    for arm, other in (("Xception", "Inception V3"), ("Xception, FC", "Inception V3, FC")):
        assert f"{arm} − {other}, n = 2" in names
    assert "minus “" not in names  # no single arm


def test_no_line_of_a_note_breaks_within_a_number_and_its_unit() -> None:
    for before in range(40, 70):
        lines = figures_style.wrapped([f"{'x' * before} has 2.4 % more (n = 6) and more words"])
        for whole in ("2.4 %", "(n = 6)"):
            assert any(whole in line.replace("\N{NO-BREAK SPACE}", " ") for line in lines)


def test_of_many_seeds_some_are_drawn_and_all_are_counted(
    residual_study: Study, make_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (figures, figures_style):
        monkeypatch.setattr(module, "SEEDS_DRAWN", 4)
    study = replace(residual_study, seeds=tuple(range(9)))
    runs = [make_run("with", seed, [0.5, 0.8 + 0.01 * seed]) for seed in study.seeds]
    runs += [make_run("without", seed, [0.4, 0.7 + 0.02 * seed]) for seed in study.seeds]
    figure = draw_study(study, runs)
    left, right = figure.axes
    assert sum(line.get_linewidth() == 0.7 for line in left.lines) == 2 * 4
    np.testing.assert_allclose(left.lines[0].get_ydata(), [50, 80])  # the first seed is among them
    mean = next(line for line in left.lines if line.get_linewidth() == 2)
    np.testing.assert_allclose(mean.get_ydata(), [50, 84])  # of all nine
    assert sum(len(dots.get_offsets()) for dots in right.collections) == 2 * 4
    assert "4 of up to 9 single seeds per arm are drawn; means, bands and intervals use all." in texts(figure)


def test_a_label_is_no_formula(residual_study: Study, make_runs, tmp_path: Path) -> None:
    arms = tuple(replace(arm, label=r"$\frac$ of $x") for arm in residual_study.arms)
    study = replace(residual_study, arms=arms, title="$x^2$")
    figure = draw_study(study, make_runs(study))
    save_figure(lambda: figure, tmp_path, "figure")  # the first is no formula that can be parsed
    labelled = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert len(labelled) >= 5
    assert not any(text.get_parse_math() for text in labelled)


def test_a_run_that_diverged_at_once_has_no_curve(residual_study: Study, make_run) -> None:
    curve = [0.1, 0.3, 0.6, 0.8, 0.8, 0.8]  # of all: the ends coincide
    runs = [make_run(arm, seed, curve) for arm in ("with", "without") for seed in (0, 1)]
    figure = draw_study(residual_study, [*runs, make_run("with", 2, [], status="diverged")])
    assert len(figure.axes[0].lines) > 4  # single seeds and means


def test_ends_that_nearly_coincide_are_drawn_again_enlarged(residual_study: Study, make_run) -> None:
    def drawn(*ends: float) -> list[Axes]:
        runs = [
            make_run(arm, seed, [0.1, 0.3, 0.6, 0.8, end, end + 0.002 * seed])
            for arm, end in zip(("with", "without"), ends, strict=True)
            for seed in (0, 1)
        ]
        return draw_study(residual_study, runs).axes[0].child_axes

    (enlarged,) = drawn(0.85, 0.86)
    low, high = enlarged.get_ylim()
    assert 80 < low < 85.1 < 86.1 < high < 90
    assert drawn(0.85, 0.3) == []  # far apart, and there is no room
