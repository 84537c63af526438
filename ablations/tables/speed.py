"""Measured speed of our networks and those of libraries: images/second and peak memory.

In table 3 of Chollet 2016 (arXiv:1610.02357), Xception trains at 28 steps/second and Inception V3 at 31, on
60 K80 GPUs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.files import write_forms
from ablations.table_files import csv_text, markdown_page
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE, amount, memory_size

OURS = "ours"
SETTING = ["precision", "order", "compiled"]
PAPER_RATIO = 28 / 31
"""Xception's training steps/second over Inception V3's."""

STEM = "speed_against_libraries"

HEADERS = ("", "training\nimages/s", "of\nours", "inference\nimages/s", "of\nours", "memory,\ntraining")


def speed_table(turns: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Medians over rounds, one row per setting, part, network and library.

    Args:
        turns: Each with precision, order, compiled, part, network, of, round, images_per_second, peak_memory.

    Returns:
        The setting, part, network, of; images_per_second, of_ours (ratio to ours, by round),
        xception_over_inception_v3 (by round) and peak_memory_bytes.
    """
    keys = [*SETTING, "part", "network", "of"]
    frame = pd.DataFrame(turns)
    by_round = frame.set_index([*keys, "round"])["images_per_second"]

    def ratio(**other: str) -> pd.Series:
        """By row: the median over rounds of the speed relative to another network."""
        of_other = frame.assign(**other)[[*keys, "round"]]
        values = by_round.reindex(pd.MultiIndex.from_frame(of_other)).to_numpy()
        ratios = pd.Series(
            frame["images_per_second"].to_numpy() / values, pd.MultiIndex.from_frame(frame[keys])
        )
        return ratios.groupby(level=keys, sort=False).median()

    table = frame.groupby(keys, sort=False).agg(
        images_per_second=("images_per_second", "median"), peak_memory_bytes=("peak_memory", "first")
    )
    table["of_ours"] = ratio(of=OURS)
    over = ratio(network="inception_v3")
    table["xception_over_inception_v3"] = over.where(over.index.get_level_values("network") == "xception")
    return table.reset_index()


def write_speeds(
    turns: Sequence[Mapping[str, Any]], what: str, folder: Path
) -> tuple[list[Path], RenderableType]:
    """Write the table and all turns into a folder.

    Args:
        turns: As `speed_table`.
        what: One line with device, batch size and the like.
        folder: Where the files go.

    Returns:
        The paths, and the table for a terminal.
    """
    table = speed_table(turns)
    sections = [
        Section(Text(_setting(dict(zip(SETTING, setting, strict=True))), "bold"), _rows(part))
        for setting, part in table.groupby(SETTING, sort=False)
    ]
    title = "Speed compared with the libraries' equal networks"
    notes = [what, *ratio_lines(table)]
    header = [word.replace("\n", " ") for word in HEADERS]
    pages = [
        pd.DataFrame(section.rows, columns=[section.heading.plain, *header[1:]], dtype=str)
        for section in sections
    ]
    forms: dict[str, str | bytes] = {
        ".csv": csv_text(table),
        ".md": markdown_page(title, f"Median of {_rounds(turns)}.", pages, notes),
        "_turns.csv": csv_text(pd.DataFrame(turns)),
    }
    paths = write_forms(folder, STEM, forms)
    return paths, headed_table(title, HEADERS, sections, "\n".join(notes))


def ratio_lines(table: pd.DataFrame) -> list[str]:
    """A line per setting and part: Xception over Inception V3."""
    of_both = table.dropna(subset=["xception_over_inception_v3"])
    lines = []
    for (*setting, part), rows in of_both.groupby([*SETTING, "part"], sort=False):
        each = ", ".join(
            f"{whose} {ratio:.2f}"
            for whose, ratio in zip(rows["of"], rows["xception_over_inception_v3"], strict=True)
        )
        paper = f"; the paper {PAPER_RATIO:.2f}" if part == "training" else ""
        where = _setting(dict(zip(SETTING, setting, strict=True)))
        lines.append(f"Xception over Inception V3, {part}, {where}: {each}{paper}")
    return lines


def _rounds(turns: Sequence[Mapping[str, Any]]) -> str:
    return amount(len({turn["round"] for turn in turns}), "round")


def _setting(setting: Mapping[str, Any]) -> str:
    return f"{setting['precision']}, {setting['order']}" + (", compiled" if setting["compiled"] else "")


def _rows(table: pd.DataFrame) -> list[list[str]]:
    found = []
    for (network, whose), parts in table.groupby(["network", "of"], sort=False):
        by_part = parts.set_index("part")
        cells = [f"{network}, {whose}"]
        for part in ("training", "inference"):
            own = by_part.loc[part]
            cells += [f"{own['images_per_second']:.3g}", f"{own['of_ours']:.2f}"]
        peak: Any = by_part.loc["training", "peak_memory_bytes"]
        found.append([*cells, NO_VALUE if pd.isna(peak) else memory_size(int(peak))])
    return found
