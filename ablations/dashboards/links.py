"""Which offline run belongs to which study, arm and seed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.runs.records import RunDirectory, UnreadableRecord
from ablations.studies.results import Study, StudyRun

OFFLINE_FOLDER = re.compile(r"offline-run-(?P<begun>\d{8}_\d{6})-(?P<id>.+)")


@dataclass(frozen=True)
class OfflineRun:
    """A folder that W&B wrote offline: a run, or a part of one that was interrupted and gone on with.

    Attributes:
        folder: Where it is.
        wandb_id: Its run's id there.
        begun: When, as in its name.
    """

    folder: Path
    wandb_id: str
    begun: str

    @property
    def log(self) -> Path:
        """What W&B wrote, record by record."""
        return self.folder / f"run-{self.wandb_id}.wandb"

    @property
    def mark(self) -> Path:
        """What `wandb sync` leaves where it uploaded."""
        return self.log.with_suffix(".wandb.synced")


def offline_runs(folder: Path) -> list[OfflineRun]:
    """What there is in W&B's folder, in the order in which it was begun; empty where there is none."""
    found = []
    for path in sorted(folder.glob("offline-run-*")):
        match = OFFLINE_FOLDER.fullmatch(path.name)
        if match and not path.is_symlink() and (path / f"run-{match['id']}.wandb").is_file():
            found.append(OfflineRun(path, match["id"], match["begun"]))
    return found


def directory_of(wandb_id: str, results_dir: Path) -> RunDirectory | None:
    """The directory of the record of a run that run.py logged; None where there is none."""
    run_id = wandb_id.partition("-")[0]
    directory = RunDirectory(results_dir, run_id)
    return directory if re.fullmatch("[0-9a-f]{12}", run_id) and directory.path.is_dir() else None


def readable(directory: RunDirectory | None) -> Mapping[str, Any] | None:
    """The record of a run, or None where there is none that can be read."""
    try:
        return directory.read() if directory is not None else None
    except UnreadableRecord:
        return None


def logged_id(run: StudyRun) -> str | None:
    """The W&B id of a run; None where it was not logged."""
    return None if run.record is None else run.record["wandb_run_id"]


def names_of_runs(
    studies: Sequence[tuple[Study, Sequence[StudyRun]]],
) -> dict[str, list[tuple[str, str, int]]]:
    """Study, arm and seed per W&B id; several where studies share the run."""
    names: dict[str, list[tuple[str, str, int]]] = {}
    for study, runs in studies:
        for run in runs:
            if (wandb_id := logged_id(run)) is not None:
                names.setdefault(wandb_id, []).append((study.name, run.arm, run.seed))
    return names


def label_of(wandb_id: str, results_dir: Path) -> str:
    """What a person calls a run: the study or sweep that asked for it first, its arm and its seed."""
    record = readable(directory_of(wandb_id, results_dir))
    if record is None:
        return f"run {wandb_id}"
    logger = record["config"].get("logger") or {}
    words = [str(logger[key]) for key in ("group", "job_type") if logger.get(key)]
    return " ".join([*(words or [wandb_id]), f"seed={record['seed']}"])
