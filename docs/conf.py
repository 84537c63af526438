"""Sphinx: the documentation as a site, `make docs`.

The reference is made as the site is built, from docstrings and from the files in conf/. It is written to
reference/generated, which git ignores.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy.typing
from sphinx.application import Sphinx

from ablations.evidence.claims import CLAIMS
from ablations.metrics import METRIC
from ablations.studies.schema import STUDY, TUNING
from ablations.validation import json_schema

HERE = Path(__file__).resolve().parent
CONF = HERE.parent / "conf"


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
exclude_patterns = ["_build"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = False
templates_path = ["_templates"]

nitpicky = True
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
    ("py:class", r"ablations\.(studies\.results\._known_metric|metrics\._checked)"),
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


def write_schema_tables(app: Sphinx) -> None:
    """Write a table per model of what a user writes, and of a record, from their schemas."""
    tables = HERE / "reference" / "generated" / "schema"
    tables.mkdir(parents=True, exist_ok=True)
    schemas = {"study": STUDY, "claims": CLAIMS, "tuning": TUNING, "metric": METRIC}
    for file, adapter in schemas.items():
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


TITLES = {"study": "Studies", "claims": "Claims", "tuning": "Tunings", "metric": "Metrics"}


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
    app.connect("builder-inited", write_schema_tables, priority=1)
