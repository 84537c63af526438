"""The status of planned runs, read from their records."""

from collections.abc import Collection, Sequence

from ablations.runs.records import DONE, UnreadableRecord
from ablations.studies.results import StudyRun
from experiments.planned_run import PlannedRun


def standing(
    runs: Sequence[PlannedRun], metrics: Collection[str] | None = None
) -> tuple[list[StudyRun], list[str]]:
    """An entry per planned run, and a line per unusable record, which counts as missing.

    `metrics` are those to read from histories; None: all.
    """
    entries, problems = [], []
    for run in runs:
        directory = run.directory
        record, history = None, None
        try:
            record = directory.read(run.configuration.resolved)
        except UnreadableRecord as error:
            problems.append(f"unreadable record, counted as missing: {error}")
        if record is not None:
            history = directory.validation_history(metrics, record)
        status = directory.status_of(record, history)
        if record is not None and record["status"] in DONE and status not in DONE:
            problems.append(directory.why_missing(record, history))
            history = None
        entries.append(StudyRun(run.arm, run.seed, run.run_id, directory.path, status, record, history))
    return entries, problems
