"""The summary run: tables, figures and records of the project as artifacts of one W&B run.

It is written offline, into a folder of its own that is renamed into its place when it is whole, and uploaded
as any other run. Its id is a hash of what it holds: written again from the same results, it is the same run.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.dashboards.links import OfflineRun, offline_runs
from ablations.dashboards.place import Place, quiet_wandb
from ablations.errors import UserError
from ablations.evidence.verdicts import Verdict
from ablations.outputs import write_study
from ablations.studies.results import Study, StudyRun
from ablations.tables.verdicts import write_verdicts

LAYOUT = 1
"""Raised when the same results are to give another run."""

ARTIFACTS = {
    "tables": "every table as CSV, Markdown and LaTeX",
    "figures": "every figure as PNG and SVG",
    "records": "record.json and metrics.csv of every run, and diagnostics.csv where there is one",
}
RECORD_FILES = ("record.json", "metrics.csv", "diagnostics.csv")


@dataclass(frozen=True)
class Summary:
    """What the run holds.

    Attributes:
        suffix: Of its files' names: what tells some studies, or varied ones, from all.
        files: Path per name within each artifact, by `ARTIFACTS`.
        outputs: Stems of the figures of each study.
        project: What tells this run from that of another project with the same results.
    """

    suffix: str
    files: Mapping[str, Mapping[str, Path]]
    outputs: Mapping[str, Sequence[str]]
    project: str

    @property
    def digest(self) -> str:
        """SHA-256 of all contents and of the place they go to."""
        digest = hashlib.sha256(f"{LAYOUT}\0{self.project}\0{self.suffix}".encode())
        for kind, files in self.files.items():
            for name, path in sorted(files.items()):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"\0{kind}/{name}\0{content}".encode())
        return digest.hexdigest()

    @property
    def run_id(self) -> str:
        return f"summary-{self.digest[:12]}"

    @property
    def tables(self) -> Sequence[str]:
        """Names of the tables."""
        return [Path(name).stem for name in self.files["tables"] if name.endswith(".csv")]

    def figures_of(self, study: Study) -> Sequence[str]:
        """Names of the study's figures."""
        return self.outputs.get(study.name, ())

    def artifact_name(self, kind: str) -> str:
        """As W&B allows it: letters, digits, - _ and dots."""
        return kind + re.sub(r"[^\w.-]+", "-", self.suffix)[:100]


def figure_key(name: str) -> str:
    """What a figure is logged under."""
    return f"figures/{name}"


def table_key(name: str) -> str:
    """What a table is logged under."""
    return f"tables/{name}"


def write_outputs(
    place: Place,
    studies: Sequence[tuple[Study, Sequence[StudyRun]]],
    verdicts: Sequence[Verdict],
    suffix: str,
) -> Summary:
    """Write tables and figures anew from the records, so that all of it is of one moment.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
        OSError: The results cannot be written.
    """
    written, drawn = write_verdicts(verdicts, studies, place.results_dir / "tables", suffix), []
    outputs = {}
    for study, runs in studies:
        own = write_study(study, runs, place.results_dir)
        written += own.tables
        drawn += own.figures
        outputs[study.name] = [path.stem for path in own.figures if path.suffix == ".png"]
    files = {
        "tables": {path.name: path for path in written},
        "figures": {path.name: path for path in drawn},
        "records": _record_files(studies),
    }
    return Summary(suffix, files, outputs, f"{place.entity or ''}/{place.project}")


def _record_files(studies: Sequence[tuple[Study, Sequence[StudyRun]]]) -> dict[str, Path]:
    """By `RUN_ID/record.json`, each run once."""
    runs = {run.run_id: run for _, of_study in studies for run in of_study if run.record is not None}
    return {
        f"{run_id}/{name}": runs[run_id].directory / name
        for run_id in sorted(runs)
        for name in RECORD_FILES
        if (runs[run_id].directory / name).is_file()
    }


def write_summary_run(place: Place, summary: Summary) -> tuple[OfflineRun, bool]:
    """Write the run offline, unless it is there.

    Returns:
        The run, and whether it was written now.

    Raises:
        UserError: W&B could not write it.
        OSError: The results cannot be written.
    """
    for run in offline_runs(place.folder):
        if run.wandb_id == summary.run_id:
            return run, False
    place.own.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.own, prefix=".writing-") as folder:
        try:
            _log(place, summary, Path(folder))
        except (UserError, OSError):
            raise
        except Exception as error:  # whatever W&B raises
            raise UserError(f"W&B could not write the summary run: {error}") from error
        (written,) = offline_runs(Path(folder) / "wandb")
        target = place.folder / written.folder.name
        shutil.rmtree(written.folder / "logs", ignore_errors=True)  # of this moment's processes
        written.folder.rename(target)
    return OfflineRun(target, written.wandb_id, written.begun), True


def _log(place: Place, summary: Summary, folder: Path) -> None:
    import wandb

    # Files of artifacts are copied, because tables and figures change before somebody uploads the run; not
    # into the user's home, because the copies belong to the run.
    copies = (place.own / "files" / summary.run_id).absolute()
    with _variable("WANDB_DATA_DIR", str(copies)), quiet_wandb():
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_code=True)
        run = wandb.init(
            mode="offline",
            entity=place.entity,
            project=place.project,
            dir=str(folder),
            id=summary.run_id,
            name="summary" + summary.suffix.replace("__", " "),
            group="summary",
            job_type="summary",
            config={"contents": summary.digest, "studies": list(summary.outputs)},
            settings=settings,
        )
        try:
            run.log(_media(summary))
            for kind, files in summary.files.items():
                run.log_artifact(_artifact(kind, files, summary))
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish(exit_code=0)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _media(summary: Summary) -> dict[str, Any]:
    """What W&B shows: a picture per figure, a table per table."""
    import wandb

    media: dict[str, Any] = {}
    for names in summary.outputs.values():
        for name in names:
            media[figure_key(name)] = wandb.Image(str(summary.files["figures"][f"{name}.png"]), caption=name)
    for name in summary.tables:
        frame = pd.read_csv(summary.files["tables"][f"{name}.csv"])
        rows = frame.astype(object).where(frame.notna(), None)
        data: list[Any] = rows.to_numpy().tolist()
        media[table_key(name)] = wandb.Table(columns=list(rows.columns), data=data, allow_mixed_types=True)
    return media


def _artifact(kind: str, files: Mapping[str, Path], summary: Summary) -> Any:
    import wandb

    artifact = wandb.Artifact(summary.artifact_name(kind), type=kind, description=ARTIFACTS[kind])
    for name, path in files.items():
        artifact.add_file(str(path), name=name)
    return artifact
