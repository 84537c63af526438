"""Tables of measured speeds, whose networks took turns in rounds on one machine.

Table 3 of Chollet 2016 (arXiv:1610.02357), from records, with 1000 classes, on 60 K80 GPUs: Inception V3 has
23,626,728 parameters and 31 steps/second, Xception 22,855,952 and 28, a ratio of 0.90. And our networks
against the libraries' equal ones: images/second.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.evidence.timings import MODELS, SOURCE, TITLE, Timings, setting_of
from ablations.files import write_forms
from ablations.table_files import csv_text, latex_page, markdown_page, provenance, write_table_files
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE, amount, integer

PAPER = {"inception_v3_table3": (23_626_728, 31), "xception": (22_855_952, 28)}
"""Table 3: parameters and steps/second."""

PRECISIONS = {"32-true": "float32", "bf16-mixed": "bf16 autocast"}

OURS = "ours"

AGAINST_LIBRARIES = "speed_against_libraries"
"""Stem of the files of the comparison with libraries."""


def timing_table(timings: Timings) -> pd.DataFrame:
    """The numbers of table 3, one row per network, memory order and precision.

    Columns: model, memory_order, precision, parameters, multiply_adds (of one image); steps_per_second and
    ratio (to the first network of the same round, order and precision) as _median, _min, _max over rounds;
    peak_memory_bytes; paper_parameters, paper_steps_per_second, paper_ratio (missing if our network differs,
    e.g. in classes); n_completed, n_planned: rounds.
    """
    first = timings.models[0]
    turns = [
        {
            "model": record["choices"]["model"],
            "memory_order": "channels-last" if channels_last else "contiguous",
            "precision": PRECISIONS[precision],
            "parameters": record["parameters"],
            "multiply_adds": record["multiply_adds"],
            "round": record["seed"],
            "steps_per_second": record["steps_per_second"],
            "peak_memory_bytes": record["device"].get("peak_memory"),
        }
        for channels_last, precision in timings.settings()
        for model in timings.models
        for record in timings.records
        if (record["choices"]["model"], *setting_of(record)) == (model, channels_last, precision)
    ]
    keys = ["model", "memory_order", "precision"]
    table = _by_network(turns, keys, "steps_per_second", {"ratio": {"model": first}})
    sizes = pd.DataFrame(turns).drop_duplicates("model").set_index("model")
    table.insert(3, "parameters", table["model"].map(sizes["parameters"]))
    table.insert(4, "multiply_adds", table["model"].map(sizes["multiply_adds"]))
    papers = {model: paper for model, paper in PAPER.items() if sizes["parameters"].get(model) == paper[0]}
    table["paper_parameters"] = table["model"].map({model: size for model, (size, _) in papers.items()})
    table["paper_steps_per_second"] = table["model"].map(
        {model: speed for model, (_, speed) in papers.items()}
    )
    of_first = papers[first][1] if first in papers else float("nan")
    table["paper_ratio"] = (table["paper_steps_per_second"] / of_first).mask(table["model"] == first)
    table["n_completed"] = table["n_planned"] = len(timings.rounds)
    integers = ("parameters", "multiply_adds", "paper_parameters", "paper_steps_per_second")
    return table.astype(dict.fromkeys(integers, "Int64"))


def speed_table(turns: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The comparison with libraries, one row per setting, network, library and part (training, inference).

    Args:
        turns: Each with precision, memory_order, compiled, model, of (library), part, round,
            images_per_second, peak_memory_bytes.

    Returns:
        images_per_second, of_ours (ratio to our network of the same round) and over_inception_v3 (the
        library's own) as _median, _min, _max over rounds; peak_memory_bytes.
    """
    keys = ["model", "of", "memory_order", "precision", "compiled", "part"]
    ratios = {"of_ours": {"of": OURS}, "over_inception_v3": {"model": "inception_v3"}}
    return _by_network(turns, keys, "images_per_second", ratios)


def _by_network(
    turns: Sequence[Mapping[str, Any]], keys: list[str], speed: str, ratios: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """Median, minimum and maximum over rounds of a speed and of its ratios; the highest peak memory.

    A ratio is to the turn of the same round that differs in these values alone; missing for itself.
    """
    frame = pd.DataFrame(turns).astype({"peak_memory_bytes": "Int64"})
    by_turn = frame.set_index([*keys, "round"])[speed]
    for name, other in ratios.items():
        of_other = by_turn.reindex(pd.MultiIndex.from_frame(frame.assign(**other)[[*keys, "round"]]))
        itself = (frame[list(other)] == pd.Series(other)).all(axis=1)
        frame[name] = (frame[speed] / of_other.to_numpy()).mask(itself)
    groups = frame.groupby(keys, sort=False)
    table = groups[[speed, *ratios]].agg(["median", "min", "max"])
    table.columns = ["_".join(names) for names in table.columns]
    return table.assign(peak_memory_bytes=groups["peak_memory_bytes"].max()).reset_index()


def write_timings(timings: Timings, folder: Path) -> tuple[list[Path], RenderableType]:
    """Write table 3 as CSV, Markdown and LaTeX, each atomically.

    Returns:
        The paths, and the table for the terminal.

    Raises:
        OSError: The folder cannot be written.
    """
    numbers = timing_table(timings)
    readable = _readable(numbers, {"ratio": f"ratio to {MODELS.get(timings.models[0], timings.models[0])}"})
    scale = timings.scale[0].upper() + timings.scale[1:]
    subtitle, notes = f"{scale}. {SOURCE}.", _notes(timings)
    paths = write_table_files(
        folder,
        timings.output,
        csv=numbers,
        markdown=markdown_page(TITLE, subtitle, [readable], notes),
        latex=latex_page(TITLE, subtitle, timings.output, [readable], notes),
    )
    return paths, _console_table(TITLE, readable, subtitle)


def write_speeds(
    turns: Sequence[Mapping[str, Any]], what: str, folder: Path
) -> tuple[list[Path], RenderableType]:
    """Write the comparison with libraries as CSV and Markdown, and all turns; returns as `write_timings`.

    Args:
        turns: As `speed_table`.
        what: One line with device, batch size and the like.
        folder: Where the files go.
    """
    numbers = speed_table(turns)
    readable = _readable(
        numbers, {"of_ours": "ratio to ours", "over_inception_v3": "ratio to the same source's Inception V3"}
    )
    title = "Speed compared with the libraries' equal networks"
    rounds = amount(len({turn["round"] for turn in turns}), "round")
    subtitle = f"{what}; median over {rounds}, minimum and maximum in brackets."
    notes = ["The paper's Xception trains at 0.90 of its Inception V3's steps/second (table 3)."]
    forms: dict[str, str | bytes] = {
        ".csv": csv_text(numbers),
        ".md": markdown_page(title, subtitle, [readable], notes),
        "_turns.csv": csv_text(pd.DataFrame(turns)),
    }
    paths = write_forms(folder, AGAINST_LIBRARIES, forms)
    return paths, _console_table(title, readable, "\n".join([subtitle, *notes]))


# Text for readers


def _readable(numbers: pd.DataFrame, ratios: Mapping[str, str]) -> pd.DataFrame:
    """The columns that a table has, as text; `ratios` are headers."""
    shown: dict[str, tuple[str, Callable[[Any], str]]] = {
        "model": ("network", lambda value: ({"inception_v3": "Inception V3"} | MODELS).get(value, value)),
        "of": ("source", str),
        "memory_order": ("memory order", str),
        "precision": ("precision", str),
        "compiled": ("compiler", lambda value: value or NO_VALUE),
        "part": ("part", str),
        "parameters": ("parameters", integer),
        "multiply_adds": ("multiply-adds", lambda value: f"{value / 1e9:.2f} G"),
        **{key: (key.replace("_per_", "/"), str) for key in ("steps_per_second", "images_per_second")},
        **{key: (header, str) for key, header in ratios.items()},
        "peak_memory_bytes": ("peak memory, GiB", lambda value: f"{value / 2**30:.2f}"),
        "paper_parameters": ("paper: parameters", integer),
        "paper_steps_per_second": ("paper: steps/second", str),
        "paper_ratio": ("paper: ratio", lambda value: f"{value:.2f}"),
    }
    columns = {}
    for key, (header, show) in shown.items():
        if f"{key}_median" in numbers:
            columns[header] = [_with_spread(row, key) for _, row in numbers.iterrows()]
        elif key in numbers:
            columns[header] = [NO_VALUE if pd.isna(value) else show(value) for value in numbers[key]]
    return pd.DataFrame(columns)


def _with_spread(row: "pd.Series[Any]", name: str) -> str:
    middle, low, high = (row[f"{name}_{part}"] for part in ("median", "min", "max"))
    if pd.isna(middle):
        return NO_VALUE
    middle, low, high = (f"{value:#.3g}".removesuffix(".") for value in (middle, low, high))
    return f"{middle} [{low}, {high}]"


def _console_table(title: str, readable: pd.DataFrame, subtitle: str) -> RenderableType:
    of_network = ("network", "source", "memory order", "precision", "compiler", "part")
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


def _notes(timings: Timings) -> list[str]:
    on_gpu = timings.records[0]["device"]["type"] == "cuda"
    memory = "PyTorch had allocated on the GPU" if on_gpu else "was resident, less what was there before"
    return [
        "A step is forward pass, loss, backward pass and the recipe's optimizer on noise images. "
        f"Steps/second: median over {amount(len(timings.rounds), 'round')} of at least "
        f"{timings.question['timing']['seconds']:g} seconds, minimum and maximum in brackets. In a round the "
        "networks take turns, each in a fresh process and after warm-up steps.",
        f"Ratio: steps/second divided by those of {MODELS.get(timings.models[0], timings.models[0])} in the "
        "same round, memory order and precision; median, minimum and maximum.",
        f"Peak memory: the most that {memory}, over all rounds.",
        "Multiply-adds: of the convolutions and linear layers, for one image.",
        "Paper: 60 K80 GPUs with synchronous gradient descent; its batch size is not stated.",
        *(["Convolutions in float32 may use the GPU's TF32, as is PyTorch's default."] if on_gpu else []),
        *provenance("Measured", timings.records),
    ]
