"""The page as a file: whole, self-contained, everything escaped."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from ablations.report.build import (
    LIBRARY,
    build_report,
    embedded_json,
    read_figures,
    svg_address,
    write_report,
)

LARGEST = 20_000_000  # bytes of a page of 1,000 runs


@pytest.fixture(scope="module")
def html(written: Path) -> str:
    return written.read_text(encoding="utf-8")


def element(html: str, name: str) -> str:
    start = html.index(f'id="{name}">') + len(f'id="{name}">')
    return html[start : html.index("</script>", start)]


def test_nothing_is_fetched(html: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"#]*)', html)
    assert addresses
    assert {address.partition(":")[0] for address in addresses if address} == {"data"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    assert "default-src &#39;none&#39;" in policy[1]


def test_the_policy_names_the_scripts_by_their_hashes(html: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" in html.replace("&#43;", "+")


def test_the_chart_library_is_in_the_page(html: str) -> None:
    assert gzip.decompress(base64.b64decode(element(html, "library"))) == LIBRARY.read_bytes()


def test_the_chart_library_is_as_published() -> None:
    assert b"plotly.js (basic - minified) v4.1.1" in LIBRARY.read_bytes()[:200]
    digest = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"  # of the file on npm
    assert hashlib.sha256(LIBRARY.read_bytes()).hexdigest() == digest
    assert "Plotly" in (LIBRARY.parent / "LICENSE").read_text(encoding="utf-8")


def test_no_text_of_a_record_is_markup(html: str) -> None:
    assert "<img src=x" not in html
    assert "onerror=alert(1)&gt;" in html
    error = json.loads(element(html, "data-0"))["common"]
    assert any("</script><img src=x" in str(values) for values in error["values"])


def test_embedded_json() -> None:
    text = embedded_json({"a": "</script><!--&\u2028é", "b": [1.5, None]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--&\u2028é", "b": [1.5, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        embedded_json(float("nan"))


def test_figures_of_other_and_of_varied_studies_are_left_out(made_up) -> None:
    study, runs, judged = made_up
    found = read_figures(study, runs, judged.results_dir / "figures")
    assert [figure["name"] for figure in found] == ["figure99_made_up", "figure99_made_up_dead_units"]
    assert found[1]["title"] == "Made up & <i>odd</i>: dead units"
    assert read_figures(study, runs, judged.results_dir / "nowhere") == []


def test_a_figure_that_is_older_than_a_record_says_so(made_up, tmp_path: Path) -> None:
    import os

    study, runs, _ = made_up
    path = tmp_path / "figure99_made_up.svg"
    path.write_text("<svg/>")
    assert not read_figures(study, runs, tmp_path)[0]["outdated"]
    os.utime(path, (1, 1))
    assert read_figures(study, runs, tmp_path)[0]["outdated"]


def test_only_the_numbers_of_paths_are_shortened() -> None:
    address = svg_address('<?xml?>\n<svg><g transform="scale(0.015625)"><path d="M 1.23456 -0.5"/></g></svg>')
    assert address.startswith("data:image/svg+xml,%3Csvg")
    assert "scale(0.015625)" in address
    assert "M 1.23 -0.5" in address


def test_a_page_of_its_own_per_names_and_overrides(tmp_path: Path) -> None:
    assert write_report("a", tmp_path / "report").name == "index.html"
    other = write_report("b", tmp_path / "report", "__study=residual__seed=1")
    assert other.name == "index__study=residual__seed=1.html"
    assert (tmp_path / "report" / "index.html").read_text() == "a"


def test_the_same_records_give_the_same_page(made_up, html: str) -> None:
    study, runs, judged = made_up
    assert build_report(judged, [(study, runs)], []) == html


def test_what_the_studies_were_varied_by_is_said(made_up) -> None:
    study, runs, judged = made_up
    page = build_report(judged, [(study, runs)], ["recipe.epochs=4", "results_dir=/else"])
    assert "Studies varied by <code>recipe.epochs=4</code>" in page
