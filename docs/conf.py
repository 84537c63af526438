"""Sphinx: the documentation as a site, `make docs`.

The reference and the gallery are generated from docstrings, from the files in conf/ and from the committed
figures. They are written to reference/generated, which git ignores.
"""

import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing
import yaml
from sphinx.application import Sphinx

from ablations.evidence.claims import CLAIMS
from ablations.metrics import METRIC
from ablations.studies.schema import BENCHMARK_FILE, STUDY, TUNING
from ablations.validation import json_schema
from experiments.overrides import output_suffix

HERE = Path(__file__).resolve().parent
CONF = HERE.parent / "conf"
REFERENCE = HERE.parent / "results" / "reference"


class ArrayLike:
    """Stands for NumPy's, a union of ten types that would be spelled out wherever it is named."""


numpy.typing.ArrayLike = ArrayLike

project = "Xception ablations"
author = "the Xception ablations authors"
copyright = f"2026, {author}"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "jupyter_execute"]  # the second: copies of notebooks by MyST-NB
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = False
templates_path = ["_templates"]

nitpicky = True
suppress_warnings = ["ref.python"]  # an attribute's name, such as channels, that several classes have
default_role = "code"  # names in docstrings are in single backticks
smartquotes = False
myst_heading_anchors = 3
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True
autodoc_inherit_docstrings = False  # of Lightning and torch, in their markup
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
add_module_names = False
python_use_unqualified_type_names = True

# Types of other projects are named and not linked: the site is built without a network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!ablations|experiments|lightning_modules).*"),
    # Of type hints alone.
    ("py:class", r"ablations\.(validation\.Written|studies\.schema\._different)"),
    ("py:class", r"ablations\.(studies\.results\._(known_metric|function)|metrics\._checked)"),
    ("py:class", r"experiments\.benchmark\._several"),
]

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

highlight_language = "none"  # a block without a language is no Python

html_theme = "furo"
html_title = "Xception ablations"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False


def write_configuration_pages(app: Sphinx) -> None:
    """Write a page per folder of conf/ that shows each of its files."""
    pages = HERE / "reference" / "generated" / "conf"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for file in sorted(CONF.rglob("*.yaml")):
        folder, name = file.parent.relative_to(CONF), file.relative_to(CONF).with_suffix("")
        page = pages / f"{'-'.join(folder.parts) or 'config'}.md"
        with page.open("a", encoding="utf-8") as text:
            if text.tell() == 0 and folder.parts:
                text.write(f"# {folder}\n")
            heading = f"## {file.stem}" if folder.parts else f"# {name}"
            text.write(f"\n{heading}\n\n```{{literalinclude}} /../conf/{name}.yaml\n:language: yaml\n```\n")


SHOWS = {
    "": "Validation curves with 95 % band and single seeds, and paired differences to the baseline.",
    "design": "The metric along one factor, with a line per level of another.",
    "trials": "Expected best validation value over the number of trials, by arm.",
}
"""What a figure shows, by the ending of its name. "": a study's figure; "design": with crossed factors."""


def commands_of_figures(studies: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Mapping[str, Any], str]]:
    """By a figure's name: its entry in the study's file, and the words of the command of `make reference`
    that draws it.
    """
    printed = subprocess.run(
        ["make", "--dry-run", "reference"], cwd=HERE.parent, capture_output=True, text=True, check=True
    ).stdout
    words = shlex.split(printed.replace("\\\n", " "))
    commands = [[study["name"]] for study in studies]
    commands += [shlex.split(also) for word, also in itertools.pairwise(words) if word == "--also"]
    found = {}
    for command in commands:
        overrides = [word for word in command if "=" in word]
        for study in (study for study in studies if study["name"] in command):
            for figure in (study, *study.get("figures", ())):
                shown = {**study, **figure}
                called = shlex.join([study["name"], *overrides])
                found[shown["output"] + output_suffix(overrides)] = shown, called
    return found


def write_gallery(app: Sphinx) -> None:
    """Write a page with every committed figure, the command that makes it and what it shows."""
    studies = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in CONF.glob("study/*.yaml")]
    commands = commands_of_figures(studies)
    text = "# Gallery\n\nThe committed figures. Each command trains what is missing, then draws.\n"
    for file in sorted(REFERENCE.glob("figures/*.png"), key=lambda file: file.stem):
        # With overrides a name goes on with "__", other figures of the same command with "_".
        names = [one for one in commands if re.match(rf"{re.escape(one)}(_(?!_)|$)", file.stem)]
        if not names:  # drawn by another command than `make reference`
            continue
        name = max(names, key=len)
        shown, words = commands[name]
        if file.stem == shown["output"]:
            text += f"\n## {shown['title']}\n\n{shown['source']}\n"
        if tuned := re.search(r"tuning=(\w+)", words):
            text += f"\nEach arm with its own {tuned[1].replace('_', ' ')}:\n"
        kind = next((kind for kind in SHOWS if kind and file.stem == f"{name}_{kind}"), "")
        kind = kind or ("design" if "design" in shown else "")
        text += (
            f"\n{SHOWS[kind]}\n\n```bash\npython run.py -m study={words}\npython -m ablations {words}\n```\n"
            f"\n![{shown['title']}](<../../../results/reference/figures/{file.name}>)\n"
        )
    page = HERE / "reference" / "generated" / "gallery.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")


def copy_report(app: Sphinx, error: Exception | None) -> None:
    """Copy the committed report page, to which the front page links."""
    shutil.copytree(REFERENCE / "report", app.outdir / "report", dirs_exist_ok=True)


def write_schema_tables(app: Sphinx) -> None:
    """Write a table per model of what a user writes, and of a record, from their schemas."""
    tables = HERE / "reference" / "generated" / "schema"
    tables.mkdir(parents=True, exist_ok=True)
    for file, adapter in SCHEMAS.items():
        schema = json_schema(adapter)
        text = ""
        for name, model in ({file: schema} | schema.get("$defs", {})).items():
            if "properties" not in model:
                continue
            text += (
                f"## {name}\n\n{model.get('description', '')}\n\n| key | kind | meaning |\n|---|---|---|\n"
            )
            for key, entry in model["properties"].items():
                kind = _kind(entry) + ("" if key in model.get("required", ()) else ", optional")
                text += f"| `{key}` | {kind} | {' '.join(entry.get('description', '').split())} |\n"
            text += "\n"
        (tables / f"{file}.md").write_text(f"# {TITLES[file]}\n\n{text}", encoding="utf-8")


SCHEMAS = {
    **{"study": STUDY, "claims": CLAIMS, "tuning": TUNING, "metric": METRIC},
    "benchmark": BENCHMARK_FILE,
}
TITLES = {
    **{"study": "Studies", "claims": "Claims", "tuning": "Tunings", "metric": "Metrics"},
    "benchmark": "The benchmark",
}


def _kind(entry: dict[str, Any]) -> str:
    """What a value is, in words."""
    if "$ref" in entry:
        return str(entry["$ref"].rpartition("/")[2])
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_kind(one) for one in entry["anyOf"] if one.get("type") != "null"))
    if "enum" in entry:
        return ", ".join(map(str, entry["enum"]))
    if entry.get("type") == "array":
        return f"list of {_kind(entry.get('items', {}))}"
    if entry.get("type") == "object":
        below = entry.get("additionalProperties")
        return f"by name: {_kind(below)}" if isinstance(below, dict) else "keys with values"
    return {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}.get(
        entry.get("type", ""), str(entry.get("type", "any"))
    )


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_configuration_pages, priority=1)
    app.connect("builder-inited", write_gallery, priority=1)
    app.connect("build-finished", copy_report)
    app.connect("builder-inited", write_schema_tables, priority=1)
