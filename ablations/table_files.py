"""A table as files: CSV, and Markdown and LaTeX with title, source and notes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.completeness import completeness_of, tell_if_emptier
from ablations.files import write_forms
from ablations.text import amount, escape_latex, escape_markdown, true_minus


def markdown_page(title: str, subtitle: str, tables: Sequence[pd.DataFrame], notes: Sequence[str]) -> str:
    """Title, subtitle, tables of text (each as wide as a page), and a list of notes."""
    listed = "\n".join(f"- {escape_markdown(true_minus(note))}" for note in notes)
    title, subtitle = escape_markdown(title), escape_markdown(subtitle)
    return "\n\n".join([f"# {title}", subtitle, markdown_tables(tables), listed]) + "\n"


def markdown_tables(tables: Sequence[pd.DataFrame]) -> str:
    """Tables of text, one below the other."""
    shown = [
        table.map(true_minus).map(escape_markdown).to_markdown(index=False, disable_numparse=True)
        for table in tables
    ]
    return "\n\n".join(shown)


def latex_page(
    title: str, subtitle: str, label: str, tables: Sequence[pd.DataFrame], notes: Sequence[str]
) -> str:
    """A table environment that fits a page, with a caption (`tab:<label>`), and the notes after it.

    It needs the packages booktabs and adjustbox.
    """
    tabulars = []
    for table in tables:
        escaped = table.map(escape_latex).rename(columns=escape_latex)
        tabular = escaped.style.hide(axis="index").to_latex(hrules=True, column_format="l" * table.shape[1])
        limits = f"max width=\\linewidth,max totalheight={0.85 / len(tables):.2f}\\textheight"
        tabulars.append(f"\\begin{{adjustbox}}{{{limits}}}\n{tabular}\\end{{adjustbox}}")
    lines = [
        "% needs \\usepackage{adjustbox,booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(f'{title}. {subtitle}')}}}",
        f"\\label{{tab:{label}}}",
        "\\par\\medskip\n".join(tabulars),
        "\\end{table}",
        "{\\footnotesize\\raggedright",  # outside, because a float must fit a page
        *[f"{escape_latex(note)}\\par" for note in notes],
        "}",
    ]
    return "\n".join(lines) + "\n"


def write_table_files(
    folder: Path, name: str, *, csv: pd.DataFrame, markdown: str, latex: str, slim: str | None = None
) -> list[Path]:
    """Write a table in its forms, each atomically; warn on stderr if it replaces one from more completed
    runs.

    Returns:
        The paths, `folder/<name>.csv`, `.md`, `.tex` and, with `slim`, `_slim.tex`.

    Raises:
        OSError: The folder cannot be written.
    """
    text = csv_text(csv)
    tell_if_emptier(folder / f"{name}.csv", completeness_of(".csv", text))
    forms: dict[str, str | bytes] = {".csv": text, ".md": markdown, ".tex": latex}
    return write_forms(folder, name, forms if slim is None else forms | {"_slim.tex": slim})


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, with the same bytes on every system."""
    return table.to_csv(index=False, lineterminator="\n")


def provenance(done: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """All machines, dates, commits and versions of the records.

    Args:
        done: What was done there, e.g. "Trained".
        records: With `device`, `finished`, `git` and `versions`.
    """
    devices = {
        f"{device['name']} ({device['type']}, {amount(device['threads'], 'thread')} a run)"
        for device in (record["device"] for record in records)
    }
    dates = sorted({str(record["finished"])[:10] for record in records})
    commits = {commit_name(record["git"]) for record in records}
    versions: dict[str, set[str]] = {}
    for record in records:
        for package, version in record["versions"].items():
            versions.setdefault(package, set()).add(str(version))
    packages = [f"{name} {' and '.join(sorted(found))}" for name, found in sorted(versions.items())]
    return [
        f"{done} on {'; '.join(sorted(devices))}; finished "
        + (dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}")
        + f"; commit {', '.join(sorted(commits))}.",
        f"Versions: {', '.join(packages)}.",
    ]


def commit_name(git: Mapping[str, Any] | None) -> str:
    """The commit of a record for readers; "unknown" outside a checkout."""
    if git is None:
        return "unknown"
    commit, changes = str(git["commit"])[:10], git["changes"]
    if changes == {}:
        return commit
    return f"{commit} with uncommitted changes" + (f" of {', '.join(sorted(changes))}" if changes else "")
