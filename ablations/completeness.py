"""The completeness of results, to warn when a fuller one is replaced. Every result states it."""

import io
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ablations.text import amount

PAGE_HEAD = 4096
"""Characters of a report page that contain its counts."""

IN_PAGE = re.compile(r'<meta name="completed-runs" content="(\d+) of (\d+)">')


class Completeness(NamedTuple):
    """How complete a result is, e.g. "24 of 24 runs"; `rank` is greater for a fuller one."""

    rank: int
    words: str

    @classmethod
    def of_runs(cls, completed: int, planned: int) -> "Completeness":
        return cls(completed, f"{completed} of {amount(planned, 'run')}")


def completeness_of(suffix: str, content: str) -> Completeness | None:
    """How complete the content of a file is; None for other content than studies, verdicts or a report."""
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
    """How complete a file is; None if it does not exist or is no result."""
    try:
        return completeness_of(path.suffix, path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def tell_if_emptier(path: Path, now: Completeness | None) -> None:
    """Warn on stderr if a fuller result will be replaced.

    Args:
        now: Of the new content.
    """
    before = completeness_in(path)
    if before is not None and now is not None and before.rank > now.rank:
        print(f"{path}: replaced; {before.words} before, {now.words} now", file=sys.stderr)
