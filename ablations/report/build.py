"""Writes the report page: one file that needs nothing else, from studies, runs and verdicts.

::

    page/index.html    the page: a section per study, written here, so that it can be read without a script
    page/*.css, *.js   its looks, and what draws charts, lists runs, sorts, filters and copies
    library/           the chart library as it is published: plotly.js, the bundle of basic charts

Opening it must not wait for the chart library or for the runs: the library lies in the page compressed and
is started when the page has been drawn; each study's runs are JSON of their own, parsed when somebody looks
at them. The library is the bundle that has lines and no maps or surfaces, as `npm pack
plotly.js-basic-dist-min` gives it: the whole of plotly.js, which the Python package plotly has, is four times
as large, and the first chart waited a second for it. Nothing is fetched, which the page's content security
policy enforces; it also names the scripts that may run by their hashes, so that no text of a configuration
or record becomes one.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ablations.evidence.verdicts import Judged
from ablations.figures.study import COLORS
from ablations.files import write_atomically
from ablations.outputs import figure_names
from ablations.report.claims import claim_entries, verdict_counts
from ablations.report.study import status_counts, study_data, study_section
from ablations.runs.identity import is_outside_identity
from ablations.runs.records import DONE, MISSING, STATUSES, RunDirectory
from ablations.studies.results import Study, StudyRun

FOLDER = Path(__file__).parent / "page"

LIBRARY = Path(__file__).parent / "library" / "plotly-basic.min.js"

SCRIPTS = (
    *("base.js", "tables.js", "library.js", "traces.js", "chart.js", "values.js"),
    *("choices.js", "study.js", "list.js", "run.js", "pages.js"),
)
"""In the order in which they are put together."""

SVG_DECIMALS = 2
"""Of the numbers in a figure's paths: a hundredth of a point is not seen."""

LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def build_report(
    judged: Judged, studies: Sequence[tuple[Study, Sequence[StudyRun]]], overrides: Sequence[str]
) -> str:
    """The page as text, read from the results that the runs lie in.

    Args:
        judged: The claims and their verdicts.
        studies: Those that get a section, with all their planned runs.
        overrides: What they were varied by on the command line.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    sections, data = [], []
    for study, runs in studies:
        problems, histories = read_problems(runs), read_histories(runs)
        figures = read_figures(study, runs, judged.results_dir / "figures")
        sections.append(study_section(study, runs, judged.verdicts, problems, overrides, figures))
        data.append(study_data(study, runs, judged.verdicts, histories, problems))
    every = {run.run_id: run for _, runs in studies for run in runs}
    home = {
        "verdicts": verdict_counts(judged.verdicts),
        "claims": claim_entries(judged.verdicts, {study.name: study.title for study, _ in studies}),
        "counts": status_counts(list(every.values())),
        "planned": len(every),
        "overrides": [word for word in overrides if not is_outside_identity(word.partition("=")[0])],
    }
    return render(home, sections, data)


def write_report(page: str, folder: Path, suffix: str = "") -> Path:
    """Write the page, whole or not at all.

    Returns:
        Its path, `folder/index<suffix>.html`.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"index{suffix}.html"
    write_atomically(path, page)
    return path


def render(
    home: Mapping[str, Any], sections: Sequence[Mapping[str, Any]], data: Sequence[Mapping[str, Any]]
) -> str:
    """The page of what `build_report` gathered, whatever it was gathered from."""
    environment = Environment(
        loader=PackageLoader("ablations.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    code = "\n".join(_asset(name) for name in SCRIPTS)
    early = _asset("early.js")
    return environment.get_template("index.html").render(
        home=home,
        studies=sections,
        statuses=STATUSES,
        data=[embedded_json(of_study) for of_study in data],
        index=embedded_json(_index(data)),
        colors=COLORS,
        style=Markup(_asset("style.css")),
        early=Markup(early),
        code=Markup(code),
        library=Markup(_library()),
        policy=_policy(early, code),
    )


def embedded_json(value: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it ends or opens an element.

    Raises:
        ValueError: A number that JSON has no word for.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def read_histories(runs: Sequence[StudyRun]) -> dict[str, pd.DataFrame]:
    """metrics.csv of every run that has one with at least a row, by run id."""
    histories = {
        run.run_id: RunDirectory(run.directory.parents[1], run.run_id).history(run.record)
        for run in runs
        if run.record is not None
    }
    return {run_id: history for run_id, history in histories.items() if history is not None and len(history)}


def read_problems(runs: Sequence[StudyRun]) -> dict[str, str]:
    """Per run id, a line on each record that is there and counts as missing."""
    problems = {}
    for run in runs:
        if run.status == MISSING:
            problem = RunDirectory(run.directory.parents[1], run.run_id).problem()
            if problem is None and run.record is not None and run.record["status"] in DONE:
                problem = f"not measured as asked for, counted as missing: {run.directory}"
            if problem is not None:
                problems[run.run_id] = problem
    return problems


def read_figures(study: Study, runs: Sequence[StudyRun], folder: Path) -> list[dict[str, Any]]:
    """The study's figures that were drawn, those named by the study first, then those beside them.

    Returns:
        name, title, source (a data address) and outdated (whether a record is younger) of each.
    """
    youngest = max((_modified(run.directory / "record.json") for run in runs), default=0.0)
    titles = {figure.output: figure.title for figure in study.figures} or {study.output: study.title}
    found = []
    for name in figure_names(study):
        path = folder / f"{name}.svg"
        if path.is_file():
            words = name.removeprefix(f"{study.output}_").replace("_", " ")
            title = titles.get(name) or f"{study.title}: {words}"
            found.append(
                {
                    "name": name,
                    "title": title,
                    "source": svg_address(path.read_text("utf-8")),
                    "outdated": _modified(path) < youngest,
                }
            )
    return found


def svg_address(svg: str) -> str:
    """A picture as a data: address, the numbers of its paths shortened to `SVG_DECIMALS`."""
    short = re.sub(r' d="[^"]*"', lambda path: LONG_NUMBER.sub(_shorter, path[0]), svg)
    short = re.sub(r"\s+", " ", short[max(short.find("<svg"), 0) :])
    return "data:image/svg+xml," + quote(short, safe=" ,;:=/()'-+.!*@$?")


def _modified(path: Path) -> float:
    """When a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.{SVG_DECIMALS}f}"


def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _library() -> str:
    """The chart library, compressed, in letters."""
    return base64.b64encode(gzip.compress(LIBRARY.read_bytes(), mtime=0)).decode()


def _index(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where each run is: the places of the studies that plan it, by its id; and the studies' names."""
    runs: dict[str, list[int]] = {}
    for place, study in enumerate(data):
        for run in study["runs"]:
            runs.setdefault(run["id"], []).append(place)
    return {"studies": [study["name"] for study in data], "runs": runs}


def _policy(*scripts: str) -> str:
    """Content security policy: these scripts and the library made from the page, pictures of the page."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed} blob:; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
