"""Mean and 95 % band of each arm's curves as the page's charts draw them, from the functions of the figures.

Both are of all runs of the arm that count, whichever single runs a chart shows: of a metric of the study, the
completed and the diverged ones, which count as chance from where they ended (`ablations.studies.results`); of
other columns, which have no such value, the completed ones. The interval is that of one epoch by itself. Runs
of an arm have the same epochs and steps, but no two have the same seconds: over time the page draws the mean
of an epoch at the mean time that its completed runs had trained until then, and no band.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ablations.report.runs import Grids, kept_epochs, short
from ablations.statistics.paired import seed_band
from ablations.studies.results import Outcome, Study, StudyRun, baseline_first, outcomes

SECONDS_DIGITS = 4


def arm_bands(
    study: Study,
    runs: Sequence[StudyRun],
    histories: Mapping[str, pd.DataFrame],
    keys: Sequence[str],
    grids: Grids,
) -> list[dict[str, dict[str, Any]]]:
    """A band per arm, baseline first, and column, of those that two runs or more count in.

    Args:
        study: The study.
        runs: All of its planned runs.
        histories: metrics.csv with its own columns per run id, of those that have one.
        keys: Columns that are wanted.
        grids: Takes the epochs and steps.

    Returns:
        Per arm and column n; runs, the kind of the arm's set of runs that count ("results" or "completed");
        grid; mean, low and high, in the unit of the column, None where a run has no finite value; and, where
        a run completed, seconds, their mean time in training steps.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {arm.name: {} for arm in baseline_first(study)}
    by_arm = outcomes(study, runs)
    metrics = [f"val_{name}" for name in study.metrics]
    for (arm, of_arm), key in product(by_arm.items(), keys):
        counted = [(one, _curve(one, histories.get(one.run.run_id), key, metrics)) for one in of_arm]
        curves = {one.run.run_id: curve for one, curve in counted if curve is not None}
        if len(curves) > 1:
            whole = [one.run.run_id for one in of_arm if not one.diverged]
            seconds = [histories[run_id]["seconds"] for run_id in whole if run_id in histories]
            kind = "results" if key in metrics else "completed"
            band = _band(of_arm[0].steps, list(curves.values()), seconds, grids)
            found[arm][key] = {"runs": kind} | band
    return list(found.values())


def _curve(one: Outcome, history: pd.DataFrame | None, key: str, metrics: Sequence[str]) -> np.ndarray | None:
    """What a result counts as at each epoch; None where it does not count."""
    if key == metrics[0]:
        return one.curve if len(one.curve) else None
    if key not in metrics and one.diverged:
        return None
    measured = np.empty(0) if history is None or key not in history else history[key].to_numpy(dtype=float)
    if key in metrics:
        chance = np.full(len(one.steps) - one.measured, one.final[key])
        measured = np.concatenate([measured[: one.measured], chance])
    return measured if len(measured) == len(one.steps) > 0 else None


def _band(
    steps: np.ndarray, curves: Sequence[np.ndarray], seconds: Sequence[pd.Series], grids: Grids
) -> dict[str, Any]:
    sample = np.stack(curves)
    finite = np.isfinite(sample).all(axis=0)
    band = seed_band(np.where(finite, sample, 0.0))
    kept = kept_epochs(len(steps))
    found: dict[str, Any] = {"n": len(curves), "grid": grids.place(kept + 1, steps[kept])}
    for name in ("mean", "low", "high"):
        values = np.where(finite, getattr(band, name), np.nan)[kept]
        found[name] = [short(value) for value in values]
    if seconds:
        times = np.stack([of_run.to_numpy(dtype=float).cumsum() for of_run in seconds]).mean(axis=0)
        found["seconds"] = [short(value, SECONDS_DIGITS) for value in times[kept]]
    return found
