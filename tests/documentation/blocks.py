"""The fenced blocks of the documentation, each with the file that the text above it names."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

PAGES = sorted(
    page
    for page in (
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *(REPOSITORY / "docs").rglob("*.md"),
    )
    if not {"generated", "_build"} & set(page.relative_to(REPOSITORY).parts)
)

FENCE = re.compile(r"(?P<indent>\s*)(?P<ticks>`{3,})(?P<language>\S*)")
CELL = "{code-cell}"
"""Of a notebook; lines that begin with a colon are its options."""
NAMED_FILE = re.compile(r"`((?:conf|lightning_modules)/[\w/]+\.(?:yaml|py)|my_\w+\.py)`")


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        where: Page and line.
        language: As the fence has it.
        text: What it holds, without the indentation of the list that it stands in.
        file: The last file that the paragraph above it names, where that ends with a colon.
    """

    where: str
    language: str
    text: str
    file: str | None


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in its order, without Sphinx's directives, which the build of the site runs."""
    return [
        block for block in parse(page.read_text(encoding="utf-8"), page) if not block.language.startswith("{")
    ]


def parse(text: str, page: Path) -> list[Block]:
    """Every fenced block of a text."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    inside: list[str] = []
    paragraph: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, inside, start = fence, [], number
        elif opened is not None and fence and fence["ticks"] == opened["ticks"] and not fence["language"]:
            above = " ".join(paragraph)
            named = NAMED_FILE.findall(above) if above.rstrip().endswith(":") else []
            language = opened["language"]
            if language == CELL:
                language, inside = "python", [line for line in inside if not line.startswith(":")]
            body = textwrap.dedent("\n".join(inside)) + "\n"
            where = f"{page.name}:{start}"
            found.append(Block(where, language, body, named[-1] if named else None))
            opened, paragraph = None, []
        elif opened is not None:
            inside.append(line)
        elif line.strip():
            paragraph.append(line.strip())
        elif paragraph and not paragraph[-1].endswith(":"):
            paragraph = []
    assert opened is None, f"{page.name}: a block is not closed"
    return found


def commands_of(block: Block) -> list[str]:
    """The commands of a block: of bash every line, of console those behind "$ "."""
    lines = block.text.splitlines()
    if block.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.startswith("#")]
