"""Tables in LaTeX: what the slim form prints, and that a real LaTeX sets both forms on a page."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.evidence.verdicts import judge_study
from ablations.slim_tables import Numbers, SlimTable
from ablations.studies.results import Study, StudyRun
from ablations.tables.study import write_and_show
from ablations.tables.verdicts import write_verdicts
from ablations.text import decimals
from experiments.study_file import project_claims

NAN = math.nan


def rows_of(latex: str) -> list[list[str]]:
    body = latex.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    return [[cell.strip() for cell in line.removesuffix(" \\\\").split(" & ")] for line in body.splitlines()]


def test_numbers_have_their_uncertainty_and_the_best_is_bold() -> None:
    table = SlimTable(
        title="50 % of it",
        label="x",
        head="arm",
        names=["a_b", "c", "d", "e"],
        columns=[
            Numbers("top-1\n%", [76.34, 76.31, 21.0, NAN], [1.23, 12.4, NAN, NAN], best=1, digits=1),
            Numbers("loss", [0.5123, 0.5, 0.7, 0.5], [0.012, 0.034, NAN, 0.02], best=-1),
            Numbers("difference", [NAN, -0.04, 1.25, 0.0], [NAN, 0.7, 12.0, NAN], digits=1, signed=True),
        ],
        notes=("Notes.",),
    )
    latex = table.latex()
    assert rows_of(latex) == [
        ["a\\_b", "\\bfseries 76.3(12)", "0.512(12)", "{--}"],
        ["c", "\\bfseries 76.3(124)", "\\bfseries 0.500(34)", "0.0(7)"],
        ["d", "21.0", "0.700", "1.2(120)"],
        ["e", "{--}", "\\bfseries 0.500(20)", "0.0"],
    ]
    assert "\\caption{50 \\% of it}" in latex
    assert "table-format=2.1(3)" in latex
    assert latex.index("\\end{table}") < latex.index("Notes.")


def test_a_half_is_rounded_as_in_the_other_tables() -> None:
    values = [100 * 0.3545, 100 * 0.3535]  # a little below 35.45, a little above 35.35
    rows = rows_of(SlimTable("t", "x", "arm", ["a", "b"], [Numbers("top-1", values, digits=1)]).latex())
    assert [row[1] for row in rows] == [decimals(value) for value in values] == ["35.5", "35.4"]


def test_nothing_is_the_best_of_equal_numbers() -> None:
    table = SlimTable("t", "x", "arm", ["a", "b"], [Numbers("n", [1.0, 1.0], best=1)])
    assert "bfseries" not in table.latex()


@pytest.fixture(scope="module")
def latex() -> str:
    found = shutil.which("pdflatex")
    packages = ("siunitx.sty", "adjustbox.sty", "booktabs.sty")
    missing = found is None or any(
        not subprocess.run(["kpsewhich", name], capture_output=True, check=False).stdout for name in packages
    )
    if missing:
        pytest.skip(f"needs pdflatex with {', '.join(packages)}")
    return str(found)


def typeset(latex: str, table: Path, folder: Path) -> str:
    """What LaTeX says of a page with a table on it."""
    folder.mkdir()
    (folder / "page.tex").write_text(
        "\\documentclass{article}\n"
        "\\usepackage{adjustbox,booktabs,siunitx}\n"
        f"\\begin{{document}}\n\\input{{{table.stem}}}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    shutil.copy(table, folder / table.name)
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]
    return ended.stdout


@pytest.mark.slow
def test_both_forms_fit_a_page(
    latex: str, residual_study: Study, factorial_study: Study, jft_study: Study, make_runs, jft_runs, tmp_path
) -> None:
    claims = [claim for claim in project_claims() if claim.study == "residual"]
    arms = {"residual": "with", "non_residual": "without"}
    judged = replace(
        residual_study,
        arms=tuple(
            replace(arm, name=next(new for new, old in arms.items() if old == arm.name))
            for arm in residual_study.arms
        ),
        baseline="residual",
    )
    runs: list[StudyRun] = make_runs(judged)
    tables = tmp_path / "tables"
    for study, of_study in (
        (residual_study, make_runs(residual_study)),
        (factorial_study, make_runs(factorial_study)),
        (jft_study, jft_runs),
    ):
        write_and_show(study, of_study, tables)
    own = [claim for claim in claims if all(set(one.contrast) <= set(arms) for one in claim.comparisons)]
    verdicts = judge_study(own, judged, runs)
    assert verdicts
    write_verdicts(tuple(verdicts) * 12, ((judged, runs),), tables)  # as many as the project's
    for table in sorted(tables.glob("*.tex")):
        said = typeset(latex, table, tmp_path / table.stem)
        assert not re.search("Overfull|Float too large", said), f"{table.name}\n{said}"
