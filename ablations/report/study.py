"""A study's section of the report page: its claims, tables, charts, audit and settings."""

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from ablations.evidence.audit import audit_study
from ablations.evidence.claims import LOWER, NO_DIFFERENCE
from ablations.evidence.verdicts import CONTRADICTED, HOLDS, INCONCLUSIVE, NOT_TESTABLE, Compared, Verdict
from ablations.notes import NOTHING, RULE, audit_rows
from ablations.report.charts import (
    Histories,
    Line,
    arm_lines,
    curve_chart,
    difference_chart,
    factor_chart,
    layer_chart,
)
from ablations.runs.identity import filled, is_outside_identity
from ablations.runs.records import STATUSES
from ablations.studies.results import Study, StudyRun, baseline_first, outcomes
from ablations.table_files import csv_text, latex_page, markdown_page
from ablations.tables.study import BRACKETS, study_contents, study_subtitle
from ablations.tables.verdicts import to_decide

MARKS = {HOLDS: "✓", CONTRADICTED: "✕", INCONCLUSIVE: "?", NOT_TESTABLE: "–"}
"""Shown with the verdict, which colour alone must not carry."""

MOST_MARGINS = 120
"""Largest difference that the picture shows, in margins."""

CAPTIONS = ("Final metrics and differences", "Convergence and size", "Interaction of the factors")

PARTS = {
    "claims": "Claims",
    "charts": "Figures",
    "tables": "Results",
    "audit": "Confounds",
    "settings": "Settings",
    "reproduce": "Reproduce",
    "runs": "Runs",
}
"""Parts of a section, for the navigation."""

COUNTS = ("failed to learn", "completed / planned")
"""Columns that a narrow screen shows last."""

SEEDS = ("seed", "dataset.seed")
"""Settings in which the runs of every arm differ."""


def study_section(
    study: Study,
    runs: Sequence[StudyRun],
    verdicts: Sequence[Verdict],
    histories: Histories,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """Values for the template of a study.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    by_arm = outcomes(study, runs)
    claims = [claim_entry(one, study, runs) for one in verdicts if one.claim.study == study.name]
    numbers, panels, notes = study_contents(study, runs)
    audits = audit_study(study, by_arm)
    texts = study.title, study_subtitle(study)
    panels_shown = zip(CAPTIONS, panels[: 3 if study.design else 2], strict=False)
    lines = {line.key: line for line in arm_lines(study)}
    of_rows: list[Sequence[Line]] = [[*lines.values()], [*lines.values()], []]
    tables = [
        {"caption": f"{caption}. {BRACKETS}", "rows": _rows(panel.to_dict("records"), of_panel)}
        for (caption, panel), of_panel in zip(panels_shown, of_rows, strict=False)
    ]
    audit = _rows(audit_rows(audits), [lines[one.arm.name] for one in audits])
    compared = factor_chart(study, runs) if study.design else difference_chart(study, runs)
    curves = curve_chart(study, runs, histories)
    charts = (*((compared, curves) if study.design else (curves, compared)), layer_chart(study, runs))
    words = [shlex.quote(word) for word in overrides]
    named = "" if study.swept else f" {study.name}"  # swept choices have no name
    commands = [
        "run.py -m" + (f" study={study.name}" if named else ""),
        f"-m ablations{named}",
        f"-m ablations report{named}",
    ]
    return {
        "study": study,
        "parts": [(id, text) for id, text in PARTS.items() if id != "claims" or claims],
        "counts": status_counts(runs),
        "planned": len(runs),
        "lines": lines,
        "arm_runs": {arm: [at for at, run in enumerate(runs) if run.arm == arm] for arm in by_arm},
        "claims": claims,
        "charts": [chart for chart in charts if chart],
        "tables": tables,
        "notes": [note for note in notes if note not in (RULE, NOTHING)],
        "audit": {"caption": "Each arm and the arm it is compared with", "rows": audit},
        "audit_note": RULE if any(one.undeclared for one in audits) else NOTHING,
        "audited": any(one.n_pairs for one in audits),
        "copies": {
            "CSV": csv_text(numbers),
            "Markdown": markdown_page(*texts, panels, notes),
            "LaTeX": latex_page(*texts, study.output, panels, notes),
        },
        "differences": configuration_differences(study, runs),
        "commands": "\n".join(" ".join(["python", command, *words]) for command in commands),
    }


def _rows(rows: Sequence[Mapping[Any, str]], lines: Sequence[Line]) -> list[dict[str, Any]]:
    rows = [
        {name: cell for name, cell in row.items() if name not in COUNTS}
        | {name: row[name] for name in COUNTS if name in row}
        for row in rows
    ]
    return [
        {"cells": cells, "line": line} for cells, line in zip(rows, chain(lines, repeat(None)), strict=False)
    ]


def status_counts(runs: Sequence[StudyRun]) -> dict[str, int]:
    counted = Counter(run.status for run in runs)
    return {status: counted[status] for status in STATUSES if counted[status]}


def configuration_differences(study: Study, runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """The settings that differ between arms and can change an outcome, with their values by arm."""
    recorded = [(run.arm, flatten(filled(run.record["config"]))) for run in runs if run.record is not None]
    arms = [arm.name for arm in baseline_first(study) if arm.name in dict(recorded)]
    found: dict[str, dict[str, list[str]]] = {}
    for path in dict.fromkeys(path for _, settings in recorded for path in settings):
        values: dict[str, dict[str, None]] = {arm: {} for arm in arms}
        for arm, settings in recorded:
            values[arm][settings.get(path, "not set")] = None
        differ = len({frozenset(texts) for texts in values.values()}) > 1
        if differ and path not in SEEDS and not is_outside_identity(path):
            found[path] = {arm: list(texts) for arm, texts in values.items()}
    return [{"path": path, "values": found[path]} for path in without_repeats(found)]


def without_repeats(settings: Mapping[str, object]) -> list[str]:
    """Paths, but none that repeats the value of a shorter one: not model.residual where there is residual."""
    return [
        path
        for path, value in settings.items()
        if not any(path.endswith(f".{other}") and settings[other] == value for other in settings)
    ]


def flatten(node: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Paths and texts of the values of a tree; an empty node is a value."""
    flat: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def claim_entry(verdict: Verdict, study: Study | None, runs: Sequence[StudyRun] = ()) -> dict[str, Any]:
    """A claim for the page: verdict, study (its name), decide (seeds needed), runs (indices), comparisons."""
    paired = set[str]()
    if study and verdict.claim.tuning and not study.tuning:  # the tuned study has other arms and runs
        study, runs = None, ()
    by_arm = outcomes(study, runs) if study else {}
    for contrast in (one.comparison.contrast for one in verdict.comparisons if study):
        seeds = set.intersection(*({one.run.seed for one in by_arm[arm]} for arm in contrast))
        paired |= {one.run.run_id for arm in contrast for one in by_arm[arm] if one.run.seed in seeds}
    return {
        "verdict": verdict,
        "study": study.name if study else "",
        "decide": to_decide(verdict) if verdict.verdict == INCONCLUSIVE else "",
        "runs": [at for at, run in enumerate(runs) if run.run_id in paired],
        "comparisons": [
            {"compared": one, "margin": _margin(one), "picture": _picture(one)} for one in verdict.comparisons
        ],
    }


def picture_position(margins: float) -> float:
    """Position of a difference in margins, in per cent: zero in the middle, large ones compressed."""
    most = math.asinh(MOST_MARGINS)
    return round(50 + 50 * max(-1.0, min(1.0, math.asinh(margins) / most)), 2)


def _margin(one: Compared) -> str:
    """The claimed difference in few characters: "≥ 0.4 pp", "± 0.8 pp"."""
    direction = one.comparison.direction
    sign = {LOWER: "≤ −", NO_DIFFERENCE: "± "}.get(direction, "≥ ")
    return sign + one.quantity.amount(one.comparison.margin).removesuffix(" of the steps")


def _picture(one: Compared) -> dict[str, float] | None:
    if not math.isfinite(one.estimate):
        return None
    margin, direction = one.comparison.margin, one.comparison.direction
    low, high = (one.low, one.high) if one.low < one.high else (one.estimate, one.estimate)
    below = -margin if direction in (LOWER, NO_DIFFERENCE) else 0.0
    above = 0.0 if direction == LOWER else margin
    values = {"estimate": one.estimate, "low": low, "high": high, "below": below, "above": above}
    return {name: picture_position(value / (margin or 0.01)) for name, value in values.items()}
