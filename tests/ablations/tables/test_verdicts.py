"""What people look at: the table of verdicts."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ablations.evidence.claims import Claim, Comparison
from ablations.evidence.verdicts import Verdict, judge_study, untestable
from ablations.studies.results import Study, StudyRun
from ablations.tables.verdicts import (
    INTEGERS,
    console_table,
    to_decide,
    verdict_table,
    write_verdicts,
)

PAIR = {"with": 1.0, "without": -1.0}
CLAIMS = [
    Claim("final", "It ends higher.", "Me", "residual", (Comparison(PAIR, "test_top1", "higher", 0.004),)),
    Claim(
        "speed",
        "It is faster.",
        "Me",
        "residual",
        (Comparison(PAIR, "steps_to_target", "lower", 0.05), Comparison(PAIR, "area", "higher", 0.01)),
    ),
    Claim(
        "same", "It is [the] same.", "Me", "residual", (Comparison(PAIR, "val_top1", "no_difference", 0.1),)
    ),
    Claim("never", "It is | never.", "Me", None, (), "it takes 50 % more"),
]


@pytest.fixture
def verdicts(residual_study: Study, make_runs: Callable[[Study], list[StudyRun]]) -> list[Verdict]:
    return [*judge_study(CLAIMS, residual_study, make_runs(residual_study)), untestable(CLAIMS[-1])]


def test_numbers(verdicts: list[Verdict]) -> None:
    table = verdict_table(verdicts)
    assert list(table["claim"]) == ["final", "speed", "speed", "same", "never"]
    assert list(table["metric"].dropna()) == ["test_top1", "steps_to_target", "area", "val_top1"]
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["verdict"], first["n_pairs"]) == ("holds", 6)
    assert 0 < first["ci_low"] < first["estimate"] < first["ci_high"]
    assert first["confidence"] == pytest.approx(1 - verdicts[0].comparisons[0].level)
    assert first["p"] <= 1 - first["confidence"]
    assert first["core_hours"] == pytest.approx(12 * 90 / 3600)
    assert (last["verdict"], last["reason"]) == ("not testable", "it takes 50 % more")
    assert last[["comparison", "estimate", "n_pairs", "core_hours"]].isna().all()
    assert verdict_table([]).empty


def test_files(verdicts: list[Verdict], residual_study: Study, make_runs, tmp_path: Path) -> None:
    runs = make_runs(residual_study)
    paths = write_verdicts(verdicts, [(residual_study, runs)], tmp_path, "__study=residual")
    forms = (".csv", ".md", ".tex", "_slim.tex")
    assert [path.name for path in paths] == [f"verdicts__study=residual{form}" for form in forms]
    expected = verdict_table(verdicts).astype(dict.fromkeys(INTEGERS, "float"))
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), expected, check_dtype=False, rtol=1e-12)
    page = paths[1].read_text()
    for phrase in (
        "with residual connections − without residual connections",
        "higher by at least 0.4 pp",
        "lower by at least 5 % of the steps",
        "within 10 pp",
        "| holds ",
        "it takes 50 % more",
        "0 / 0",
        "Holm's procedure",
        f"Scale of final, speed, same: {residual_study.scale}.",
        "Some CPU (cpu, 1 thread a run)",
    ):
        assert phrase in page
    assert "table 3" not in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9, 11}
    source = paths[2].read_text()
    assert r"50 \% more" in source
    assert source.count(r"\toprule") == 2
    before = [path.read_bytes() for path in paths]
    again = write_verdicts(verdicts, [(residual_study, runs)], tmp_path, "__study=residual")
    assert [path.read_bytes() for path in again] == before


def test_nothing_completed(residual_study: Study, make_run, tmp_path: Path) -> None:
    runs = [make_run(arm, 0, status="missing") for arm in ("with", "without")]
    found = judge_study(CLAIMS, residual_study, runs)
    page = write_verdicts(found, [(residual_study, runs)], tmp_path)[1].read_text()
    assert "No completed run." in page
    assert "no pair of results yet" in page
    assert "2 / 0" in page
    assert "6 or more seeds in total" in page


def shown(verdicts: list[Verdict], width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(console_table(verdicts))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_what_it_takes_is_told(residual_study: Study, make_run) -> None:
    differences = (0.05, -0.05, 0.04, -0.04, 0.03, 0.01)
    runs = [
        make_run(arm, seed, [0.5], 0.5 + (arm == "with") * difference)
        for seed, difference in enumerate(differences)
        for arm in ("with", "without")
    ]
    (verdict,) = judge_study(CLAIMS[:1], residual_study, runs)
    lines = shown([verdict, untestable(CLAIMS[-1])], 80)
    assert lines[0] == "Claims: 0 of 2 hold, 1 inconclusive, 1 not testable"
    (heading,) = (line for line in lines if line.startswith("final"))
    assert heading.startswith(f"final: inconclusive; to decide: {verdict.seeds_needed} seeds in total")
    assert lines[lines.index("never: not testable") + 1] == "  it takes 50 % more"
    note = " ".join(lines[lines.index("  it takes 50 % more") + 1 :])
    assert "percentage points" in note
    assert "steps to target" not in note  # there is none


def test_thousands_of_seeds_are_no_advice(verdicts: list[Verdict]) -> None:
    def told(seeds: int) -> str:
        return to_decide(replace(verdicts[0], verdict="inconclusive", seeds_needed=seeds))

    assert "998" in told(998)
    assert not re.search(r"\d", told(72_998))


def test_the_console_shows_every_comparison(verdicts: list[Verdict]) -> None:
    for width in (80, 160):
        lines = shown(verdicts, width)
        assert max(map(len, lines)) <= width
        rows = [line for line in lines if line.endswith("with − without")]
        assert [row[:28].strip() for row in rows] == [
            "test top-1 higher",
            "steps to target lower",
            "area under curve higher",
            "validation top-1 within 10",
        ]
        assert all(re.search(r" [+−][\d.]+ \[.*\] (pp|%) +6  with − without$", row) for row in rows)
        assert len({row.index("with − ") for row in rows}) == 1  # in line
        headings = [line.partition(":")[0] for line in lines if re.match(r"\w+: ", line)]
        assert headings == ["Claims", "final", "speed", "same", "never", "brackets"]


def test_a_long_comparison_gives_way_and_nothing_else_does(verdicts: list[Verdict]) -> None:
    one = verdicts[0].comparisons[0]
    long = replace(one.comparison, contrast={"a_rather_long_arm": 1.0, "another_rather_long_arm": -1.0})
    lines = shown([replace(verdicts[0], comparisons=(replace(one, comparison=long),))], 80)
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if "higher" in line)
    assert row.endswith("a_rather_long_arm −")
    assert lines[lines.index(row) + 1].strip() == "another_rather_long_arm"
