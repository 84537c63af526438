"""The page as a file: self-contained, everything escaped, nothing that its records did not make."""

import base64
import gzip
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.evidence.claims import HIGHER, Claim, Comparison
from ablations.evidence.verdicts import judge_study
from ablations.report.build import build_report, sort_key, text, write_report
from ablations.report.runs import problem, run_pages
from ablations.report.study import claim_entry, configuration_differences, picture_position


@pytest.fixture(scope="module")
def html(written: Path) -> str:
    return written.read_text(encoding="utf-8")


def run_pages_of(html: str) -> list[str]:
    packed = re.findall('id="page-[^"]*">([^<]*)<', html)
    return [gzip.decompress(base64.b64decode(each)).decode() for each in packed]


def test_nothing_is_fetched_and_one_script_may_run(html: str) -> None:
    assert {address for address in re.findall(r'(?:src|href)="([^"#]*)', html) if address} == {"data:,"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy
    assert policy[1].startswith(f"default-src &#39;none&#39;; script-src &#39;sha256-{digest}&#39; blob:;")


def test_no_text_of_a_record_is_markup(html: str) -> None:
    pages = run_pages_of(html)
    assert len(pages) == 27
    assert "onerror=alert(1)" in html
    assert all("<img src=x" not in page for page in (html, *pages))
    assert any("OSError: &lt;/script&gt;" in page for page in pages)


def test_no_figure_file_is_embedded(html: str) -> None:
    assert "of other runs" not in "".join([html, *run_pages_of(html)])


def test_the_same_records_give_the_same_page(made_up, html: str) -> None:
    study, runs, judged = made_up
    assert build_report(judged, [(study, runs)], [], "My paper") == html


def test_overrides_are_said_and_part_of_the_commands(made_up) -> None:
    study, runs, judged = made_up
    page = build_report(judged, [(study, runs)], ["recipe.epochs=4", "results_dir=/else where"], "My paper")
    assert "changed settings: <code>recipe.epochs=4</code>" in page
    assert "report made_up recipe.epochs=4 &#39;results_dir=/else where&#39;</pre>" in page
    assert "python run.py -m study=made_up recipe.epochs=4" in page


def test_a_file_of_its_own_per_names_and_overrides(tmp_path: Path) -> None:
    assert write_report("a", tmp_path / "report").name == "index.html"
    assert write_report("b", tmp_path / "report", "__seed=1").name == "index__seed=1.html"
    assert (tmp_path / "report" / "index.html").read_text() == "a"


def test_a_study_without_any_record(made_up, residual_study, make_run) -> None:
    runs = [make_run(arm.name, 0, status="missing") for arm in residual_study.arms]
    judged = replace(made_up[2], verdicts=(), studies=())
    page = build_report(judged, [(residual_study, runs)], [], "My paper")
    assert "0 of 2 runs completed" in page
    assert "No run of this study has finished an epoch yet." in page
    assert "No two arms have a result of the same seed yet." in page


def test_what_a_claim_rests_on(made_up) -> None:
    study, runs, judged = made_up
    entries = {one.claim.id: claim_entry(one, study, runs) for one in judged.verdicts[:2]}

    def seeds(entry, arm):
        return [runs[at].seed for at in entry["runs"] if runs[at].arm == arm]

    final, both = entries["made-up-final"], entries["made-up-both"]
    assert (
        seeds(final, "plain") == seeds(final, "evil") == [0, 1, 3, 4, 5, 6, 7, 8]
    )  # seed 2 of "evil" failed
    assert seeds(both, "third") == [3, 4, 5, 6, 7, 8]
    assert final["comparisons"][0]["compared"].label.startswith("as it is − with <")
    picture = final["comparisons"][0]["picture"]
    assert (
        picture["below"]
        == picture_position(0)
        == 50
        < picture["above"]
        < picture["low"]
        < picture["estimate"]
    )
    assert claim_entry(judged.verdicts[2], None)["comparisons"] == []


def test_a_claim_without_a_pair_has_no_picture(residual_study, make_run) -> None:
    comparison = Comparison({"with": 1.0, "without": -1.0}, "test_top1", HIGHER, 0.0)
    claim = Claim("c", "C.", "nowhere", "residual", (comparison,))
    runs = [make_run(arm.name, 0, status="missing") for arm in residual_study.arms]
    (verdict,) = judge_study([claim], residual_study, runs)
    assert claim_entry(verdict, residual_study, runs)["comparisons"][0]["picture"] is None


def test_settings_that_differ(made_up, residual_study, make_run) -> None:
    study, runs, _ = made_up
    (row,) = configuration_differences(study, runs)  # not the seeds, nor the folder of the results
    assert row == {"path": "residual", "values": {arm.name: [arm.name] for arm in study.arms}}
    common = {"dataset": {"num_classes": 10}, "width": 1}
    made = [
        make_run(arm, seed, [0.5], config=common | settings)
        for arm, seed, settings in [
            ("with", 0, {"lr": 0.1, "recipe": {"lr": 0.1}}),  # a choice, and where it is used
            ("with", 1, {"lr": 0.2, "recipe": {"lr": 0.2}}),
            ("without", 0, {}),
        ]
    ]
    found = configuration_differences(residual_study, made)
    assert found == [{"path": "lr", "values": {"with": ["0.1", "0.2"], "without": ["not set"]}}]


def test_a_run_is_compared_with_most_runs_and_names_its_studies(made_up) -> None:
    study, runs, _ = made_up
    other = replace(study, name="again", title="Again")
    pages = run_pages([(study, runs), (other, runs[:1])], {})
    assert [planned.name for planned, _ in pages[runs[0].run_id]["studies"]] == ["made_up", "again"]
    third = pages[runs[-1].run_id]
    assert third["other"] == [{"setting": "residual", "this run": "third", "most runs": "plain"}]


def test_what_changes_no_outcome_is_no_difference_of_a_run(residual_study, make_run) -> None:
    configs = [
        {"lr": 0.1, "logger": {"group": str(seed)}, "dataset": {"root": str(seed)}} for seed in range(3)
    ]
    configs[2]["lr"] = 0.2
    runs = [make_run("with", seed, [0.5], config=config) for seed, config in enumerate(configs)]
    pages = run_pages([(residual_study, runs)], {})
    assert [[row["setting"] for row in pages[run.run_id]["other"]] for run in runs] == [[], [], ["lr"]]


def test_a_record_that_is_there_and_counts_as_missing_says_why(made_up, make_run) -> None:
    missing = make_run("plain", 0, status="missing")
    assert problem(missing) == ""
    assert "not measured as requested" in problem(replace(missing, record={"status": "completed"}))
    unreadable = made_up[1][-7]
    assert "unreadable record" in problem(unreadable)


@pytest.mark.parametrize(
    ("cell", "key"),
    [("+1,234.5 [1, 2]", 1234.5), ("-3 (4 / 6)", -3.0), ("never (0 / 6)", 1e99), ("–", ""), ("a 1", "a 1")],
)
def test_sort_key(cell: str, key: str | float) -> None:
    assert sort_key(cell) == key


def test_text_has_true_minus_signs_and_nothing_else_changed() -> None:
    shown = re.sub("<[^>]*>", "", text("-1.5 [-2, -1] of 1e-05, multi-label on 2026-01-02, a.bcd <b>"))
    assert shown == "−1.5 [−2, −1] of 1e-05, multi-label on 2026-01-02, a.bcd &lt;b&gt;"
