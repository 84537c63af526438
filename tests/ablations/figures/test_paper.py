"""Figures for a paper: their width, their fonts, and which there are."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.figures.paper import write_paper
from ablations.studies.results import Arm, Study, StudyRun, Swept


def size(path: Path) -> tuple[float, float]:
    """Width and height of a page in inches."""
    found = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", path.read_bytes())
    assert found is not None
    return float(found[1]) / 72, float(found[2]) / 72


@pytest.fixture
def swept_study(residual_study: Study) -> Study:
    values = {f"a={a} b={b}": (a, b) for a in (1, 2) for b in (0.1, 0.2)}
    arms = tuple(Arm(name, name, dict(zip("ab", value, strict=True))) for name, value in values.items())
    return replace(
        residual_study, arms=arms, baseline="a=1 b=0.1", target=None, swept=Swept(("a", "b"), values)
    )


@pytest.mark.parametrize(
    ("which", "names"),
    [
        ("residual_study", ["figure09_residual.pdf"]),
        ("factorial_study", ["section_spectrum.pdf"]),
        ("swept_study", ["figure09_residual.pdf"]),
    ],
)
def test_a_figure_is_as_wide_as_a_column_and_brings_its_fonts(
    which: str, names: Sequence[str], request: pytest.FixtureRequest, make_runs, tmp_path: Path
) -> None:
    study: Study = request.getfixturevalue(which)
    runs: list[StudyRun] = make_runs(study)
    paths = write_paper(study, runs, tmp_path, 3.25)
    assert [path.name for path in paths] == list(names)
    for path in paths:
        width, height = size(path)
        assert width == pytest.approx(3.25)
        assert height < 9  # a page
        content = path.read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content


def test_a_name_of_two_lines_has_room_above_the_dots(
    residual_study: Study, make_runs, tmp_path: Path
) -> None:
    heights = []
    for label in ("short", "a name that takes a line and some of another"):
        arms = (
            arm if arm.name == residual_study.baseline else replace(arm, label=label)
            for arm in residual_study.arms
        )
        study = replace(residual_study, arms=tuple(arms))
        (path,) = write_paper(study, make_runs(study), tmp_path, 3.25)
        heights.append(size(path)[1])
    assert heights[1] > heights[0] + 0.1


def test_another_width_and_the_same_file_each_time(residual_study: Study, make_runs, tmp_path: Path) -> None:
    files = [
        write_paper(residual_study, make_runs(residual_study), tmp_path / name, width=6.75)
        for name in ("a", "b")
    ]
    ((path,), (again,)) = files
    assert size(path)[0] == pytest.approx(6.75)
    assert again.read_bytes() == path.read_bytes()


def test_each_figure_of_a_study_that_has_several(jft_study: Study, jft_runs, tmp_path: Path) -> None:
    paths = write_paper(jft_study, jft_runs, tmp_path, 3.25)
    assert [path.stem for path in paths] == [figure.output for figure in jft_study.figures]


def test_what_has_no_result_has_no_figure(residual_study: Study, make_run, tmp_path: Path) -> None:
    runs = [make_run(arm.name, seed, status="missing") for arm in residual_study.arms for seed in (0, 1)]
    assert write_paper(residual_study, runs, tmp_path, 3.25) == []
