"""The report on W&B: a section per study with curves by arm, verdicts, figures and tables.

An arm is a set of runs, those that its records name: a run that two studies share was logged under one of
them and belongs to both. The same studies, records and verdicts give the same specification, to the byte.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr

from ablations.dashboards.links import logged_id
from ablations.dashboards.place import Place
from ablations.dashboards.summary import ARTIFACTS, Summary, figure_key, table_key
from ablations.evidence.verdicts import Verdict
from ablations.figures.study import looks_of
from ablations.runs.records import COMPLETED, STATUSES
from ablations.studies.results import METRICS, Arm, Study, StudyRun, baseline_first
from ablations.table_files import NO_VALUE, markdown_tables
from ablations.tables.study import markdown_table
from ablations.tables.verdicts import verdict_panels

TITLE = "Xception ablations"
TITLE_CHARACTERS = 128
"""That W&B takes."""

STEP = "trainer/global_step"
"""What W&B's charts of a run are over; see `lightning_modules.wandb_logging`."""

CURVES = {
    "val_loss": "validation loss",
    "train_loss": "training loss of an epoch",
    "train/loss": "training loss of a step",
    "learning_rate": "learning rate",
}
"""Beside the metrics of a study: what every run logs, and its title."""

COLUMNS = 24
"""Of W&B's grid of panels."""
HEIGHT = 7


def make_report(
    place: Place,
    studies: Sequence[tuple[Study, Sequence[StudyRun]]],
    verdicts: Sequence[Verdict],
    summary: Summary,
) -> wr.Report:
    """The report; nobody is asked and nothing is sent.

    Args:
        place: Whose project.
        studies: One section each, with their planned runs.
        verdicts: On their claims, and on those of no study.
        summary: The run that has figures, tables and records.
    """
    blocks: list[Any] = [
        wr.P("Written from the runs' records; tables, figures and records are artifacts of a summary run."),
        wr.TableOfContents(),
        wr.H1("Claims and verdicts"),
        wr.MarkdownBlock(_verdicts_text(verdicts)),
    ]
    for study, runs in studies:
        own = [verdict for verdict in verdicts if verdict.claim.study == study.name]
        blocks += _section(study, runs, own, summary)
    blocks += _summary_section(summary)
    return wr.Report(
        project=place.project,
        entity=place.entity or "",  # "": asked of the account when it is saved
        title=(TITLE + summary.suffix.replace("__", " "))[:TITLE_CHARACTERS],
        description="Every study: curves by arm, verdicts, figures and tables.",
        blocks=blocks,
        width="fluid",
    )


def specification(report: wr.Report) -> dict[str, Any]:
    """What is sent when the report is saved, as plain values."""
    view = report._to_model()
    return {
        "entityName": report.entity or None,
        "projectName": report.project,
        "displayName": view.display_name,
        "description": view.description,
        "type": "runs",
        "spec": json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def _section(
    study: Study, runs: Sequence[StudyRun], verdicts: Sequence[Verdict], summary: Summary
) -> list[Any]:
    counts = ", ".join(
        f"{number} {status}" for status in STATUSES if (number := sum(run.status == status for run in runs))
    )
    blocks: list[Any] = [
        wr.H1(study.title),
        wr.P(f"{study.source}. {study.scale}."),
        wr.P(f"Of {len(runs)} planned runs: {counts}."),
        wr.H2("Curves by arm"),
        wr.MarkdownBlock(_arms_text(study, runs)),
    ]
    if any(logged_id(run) for run in runs):
        blocks.append(_curves(study, runs))
    else:
        blocks.append(wr.P("No run of this study was logged to W&B."))
    if verdicts:
        blocks += [wr.H2("Verdicts"), wr.MarkdownBlock(_verdicts_text(verdicts))]
    if figures := summary.figures_of(study):
        blocks += [wr.H2("Figures"), _figures(study, figures, summary)]
    page = markdown_table(study, runs)
    return [*blocks, wr.H2("Table"), wr.MarkdownBlock(page.partition("\n\n")[2])]  # without its heading


def _verdicts_text(verdicts: Sequence[Verdict]) -> str:
    return markdown_tables(verdict_panels(verdicts)) or "No claim."


def _arms_text(study: Study, runs: Sequence[StudyRun]) -> str:
    """What each set of runs is, and as what W&B's own lists show it."""
    looks, rows = _looks(study), []
    for arm in baseline_first(study):
        of_arm = [run for run in runs if run.arm == arm.name]
        logged = [run for run in of_arm if logged_id(run)]
        places = dict.fromkeys(filter(None, map(_logged_as, logged)))
        rows.append(
            {
                "arm": arm.name,
                "set of runs": _set_name(study, arm),
                "colour": looks[arm.name],
                "completed / planned": f"{sum(r.status == COMPLETED for r in of_arm)} / {len(of_arm)}",
                "logged": str(len(logged)),
                "group / job type in W&B": "; ".join(places) or NO_VALUE,
            }
        )
    return markdown_tables([pd.DataFrame(rows)])


def _logged_as(run: StudyRun) -> str:
    """Group and job type under which a run was logged: of the study that asked for it first."""
    logger = (run.record or {}).get("config", {}).get("logger", {})
    return " / ".join(str(logger[key]) for key in ("group", "job_type") if logger.get(key))


def _set_name(study: Study, arm: Arm) -> str:
    return arm.label + (" (baseline)" if arm.name == study.baseline else "")


def _looks(study: Study) -> Mapping[str, str]:
    """A colour per arm, those of the figures."""
    return {name: look.color for name, look in looks_of([arm.name for arm in baseline_first(study)]).items()}


def _curves(study: Study, runs: Sequence[StudyRun]) -> wr.PanelGrid:
    looks, runsets = _looks(study), []
    colors: dict[Any, Any] = {}  # wandb-workspaces wants a wider type than it documents
    for arm in baseline_first(study):
        logged = [run for run in runs if run.arm == arm.name and logged_id(run)]
        if not logged:
            continue
        name = _set_name(study, arm)
        ids = [str(logged_id(run)) for run in logged]
        runset = wr.Runset(
            name=name,
            filters=expr.And(expr.Metric("ID").isin(ids)),
            groupby=["JobType"],
            order=[wr.OrderBy("Name", ascending=True)],
            run_settings={run_id: wr.RunSettings(color=looks[arm.name]) for run_id in ids},
        )
        runset._id = _stable_id(study.name, "arm", arm.name)
        runsets.append(runset)
        for job_type in sorted({_job_type(run) for run in logged}):
            key = wr.RunsetGroupKey(wr.Metric("JobType"), job_type)
            colors[wr.RunsetGroup(name, (key,))] = looks[arm.name]
    return wr.PanelGrid(runsets=runsets, panels=_panels(study), custom_run_colors=colors)


def _job_type(run: StudyRun) -> str:
    return str((run.record or {}).get("config", {}).get("logger", {}).get("job_type"))


def _panels(study: Study) -> list[Any]:
    curves = {f"val_{name}": f"validation {METRICS[name].label}" for name in study.metrics} | CURVES
    panels: list[Any] = [
        wr.LinePlot(
            title=f"{title}, mean and range over seeds",
            x=STEP,
            y=[metric],
            title_x="training steps",
            title_y=title,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            smoothing_type="none",
            log_y=metric == "learning_rate" or None,
        )
        for metric, title in curves.items()
    ]
    panels += [
        wr.BarPlot(
            title=f"test {METRICS[name].label}, mean and range over seeds",
            metrics=[wr.SummaryMetric(f"test_{name}")],
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
        for name in study.metrics
    ]
    return _laid_out(panels, columns=3, of=study.name)


def _figures(study: Study, figures: Sequence[str], summary: Summary) -> wr.PanelGrid:
    panels: list[Any] = [
        wr.MediaBrowser(title=name, media_keys=[figure_key(name)], num_columns=1) for name in figures
    ]
    _laid_out(panels, columns=1, of=f"{study.name} figures", height=2 * HEIGHT)
    return wr.PanelGrid(runsets=[_summary_runs(summary, study.name)], hide_run_sets=True, panels=panels)


def _summary_section(summary: Summary) -> list[Any]:
    rows = [
        {"artifact": summary.artifact_name(kind), "files": str(len(files)), "what": ARTIFACTS[kind]}
        for kind, files in summary.files.items()
    ]
    panels: list[Any] = [wr.WeavePanelSummaryTable(table_name=table_key(name)) for name in summary.tables]
    _laid_out(panels, columns=1, of="summary", height=2 * HEIGHT)
    grid = wr.PanelGrid(runsets=[_summary_runs(summary, "summary")], panels=panels)
    return [
        wr.H1("Summary run"),
        wr.P(f"Run {summary.run_id}: its artifacts, and its tables as they are for programs."),
        wr.MarkdownBlock(markdown_tables([pd.DataFrame(rows)])),
        grid,
    ]


def _summary_runs(summary: Summary, place: str) -> wr.Runset:
    runset = wr.Runset(name="summary run", filters=expr.And(expr.Metric("ID").isin([summary.run_id])))
    runset._id = _stable_id(place, "summary run")
    return runset


def _laid_out(panels: list[Any], *, columns: int, of: str, height: int = HEIGHT) -> list[Any]:
    """Place panels in rows, and give each an id that a repeat gives too."""
    width = COLUMNS // columns
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        panel.layout = wr.Layout(x=column * width, y=row * height, w=width, h=height)
        panel._id = _stable_id(of, "panel", str(number))
    return panels


def _stable_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:11]
