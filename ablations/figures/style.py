"""The style of all figures: colours, sizes, texts and legends, and writing them.

matplotlib is used without pyplot: no global figure, no display.
"""

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ablations.files import write_forms
from ablations.statistics.paired import Band
from ablations.studies.results import Study
from ablations.text import true_minus

# Okabe and Ito's colours (2008) for colour-blind readers; dashes and markers for grey paper.
COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (3, 1.5, 1, 1.5)), (0, (1.5, 1.2)))
MARKERS = "osD^vP"
GREY = "#595959"

STYLE: Mapping[str, Any] = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "svg.fonttype": "none",  # text can be searched, copied and read aloud
    "svg.hashsalt": "ablations",  # the same ids in every drawing
}

WIDTH = 5.2  # inches, as all below: 9 points are 9 pixels on a phone 390 pixels wide
LEFT, RIGHT = 0.85, 0.25
HEADER = 0.68  # without the subtitle
TITLE_LINE = 0.25
LINE = 0.19
CHARACTERS, SMALL_CHARACTERS = 58, 68  # per line of text and of notes
TITLE_CHARACTERS = 38
LEGEND_CHARACTERS = 52

FEW_EPOCHS = 6
"""Up to so many, each epoch is also a point in a seed's line."""

SEEDS_DRAWN = 50
"""Single seeds of an arm, as lines and dots; more would hide each other and take minutes."""


_T = TypeVar("_T")


@dataclass(frozen=True)
class LineStyle:
    color: str
    dash: Any
    marker: str


def line_styles_of(names: Sequence[str]) -> dict[str, LineStyle]:
    """A line style per name; the first, the baseline, is black."""
    return {
        name: LineStyle(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(names)
    }


@contextmanager
def style() -> Iterator[None]:
    """Our style on matplotlib's defaults; undone on exit."""
    with matplotlib.style.context(["default", dict(STYLE)]):
        yield


def save_figure(draw: Callable[[], Figure], folder: Path, name: str) -> list[Path]:
    """Write what `draw` draws as PNG (200 dots per inch) and SVG, in our style and each atomically.

    The same runs and the same matplotlib give the same bytes.

    Returns:
        `folder/<name>.png` and `.svg`.

    Raises:
        OSError: The folder cannot be written.
    """
    contents = {}
    with style():
        figure = draw()
        without_formulas(figure)
        # No date and no version of matplotlib: equal bytes.
        for suffix, metadata in {".png": {"Software": None}, ".svg": {"Date": None}}.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], dpi=200, metadata=metadata)
            contents[suffix] = buffer.getvalue()
    return write_forms(folder, name, contents)


def without_formulas(figure: Figure) -> None:
    """Show $x$ in a label literally, except in the powers of a logarithmic axis."""
    for text in figure.findobj(Text):
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():
            text.set_parse_math(False)


def small() -> float:
    """The size of ticks and notes, in points."""
    return float(matplotlib.rcParams["font.size"]) * 8 / 9


def subtitle_of(study: Study) -> list[str]:
    return [*textwrap.wrap(study.scale, CHARACTERS), *textwrap.wrap(study.source, CHARACTERS)]


def header_height(title: Sequence[str], subtitle: Sequence[str]) -> float:
    return HEADER + TITLE_LINE * (len(title) - 1) + LINE * len(subtitle)


def write_texts(figure: Figure, title: Sequence[str], subtitle: Sequence[str], notes: Sequence[str]) -> None:
    """Write title and subtitle at the top and notes at the bottom."""
    height = figure.get_figheight()
    x, top = LEFT / figure.get_figwidth(), 1 - 0.25 / height
    for line in title:
        figure.text(x, top, line, fontsize="x-large", fontweight="bold", va="center")
        top -= TITLE_LINE / height
    for i, line in enumerate(subtitle):
        figure.text(x, top - LINE * i / height, line, color=GREY, va="center")
    for i, note in enumerate(notes):
        y = (LINE * (len(notes) - i - 0.6) + 0.15) / height
        figure.text(x, y, true_minus(note), fontsize=small(), color=GREY, va="center")


def write_nothing_completed(figure: Figure, inches: float) -> None:
    """Write a message so many inches above the bottom."""
    figure.text(
        0.5,
        inches / figure.get_figheight(),
        "no completed run",
        fontsize=14,
        color=GREY,
        ha="center",
        va="center",
    )


def wrapped(notes: Sequence[str]) -> list[str]:
    """Lines of notes; none breaks within "2.4 %" or "n = 6"."""
    whole = [
        re.sub(r"(?<=\d) (?=%)|(?<=\bn) (?==)|(?<==) (?=\d)", "\N{NO-BREAK SPACE}", note) for note in notes
    ]
    return [line for note in whole for line in textwrap.wrap(note, SMALL_CHARACTERS)]


def drawn_seeds(of_seeds: Sequence[_T]) -> Sequence[_T]:
    """All, or `SEEDS_DRAWN` of them at equal distances."""
    if len(of_seeds) <= SEEDS_DRAWN:
        return of_seeds
    return [of_seeds[i * len(of_seeds) // SEEDS_DRAWN] for i in range(SEEDS_DRAWN)]


def legend_line(line_style: LineStyle, label: str) -> Line2D:
    return Line2D(
        [], [], color=line_style.color, linestyle=line_style.dash, linewidth=2, marker=line_style.marker,
        markersize=4.5, label=label,
    )  # fmt: skip


def draw_legend(
    figure: Figure,
    styles: Mapping[str, LineStyle],
    labels: Mapping[str, str],
    *,
    title: str | None,
    above: float,
) -> None:
    """Draw the legend below title and subtitle, which are `above` inches high."""
    labels = {name: textwrap.fill(label, LEGEND_CHARACTERS) for name, label in labels.items()}
    figure.legend(
        handles=[legend_line(styles[name], label) for name, label in labels.items()],
        title=title,
        loc="upper left",
        bbox_to_anchor=(LEFT / figure.get_figwidth(), 1 - (above - 0.1) / figure.get_figheight()),
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        handlelength=4,
        ncols=_legend_columns(labels),
        alignment="left",
    )


def legend_height(labels: Mapping[str, str], title: str | None) -> float:
    lines = [len(textwrap.wrap(label, LEGEND_CHARACTERS)) for label in labels.values()]
    return LINE * (sum(lines) if _legend_columns(labels) == 1 else 1) + LINE * bool(title)


def _legend_columns(labels: Mapping[str, str]) -> int:
    return len(labels) if sum(len(label) + 10 for label in labels.values()) <= CHARACTERS else 1


def draw_band(axes: Axes, steps: np.ndarray, band: Band, line_style: LineStyle) -> None:
    """Draw a curve's mean and, with several seeds, its interval, at `steps` `(E,)`."""
    axes.plot(
        steps,
        band.mean,
        color=line_style.color,
        linestyle=line_style.dash,
        linewidth=2,
        marker=line_style.marker if len(steps) <= 20 else None,
        markersize=4.5,
        zorder=4,
    )
    if np.isfinite(band.low).all():
        axes.fill_between(
            steps, band.low, band.high, color=line_style.color, alpha=0.15, linewidth=0, zorder=3
        )
