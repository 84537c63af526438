"""The analysis as functions of tables: of records, or of anything with a seed, numbers and a column per
factor.
"""

import tempfile
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from ablations.errors import UserError
from ablations.evidence.claims import CLAIMS, FAILED_TO_LEARN, Claim, Comparison
from ablations.evidence.contrasts import ArmValues, ContrastValues, contrast_values
from ablations.evidence.verdicts import INCONCLUSIVE, Verdict, combine, untestable
from ablations.evidence.verdicts import compare as compare_family
from ablations.metrics import BEFORE_DECLARATIONS, declared_in, metric_of
from ablations.runs.archive import FILE_NAME, RUNS, unpack
from ablations.runs.histories import metric_names
from ablations.runs.identity import at
from ablations.runs.records import RunDirectory, UnreadableRecord
from ablations.runs.schema import COMPLETED, DIVERGED, ELSEWHERE
from ablations.statistics.effects import probability_of_improvement, standardized_effect
from ablations.statistics.paired import mean_interval, paired_difference
from ablations.tables.verdicts import verdict_table
from ablations.validation import validated
from ablations.yaml_files import read_yaml

COST = (
    *("parameters", "multiply_adds", "depth", "steps", "steps_per_second", "wall_time_s"),
    *("started", "finished"),
)
"""Keys of a record that become columns."""

CLAIM = TypeAdapter(Claim)
UNNAMED = "of a table"
"""Replaces a missing study."""


def load_runs(results: str | Path = "results", *, settings: Sequence[str] = ()) -> pd.DataFrame:
    """The records of a folder of results: a row per run.

    Args:
        results: A folder with `runs/`, such as a project's `results`, or with `records.tar.xz`, such as
            `results/reference`.
        settings: Keys of the configuration that get a column each, e.g. "recipe.optimizer.lr".

    Returns:
        run_id, status, seed; the option per config group; `settings`; val_METRIC and test_METRIC, shares as
        fractions (a diverged run has chance); failed_to_learn; parameters, multiply_adds, depth, steps,
        steps_per_second, wall_time_s, started, finished, device, threads; commit. Missing values are NaN.

    Raises:
        UserError: There are no records.
    """
    with _directories(results) as found:
        records = [record for _, record in found]
    measured: dict[str, list[str]] = {}  # metrics of completed runs, per data
    for record in records:
        if record["status"] == COMPLETED:
            names = measured.setdefault(record["data_fingerprint"], [])
            names += [name for name in metric_names(record["metrics"]) if name not in names]
    rows = [_row(record, measured.get(record["data_fingerprint"], []), settings) for record in records]
    return pd.DataFrame(rows)


def load_histories(results: str | Path = "results") -> pd.DataFrame:
    """The training curves of a folder of results: a row per run and epoch.

    Args:
        results: As `load_runs`.

    Returns:
        run_id, status, seed; the option per config group; the columns of metrics.csv: epoch, step,
        train_loss, val_loss, val_METRIC, learning_rate, seconds.

    Raises:
        UserError: There are no records.
    """
    with _directories(results) as found:
        # One table of all rows: a table per run, put together, takes ten times as long.
        rows = [_head(record) | row for directory, record in found for row in directory.rows(record) or ()]
    return pd.DataFrame(rows)


def compare(
    runs: pd.DataFrame,
    factor: str,
    baseline: Any,
    metric: str,
    *,
    seed: str = "seed",
    within: Sequence[str] = (),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare each option of a factor with the baseline, seed by seed.

    Args:
        runs: A row per run, from `load_runs` or elsewhere.
        factor: Its column.
        baseline: The option that the others are compared with.
        metric: Column of a number; rows without one are left out.
        seed: Column that pairs runs.
        within: Further columns in which compared runs must agree, also in missing values.
        confidence: Of the intervals.

    Returns:
        A row per option, the baseline first: `within`, the factor, n (runs), mean, mean_low, mean_high (t
        interval); n_pairs, difference, low, high (paired t interval, uncorrected), p (sign-flip test), effect
        (`standardized_effect`) and improvement (`probability_of_improvement`). Values that need more runs are
        missing.

    Raises:
        ValueError: A column or the baseline is missing, or an option has several runs of one seed.
    """
    _require_columns(runs, factor, metric, seed, *within)
    known = runs[runs[metric].notna()]
    if baseline not in set(known[factor]):
        options = ", ".join(map(str, sorted(set(known[factor]), key=str)))
        raise ValueError(f"baseline={baseline}: must be an option of {factor}: {options}")
    parts = known.groupby(list(within), sort=True, dropna=False) if within else [((), known)]
    rows = []
    for key, part in parts:
        of_options = _values(part, factor, metric, seed, key)
        if baseline not in of_options:
            continue
        for option in sorted(of_options, key=lambda option: option != baseline):
            head = dict(zip(within, key, strict=True)) | {factor: option}
            rows.append(
                head | _compared(of_options[option], of_options[baseline], option == baseline, confidence)
            )
    return pd.DataFrame(rows)


def judge(
    claims: str | Path | Sequence[Claim | Mapping[str, Any]],
    runs: pd.DataFrame,
    *,
    factor: str = "arm",
    seed: str = "seed",
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Judge claims, with Holm's correction over all of them.

    Args:
        claims: A file as in conf/claims, or claims with its keys; statement, source and study are optional.
        runs: A row per run. With a column failed_to_learn, claims on other columns are about the runs that
            learned.
        factor: The column whose values are the claims' arms.
        seed: Column that pairs runs.
        alpha: The chance of any wrong decision.

    Returns:
        A row per comparison, as `ablations.tables.verdicts.verdict_table`.

    Raises:
        ValueError: A claim does not match its schema, or names an unknown arm or metric.
    """
    _require_columns(runs, factor, seed)
    checked = _claims(claims)
    tested = [comparison for claim in checked for comparison in claim.comparisons]
    differences, left_out = [], []
    for comparison in tested:
        found = _contrast(runs, comparison, factor, seed)
        differences.append(found.values)
        left_out.append(found.left_out)
    compared = iter(compare_family(tested, differences, alpha, left_out=left_out))
    verdicts = []
    for claim in checked:
        if claim.not_testable is not None:
            verdicts.append(untestable(claim))
            continue
        of_claim = tuple(next(compared) for _ in claim.comparisons)
        verdict = combine([one.verdict for one in of_claim])
        reasons = dict.fromkeys(one.reason for one in of_claim if one.verdict == INCONCLUSIVE)
        reason = "; ".join(reasons) if verdict == INCONCLUSIVE else ""
        verdicts.append(Verdict(claim, verdict, reason, of_claim, ""))
    return verdict_table(verdicts)


def _contrast(runs: pd.DataFrame, comparison: Comparison, factor: str, seed: str) -> ContrastValues:
    """The contrast of a comparison, one number per seed that all its arms have."""
    options = runs[factor].astype(str)
    if comparison.trend is not None:
        raise ValueError(f"trend={dict(comparison.trend)}: a table of runs has no axis; give a contrast")
    _require_columns(runs, comparison.metric)
    if unknown := sorted(comparison.contrast.keys() - set(options)):
        raise ValueError(f"arm={unknown[0]}: must be one of {', '.join(sorted(set(options)))}")
    known = runs[runs[comparison.metric].notna() & options.isin(list(comparison.contrast))]
    failed = _values(known, factor, FAILED_TO_LEARN, seed, ()) if FAILED_TO_LEARN in runs else None
    nothing = ArmValues(np.empty(0, dtype=int), {comparison.metric: np.empty(0)})
    arms = dict.fromkeys(comparison.contrast, nothing) | {
        str(arm): ArmValues(
            values.index.to_numpy(),
            {comparison.metric: values.to_numpy(float)},
            None if failed is None else failed[arm].to_numpy(float) > 0,
        )
        for arm, values in _values(known, factor, comparison.metric, seed, ()).items()
    }
    return contrast_values(arms, comparison.contrast, comparison.metric)


@contextmanager
def _directories(results: str | Path) -> Iterator[list[tuple[RunDirectory, dict[str, Any]]]]:
    """The runs with a record, by id, without timings."""
    folder = Path(results).expanduser()
    with tempfile.TemporaryDirectory() as unpacked:
        if not (folder / RUNS).is_dir() and (folder / FILE_NAME).is_file():
            unpack(folder / FILE_NAME, Path(unpacked))
            folder = Path(unpacked)
        found = []
        for path in sorted((folder / RUNS).glob("*/record.json")):
            directory = RunDirectory(folder, path.parent.name)
            try:
                record = directory.read()
            except UnreadableRecord as error:
                warnings.warn(f"unreadable record, left out: {error}", stacklevel=4)
                continue
            if record is not None and "timing" not in record["config"]:
                found.append((directory, record))
        if not found:
            raise UserError(f"{results}: no records; expected a folder with {RUNS}/ or {FILE_NAME}")
        yield found


def _head(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("run_id", "status", "seed")} | dict(record["choices"])


def _row(record: Mapping[str, Any], measured: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    config, device = record["config"], record["device"] or {}
    found = {key: at(config, key) for key in settings}
    plain = (str, int, float, type(None))
    row = _head(record) | {key: node if isinstance(node, plain) else str(node) for key, node in found.items()}
    row |= record["metrics"] or {}
    if record["status"] == DIVERGED:
        declared = declared_in(config)
        classes = config["dataset"]["num_classes"]
        if config.get(ELSEWHERE):  # it may declare only some of its metrics
            known = {*declared, *BEFORE_DECLARATIONS}
            measured = [*declared, *(name for name in measured if name in known - declared.keys())]
        for name in measured if config.get(ELSEWHERE) else declared or measured:
            value = metric_of(name, declared).of_nothing(classes)
            row |= {f"val_{name}": value, f"test_{name}": value}
    row[FAILED_TO_LEARN] = _failed_to_learn(record)
    row |= {key: record[key] for key in COST}
    row |= {"device": device.get("name"), "threads": device.get("threads")}
    return row | {"commit": (record["git"] or {}).get("commit")}


def _failed_to_learn(record: Mapping[str, Any]) -> float:
    """1 if a run diverged or ended near chance in its first declared metric, else 0."""
    if record["status"] == DIVERGED:
        return 1.0
    declared = declared_in(record["config"])
    for name, metric in declared.items():
        if (value := (record["metrics"] or {}).get(f"val_{name}")) is not None:
            return float(metric.failed_to_learn(value, record["config"]["dataset"]["num_classes"]))
    return 0.0


def _require_columns(runs: pd.DataFrame, *columns: str) -> None:
    if missing := [column for column in columns if column not in runs]:
        raise ValueError(f"{missing[0]}: no such column; available: {', '.join(map(str, runs))}")


def _values(
    runs: pd.DataFrame, factor: str, metric: str, seed: str, part: Sequence[Hashable]
) -> dict[Any, "pd.Series[float]"]:
    """Per option, its values by seed."""
    found = {}
    for option, of_option in runs.groupby(factor, sort=True):
        values = of_option.set_index(seed)[metric].astype(float).sort_index()
        if not values.index.is_unique:
            where = f" of {', '.join(map(str, part))}" if part else ""
            twice = values.index[values.index.duplicated()][0]
            raise ValueError(
                f"{factor}={option}, {seed}={twice}{where}: several runs; select rows, or list in "
                "`within` the columns in which they differ"
            )
        found[option] = values
    return found


def _compared(
    values: "pd.Series[float]", baseline: "pd.Series[float]", is_baseline: bool, confidence: float
) -> dict[str, float]:
    mean = mean_interval(values, confidence)
    row = {"n": mean.n, "mean": mean.mean, "mean_low": mean.low, "mean_high": mean.high}
    pairs = pd.concat([values, baseline], axis=1, join="inner").to_numpy()
    if is_baseline or not len(pairs):
        nothing = dict.fromkeys(("difference", "low", "high", "p", "effect", "improvement"), np.nan)
        return row | {"n_pairs": 0} | nothing
    # A fixed generator: the same runs give the same table.
    paired = paired_difference(pairs[:, 0], pairs[:, 1], np.random.default_rng(0), confidence)
    return row | {
        "n_pairs": paired.n,
        "difference": paired.mean,
        "low": paired.low,
        "high": paired.high,
        "p": paired.p,
        "effect": standardized_effect(pairs[:, 0] - pairs[:, 1]) if len(pairs) > 1 else np.nan,
        "improvement": probability_of_improvement(values, baseline),
    }


def _claims(claims: str | Path | Sequence[Claim | Mapping[str, Any]]) -> list[Claim]:
    if isinstance(claims, str | Path):
        path = Path(claims)
        return list(validated(CLAIMS, read_yaml(path), str(path)).claims)
    found = []
    for claim in claims:
        if isinstance(claim, Mapping):
            named = {"statement": str(claim.get("id")), "source": "not given", "study": UNNAMED}
            claim = validated(CLAIM, {**named, **claim}, f"claim {claim.get('id')}")
        found.append(claim)
    return found
