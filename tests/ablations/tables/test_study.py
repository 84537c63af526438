"""The table of a study against numbers worked out by hand, and its three files."""

import io
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ablations.errors import UserError
from ablations.studies.results import Study, StudyRun
from ablations.tables.study import (
    markdown_table,
    study_contents,
    write_and_show,
)

T_2 = 4.302653  # 97.5 % quantile of Student's t with 2 degrees of freedom


@pytest.fixture
def mixed_runs(make_run) -> list[StudyRun]:
    """with: 0.80, 0.82, 0.84 and a failed run; without: 0.70, 0.70, diverged, missing."""
    return [
        make_run("with", 0, [0.5, 0.80], 0.79),
        make_run("with", 1, [0.5, 0.82], 0.80),
        make_run("with", 2, [0.5, 0.84], 0.81),
        make_run("with", 3, status="failed"),
        make_run("without", 0, [0.3, 0.70], 0.69, parameters=330_000),
        make_run("without", 1, [0.3, 0.70], 0.69, parameters=330_000),
        make_run("without", 2, [0.3], status="diverged", parameters=330_000),
        make_run("without", 3, status="missing"),
    ]


def test_numbers_by_hand(residual_study: Study, mixed_runs: list[StudyRun]) -> None:
    table = study_contents(residual_study, mixed_runs)[0].set_index("arm")
    assert list(table.index) == ["with", "without"]
    base, arm = table.loc["with"], table.loc["without"]

    counts = ["n_completed", "n_planned", "n_diverged", "n_running", "n_failed", "n_missing"]
    assert list(base[counts]) == [3, 4, 0, 0, 1, 0]
    assert list(arm[counts]) == [2, 4, 1, 0, 0, 1]

    assert (base["n_failed_to_learn"], arm["n_failed_to_learn"]) == (0, 1)
    assert math.isnan(base["failed_to_learn_p"])  # compared with nothing
    assert arm["failed_to_learn_p"] == 1  # one seed of three

    half = T_2 * 0.02 / math.sqrt(3)
    columns = ["val_top1_mean", "val_top1_ci_low", "val_top1_ci_high"]
    assert list(base[columns]) == pytest.approx([0.82, 0.82 - half, 0.82 + half], abs=1e-6)
    assert arm["val_top1_mean"] == pytest.approx((0.7 + 0.7 + 0.1) / 3)  # diverged is chance
    assert arm["test_top1_mean"] == pytest.approx((0.69 + 0.69 + 0.1) / 3)

    # Differences -10, -12 and -74 points: all negative, so p = 2 / 2**3.
    half = T_2 * math.sqrt((22**2 + 20**2 + 42**2) / 2 / 3)
    columns = [f"val_difference_pp_{part}" for part in ("mean", "ci_low", "ci_high", "p")]
    assert list(arm[columns]) == pytest.approx([-32, -32 - half, -32 + half, 0.25], abs=1e-4)
    assert arm["test_difference_pp_mean"] == pytest.approx((-10 - 11 - 71) / 3)
    assert (base["n_pairs"], arm["n_pairs"]) == (0, 3)
    assert math.isnan(base["val_difference_pp_mean"])

    mean = (1 + (1 + 0.30 / 0.32) / 2 + (1 + 0.30 / 0.34) / 2) / 3  # of two epochs, to 0.8
    assert (base["steps_to_target_mean"], base["n_reached_target"]) == (pytest.approx(mean), 3)
    assert (arm["steps_to_target_mean"], arm["n_reached_target"]) == (1, 0)
    assert base["val_area_mean"] == pytest.approx((0.65 + 0.66 + 0.67) / 3)
    assert arm["val_area_mean"] == pytest.approx((0.5 + 0.5 + 0.2) / 3)  # 0.3, then chance
    assert (base["parameters"], arm["parameters"]) == (340_000, 330_000)
    assert (base["steps_per_second_median"], arm["steps_per_second_median"]) == (7.0, 6.5)
    assert (base["paper"], arm["paper"]) == ("ends higher", "ends lower")


def test_only_seeds_of_both_arms_are_pairs(residual_study: Study, make_run) -> None:
    runs = [
        make_run("with", 0, [0.8]),
        make_run("with", 1, status="running"),
        make_run("without", 0, [0.7]),
        make_run("without", 1, [0.1]),
    ]
    arm = study_contents(residual_study, runs)[0].iloc[1]
    assert arm["n_pairs"] == 1
    assert arm["val_difference_pp_mean"] == pytest.approx(-10)
    assert arm["val_difference_pp_p"] == 1
    assert math.isnan(arm["val_difference_pp_ci_low"])


def test_a_diverged_run_does_not_reach_the_target(residual_study: Study, make_run) -> None:
    runs = [make_run("with", 0, [0.9, 0.9]), make_run("with", 1, [0.9], status="diverged")]
    base = study_contents(residual_study, runs)[0].iloc[0]
    assert base["steps_to_target_mean"] == pytest.approx((0.70 / 0.8 / 2 + 1) / 2)
    assert base["n_reached_target"] == 1


def test_runs_of_one_arm_have_one_size(residual_study: Study, make_run) -> None:
    runs = [make_run("with", 0, [0.8]), make_run("with", 1, [0.8], parameters=1)]
    with pytest.raises(ValueError, match=r"arm=with: its runs differ in parameters: \[1, 340000\]"):
        study_contents(residual_study, runs)[0]


def test_order_of_the_runs_changes_nothing(residual_study: Study, make_runs) -> None:
    runs = make_runs(residual_study)
    assert markdown_table(residual_study, runs) == markdown_table(residual_study, runs[::-1])


def test_each_arm_is_compared_with_its_own_baseline(jft_study: Study, jft_runs: list[StudyRun]) -> None:
    table = study_contents(jft_study, jft_runs)[0]
    arms = table.set_index("arm")
    assert arms["compared_with"].fillna("").to_dict() == {
        "inception": "", "xception": "inception", "inception_fc": "inception", "xception_fc": "inception_fc",
        np.nan: "",
    }  # fmt: skip
    differences = arms["val_difference_pp_mean"].dropna().to_dict()
    assert differences == pytest.approx({"xception": 5, "inception_fc": 10, "xception_fc": 5})
    assert arms.loc["xception", "val_map100_mean"] == pytest.approx(0.555)
    assert arms.loc["xception", "test_map100_mean"] == pytest.approx(0.455)
    assert arms.loc["xception", "val_top5_mean"] == pytest.approx(0.9)
    assert list(arms["n_reached_target"][:4]) == [0, 0, 2, 2]
    page = markdown_table(jft_study, jft_runs)
    assert re.search(r"\| Xception, FC +\|.* Inception V3, FC +\| \+5.0", page)
    assert "arm minus the arm it is compared with" in page


def test_the_papers_values_stand_beside_ours_as_it_prints_them(
    jft_study: Study, jft_runs: list[StudyRun]
) -> None:
    table = study_contents(jft_study, jft_runs)[0]
    assert table["paper_map100"].fillna(0).to_list() == [6.36, 6.7, 6.5, 0, 5.0]
    assert "paper_top5" not in table
    page = markdown_table(jft_study, jft_runs)
    header, _, *rows = [line for line in page.splitlines() if line.startswith("|")][:7]
    place = [cell.strip() for cell in header.split("|")].index("paper, MAP@100")
    assert [row.split("|")[place].strip() for row in rows] == ["6.36", "6.70", "6.50", "–", "5.00"]
    assert rows[-1].split("|")[1].strip() == "VGG-16"
    assert set("".join(rows[-1].split("|")[2:place])) <= {" ", "–"}  # nothing of ours in the paper's row
    assert "at its scale" in page


def test_the_papers_values_have_the_decimals_of_the_longest(residual_study: Study, make_run) -> None:
    values = dict(zip((arm.name for arm in residual_study.arms), (0.79, 0.8125), strict=False))
    arms = tuple(
        replace(arm, paper_values={"top1": values[arm.name]} if arm.name in values else {})
        for arm in residual_study.arms
    )
    page = markdown_table(replace(residual_study, arms=arms), [])
    assert "0.7900" in page
    assert "0.8125" in page


def test_a_diverged_run_has_no_map(jft_study: Study, jft_runs: list[StudyRun], make_run) -> None:
    (first, *others) = jft_runs
    diverged = make_run(first.arm, first.seed, status="diverged")
    row = study_contents(jft_study, [diverged, *others])[0].iloc[0]
    assert row["val_map100_mean"] == pytest.approx((0 + 0.51) / 2)
    assert row["val_top5_mean"] == pytest.approx((0.5 + 0.9) / 2)  # chance: 5 of 10 classes


def test_files(residual_study: Study, mixed_runs: list[StudyRun], tmp_path: Path) -> None:
    paths, _ = write_and_show(residual_study, mixed_runs, tmp_path / "tables")
    assert [path.name for path in paths] == [
        f"figure09_residual{x}" for x in (".csv", ".md", ".tex", "_slim.tex")
    ]
    assert sorted(paths) == sorted((tmp_path / "tables").iterdir())
    read = pd.read_csv(paths[0])
    expected = study_contents(residual_study, mixed_runs)[0]
    pd.testing.assert_frame_equal(read, expected, check_dtype=False, rtol=1e-12)
    text = {"arm", "label", "compared_with", "declared", "undeclared", "paper", "scale"}
    assert {name for name in read if not pd.api.types.is_numeric_dtype(read[name])} == text


def test_markdown_says_what_a_reader_needs(residual_study: Study, mixed_runs: list[StudyRun]) -> None:
    page = markdown_table(residual_study, mixed_runs)
    assert page.startswith("# Residual connections\n")
    for phrase in [
        residual_study.scale,
        residual_study.source,
        "with residual connections (baseline)",
        "82.0 [77.0, 87.0]",
        "p = 0.250",
        "100.0 (0 / 3)",
        "2 / 4",
        "ends lower",
        "at least 0.25 with 3 pairs",
        "Left out: with residual connections, seed 3 (failed).",
        "Left out: without residual connections, seed 3 (missing).",
        "is chance (10 %)",
        "Some CPU (cpu, 1 thread a run)",
        "finished 2026-01-02",
        "commit 0123456789.",
        "python 3.11.2, torch 2.9.0.",
    ]:
        assert phrase in page


def test_every_machine_commit_and_version_is_named(residual_study: Study, make_run) -> None:
    runs = [
        make_run("with", 0, [0.8]),
        make_run(
            "with",
            1,
            [0.8],
            device={"name": "Some GPU", "type": "cuda", "threads": 4},
            git={"commit": "fedcba9876543210", "changes": {"a.py": "diff"}},
            versions={"torch": "2.8.0"},
            finished="2026-02-03T00:00:00+00:00",
        ),
        make_run("with", 2, [0.8], git=None),
    ]
    page = markdown_table(residual_study, runs)
    assert "Some CPU (cpu, 1 thread a run); Some GPU (cuda, 4 threads a run)" in page
    assert "finished 2026-01-02 to 2026-02-03" in page
    assert "commit 0123456789, fedcba9876 with uncommitted changes of a.py, unknown." in page
    assert "torch 2.8.0 and 2.9.0" in page


def test_notes_that_do_not_apply_are_absent(residual_study: Study, make_runs) -> None:
    page = markdown_table(residual_study, make_runs(residual_study))
    assert "Left out" not in page
    assert "chance" not in page
    assert "at least 0.031 with 6 pairs" in page


def test_nothing_completed(residual_study: Study, make_run, tmp_path: Path) -> None:
    runs = [make_run(arm, 0, status="missing") for arm in ("with", "without")]
    (csv, markdown, latex, _), _ = write_and_show(residual_study, runs, tmp_path)
    assert "- No completed run." in markdown.read_text()
    assert "No completed run." in latex.read_text()
    assert list(pd.read_csv(csv)["n_completed"]) == [0, 0]
    assert "0 / 1" in markdown.read_text()


def test_markdown_of_a_label_is_text(residual_study: Study, mixed_runs) -> None:
    label = r"<script>x</script> *a* `b` c|d \e [f](g) ![h] p < 0.05"
    arms = tuple(replace(arm, label=label) for arm in residual_study.arms)
    source = markdown_table(replace(residual_study, arms=arms, title="<b>"), mixed_runs)
    escaped = r"\<script>x\</script> \*a\* \`b\` c\|d \\e [f]\(g) !\[h] p < 0.05"
    assert escaped in source
    assert source.startswith(r"# \<b>")
    assert not re.search(r"(?<!\\)<[a-z/]", source)


def test_latex_is_balanced_and_escaped(residual_study: Study, mixed_runs, tmp_path: Path) -> None:
    arms = tuple(replace(arm, label=r"[50 % & more_of {it} #1 ~ ^ \ $") for arm in residual_study.arms)
    source = write_and_show(replace(residual_study, arms=arms), mixed_runs, tmp_path)[0][2].read_text()
    opened = re.findall(r"\\begin\{(\w+)\}", source)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", source))
    assert opened == ["table", *["adjustbox", "tabular"] * 3]  # parameters differ: the audit has a table
    assert source.count(r"\toprule") == source.count(r"\bottomrule") == 3
    escaped = r"{[}50 \% \& more\_of \{it\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{} \$"
    assert escaped in source
    # Nothing special is left bare, but the comment, ampersands between cells and math signs.
    body = source.partition("\n")[2]
    for bare in re.findall(r"(?<!\\)[%#_^~]", body.replace("tab:figure09_residual", "")):
        pytest.fail(f"bare {bare}")
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [6] * 3 + [7] * 5
    assert "–" not in source


def test_markdown_cells_keep_their_columns(residual_study: Study, make_runs) -> None:
    arms = tuple(replace(arm, label="a|b") for arm in residual_study.arms)
    page = markdown_table(replace(residual_study, arms=arms), make_runs(residual_study))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [8] * 4 + [9] * 4


def test_console_table_fits(activation_study: Study, make_run, make_runs, tmp_path: Path) -> None:
    runs = [run for run in make_runs(activation_study) if (run.arm, run.seed) != ("relu", 2)]
    runs.append(make_run("relu", 2, [0.5], status="diverged"))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(write_and_show(activation_study, runs, tmp_path)[1])
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for phrase in ("p = 0.031", "(6 / 6)", "[", "reach the target"):
        assert phrase in text
    lines = text.splitlines()
    assert lines[0] == "Intermediate activation"
    assert "no intermediate activation (baseline): 6 of 6 completed" in lines  # whole, above its numbers
    assert "intermediate ReLU: 5 of 6 completed, 1 diverged" in lines
    assert activation_study.scale in " ".join(text.split())


def test_console_table_has_what_the_paper_prints_above(jft_study: Study, jft_runs, tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(write_and_show(jft_study, jft_runs, tmp_path)[1])
    lines = console.export_text().splitlines()
    assert "Inception V3 (baseline): 2 of 2 completed, paper's MAP@100 6.36" in lines
    assert "Xception, FC (against Inception V3, FC): 2 of 2 completed" in lines
    place = lines.index("VGG-16: paper's MAP@100 5.00")  # it has no runs, so no numbers of ours
    assert not lines[place + 1].startswith(" ")


def test_more_pairs_than_can_be_enumerated(residual_study: Study, make_run) -> None:
    generator = np.random.default_rng(0)
    runs = [
        make_run(arm, seed, [0.8 + generator.normal(0, 0.01)])
        for arm in ("with", "without")
        for seed in range(17)
    ]
    assert 0 < study_contents(residual_study, runs)[0]["val_difference_pp_p"].iloc[1] <= 1
    page = markdown_table(residual_study, runs)
    assert page == markdown_table(residual_study, runs)
    assert "9,999 draws above 16 pairs" in page
    assert "cannot go below" not in page


def test_tables_import_no_matplotlib_and_figures_no_pyplot() -> None:
    code = """if True:
        import sys, ablations.tables.study
        assert 'matplotlib' not in sys.modules
        import ablations.figures.study
        assert 'matplotlib.pyplot' not in sys.modules
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_hold_what_the_single_functions_give(residual_study: Study, make_runs, tmp_path: Path) -> None:
    runs = make_runs(residual_study)
    (csv, markdown, *_), _ = write_and_show(residual_study, runs, tmp_path)
    assert csv.read_text() == study_contents(residual_study, runs)[0].to_csv(index=False)
    assert markdown.read_text() == markdown_table(residual_study, runs)


def test_runs_that_do_not_fit_the_study_are_named_in_a_line(residual_study: Study, make_run) -> None:
    runs = [make_run("with", 0, [0.5, 0.6]), make_run("without", 0, [0.5, 0.6])]
    other = make_run("without", 0, [0.5, 0.6], run_id="r7", metrics={"val_map100": 0.5, "test_map100": 0.4})
    with pytest.raises(UserError, match=r"^metric=top1: run r7 did not measure it; it has map100$"):
        study_contents(residual_study, [runs[0], other])[0]
    larger = make_run("with", 1, [0.5, 0.6], parameters=5)
    with pytest.raises(UserError, match=r"^arm=with: its runs differ in parameters: \[5, 340000\]$"):
        study_contents(residual_study, [*runs, larger])[0]


def test_seeds_that_failed_to_learn_are_counted_and_tested(residual_study: Study, make_run) -> None:
    near = {"with": (), "without": (0, 1, 2, 3, 4, 5)}
    runs = [
        make_run(arm, seed, [0.1, 0.12 if seed in failed else 0.8], 0.8)
        for arm, failed in near.items()
        for seed in range(8)
    ]
    table = study_contents(residual_study, runs)[0].set_index("arm")
    assert table["n_failed_to_learn"].to_dict() == {"with": 0, "without": 6}
    assert table.loc["without", "failed_to_learn_p"] == 2 / 64
    page = markdown_table(residual_study, runs)
    assert "6, p = 0.031" in page
    assert "ended at 15 % validation top-1 or worse" in page
    assert "6 of 8" in page


def test_a_study_without_a_source_has_no_empty_sentence(
    residual_study: Study, make_runs, tmp_path: Path
) -> None:
    study = replace(residual_study, source="")
    page = write_and_show(study, make_runs(study), tmp_path)[0][1].read_text()
    assert f"{study.scale}. Brackets" in page
