"""Format numbers, times and lists for readers; escape Markdown and LaTeX."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

NO_VALUE = "–"
"""Shown for a missing number."""

UNCORRECTED = "95 % intervals, not corrected for several comparisons"
"""What brackets and bars of a study are; those of claims are corrected."""

SEEDS_NAMED = 20
"""Most seeds that a note lists."""

LISTED = 12
"""Most names that an error lists."""


def is_missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, or pandas' NA."""
    return str(value) in ("None", "nan", "<NA>")  # without importing pandas


# Numbers


def decimals(value: float, sign: str = "", digits: int = 1) -> str:
    """A number with fixed decimals, with `sign="+"` also for positive ones; rounding ignores the noise of its
    last bits.
    """
    return NO_VALUE if is_missing(value) else f"{round(value, 6):{sign}z.{digits}f}"  # z: no "-0.0"


def with_interval(mean: float, low: float, high: float, sign: str = "", digits: int = 1) -> str:
    """A mean and, if there is one, its interval: "2.7 [2.0, 3.4]"."""
    text = decimals(mean, sign, digits)
    if is_missing(low):
        return text
    return f"{text} [{decimals(low, sign, digits)}, {decimals(high, sign, digits)}]"


def digits_for(*values: float) -> int:
    """Decimals that give the largest of some numbers three digits, at most six."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 3 if largest == 0 else min(6, max(0, 2 - math.floor(math.log10(largest))))


def integer(value: Any) -> str:
    return NO_VALUE if is_missing(value) else f"{value:,}"


def shown_value(value: Any) -> str:
    """A setting, "0.22", "1e-05", "relu"."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def three_digits(value: float) -> str:
    """A number with three or more digits: "0.214", "17.0", "1204"."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def per_cent(share: float, digits: int | None = None) -> str:
    """A share in per cent, "71.3 %"; by default with three significant digits, "80 %", "62.5 %"."""
    number = f"{100 * share:.3g}" if digits is None else f"{100 * share:.{digits}f}"
    return f"{number} %"


def p_value(p: float, name: str = "") -> str:
    """A p-value, "0.031" or "< 0.001"; with a name, "p = 0.031" or "p < 0.001"."""
    if is_missing(p):
        return NO_VALUE
    relation, number = ("< ", "0.001") if p < 0.001 else ("= " if name else "", f"{p:.3f}")
    return f"{name} {relation}{number}".lstrip()


def memory_size(number: float) -> str:
    """Bytes, "23.5 MiB", "1.5 GiB"."""
    exponent = min(4, max(0, int(math.log2(number)) // 10)) if number >= 1 else 0
    return f"{number / 2 ** (10 * exponent):.4g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[exponent]}"


def true_minus(text: str) -> str:
    """A text with minus signs instead of hyphens before numbers."""
    return re.sub(r"(?<![\w.)\]-])-(?=\d)", "−", text)


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


# Times


def duration(seconds: float | None) -> str:
    """A duration, "54 s", "3 min 00 s", "2 h 05 min", "3 d 04 h"."""
    if seconds is None:
        return NO_VALUE
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def core_time(hours: float | None) -> str:
    """Core-hours as a duration on one core, "3 min 31 s"; a dash if unknown."""
    return NO_VALUE if hours is None or is_missing(hours) else duration(3600 * hours)


def day_of(moment: str) -> str:
    """The day of a moment in ISO 8601, "27 Nov 2026"."""
    date = datetime.fromisoformat(moment)
    return f"{date.day} {date:%b %Y}"


# Words


def amount(number: int, noun: str, plural: str | None = None) -> str:
    """So many of something, "1 epoch", "12 epochs"; the default plural is the noun and an s."""
    shown = f"{number:,}" if isinstance(number, int) else number  # as typed, not checked yet
    return f"{shown} {noun if number == 1 else plural or f'{noun}s'}"


def named_seeds(numbers: Iterable[int]) -> str:
    """Seeds in a note, "seeds 0, 3"; of more than `SEEDS_NAMED`, the number and the first."""
    found = sorted(numbers)
    if len(found) > SEEDS_NAMED:
        return f"{amount(len(found), 'seed')} ({', '.join(map(str, found[:3]))}, ...)"
    return f"seed{'' if len(found) == 1 else 's'} {', '.join(map(str, found))}"


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def in_words(key: str) -> str:
    """A key as words, "learning rate" for learning_rate."""
    return key.replace("_", " ")


def shown_settings(values: Mapping[str, Any]) -> str:
    """Settings, "learning rate 0.22, weight decay 1e-05"."""
    return ", ".join(f"{in_words(key)} {shown_value(value)}" for key, value in values.items())


def contrast_label(weights: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """A weighted sum of arms, "with − without"; positive weights first."""
    text = ""
    for arm, weight in sorted(weights.items(), key=lambda item: item[1] < 0):
        sign = "− " if weight < 0 else "+ " if text else ""
        text += f" {sign}{'' if abs(weight) == 1 else f'{abs(weight):g} × '}{labels.get(arm, arm)}"
    return text.strip()


# Escaping

MARKDOWN = re.compile(r"[\\`*|]|<(?=[A-Za-z/!?])|(?<=\])\(|(?<=!)\[")
"""Markdown's code, emphasis, cell ends, tags, links and images."""

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "[": "{[}",  # after a line's \\ it would open an option
    "<": "$<$",
    ">": "$>$",
    NO_VALUE: "--",
    "−": "$-$",
}


def escape_markdown(text: str) -> str:
    """A text that Markdown shows unchanged."""
    return MARKDOWN.sub(r"\\\g<0>", text)


def escape_latex(text: str) -> str:
    """A text that LaTeX shows unchanged, with minus signs before numbers."""
    escaped = "".join(LATEX_ESCAPES.get(character, character) for character in text)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)
