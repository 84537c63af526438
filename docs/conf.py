"""Sphinx: the documentation as a site, `make docs`.

The reference is made as the site is built, from docstrings and from the files in conf/. It is written to
reference/generated, which git ignores.
"""

import shutil
import sys
from pathlib import Path

import numpy.typing
from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
CONF = HERE.parent / "conf"
sys.path.insert(0, str(HERE.parent))


class ArrayLike:
    """Stands for NumPy's, a union of ten types that would be spelled out wherever it is named."""


numpy.typing.ArrayLike = ArrayLike  # type: ignore[misc, assignment]

project = "Xception ablations"
author = "the Xception ablations authors"
copyright = f"2026, {author}"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
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
nitpick_ignore_regex = [("py:.*", r"(?!ablations|experiments|lightning_modules).*")]

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


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_configuration_pages, priority=1)
