"""The record's schema as a page, from ablations/runs/records.py and lightning_modules/diagnostics.py."""

import ast
import inspect
from pathlib import Path

from ablations.runs import histories, records
from lightning_modules import diagnostics


def write_page(folder: Path) -> None:
    """Write the tables that docs/reference/record.md includes."""
    folder.mkdir(parents=True, exist_ok=True)
    history = comments_of(histories, "HISTORY_COLUMNS")
    tables = {
        "record_schema.md": table("key", records.SCHEMA),
        "history_columns.md": table("column", {name: history[name] for name in histories.HISTORY_COLUMNS}),
        "diagnostic_columns.md": table(
            "column", {name: DIAGNOSTIC_COLUMNS[name] for name in diagnostics.COLUMNS}
        ),
    }
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")


DIAGNOSTIC_COLUMNS = {
    "diagnostic": "its name: a key of `diagnostics`",
    "layer": "as its module is named in the network, with #2 where it is called for the second time",
    "depth": "1 for the layer nearest the image, in order of execution",
    "channels": "of the layer, or units",
    "epoch": "from 1; 0 before the first step",
    "step": "optimizer steps taken by then; for a gradient the step that it is of, from 1",
    "value": "what was measured",
}
"""Of diagnostics.csv; a test holds it to `lightning_modules.diagnostics.COLUMNS`."""


def table(first: str, rows: dict[str, str]) -> str:
    """A Markdown table of names and what they mean."""
    lines = [f"| {first} | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in rows.items()]
    return "\n".join(lines) + "\n"


def comments_of(module: object, name: str) -> dict[str, str]:
    """The comment behind each text of a tuple that a module defines; "" where there is none."""
    source = inspect.getsource(module)  # type: ignore[arg-type]
    lines = source.splitlines()
    (node,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name
    )
    assert isinstance(node, ast.Tuple)
    found = {}
    for element in node.elts:
        assert isinstance(element, ast.Constant)
        found[element.value] = lines[element.lineno - 1].partition("#")[2].strip()
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("{", "\\{").replace("<", "\\<")
