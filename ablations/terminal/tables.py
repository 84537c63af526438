"""Tables for a terminal of 80 columns; the subject of a row is in a line above it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ablations.text import true_minus

INDENT = 2
"""Of rows below their heading."""

GAP = 2
"""Columns between two cells."""


@dataclass(frozen=True)
class Section:
    """Rows under one heading.

    Attributes:
        rows: Cells, which may have several lines.
    """

    heading: Text
    rows: Sequence[Sequence[str]]
    words: str = ""


def headed_table(
    title: str | Text, headers: Sequence[str], sections: Sequence[Section], caption: str
) -> RenderableType:
    """A table with columns aligned over all sections; only the last one wraps in a narrow terminal."""
    every = [headers, *(row for section in sections for row in section.rows)]
    widths = [max(map(_width, cells)) for cells in zip(*every, strict=True)]
    parts: list[RenderableType] = [Text(title, "italic") if isinstance(title, str) else title]
    if len(every) > 1:
        parts += [_rows([headers], widths, "bold"), _line(sum(widths) + GAP * (len(widths) - 1) + INDENT)]
    for section in sections:
        parts.append(section.heading)
        if section.rows:
            parts.append(_rows(section.rows, widths))
        elif section.words:
            parts.append(Padding(Text(section.words), (0, 0, 0, INDENT), expand=False))
    return Group(*parts, Text(caption, "dim"), "")


def _rows(rows: Sequence[Sequence[str]], widths: Sequence[int], style: str = "") -> RenderableType:
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for width in widths[:-1]:
        grid.add_column(min_width=width, no_wrap=True, style=style)
    grid.add_column(overflow="fold", style=style)
    for cells in rows:
        grid.add_row(*(Text(true_minus(cell)) for cell in cells))  # rich reads "[...]" in strings as markup
    return Padding(grid, (0, 0, 0, INDENT), expand=False)


def _line(width: int) -> Text:
    return Text("─" * width, no_wrap=True, overflow="crop")


def _width(cell: str) -> int:
    return max(map(cell_len, cell.splitlines()), default=0)
