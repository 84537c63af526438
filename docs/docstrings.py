"""Docstrings as they are written here, handed to Sphinx as reStructuredText.

They are plain text: names in single backticks, and blocks that are indented after an empty line, which a
reader of the code sees as they stand. Here the names become literals, the blocks literal blocks, and
characters that reStructuredText would read as markup are escaped.
"""

import re
from typing import Any

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Source|Yields):$")
"""What napoleon reads: below it an indented line is an entry, not a block."""


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Change a docstring's lines in place, as the event autodoc-process-docstring asks."""
    lines[:] = restructured(fields_of_returns(lines))


def fields_of_returns(lines: list[str]) -> list[str]:
    """Make "Returns:" a field: napoleon takes what stands before a colon in it for a type."""
    found = list(lines)
    for number, line in enumerate(lines[:-1]):
        if line == "Returns:" and lines[number + 1].startswith("    "):
            found[number] = ""
            found[number + 1] = f":returns: {lines[number + 1].strip()}"
            for place in range(number + 2, len(lines)):
                if lines[place].strip() and not lines[place].startswith("    "):
                    break
                found[place] = f"  {lines[place].strip()}".rstrip()
    return found


def restructured(lines: list[str]) -> list[str]:
    """The lines as reStructuredText.

    Args:
        lines: Of a docstring, the common indentation removed.
    """
    found: list[str] = []
    text: list[str] = []
    in_section = in_block = False
    above = ""
    for line in lines:
        indented = line.startswith("    ")
        if SECTION.match(line) or (line and not indented and not line.startswith(" ")):
            in_section = bool(SECTION.match(line))
        if line.strip() and not indented:
            in_block = False
        starts = indented and not in_section and not in_block and not above.strip() and bool(found or text)
        if starts:
            found += _inline(text)
            text = []
            found += ["::", ""]
            in_block = True
        if in_block:
            found.append(line)
        else:
            text.append(line)
        above = line
    return found + _inline(text)


def _inline(lines: list[str]) -> list[str]:
    """Names in backticks, which may run over the end of a line, as literals; all else escaped."""
    pieces = "\n".join(lines).split("`")
    if len(pieces) % 2 == 0:  # a backtick by itself
        return [_escaped(line) for line in "\n".join(lines).replace("`", "'").split("\n")]
    for place, piece in enumerate(pieces):
        if place % 2:
            pieces[place] = f"``{' '.join(piece.split())}``" if piece.strip() else ""
            after = pieces[place + 1]
            if after[:1].isalnum():
                pieces[place + 1] = "\\ " + after
        else:
            pieces[place] = _escaped(piece)
    return "".join(pieces).split("\n")


def _escaped(text: str) -> str:
    text = re.sub(r"([*|\\])", r"\\\1", text)
    return re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
