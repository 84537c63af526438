"""Write the record of a run trained elsewhere, by any loop."""

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablations.errors import UserError
from ablations.files import rows_as_csv, write_atomically
from ablations.metrics import BEFORE_DECLARATIONS, METRIC, Metric
from ablations.runs.histories import HISTORY_COLUMNS
from ablations.runs.identity import as_json, run_id_of
from ablations.runs.records import RunDirectory
from ablations.runs.schema import COMPLETED, DIVERGED, ELSEWHERE, SCHEMA, SCHEMA_VERSION
from ablations.validation import validated


def write_run(
    results: str | Path,
    *,
    choices: Mapping[str, str],
    seed: int,
    epochs: Sequence[Mapping[str, float]],
    test: Mapping[str, float],
    num_classes: int = 1,
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    diverged: bool = False,
    parameters: int | None = None,
) -> Path:
    """Write the record of a run, for `load_runs` and `load_histories`; an earlier record of it is replaced.

    Args:
        results: Folder of all results.
        choices: Option per factor, e.g. {"norm": "group"}. With seed and settings, the run's identity.
        seed: From 0.
        epochs: A row per epoch: `step` (optimizer steps so far), `val_METRIC`, and optionally train_loss,
            val_loss, learning_rate, seconds.
        test: Final test value per metric of `epochs`, {"top1": 0.93}; empty if the run diverged.
        num_classes: Of the data. A diverged run needs it unless `metrics` declares chance as numbers.
        settings: Other settings that affect the outcome, e.g. the learning rate.
        metrics: Declaration per metric, as a file of conf/metric.
        diverged: Whether the loss became non-finite.
        parameters: Number of trainable ones.

    Returns:
        The path of record.json.

    Raises:
        UserError: Something is missing, or does not match the record's schema.
    """
    rows = [{"epoch": number, **row} for number, row in enumerate(epochs, start=1)]
    declared = {name: validated(METRIC, node, f"metrics.{name}") for name, node in (metrics or {}).items()}
    _require_whole(rows, test, declared, num_classes, diverged=diverged)
    config = as_json(
        {
            ELSEWHERE: True,
            "seed": seed,
            "model": dict(choices),
            "recipe": {**(settings or {}), "epochs": max(1, len(rows))},
            "dataset": {"num_classes": num_classes},
            "metrics": {name: metric.model_dump() for name, metric in declared.items()},
        }
    )
    directory = RunDirectory(Path(results).expanduser(), run_id_of(config))
    record = _record(directory.run_id, choices, seed, config, rows, test, parameters, diverged=diverged)
    with directory.lock() as held:
        if not held:
            raise UserError(f"{directory.path}: another process is writing this run")
        write_atomically(directory.history_path, _table(rows))
        try:
            directory.check({**record, "checksum": "0" * 64, "files": directory.checksums()})
        except ValueError as error:
            directory.history_path.unlink()
            raise UserError(str(error)) from error
        directory.write(record)
    return directory.record_path


def _require_whole(
    rows: Sequence[Mapping[str, float]],
    test: Mapping[str, float],
    declared: Mapping[str, Metric],
    num_classes: int,
    *,
    diverged: bool,
) -> None:
    names = [key.removeprefix("val_") for key in (rows[-1] if rows else {}) if key.startswith("val_")]
    if not diverged and (lacking := [name for name in names if name not in test and name != "loss"]):
        raise UserError(f"test: {lacking[0]}: missing; give the final test value of each validation metric")
    if without := [row["epoch"] for row in rows if "step" not in row]:
        raise UserError(f"epochs: row {without[0]}: step: missing; give the optimizer steps taken so far")
    if not rows and not diverged:
        raise UserError("epochs: empty; a run that did not diverge needs a row")
    if diverged:
        _require_chance([*declared, *names], {**BEFORE_DECLARATIONS, **declared}, num_classes)


def _record(
    run_id: str,
    choices: Mapping[str, str],
    seed: int,
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, float]],
    test: Mapping[str, float],
    parameters: int | None,
    *,
    diverged: bool,
) -> dict[str, Any]:
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return dict.fromkeys(SCHEMA) | {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "status": DIVERGED if diverged else COMPLETED,
        "process": {"host": socket.gethostname(), "pid": os.getpid()},
        "started": now,
        "finished": now,
        "choices": {key: str(option) for key, option in choices.items()},
        "seed": seed,
        "config": config,
        "data_fingerprint": "not known",
        "parameters": parameters,
        "metrics": None
        if diverged
        else {key: value for key, value in rows[-1].items() if key.startswith("val_")}
        | {f"test_{name}": value for name, value in test.items()},
        "steps": int(rows[-1]["step"]) if rows else 0,
        "steps_per_second": rows[-1]["step"] / seconds if seconds else None,
        "wall_time_s": float(seconds),
        "device": {"type": "cpu", "name": platform.processor() or "not known", "threads": 1},
        "versions": {"python": platform.python_version()},
        "diverged_at_step": (int(rows[-1]["step"]) if rows else 0) if diverged else None,
    }


def _require_chance(names: Sequence[str], declared: Mapping[str, Metric], num_classes: int) -> None:
    """Require the value at chance, which a diverged run counts as."""
    if unknown := [name for name in names if name not in declared]:
        raise UserError(
            f"metrics.{unknown[0]}: missing; declare it with its `chance`, the value of a diverged run"
        )
    by_classes = not names or any("num_classes" in str(declared[name].chance) for name in names)
    if by_classes and num_classes < 2:
        raise UserError(
            f"num_classes={num_classes}: must be the number of classes of the data, which sets chance"
        )


def _table(rows: Sequence[Mapping[str, float]]) -> str:
    """metrics.csv: the standard columns, NaN if unknown, and those of the run."""
    columns = dict.fromkeys([*HISTORY_COLUMNS, *(key for row in rows for key in row)])
    return rows_as_csv(columns, rows, missing="nan")
