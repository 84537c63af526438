"""The table of verdicts."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from ablations.evidence.claims import LOWER, NO_DIFFERENCE, SHARES
from ablations.evidence.contrasts import STEPS_TO_TARGET, short_words
from ablations.evidence.verdicts import (
    ALPHA,
    CONTRADICTED,
    HOLDS,
    INCONCLUSIVE,
    MIN_PAIRS,
    NOT_TESTABLE,
    VERDICTS,
    Compared,
    Verdict,
)
from ablations.runs.records import DONE
from ablations.slim_tables import Numbers, SlimTable
from ablations.studies.results import Study, StudyRun
from ablations.table_files import latex_page, markdown_page, provenance, write_table_files
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE, amount, core_time, p_value

TITLE = "Claims and verdicts"
FILE_NAME = "verdicts"
STYLES = {HOLDS: "green", CONTRADICTED: "red", INCONCLUSIVE: "yellow", NOT_TESTABLE: "dim"}
"""Colour of a verdict."""

SHORT_LABELS = {"area under validation curve": "area under curve"}
"""Labels shortened for a terminal."""

MOST_SEEDS = 1000
"""Per arm; where more are needed, no number is shown."""

INTEGERS = ("n_pairs", "n_left_out", "n_missing", "n_diverged", "n_failed_to_learn", "seeds_needed")


# Numbers


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The numbers, one row per comparison, and one for a claim that is not testable.

    Columns: claim, statement, source, study, verdict, reason; of the comparison: comparison (the contrast),
    metric, direction, margin, comparison_verdict, estimate, ci_low, ci_high, confidence, n_pairs, n_left_out,
    p; of the claim: n_missing, n_diverged, n_failed_to_learn, core_hours, seeds_needed, core_hours_needed,
    scale. Estimates, intervals and margins are in the metric's unit: fractions for shares, shares of the
    control's for sizes and speeds.
    """
    rows: list[dict[str, Any]] = []
    for verdict in verdicts:
        claim = verdict.claim
        of_claim = {
            "claim": claim.id,
            "statement": claim.statement,
            "source": claim.source,
            "study": claim.study,
            "verdict": verdict.verdict,
            "reason": verdict.reason or None,
        }
        costs = {
            "n_missing": verdict.n_missing,
            "n_diverged": verdict.n_diverged,
            "n_failed_to_learn": verdict.n_failed_to_learn,
            "core_hours": verdict.core_hours,
            "seeds_needed": verdict.seeds_needed,
            "core_hours_needed": verdict.core_hours_needed,
            "scale": verdict.scale or None,
        }
        rows += [of_claim | _numbers(one) | costs for one in verdict.comparisons or (None,)]
    table = pd.DataFrame(rows)
    numbers = ("margin", "estimate", "ci_low", "ci_high", "confidence", "p", "core_hours")
    kinds = dict.fromkeys((*numbers, "core_hours_needed"), "float") | dict.fromkeys(INTEGERS, "Int64")
    return table.astype(kinds) if rows else table


def _numbers(one: Compared | None) -> dict[str, Any]:
    return {
        "comparison": None if one is None else one.comparison.label,
        "metric": None if one is None else one.comparison.metric,
        "direction": None if one is None else one.comparison.direction,
        "margin": None if one is None else one.comparison.margin,
        "comparison_verdict": None if one is None else one.verdict,
        "estimate": None if one is None else one.estimate,
        "ci_low": None if one is None else one.low,
        "ci_high": None if one is None else one.high,
        "confidence": None if one is None else 1 - one.level,
        "n_pairs": None if one is None else one.n,
        "n_left_out": None if one is None else one.left_out,
        "p": None if one is None else one.p,
    }


# Text for readers


def verdict_panels(verdicts: Sequence[Verdict]) -> list[pd.DataFrame]:
    """One row per claim; one row per comparison."""
    return [panel for panel in (_claims_panel(verdicts), _comparisons_panel(verdicts)) if len(panel)]


def _claims_panel(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "claim": verdict.claim.id,
                "statement": verdict.claim.statement,
                "study": verdict.claim.study or NO_VALUE,
                "verdict": verdict.verdict,
                "reason": verdict.reason or NO_VALUE,
                "runs missing / failed to learn": f"{verdict.n_missing} / {verdict.n_failed_to_learn}",
                "time on one core": core_time(verdict.core_hours),
                "to decide": to_decide(verdict),
            }
            for verdict in verdicts
        ]
    )


def _comparisons_panel(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    rows = [
        {
            "claim": verdict.claim.id,
            "comparison": one.label,
            "metric": one.quantity.label,
            "claimed": claimed(one),
            "difference [corrected interval]": difference(one),
            "confidence": f"{100 * (1 - one.level):.4g} %" if one.low < one.high else NO_VALUE,
            "n": str(one.n) + (f" (of {one.n + one.left_out})" if one.left_out else ""),
            "p": p_value(one.p),
            "verdict": one.verdict,
            "reason": one.reason or ("by the interval" if one.verdict != INCONCLUSIVE else NO_VALUE),
        }
        for verdict in verdicts
        for one in verdict.comparisons
    ]
    return pd.DataFrame(rows)


def slim_table(verdicts: Sequence[Verdict], name: str) -> SlimTable:
    """A row per comparison."""
    rows = [(verdict, one) for verdict in verdicts for one in verdict.comparisons]
    times = [one.quantity.metric.times for _, one in rows]
    estimates = [by * one.estimate for by, (_, one) in zip(times, rows, strict=True)]
    halves = [by * (one.high - one.low) / 2 for by, (_, one) in zip(times, rows, strict=True)]
    shares = all(one.quantity.metric.is_share for _, one in rows)
    return SlimTable(
        title=TITLE,
        label=f"{name}_slim",
        head="claim",
        names=[verdict.claim.id for verdict, _ in rows],
        columns=[
            Numbers("n", [float(one.n) for _, one in rows], digits=0),
            Numbers("difference", estimates, halves, digits=1 if shares else None, signed=True),
        ],
        texts={
            "": [one.quantity.unit for _, one in rows],
            "in": [SHORT_LABELS.get(one.quantity.label, one.quantity.label) for _, one in rows],
            "verdict": [one.verdict for _, one in rows],
        },
        notes=(
            "Differences seed by seed, ± half of the interval; the chance of any wrong decision among all "
            f"comparisons of a study is {100 * ALPHA:g} % (Holm).",
        ),
    )


def console_table(verdicts: Sequence[Verdict]) -> RenderableType:
    """For a terminal of 80 columns: a line per claim, and one per comparison."""
    counted = Counter(verdict.verdict for verdict in verdicts)
    words = {HOLDS: "hold"} if counted[HOLDS] != 1 else {}
    parts = [Text(f"{counted[HOLDS]} of {len(verdicts)} {words.get(HOLDS, HOLDS)}", STYLES[HOLDS])]
    others = [verdict for verdict in VERDICTS if verdict != HOLDS and counted[verdict]]
    parts += [Text(f"{counted[verdict]} {verdict}", STYLES[verdict]) for verdict in others]
    return headed_table(
        Text.assemble("Claims: ", Text(", ").join(parts)),
        ("claimed", "difference", "n", "between"),
        [_section(verdict) for verdict in verdicts],
        _console_note([one for verdict in verdicts for one in verdict.comparisons]),
    )


def _console_note(compared: Sequence[Compared]) -> str:
    """What the shown differences and brackets are."""
    notes = {
        "brackets: intervals corrected for all comparisons of a study": any(
            one.low < one.high for one in compared
        ),
        "pp: percentage points": any(one.quantity.unit == "pp" for one in compared),
        "steps to target in % of the planned steps": any(
            one.comparison.metric == STEPS_TO_TARGET for one in compared
        ),
        "parameters and steps/second in % of the control's": any(
            one.comparison.metric in SHARES for one in compared
        ),
    }
    return "; ".join(note for note, applies in notes.items() if applies)


def _section(verdict: Verdict) -> Section:
    heading = Text.assemble((f"{verdict.claim.id}: ", "bold"), (verdict.verdict, STYLES[verdict.verdict]))
    if (needed := to_decide(verdict)) != NO_VALUE:
        heading.append(f"; to decide: {needed}")
    rows = []
    for one in verdict.comparisons:
        label = one.quantity.label
        what: str = one.comparison.direction
        if what == NO_DIFFERENCE:
            what = f"within {one.quantity.amount(one.comparison.margin)}"
        seen = difference(one).removesuffix(" of the steps")
        n = str(one.n) + (f"/{one.n + one.left_out}" if one.left_out else "")
        between = short_words(one.comparison, one.label)
        rows.append((f"{SHORT_LABELS.get(label, label)} {what}", seen, n, between))
    return Section(heading, rows, verdict.reason)


def claimed(one: Compared) -> str:
    """E.g. "higher by at least 0.4 pp"."""
    direction, margin = one.comparison.direction, one.quantity.amount(one.comparison.margin)
    if direction == NO_DIFFERENCE:
        return f"within {margin}"
    return f"{'lower' if direction == LOWER else 'higher'} by at least {margin}"


def difference(one: Compared) -> str:
    if math.isnan(one.estimate):
        return NO_VALUE
    low = one.low if one.low < one.high else math.nan
    return one.quantity.difference(one.estimate, low, one.high)


def to_decide(verdict: Verdict) -> str:
    """Seeds and time until an expected decision, e.g. "14 seeds in total (12 min 05 s more on one core)"."""
    if verdict.verdict != INCONCLUSIVE:
        return NO_VALUE
    if verdict.seeds_needed is None:
        least = min((one.n for one in verdict.comparisons), default=0) < MIN_PAIRS
        return f"{MIN_PAIRS} or more seeds in total" if least else "unknown"
    if verdict.seeds_needed > MOST_SEEDS:
        return "not decidable at this spread"
    hours = verdict.core_hours_needed
    return f"{amount(verdict.seeds_needed, 'seed')} in total" + (
        "" if hours is None else f" ({core_time(hours)} more on one core)"
    )


def _notes(verdicts: Sequence[Verdict], studies: Sequence[tuple[Study, Sequence[StudyRun]]]) -> list[str]:
    testable = [study for study, _ in studies if any(v.claim.study == study.name for v in verdicts)]
    notes = [
        "Verdicts: the margin is the smallest effect of interest. “Higher” holds if the mean difference "
        "is at least the margin and its interval lies above 0; it is contradicted if the interval lies below "
        "the margin. “Lower” is the mirror image. “Within” holds if the interval lies inside ± the margin, "
        "and is contradicted if it lies outside. Anything else is inconclusive. A claim holds if all its "
        "comparisons hold; one contradicted comparison contradicts it.",
        "Differences are taken seed by seed, over the seeds that all arms of a comparison have. A verdict "
        f"needs at least {MIN_PAIRS} of them. An interval covers Student's t interval of the mean and the "
        "exact rank interval of the typical difference (Hodges-Lehmann). Holm's procedure corrects it: the "
        f"chance of any wrong decision among all comparisons of a study is {100 * ALPHA:g} %.",
        "p: the level at which the interval just excludes 0, the larger p of the t test and of Wilcoxon's "
        "signed-rank test; for “within”, the level at which it just lies inside ± the margin. Not corrected: "
        "it decides if it is at most 1 minus the interval's confidence. If all values lie on one side, the "
        "rank test is at its smallest p and the t test decides. If all differences are equal, there is no "
        "interval and the exact test decides; if all are 0, nothing does.",
        "pp: percentage points. Steps to target: share of the planned steps until validation reaches the "
        "study's target, interpolated linearly; a run that never reaches it counts as 100 % (restricted "
        "mean). Area: mean height of the validation curve. Steps/second: relative to the control of the same "
        "seed; it depends on the machine and its load.",
        "Verdicts are about the seeds that learned in all arms of a comparison; n: how many, of how many. A "
        "run failed to learn if it diverged or ended within the distance of chance that its metric declares. "
        "“Failed to learn” compares the shares of failures over all seeds: p of McNemar's exact test, and an "
        "exact interval.",
        "Time on one core: wall time × CPU threads × processes of the runs behind a verdict; a run shared by "
        "several claims counts for each. To decide: the number of seeds at which every inconclusive interval "
        "is expected to decide if mean and spread stay as they are (even odds, not a promise), and the time "
        "that the missing runs would take.",
    ]
    if any(one.comparison.metric in SHARES for verdict in verdicts for one in verdict.comparisons):
        notes.append(
            "Parameters and steps/second: difference as a share of the control's. Parameters are counted "
            "exactly, so one pair decides. Timings have rounds instead of seeds."
        )
    if any(one.comparison.trend is not None for verdict in verdicts for one in verdict.comparisons):
        notes.append(
            "Per doubling: the slope of a difference over the logarithm to base 2 of the position on the "
            "study's axis, by least squares, seed by seed, over the seeds that learned at every level; its "
            "margin is per doubling too."
        )
    notes += dict.fromkeys(note for study in testable for note in study.notes)
    scales: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.scale:
            scales.setdefault(verdict.scale, []).append(verdict.claim.id)
    notes += [f"Scale of {', '.join(ids)}: {scale}." for scale, ids in scales.items()]
    records = [
        run.record
        for study, runs in studies
        if study in testable
        for run in runs
        if run.status in DONE and run.record is not None
    ]
    return notes + (provenance("Trained", records) if records else ["No completed run."])


def write_verdicts(
    verdicts: Sequence[Verdict],
    studies: Sequence[tuple[Study, Sequence[StudyRun]]],
    folder: Path,
    suffix: str = "",
) -> list[Path]:
    """Write the verdicts as CSV, Markdown and LaTeX, full and slim, each atomically.

    Args:
        verdicts: In the order of the claims.
        studies: Those judged, with their runs, for scale and provenance.
        folder: Where the files go.
        suffix: Of their names; see `ablations.evidence.verdicts.Judged`.

    Raises:
        OSError: The folder cannot be written.
    """
    subtitle = "Claims, judged by the records of the runs."
    panels = verdict_panels(verdicts)
    notes = _notes(verdicts, studies)
    return write_table_files(
        folder,
        FILE_NAME + suffix,
        csv=verdict_table(verdicts),
        markdown=markdown_page(TITLE, subtitle, panels, notes),
        latex=latex_page(TITLE, subtitle, FILE_NAME + suffix, panels, notes),
        slim=slim_table(verdicts, FILE_NAME + suffix).latex(),
    )
