"""Everything that is written for one study: its tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from ablations.evidence.mechanism import measured_of
from ablations.figures.factorial import write_factorial_figure
from ablations.figures.heat_map import write_heat_map
from ablations.figures.own import write_own_figures
from ablations.figures.paper import write_paper
from ablations.figures.study import write_figures
from ablations.figures.tuning import write_tuning_figure
from ablations.studies.results import Study, StudyRun
from ablations.tables.mechanism import write_mechanism_tables
from ablations.tables.study import write_and_show
from ablations.tables.tuning import write_trials


@dataclass(frozen=True)
class Outputs:
    """What was written for a study; `shown` is the table for the terminal."""

    tables: list[Path]
    figures: list[Path]
    shown: RenderableType


def write_study(
    study: Study, runs: Sequence[StudyRun], results_dir: Path, *, paper_width: float | None = None
) -> Outputs:
    """Write a study's tables and figures from its records; with a width in inches, also figures for a paper.

    Diagnostics are shown if at least two arms have them; one arm has them only through runs shared with
    another study.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
        OSError: The results cannot be written.
    """
    in_tables, in_figures = results_dir / "tables", results_dir / "figures"
    tables, shown = write_and_show(study, runs, in_tables)
    draw = write_factorial_figure if study.design else write_figures
    if study.swept is not None and study.swept.two_numbers:
        draw = write_heat_map
    figures = [*draw(study, runs, in_figures), *write_own_figures(study, runs, in_figures)]
    if study.tuning is not None:
        tables += write_trials(study, in_tables)
        figures += write_tuning_figure(study, in_figures)
    measured = [one for one in measured_of(study, runs) if len(one.arms()) > 1]
    tables += write_mechanism_tables(study, measured, in_tables)
    if paper_width is not None:
        figures += write_paper(study, runs, in_figures, paper_width)
    return Outputs(tables, figures, shown)
