"""The page of 1,000 runs of 40 epochs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ablations.report.build import build_report, write_report

LARGEST = 20_000_000  # bytes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, make_many: Callable) -> Path:
    results_dir = tmp_path_factory.mktemp("many") / "results"
    study, runs, judged = make_many(results_dir, seeds=334, epochs=40)
    assert len(runs) >= 1000
    return write_report(build_report(judged, [(study, runs)], []), results_dir / "report")


def test_the_file_stays_small(many: Path) -> None:
    assert many.stat().st_size < LARGEST


def test_the_page_of_a_thousand_runs(open_page, many: Path) -> None:
    page = open_page(many, "#/study/made_up")
    expect(page.locator(".open .plot[data-drawn]")).to_be_visible(timeout=60_000)
    caption = page.locator(".open figcaption").first
    expect(caption).to_contain_text("150 of 1,002 runs")
    rows = page.locator(".open [data-list] tbody tr")
    expect(rows).to_have_count(200)
    page.get_by_label("Seeds drawn").fill("0-333")
    page.get_by_label("Seeds drawn").press("Enter")
    expect(caption).to_contain_text("One epoch in 2 of single runs is drawn", timeout=60_000)
    page.get_by_role("button", name="Show all 1,002").click()
    expect(rows).to_have_count(1002)
    page.get_by_label("Seeds drawn").fill("none")
    page.get_by_label("Seeds drawn").press("Enter")
    expect(page.get_by_label("Seeds drawn")).to_have_attribute("aria-invalid", "true")
