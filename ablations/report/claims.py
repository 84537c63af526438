"""The first screen of the report page: each claim with its verdict, and its intervals drawn to one scale."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablations.evidence.claims import LOWER, NO_DIFFERENCE
from ablations.evidence.verdicts import CONTRADICTED, HOLDS, NOT_TESTABLE, UNDECIDED, Compared, Verdict
from ablations.report.runs import short
from ablations.report.study import claim_set
from ablations.table_files import NO_VALUE
from ablations.tables.verdicts import claimed, difference, metric_label, shown_hours, shown_p, to_decide, unit

MARKS = {HOLDS: "✓", CONTRADICTED: "✕", UNDECIDED: "?", NOT_TESTABLE: "–"}
"""Beside the words, so that a verdict is not told by its colour."""

PAD = 0.08
"""Of the width of an interval's picture, on both sides."""


def claim_entries(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The claims as the page shows them.

    Args:
        verdicts: In their order.
        titles: Of the studies that have a section.
    """
    ranges = _ranges(verdicts)
    return [
        {
            "id": verdict.claim.id,
            "statement": verdict.claim.statement,
            "source": verdict.claim.source,
            "study": verdict.claim.study if verdict.claim.study in titles else None,
            "verdict": verdict.verdict,
            "mark": MARKS[verdict.verdict],
            "reason": verdict.reason,
            "decide": "" if to_decide(verdict) == NO_VALUE else to_decide(verdict),
            "missing": verdict.n_missing,
            "diverged": verdict.n_diverged,
            "hours": "" if verdict.core_hours is None else shown_hours(verdict.core_hours),
            "scale": verdict.scale,
            "runs": claim_set(verdict),
            "comparisons": [
                _comparison(one, ranges[verdict.claim.study, unit(one.comparison.metric)])
                for one in verdict.comparisons
            ],
        }
        for verdict in verdicts
    ]


def verdict_counts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """How many claims have each verdict, also where none has it."""
    found = [verdict.verdict for verdict in verdicts]
    return [{"verdict": name, "mark": mark, "n": found.count(name)} for name, mark in MARKS.items()]


def _comparison(one: Compared, scale: tuple[float, float]) -> dict[str, Any]:
    return {
        "label": one.comparison.label,
        "metric": metric_label(one.comparison.metric),
        "claimed": claimed(one),
        "difference": difference(one),
        "confidence": f"{100 * (1 - one.level):.4g} %" if one.low < one.high else "",
        "n": one.n,
        "p": shown_p(one.p),
        "sign_flip_p": shown_p(one.sign_flip_p),
        "verdict": one.verdict,
        "mark": MARKS[one.verdict],
        "reason": one.reason,
        "plot": _plot(one, scale),
    }


def _ranges(verdicts: Sequence[Verdict]) -> dict[tuple[str | None, str], tuple[float, float]]:
    """What the pictures span, one range for all comparisons of a study in one unit; zero lies within."""
    shown: dict[tuple[str | None, str], list[float]] = {}
    for verdict in verdicts:
        for one in verdict.comparisons:
            margin = one.comparison.margin
            values = [0.0, *(end for end in (one.estimate, one.low, one.high) if short(end) is not None)]
            shown.setdefault((verdict.claim.study, unit(one.comparison.metric)), []).extend(
                [*values, -margin, margin]
            )
    return {key: (min(values), max(values)) for key, values in shown.items()}


def _plot(one: Compared, scale: tuple[float, float]) -> dict[str, float] | None:
    """Places in per cent of the picture's width; None where there is no estimate.

    zero, estimate, low and high (both the estimate where there is no interval), and margin_low and
    margin_high, the ends of what counts as no difference that matters in the direction of the claim.
    """
    if short(one.estimate) is None:
        return None
    low, high = scale
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (PAD + (1 - 2 * PAD) * (value - low) / width), 2)

    margin = one.comparison.margin
    ends = (one.low, one.high) if one.low < one.high else (one.estimate, one.estimate)
    direction = one.comparison.direction
    margins = (-margin if direction in (LOWER, NO_DIFFERENCE) else 0.0, 0.0 if direction == LOWER else margin)
    names = ("zero", "estimate", "low", "high", "margin_low", "margin_high")
    return dict(zip(names, map(place, (0.0, one.estimate, *ends, *margins)), strict=True))
