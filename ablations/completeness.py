"""From how many runs a result was made, so that a fuller one is not replaced without a word.

Every result says it itself: the table of a study counts its runs, that of the verdicts what is missing, and
the report page has both numbers in its head. What is written is compared with the file that it replaces.
"""

import io
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ablations.text import amount

PAGE_HEAD = 4096
"""Characters of a report page in which its counts are."""

IN_PAGE = re.compile(r'<meta name="completed-runs" content="(\d+) of (\d+)">')


class Completeness(NamedTuple):
    """How complete a result is.

    Attributes:
        rank: A fuller result has a greater one.
        words: "24 of 24 runs".
    """

    rank: int
    words: str

    @classmethod
    def of_runs(cls, completed: int, planned: int) -> "Completeness":
        """Of a result from that many of its planned runs."""
        return cls(completed, f"{completed} of {amount(planned, 'run')}")


def completeness_of(suffix: str, content: str) -> Completeness | None:
    """How complete the content of a file is.

    Args:
        suffix: Of the file, ".csv" or ".html".
        content: The table of a study, that of the verdicts, or a report page.

    Returns:
        None where it is something else.
    """
    if suffix == ".html":
        found = IN_PAGE.search(content[:PAGE_HEAD])
        return Completeness.of_runs(int(found[1]), int(found[2])) if found else None
    try:
        table = pd.read_csv(io.StringIO(content))
    except ValueError:
        return None
    if {"n_completed", "n_planned"} <= set(table.columns):
        return Completeness.of_runs(int(table["n_completed"].sum()), int(table["n_planned"].sum()))
    if {"claim", "n_missing"} <= set(table.columns):
        missing = int(table.drop_duplicates("claim")["n_missing"].sum())
        return Completeness(-missing, f"{amount(missing, 'run')} missing")
    return None


def completeness_in(path: Path) -> Completeness | None:
    """How complete a written result is; None where it is not there or is something else."""
    try:
        return completeness_of(path.suffix, path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def tell_if_emptier(path: Path, now: Completeness | None) -> None:
    """Say on stderr that a fuller result is about to be replaced.

    Args:
        path: The file, which need not be there.
        now: Of what will be written; None where that has no runs.
    """
    before = completeness_in(path)
    if before is not None and now is not None and before.rank > now.rank:
        print(f"{path}: replaced; {before.words} before, {now.words} now", file=sys.stderr)
