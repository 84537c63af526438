"""A table for a paper: names, and numbers aligned by siunitx, the best in bold.

`76.3(12)` is printed as 76.3 ± 1.2, or as written if the column has no `separate-uncertainty`. Notes are text
below the float.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ablations.text import NO_VALUE, decimals, escape_latex


@dataclass(frozen=True)
class Numbers:
    """A column.

    Attributes:
        values: Per row; NaN if there is none.
        halves: Half width of each value's interval, or NaN.
        best: 1 to print the highest value in bold, -1 for the lowest, 0 for none.
        digits: After the point; None: so many that the smallest half width has two.
        signed: Whether positive numbers have a plus.
    """

    header: str
    values: Sequence[float]
    halves: Sequence[float] = ()
    best: int = 0
    digits: int | None = None
    signed: bool = False

    def decimals(self) -> int:
        if self.digits is not None:
            return self.digits
        halves = [half for half in self.halves if half > 0]
        return min(4, max(0, 1 - math.floor(math.log10(min(halves))))) if halves else 1


@dataclass(frozen=True)
class SlimTable:
    """The contents of the table.

    Attributes:
        label: `tab:<label>`.
        texts: Columns of words by header, after the numbers.
        notes: Sentences below the float.
    """

    title: str
    label: str
    head: str
    names: Sequence[str]
    columns: Sequence[Numbers]
    texts: dict[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def latex(self) -> str:
        """For the packages booktabs and siunitx."""
        cells = [_cells(column) for column in self.columns]
        words = [[escape_latex(text) for text in texts] for texts in self.texts.values()]
        rows = zip(map(escape_latex, self.names), *cells, *words, strict=True)
        kinds = [_format(column) for column in self.columns] + ["l"] * len(words)
        width = 0.24 if words else 0.3
        headers = [self.head, *(column.header for column in self.columns), *self.texts]
        lines = [
            "% needs \\usepackage{booktabs,siunitx}",
            "\\begin{table}",
            "\\centering\\footnotesize",
            f"\\caption{{{escape_latex(self.title)}}}",
            f"\\label{{tab:{self.label}}}",
            "\\setlength{\\tabcolsep}{3pt}",
            f"\\begin{{tabular}}{{>{{\\raggedright\\arraybackslash}}p{{{width}\\linewidth}}"
            f"{' '.join(kinds)}}}",
            "\\toprule",
            " & ".join(_header(header) for header in headers) + " \\\\",
            "\\midrule",
            *(" & ".join(row) + " \\\\" for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
            *(f"{{\\footnotesize\\noindent {escape_latex(note)}\\par}}" for note in self.notes),
        ]
        return "\n".join(lines) + "\n"


def _header(text: str) -> str:
    lines = [escape_latex(line) for line in text.split("\n")]
    return "{" + (lines[0] if len(lines) == 1 else "\\shortstack{" + "\\\\".join(lines) + "}") + "}"


def _cells(column: Numbers) -> list[str]:
    digits, halves = column.decimals(), column.halves or [math.nan] * len(column.values)
    texts = [_number(value, half, digits) for value, half in zip(column.values, halves, strict=True)]
    shown = [_rounded(value, digits) for value in column.values if math.isfinite(value)]
    if not column.best or len(set(shown)) < 2:
        return texts
    best = max(column.best * value for value in shown)
    return [
        f"\\bfseries {text}" if column.best * _rounded(value, digits) == best else text
        for text, value in zip(texts, column.values, strict=True)
    ]


def _rounded(value: float, digits: int) -> float:
    return float(decimals(value, digits=digits)) if math.isfinite(value) else math.nan


def _number(value: float, half: float, digits: int) -> str:
    if not math.isfinite(value):
        return "{" + escape_latex(NO_VALUE) + "}"
    text = decimals(value, digits=digits)
    return f"{text}({round(half * 10**digits)})" if math.isfinite(half) and half > 0 else text


def _format(column: Numbers) -> str:
    """Siunitx's column, as wide as its numbers."""
    digits = column.decimals()
    values = [value for value in column.values if math.isfinite(value)]
    whole = max((len(decimals(abs(value), digits=digits).partition(".")[0]) for value in values), default=1)
    halves = [half for half in column.halves if math.isfinite(half)]
    uncertainty = f"({len(str(round(max(halves) * 10**digits)))})" if halves else ""
    sign = "+" if column.signed else "-" if any(value < 0 for value in values) else ""
    explicit = ",retain-explicit-plus,print-implicit-plus" if column.signed else ""
    number = f"table-format={sign}{whole}.{digits}{uncertainty}"
    return f"S[{number},separate-uncertainty=true,detect-weight=true,mode=text{explicit}]"
