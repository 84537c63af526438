"""Log the results to Weights & Biases: a run with tables, figures and report page, and a W&B report.

Offline, `wandb sync` uploads the run later. Online, the run is sent, and a W&B report is saved. Its curves
need the training runs on the server; `wandb sync` uploads those too.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr

from ablations.errors import UserError
from ablations.evidence.verdicts import Judged, Verdict
from ablations.figures.style import line_styles_of
from ablations.files import write_atomically
from ablations.outputs import write_study
from ablations.report.build import build_report, write_report
from ablations.studies.results import Study, StudyRun, baseline_first
from ablations.table_files import markdown_tables
from ablations.tables.study import markdown_table
from ablations.tables.verdicts import verdict_panels, write_verdicts

Studies = Sequence[tuple[Study, Sequence[StudyRun]]]

STEP = "trainer/global_step"
"""The x-axis of a run's curves."""

CURVES = {
    "val/loss": "validation loss",
    "train/loss_epoch": "training loss of an epoch",
    "train/loss": "training loss of a step",
    "train/learning_rate": "learning rate",
}
"""Keys that every run logs, with their titles."""


@dataclass(frozen=True)
class Destination:
    """Where the results go.

    Attributes:
        project: Made if it does not exist.
        entity: Owner of the project; None: the account's default.
        folder: Where everything is written; replaces earlier files.
        title: Name of the user's project.
    """

    project: str
    entity: str | None
    online: bool
    folder: Path
    title: str


@dataclass(frozen=True)
class Written:
    """The files of one call; figures by study."""

    tables: Sequence[Path]
    figures: Mapping[str, Sequence[Path]]
    report: Path

    def figure_keys(self, study: str) -> Mapping[str, Path]:
        """By their keys in W&B."""
        return {f"figures/{path.stem}": path for path in self.figures[study] if path.suffix == ".png"}

    def table_keys(self) -> Mapping[str, Path]:
        """By their keys in W&B."""
        return {f"tables/{path.stem}": path for path in self.tables if path.suffix == ".csv"}


def publish(judged: Judged, studies: Studies, overrides: Sequence[str], destination: Destination) -> Path:
    """Write the results, log them as one W&B run and, if online, save the W&B report.

    Returns:
        The folder of the W&B run.

    Raises:
        UserError: There is no account, or W&B refused something.
        ValueError: As `ablations.studies.results.outcomes`.
        OSError: The folder cannot be written.
    """
    if destination.online:
        with _failing_in_one_line():
            if not wandb.login(prompt=False):
                raise UserError("logger.mode=online: no W&B account is configured; run `wandb login` first")
    written = write_results(judged, studies, overrides, destination.folder, destination.title)
    with _failing_in_one_line():
        run = log_run(written, judged.suffix, destination)
    if destination.online:
        report = make_report(judged, studies, written, run.id, run.project, run.entity)
        with _failing_in_one_line():
            _save(report, destination.folder / "saved_report.json")
    return Path(run.dir).parent


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # of many libraries
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"W&B failed: {line}") from error


def write_results(
    judged: Judged, studies: Studies, overrides: Sequence[str], folder: Path, title: str
) -> Written:
    """Write tables, figures and report page from the records, over those of before.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`.
        OSError: The folder cannot be written.
    """
    tables = list(write_verdicts(judged.verdicts, studies, folder / "tables", judged.suffix))
    figures = {}
    for study, runs in studies:
        outputs = write_study(study, runs, folder)
        tables += outputs.tables
        figures[study.name] = outputs.figures
    page = build_report(replace(judged, results_dir=folder), studies, overrides, title)
    return Written(tables, figures, write_report(page, folder / "report", judged.suffix))


def log_run(written: Written, suffix: str, destination: Destination) -> wandb.Run:
    """Log tables, figures and report page as one W&B run, and end it.

    Raises:
        Exception: Whatever W&B raises.
    """
    media: dict[str, Any] = {"report": wandb.Html(written.report, inject=False)}
    for study in written.figures:
        for key, path in written.figure_keys(study).items():
            media[key] = wandb.Image(str(path), caption=path.stem)
    for key, path in written.table_keys().items():
        frame = pd.read_csv(path).astype(object)
        frame = frame.where(frame.notna(), None)
        data: list[Any] = frame.to_numpy().tolist()
        media[key] = wandb.Table(columns=list(frame.columns), data=data, allow_mixed_types=True)
    files = wandb.Artifact("results" + re.sub(r"[^\w.-]+", "-", suffix)[:100], type="results")
    paths = (*written.tables, *(path for of in written.figures.values() for path in of), written.report)
    # W&B would copy artifacts into the user's home.
    with (
        _environment("WANDB_DATA_DIR", str((destination.folder / "artifacts").absolute())),
        wandb.init(
            mode="online" if destination.online else "offline",
            project=destination.project,
            entity=destination.entity,
            dir=str(destination.folder),
            name="results" + suffix.replace("__", " "),
            group="results",
            job_type="results",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_code=True),
        ) as run,
    ):
        run.log(media)
        for path in paths:  # copied, because the next call writes over them and this run may not be sent yet
            files.add_file(str(path), name=str(path.relative_to(destination.folder)), skip_cache=True)
        run.log_artifact(files)
    return run


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def make_report(
    judged: Judged, studies: Studies, written: Written, run_id: str, project: str, entity: str
) -> wr.Report:
    """The W&B report, not sent."""
    blocks: list[Any] = [
        wr.TableOfContents(),
        wr.H1("Claims and verdicts"),
        wr.MarkdownBlock(_verdicts(judged.verdicts)),
    ]
    results = wr.Runset(name="results", filters=expr.And(expr.Metric("ID").isin([run_id])))
    for study, runs in studies:
        blocks += [wr.H1(study.title), wr.P(study.subtitle), wr.H2("Curves by arm")]
        blocks.append(_curves(study, runs))
        if own := [verdict for verdict in judged.verdicts if verdict.claim.study == study.name]:
            blocks += [wr.H2("Verdicts"), wr.MarkdownBlock(_verdicts(own))]
        if figures := written.figure_keys(study.name):
            panels: list[Any] = [wr.MediaBrowser(media_keys=[key], num_columns=1) for key in figures]
            blocks += [wr.H2("Figures"), wr.PanelGrid([results], hide_run_sets=True, panels=panels)]
        table = markdown_table(study, runs).partition("\n\n")[2]  # without its heading
        blocks += [wr.H2("Table"), wr.MarkdownBlock(table)]
    title = (f"{project}: results" + judged.suffix.replace("__", " "))[:128]  # W&B's limit
    return wr.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    return markdown_tables(verdict_panels(verdicts)) or "No claim."


def _curves(study: Study, runs: Sequence[StudyRun]) -> wr.PanelGrid:
    """An arm's runs are those that its records name, whichever study trained them."""
    styles = line_styles_of([arm.name for arm in baseline_first(study)])
    runsets = []
    colors: dict[Any, Any] = {}  # wandb-workspaces requires a wider type than it documents
    for arm in baseline_first(study):
        records = [run.record for run in runs if run.arm == arm.name and run.record is not None]
        logged = [record for record in records if record["wandb_run_id"]]
        if logged:
            name = arm.label + (" (baseline)" if arm.name == study.baseline else "")
            ids = expr.Metric("ID").isin([str(record["wandb_run_id"]) for record in logged])
            runsets.append(wr.Runset(name=name, filters=expr.And(ids), groupby=["JobType"]))
            for job_type in {str(record["config"]["logger"]["job_type"]) for record in logged}:
                key = wr.RunsetGroupKey(wr.Metric("JobType"), job_type)
                colors[wr.RunsetGroup(name, (key,))] = styles[arm.name].color
    over_seeds: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    curves = {f"val/{name}": f"validation {study.declaration(name).label}" for name in study.metrics} | CURVES
    panels: list[Any] = [
        wr.LinePlot(title=title, x=STEP, y=[key], title_x="training steps", **over_seeds)
        for key, title in curves.items()
    ]
    panels += [
        wr.BarPlot(
            title=f"test {study.declaration(name).label}",
            metrics=[wr.SummaryMetric(f"test/{name}")],
            **over_seeds,
        )
        for name in study.metrics
    ]
    return wr.PanelGrid(runsets=runsets, panels=panels, custom_run_colors=colors)


def _save(report: wr.Report, remembered: Path) -> None:
    """Save the report on the server, the same one at each call."""
    known: dict[str, str] = json.loads(remembered.read_text(encoding="utf-8")) if remembered.exists() else {}
    url = f"{wandb.setup().settings.base_url}/{report.entity}/{report.project}"
    report.id = known.get(url, "")
    report.save()
    write_atomically(remembered, json.dumps(known | {url: report.id}, indent=2) + "\n")
