"""Table of measured speeds, whose networks took turns in rounds on one machine."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.evidence.timings import OURS, TURN, Timings
from ablations.studies.schema import BenchmarkFile, SizeAndSpeed
from ablations.table_files import latex_page, markdown_page, provenance, write_table_files
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE, amount, integer


def timing_table(
    turns: pd.DataFrame, first: str, paper: Mapping[str, SizeAndSpeed] = MappingProxyType({})
) -> pd.DataFrame:
    """The numbers of the table, one row per network and setting.

    Args:
        turns: As `ablations.evidence.timings.turn_row`.
        first: The network that ratios are to.
        paper: The paper's values, by network.

    Returns:
        The columns of `TURN`; parameters, multiply_adds (of one image); steps_per_second, images_per_second,
        ratio (to the first network of the same source) and of_ours (to our own network) of the same round and
        setting, as _median, _min, _max over rounds; peak_memory_bytes; paper_parameters,
        paper_steps_per_second, paper_ratio (missing if our network differs, e.g. in classes); n_completed,
        n_planned: rounds.
    """
    keys = [*TURN]
    turns = turns.infer_objects().astype({"peak_memory_bytes": "Int64"})
    speed = turns.set_index([*keys, "round"])["steps_per_second"]
    for name, other in {"ratio": {"model": first}, "of_ours": {"source": OURS}}.items():
        of_other = speed.reindex(pd.MultiIndex.from_frame(turns.assign(**other)[[*keys, "round"]]))
        itself = (turns[list(other)] == pd.Series(other)).all(axis=1)
        turns = turns.assign(**{name: (turns["steps_per_second"] / of_other.to_numpy()).mask(itself)})
    groups = turns.groupby(keys, sort=False)
    sizes = groups[["parameters", "multiply_adds"]].first()
    speeds = groups[["steps_per_second", "images_per_second", "ratio", "of_ours"]].agg(
        ["median", "min", "max"]
    )
    speeds.columns = ["_".join(names) for names in speeds.columns]
    table = sizes.join(speeds).assign(peak_memory_bytes=groups["peak_memory_bytes"].max()).reset_index()
    of_paper = pd.DataFrame(
        [(model, one.parameters, one.parameters, one.steps_per_second) for model, one in paper.items()],
        columns=["model", "parameters", "paper_parameters", "paper_steps_per_second"],
    ).astype({"parameters": table["parameters"].dtype, "paper_parameters": "Int64"})
    table = table.merge(of_paper, on=["model", "parameters"], how="left")
    of_first = table.loc[table["model"] == first, "paper_steps_per_second"].max()
    table["paper_ratio"] = (table["paper_steps_per_second"] / of_first).mask(table["model"] == first)
    table["n_completed"] = groups.size().to_numpy()
    table["n_planned"] = table["n_completed"].max()
    return table


def write_timings(
    timings: Timings, defined: BenchmarkFile, folder: Path
) -> tuple[list[Path], RenderableType]:
    """Write the table as CSV, Markdown and LaTeX, each atomically.

    Args:
        timings: What was measured.
        defined: Labels, the paper's values, title and notes.
        folder: Where the files go.

    Returns:
        The paths, and the table for the terminal.

    Raises:
        OSError: The folder cannot be written.
    """
    first = timings.config["timing"]["models"][0]
    paper = {one.model: one.paper for one in defined.networks if one.paper is not None}
    numbers = timing_table(timings.turns, first, paper)
    readable = _readable(numbers, defined.labels, first)
    source = f" {defined.source}." if defined.source and timings.output == defined.output else ""
    subtitle = f"{timings.scale[0].upper()}{timings.scale[1:]}.{source}"
    notes = _notes(timings, defined, first)
    paths = write_table_files(
        folder,
        timings.output,
        csv=numbers,
        markdown=markdown_page(defined.title, subtitle, [readable], notes),
        latex=latex_page(defined.title, subtitle, timings.output, [readable], notes),
    )
    return paths, _console_table(defined.title, readable, subtitle)


# Text for readers


def _readable(numbers: pd.DataFrame, labels: Mapping[str, str], first: str) -> pd.DataFrame:
    """The table as text, without columns that say nothing."""
    shown: dict[str, tuple[str, Callable[[Any], str]]] = {
        "model": ("network", lambda value: labels.get(value, value)),
        "source": ("source", str),
        "part": ("part", str),
        "memory_order": ("memory order", str),
        "precision": ("precision", str),
        "compiler": ("compiler", lambda value: value or NO_VALUE),
        "parameters": ("parameters", integer),
        "multiply_adds": ("multiply-adds", integer),
        "steps_per_second": ("steps/second", str),
        "images_per_second": ("images/second", str),
        "ratio": (f"ratio to {labels.get(first, first)}", str),
        "of_ours": ("ratio to ours", str),
        "peak_memory_bytes": ("peak memory, GiB", lambda value: f"{value / 2**30:.2f}"),
        "paper_parameters": ("paper: parameters", integer),
        "paper_steps_per_second": ("paper: steps/second", lambda value: f"{value:g}"),
        "paper_ratio": ("paper: ratio", lambda value: f"{value:.2f}"),
    }
    columns = {}
    for key, (header, show) in shown.items():
        if f"{key}_median" in numbers:
            column = [_with_spread(row, key) for _, row in numbers.iterrows()]
        else:
            column = [NO_VALUE if pd.isna(value) else show(value) for value in numbers[key]]
        if set(column) - {NO_VALUE} and not (key in ("source", "part") and len(set(column)) == 1):
            columns[header] = column
    return pd.DataFrame(columns)


def _with_spread(row: "pd.Series[Any]", name: str) -> str:
    middle, low, high = (row[f"{name}_{part}"] for part in ("median", "min", "max"))
    if pd.isna(middle):
        return NO_VALUE
    middle, low, high = map(_three_digits, (middle, low, high))
    return f"{middle} [{low}, {high}]"


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".removesuffix(".") if value < 1000 else f"{value:,.0f}"


def _console_table(title: str, readable: pd.DataFrame, subtitle: str) -> RenderableType:
    of_network = ("network", "source", "part", "memory order", "precision", "compiler")
    of_paper = [name for name in readable.columns if name.startswith("paper: ")]
    measured = [name for name in readable.columns if name not in (*of_network, *of_paper)]
    sections = []
    for _, row in readable.iterrows():
        printed = [
            f"{name.removeprefix('paper: ')} {row[name]}" for name in of_paper if row[name] != NO_VALUE
        ]
        words = ", ".join(row[name] for name in of_network if row.get(name, NO_VALUE) != NO_VALUE)
        words += f" (paper: {', '.join(printed)})" if printed else ""
        sections.append(Section(Text(words, "bold"), [[row[name].replace(" [", "\n[") for name in measured]]))
    headers = [name.replace(" to ", "\nto ").replace(", ", ",\n") for name in measured]
    return headed_table(title, headers, sections, subtitle)


def _notes(timings: Timings, defined: BenchmarkFile, first: str) -> list[str]:
    records: list[Mapping[str, Any]] = [*timings.records.values()]
    on_gpu = records[0]["device"]["type"] == "cuda"
    return [
        "A training step is forward pass, loss, backward pass and the recipe's optimizer on noise images. "
        f"Steps/second: median over {amount(timings.rounds, 'round')} of at least "
        f"{timings.config['timing']['seconds']:g} seconds, minimum and maximum in brackets. In a round the "
        "networks take turns, after warm-up steps.",
        f"Ratio: steps/second divided by those of {defined.labels.get(first, first)} in the same round and "
        "setting; median, minimum and maximum.",
        *(["Peak memory: the most that PyTorch had allocated for the network."] if on_gpu else []),
        "Multiply-adds: of the convolutions and linear layers, for one image.",
        *(defined.notes if timings.output == defined.output else ()),
        *provenance("Measured", records),
    ]
