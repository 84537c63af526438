"""The report page, one self-contained file, from studies, runs and verdicts.

::

    page/page.html   overview, a section per study, and a place per run
    page/run.html    a run, rendered into its place when opened
    page/style.css   both themes, phone and print
    page/page.js     charts, tables, runs, copying

The address selects the section (`:target`), so the page works without scripts. The content security policy
forbids fetching and allows one script, by its hash, so no text of a record can become a script.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import itables.options
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from ablations.completeness import completeness_of, tell_if_emptier
from ablations.evidence.verdicts import HOLDS, Judged, Verdict
from ablations.figures.style import COLORS
from ablations.files import write_atomically
from ablations.report.charts import DARK
from ablations.report.runs import run_pages, run_rows
from ablations.report.study import MARKS, claim_entry, picture_position, status_counts, study_section
from ablations.runs.identity import is_outside_identity
from ablations.runs.records import RunDirectory
from ablations.studies.results import Study, StudyRun
from ablations.tables.verdicts import difference
from ablations.text import NO_VALUE, amount, capitalized, in_words, true_minus

POLICY = (
    "default-src 'none'; script-src 'sha256-{}' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Content security policy: the script of this hash, and those that it unpacks."""


def build_report(
    judged: Judged,
    studies: Sequence[tuple[Study, Sequence[StudyRun]]],
    overrides: Sequence[str],
    title: str,
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """The page as text; a study gets a section. `more`: further overrides of single studies, by name.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    every = {run.run_id: run for _, runs in studies for run in runs}
    recorded = {key: run for key, run in every.items() if run.record is not None}
    directories = {key: RunDirectory(run.directory.parents[1], key) for key, run in recorded.items()}
    found = {key: directory.history(recorded[key].record) for key, directory in directories.items()}
    histories = {key: history for key, history in found.items() if history is not None and len(history)}
    sections = [
        study_section(study, runs, judged.verdicts, histories, [*overrides, *more.get(study.name, ())])
        | {"runs": run_rows(study, runs, histories)}
        for study, runs in studies
    ]
    names = [study.name for study, _ in studies]
    others = [claim_entry(one, None) for one in judged.verdicts if one.claim.study not in names]
    environment = _environment()
    run_template = environment.get_template("run.html")
    pages = {
        key: _packed(run_template.render(run=page)) for key, page in run_pages(studies, histories).items()
    }
    code = (Path(__file__).parent / "page" / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        title=capitalized(in_words(title.replace("-", "_"))),
        sections=sections,
        others=others,
        summary=summary(judged.verdicts),
        counts=status_counts(list(every.values())),
        pages=pages,
        overrides=[word for word in overrides if not is_outside_identity(word.partition("=")[0])],
        libraries={
            "plotly": _packed(get_plotlyjs()),
            "datatables": _packed(Path(itables.options.dt_bundle).read_text(encoding="utf-8")),
        },
        code=Markup(code),
        policy=POLICY.format(base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()),
    )


def write_report(page: str, folder: Path, suffix: str = "") -> Path:
    """Write the page atomically; warn on stderr if it replaces one from more completed runs.

    Returns:
        Its path, `folder/index<suffix>.html`.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"index{suffix}.html"
    tell_if_emptier(path, completeness_of(path.suffix, page))
    write_atomically(path, page)
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ablations.report", "page"),
        autoescape=lambda name: name != "style.css",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters |= {"text": text, "sort_key": sort_key, "position": picture_position}
    environment.filters |= {"difference": difference, "capitalized": capitalized}
    environment.globals |= {"colors": COLORS, "dark": DARK, "marks": MARKS}
    environment.filters["anchor"] = lambda name, kind: f"#{kind}-{quote(name)}"
    return environment


def summary(verdicts: Sequence[Verdict]) -> str:
    """The verdicts in a sentence: "Of 17 claims, 6 hold, 10 are inconclusive and 1 has no results yet."."""
    if not verdicts:
        return "No claims."
    parts = []
    # Of a claim that cannot be tested there are no comparisons.
    unseen = [one for one in verdicts if one.comparisons and not any(each.n for each in one.comparisons)]
    for name in MARKS:
        if n := sum(one.verdict == name for one in verdicts if one not in unseen):
            is_so = (
                ("holds" if n == 1 else "hold") if name == HOLDS else f"{'is' if n == 1 else 'are'} {name}"
            )
            parts.append(f"{n} {is_so}")
    if unseen:
        parts.append(f"{len(unseen)} {'has' if len(unseen) == 1 else 'have'} no results yet")
    *first, last = parts
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"Of {amount(len(verdicts), 'claim')}, {listed}."


def text(value: str) -> Markup:
    """A text for the page: true minus signs, breakable paths, unbreakable intervals."""
    if value.replace(".", "", 1).isdigit():  # most cells
        return Markup(value)
    minus = str(escape(true_minus(value)))
    broken = re.sub(r"(?<=[._/=])(?=[A-Za-z_]{3})", "<wbr>", minus)
    return Markup(
        re.sub(r"[−+]?[\d.]+ \[[^\]]*\]|p [=&lt;]+ [\d.]+", r"<span class=whole>\g<0></span>", broken)
    )


def sort_key(cell: str) -> str | float:
    """The number with which a cell begins, else its text."""
    if cell.startswith("never"):
        return 1e99
    number = re.match(r"[+-]?[\d,]*\.?\d+", cell)
    return float(number[0].replace(",", "")) if number else "" if cell == NO_VALUE else cell


def _packed(content: str) -> Markup:
    """A text, compressed, as letters."""
    return Markup(base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode())
