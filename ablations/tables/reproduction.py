"""The table of a reproduction: both estimates, their difference, both verdicts, and the outcome."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.evidence.contrasts import short_words
from ablations.evidence.reproduction import (
    NOT_REPRODUCED,
    OUTCOMES,
    REPRODUCED,
    SHARE_OF_EFFECT,
    TOO_FEW,
    Reproduction,
    Twice,
    count,
)
from ablations.evidence.verdicts import ALPHA, MIN_PAIRS
from ablations.files import write_atomically
from ablations.table_files import markdown_page
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE

TITLE = "Reproduction"
FILE_NAME = "reproduction"
STYLES = {REPRODUCED: "green", NOT_REPRODUCED: "red", TOO_FEW: "yellow"}
NOTES = (
    "Difference: the first estimate minus the second, and its interval. Not reproduced: the interval lies "
    "outside the claim's margin on either side, or the claim holds in one set and is contradicted in the "
    "other. Reproduced: the interval lies within the margin; or both sets have the same verdict, holds or "
    f"contradicted, and the interval includes zero and lies within {100 * SHARE_OF_EFFECT:g} % of the "
    "smaller estimate. Otherwise, there are too few runs to tell.",
    "Estimates are mean differences over the seeds that are compared. A seed that both sets have is compared "
    f"with itself; with fewer than {MIN_PAIRS} such seeds, the seeds that only one set has are compared as "
    "independent samples (Welch). Runs that are copies of the other set's are left out. Verdicts are over "
    "all seeds of a set. Failed to learn: seeds of either set in which an arm of the comparison diverged or "
    "ended near chance; estimates, intervals and verdicts exclude them.",
    f"The intervals of a study hold together with {100 * (1 - ALPHA):g} % confidence (Bonferroni). Verdicts "
    "have a separate error rate.",
)


def summary(reproductions: Sequence[Reproduction]) -> str:
    """Claims by outcome: "3 of 5 claims reproduced, 2 too few runs to tell"."""
    found = count(reproductions)
    words = [f"{found[REPRODUCED]} of {len(reproductions)} claims {REPRODUCED}"]
    return ", ".join(words + [f"{found[o]} {o}" for o in OUTCOMES[1:] if found[o]])


def console_table(reproductions: Sequence[Reproduction], names: tuple[str, str]) -> RenderableType:
    """For a terminal of 80 columns."""
    every = [twice for one in reproductions for twice in one.comparisons]
    reasons = sorted({twice.reason for twice in every if twice.outcome == TOO_FEW})
    return headed_table(
        f"{TITLE}: {summary(reproductions)}",
        ("", *names, "difference", "between"),
        [_section(one, names) for one in reproductions],
        "\n".join(
            [
                f"{names[0]}, {names[1]}: mean differences; difference: one minus the other; brackets: "
                "intervals corrected for all comparisons of a study",
                *(f"{TOO_FEW}: {reason}" for reason in reasons),
                *_failures(reproductions),
            ]
        ),
    )


def _failures(reproductions: Sequence[Reproduction]) -> list[str]:
    lines = [
        f"{one.claim.id}, {short_words(twice.comparison, twice.label)}: "
        f"{twice.left_out[0]} and {twice.left_out[1]} seeds failed to learn"
        for one in reproductions
        for twice in one.comparisons
        if any(twice.left_out)
    ]
    return list(dict.fromkeys(lines))


def _section(one: Reproduction, names: tuple[str, str]) -> Section:
    heading = Text.assemble(
        (f"{one.claim.id}: ", "bold"),
        (one.outcome, STYLES[one.outcome]),
        f"; {names[0]} {one.verdicts[0]}, {names[1]} {one.verdicts[1]}",
    )
    return Section(
        heading,
        [
            (
                twice.quantity.label.replace("area under validation curve", "area under curve"),
                _estimate(twice, 0),
                _estimate(twice, 1),
                _difference(twice).removesuffix(" of the steps"),
                short_words(twice.comparison, twice.label),
            )
            for twice in one.comparisons
        ],
    )


def _estimate(twice: Twice, which: int) -> str:
    estimate = twice.estimates[which]
    return NO_VALUE if math.isnan(estimate) else twice.quantity.metric.number(estimate, "+")


def _difference(twice: Twice) -> str:
    if math.isnan(twice.difference):
        return NO_VALUE
    low = twice.low if twice.low < twice.high else math.nan
    return twice.quantity.difference(twice.difference, low, twice.high)


def write_reproduction(reproductions: Sequence[Reproduction], names: tuple[str, str], folder: Path) -> Path:
    """Write `folder/reproduction.md` atomically; `names` are those of the two sets.

    Raises:
        OSError: The folder cannot be written.
    """
    claims = pd.DataFrame(
        [
            {
                "claim": one.claim.id,
                "statement": one.claim.statement,
                names[0]: one.verdicts[0],
                names[1]: one.verdicts[1],
                "outcome": one.outcome,
            }
            for one in reproductions
        ]
    )
    compared = pd.DataFrame(
        [
            {
                "claim": one.claim.id,
                "comparison": twice.label,
                "in": twice.quantity.label,
                "unit": twice.quantity.unit,
                **{
                    f"{name} (seeds)": f"{_estimate(twice, which)} ({twice.counts[which]}), {verdict}"
                    for which, (name, verdict) in enumerate(zip(names, twice.verdicts, strict=True))
                },
                "difference [corrected interval]": _difference(twice),
                "confidence": f"{100 * (1 - twice.level):.4g} %" if twice.low < twice.high else NO_VALUE,
                "margin": twice.quantity.amount(twice.comparison.margin),
                "outcome": twice.outcome,
                "reason": twice.reason,
                "failed to learn": " and ".join(map(str, twice.left_out)),
            }
            for one in reproductions
            for twice in one.comparisons
        ]
    )
    subtitle = f"{names[0]} against {names[1]}: {summary(reproductions)}."
    path = folder / f"{FILE_NAME}.md"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, markdown_page(TITLE, subtitle, [claims, compared], NOTES))
    return path
