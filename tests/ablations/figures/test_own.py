"""A user's figure: it gets our title, notes and width, and what it returns is checked."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure

from ablations.errors import UserError
from ablations.figures.own import draw_framed, draw_own
from ablations.studies.results import Study, StudyRun

Draw = Callable[[Study, Sequence[StudyRun]], Any]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[Draw], str]:
    """Puts a function into a module; returns the name that a study's file has."""

    def put(draw: Draw) -> str:
        module = ModuleType("my_figures")
        monkeypatch.setattr(module, "draw", draw, raising=False)
        monkeypatch.setitem(sys.modules, "my_figures", module)
        return "my_figures.draw"

    return put


def bars(study: Study, runs: Sequence[StudyRun]) -> Figure:
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots(1, 2)
    for of_panel in axes:
        of_panel.bar([arm.name for arm in study.arms], [1] * len(study.arms))
    figure.colorbar(axes[0].imshow([[0, 1]]), ax=axes)
    return figure


def test_it_has_our_width_and_its_own_shape(residual_study: Study, make_runs, named) -> None:
    figure = draw_own(named(bars), residual_study, make_runs(residual_study), 3.25)
    assert list(figure.get_size_inches()) == pytest.approx([3.25, 3.25 / 2])


def test_title_and_notes_are_outside_of_its_axes(residual_study: Study, make_runs, named) -> None:
    study = replace(residual_study, title="A title that is so long that it is wrapped to a second line")
    figure = draw_framed(named(bars), study, make_runs(study))
    figure.draw_without_rendering()
    axes = [one.get_tightbbox() for one in figure.axes]
    texts = [text for text in figure.texts if text.get_text()]
    assert len(texts) >= 4
    for text in texts:
        box = text.get_window_extent()
        assert not any(box.y0 < one.y1 and one.y0 < box.y1 for one in axes if one is not None)


def test_without_a_run_it_is_not_called(residual_study: Study, named) -> None:
    figure = draw_framed(named(lambda study, runs: 1 / 0), residual_study, [])
    assert "no completed run" in [text.get_text() for text in figure.texts]


def test_what_is_no_figure_is_named(residual_study: Study, make_runs, named) -> None:
    with pytest.raises(UserError, match=r"draw=my_figures\.draw: returned list; return a matplotlib"):
        draw_own(named(lambda study, runs: []), residual_study, make_runs(residual_study), 5)
