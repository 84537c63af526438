"""Sphinx: the documentation as a site, `make docs`.

The reference is made from the code as the site is built: `config_reference.py` from the comments of conf/,
`record_reference.py` from ablations/runs/records.py, the Python API from docstrings (`docstrings.py`). It
lies in reference/generated, which git ignores.
"""

import sys
from pathlib import Path

import numpy.typing

HERE = Path(__file__).resolve().parent


class ArrayLike:
    """Stands for NumPy's, a union of ten types that would be spelled out wherever it is named."""


numpy.typing.ArrayLike = ArrayLike  # type: ignore[misc, assignment]
sys.path[:0] = [str(HERE), str(HERE.parent)]

import api_reference  # noqa: E402
import config_reference  # noqa: E402
import docstrings  # noqa: E402
import record_reference  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

project = "Xception ablations"
author = "the Xception ablations authors"
copyright = f"2026, {author}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True
autodoc_inherit_docstrings = False  # of Lightning and torch, in their markup
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
add_module_names = False
python_use_unqualified_type_names = True

# Types of other projects are named and not linked: the site is built without a network.
nitpick_ignore_regex = [("py:.*", r"(?!ablations|lightning_modules).*")]

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

highlight_language = "none"  # a block without a language is no Python

html_theme = "furo"
html_title = "Xception ablations"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False


def generate(app: Sphinx) -> None:
    """Write the pages that are made from the code."""
    folder = HERE / "reference" / "generated"
    config_reference.write_pages(HERE.parent / "conf", folder / "config")
    record_reference.write_page(folder)
    api_reference.write_pages(folder / "api")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", generate)
    app.connect("autodoc-process-docstring", docstrings.process, priority=1)  # before napoleon
