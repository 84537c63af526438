"""A user's figures of a study: drawn by their functions, with our title above and our notes below."""

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from ablations.errors import UserError
from ablations.evidence.audit import audit_study
from ablations.figures.study import part_of
from ablations.figures.style import (
    COLORS,
    LINE,
    TITLE_CHARACTERS,
    WIDTH,
    header_height,
    save_figure,
    subtitle_of,
    wrapped,
    write_nothing_completed,
    write_texts,
)
from ablations.notes import audit_lines, diverged_notes, failure_notes, missing_notes
from ablations.studies.results import Study, StudyRun, outcomes
from ablations.validation import imported

EMPTY = 2.7  # inches, without a run


def write_own_figures(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[Path]:
    """Write the figures with a function of the user's; see `ablations.figures.study.write_figure`."""
    return [
        path
        for draw, part, of_part in of_own_figures(study, runs)
        for path in save_figure(partial(draw_framed, draw, part, of_part), folder, part.output)
    ]


def of_own_figures(study: Study, runs: Sequence[StudyRun]) -> Iterator[tuple[str, Study, Sequence[StudyRun]]]:
    """The function, the study and the runs of each."""
    for figure in study.figures:
        if figure.draw is not None:
            yield figure.draw, *part_of(study, runs, figure)


def draw_framed(draw: str, study: Study, runs: Sequence[StudyRun]) -> Figure:
    """A user's figure with title, scale, source and notes.

    Raises:
        ValueError: As `draw_own`, or as `ablations.studies.results.outcomes`.
    """
    by_arm = outcomes(study, runs)
    nothing = not any(by_arm.values())
    figure = Figure(figsize=(WIDTH, EMPTY)) if nothing else draw_own(draw, study, runs, WIDTH)
    title, subtitle = textwrap.wrap(study.title, TITLE_CHARACTERS), subtitle_of(study)
    notes = failure_notes(study, by_arm) + diverged_notes(study, by_arm) + missing_notes(study, runs)
    notes = wrapped([*notes, *audit_lines(study, audit_study(study, by_arm))])
    panel = figure.get_figheight()
    above, below = header_height(title, subtitle), LINE * len(notes) + 0.15
    height = above + panel + below
    figure.set_size_inches(WIDTH, height)
    figure.set_layout_engine("constrained", rect=(0, below / height, 1, panel / height))
    write_texts(figure, title, subtitle, notes)
    if nothing:
        write_nothing_completed(figure, below + panel / 2)
    return figure


def draw_own(draw: str, study: Study, runs: Sequence[StudyRun], width: float) -> Figure:
    """A user's figure, scaled to a width in inches.

    Args:
        draw: `module.NAME` of a function from the study and its runs to a figure.

    Raises:
        ValueError: There is no such function.
        UserError: It returns no figure.
    """
    colors = f"cycler('color', {list(COLORS)})"
    with matplotlib.style.context({"figure.constrained_layout.use": True, "axes.prop_cycle": colors}):
        figure = imported(draw)(study, runs)
    if not isinstance(figure, Figure):
        raise UserError(f"draw={draw}: returned {type(figure).__name__}; return a matplotlib.figure.Figure")
    own_width, height = figure.get_size_inches()
    figure.set_size_inches(width, height * width / own_width)
    return figure
