"""Table 3: parameters and speed of networks that took turns on one machine, from the records.

Chollet 2016 (arXiv:1610.02357), table 3, with 1000 classes, on 60 K80 GPUs: Inception V3 has 23,626,728
parameters and 31 steps/second, Xception 22,855,952 and 28, a ratio of 0.90.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.evidence.timings import MODELS, SOURCE, TITLE, Timings, setting_of
from ablations.table_files import latex_page, markdown_page, provenance, write_table_files
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE, amount, integer

PAPER = {"inception_v3_table3": (23_626_728, 31), "xception": (22_855_952, 28)}
"""Table 3: parameters and steps/second."""

PRECISIONS = {"32-true": "float32", "bf16-mixed": "bf16 autocast"}


def timing_table(timings: Timings) -> pd.DataFrame:
    """The numbers, one row per network, memory order and precision.

    Columns: model, memory_order, precision, parameters, multiply_adds (of one image); steps_per_second and
    ratio (to the first network of the same round, order and precision) as _median, _min, _max over rounds;
    peak_memory_bytes; paper_parameters, paper_steps_per_second, paper_ratio (missing if our network differs,
    e.g. in classes); n_completed, n_planned: rounds.
    """
    first = timings.models[0]
    by_row: dict[tuple[Any, ...], list[Any]] = {}
    for record in timings.records:
        by_row.setdefault((record["choices"]["model"], *setting_of(record)), []).append(record)
    papers = {
        model: PAPER[model]
        for (model, *_), records in by_row.items()
        if records[0]["parameters"] == PAPER.get(model, (None, None))[0]
    }
    rows = []
    for channels_last, precision in timings.settings():
        speeds = {
            model: [record["steps_per_second"] for record in by_row[model, channels_last, precision]]
            for model in timings.models
        }
        for model in timings.models:
            records = by_row[model, channels_last, precision]
            ratios = [own / other for own, other in zip(speeds[model], speeds[first], strict=True)]
            paper_parameters, paper_speed = papers.get(model, (None, None))
            peaks = [peak for record in records if (peak := record["device"].get("peak_memory")) is not None]
            rows.append(
                {
                    "model": model,
                    "memory_order": "channels-last" if channels_last else "contiguous",
                    "precision": PRECISIONS[precision],
                    "parameters": records[0]["parameters"],
                    "multiply_adds": records[0]["multiply_adds"],
                    **_spread("steps_per_second", speeds[model]),
                    **_spread("ratio", () if model == first else ratios),
                    "peak_memory_bytes": max(peaks, default=None),
                    "paper_parameters": paper_parameters,
                    "paper_steps_per_second": paper_speed,
                    "paper_ratio": None
                    if model == first or not paper_speed or first not in papers
                    else paper_speed / papers[first][1],
                    "n_completed": len(records),
                    "n_planned": len(records),
                }
            )
    integers = ("parameters", "multiply_adds", "peak_memory_bytes", "paper_parameters")
    return pd.DataFrame(rows).astype(dict.fromkeys((*integers, "paper_steps_per_second"), "Int64"))


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    numbers = (median(values), min(values), max(values)) if values else (None, None, None)
    return dict(zip((f"{name}_median", f"{name}_min", f"{name}_max"), numbers, strict=True))


def write_timings(timings: Timings, folder: Path) -> tuple[list[Path], RenderableType]:
    """Write the table as CSV, Markdown and LaTeX, each atomically.

    Returns:
        The paths, and the table for the terminal.

    Raises:
        OSError: The folder cannot be written.
    """
    numbers = timing_table(timings)
    readable = _readable(numbers, timings.models[0])
    scale = timings.scale[0].upper() + timings.scale[1:]
    subtitle, notes = f"{scale}. {SOURCE}.", _notes(timings)
    paths = write_table_files(
        folder,
        timings.output,
        csv=numbers,
        markdown=markdown_page(TITLE, subtitle, [readable], notes),
        latex=latex_page(TITLE, subtitle, timings.output, [readable], notes),
    )
    return paths, _console_table(readable, subtitle)


# Text for readers


def _readable(numbers: pd.DataFrame, first: str) -> pd.DataFrame:
    rows = []
    for _, row in numbers.iterrows():
        rows.append(
            {
                "network": MODELS.get(row["model"], row["model"]),
                "memory order": row["memory_order"],
                "precision": row["precision"],
                "parameters": integer(row["parameters"]),
                "multiply-adds": f"{row['multiply_adds'] / 1e9:.2f} G",
                "steps/second": _with_spread(row, "steps_per_second"),
                f"ratio to {MODELS.get(first, first)}": _with_spread(row, "ratio"),
                "peak memory, GiB": _number(row["peak_memory_bytes"], lambda value: f"{value / 2**30:.2f}"),
                "paper: parameters": integer(row["paper_parameters"]),
                "paper: steps/second": _number(row["paper_steps_per_second"], str),
                "paper: ratio": _number(row["paper_ratio"], lambda value: f"{value:.2f}"),
            }
        )
    return pd.DataFrame(rows)


def _number(value: Any, show: Callable[[Any], str]) -> str:
    return NO_VALUE if pd.isna(value) else show(value)


def _with_spread(row: "pd.Series[Any]", name: str) -> str:
    middle, low, high = (row[f"{name}_{part}"] for part in ("median", "min", "max"))
    if pd.isna(middle):
        return NO_VALUE
    middle, low, high = (f"{value:#.3g}".removesuffix(".") for value in (middle, low, high))
    return f"{middle} [{low}, {high}]"


def _console_table(readable: pd.DataFrame, subtitle: str) -> RenderableType:
    of_network = ("network", "memory order", "precision")
    of_paper = [name for name in readable.columns if name.startswith("paper: ")]
    measured = [name for name in readable.columns if name not in (*of_network, *of_paper)]
    sections = []
    for _, row in readable.iterrows():
        printed = [
            f"{name.removeprefix('paper: ')} {row[name]}" for name in of_paper if row[name] != NO_VALUE
        ]
        words = ", ".join(row[name] for name in of_network)
        words += f" (paper: {', '.join(printed)})" if printed else ""
        sections.append(Section(Text(words, "bold"), [[row[name].replace(" [", "\n[") for name in measured]]))
    headers = [name.replace(" to ", "\nto ").replace(", ", ",\n") for name in measured]
    return headed_table(TITLE, headers, sections, subtitle)


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
