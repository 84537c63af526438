"""Writes `results/reference`, the committed reproduction, from the records.

Records are packed first. Everything else is made from the archive, so it matches the archive and names no
local folder.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ablations.cli.reading import judge, judged_studies, load_studies, names_and_overrides
from ablations.completeness import Completeness, completeness_in
from ablations.errors import UserError
from ablations.evidence.timings import Timings, read_timings
from ablations.outputs import write_study
from ablations.report.build import build_report, write_report
from ablations.runs.archive import pack, unpack
from ablations.runs.schema import COMPLETED
from ablations.studies.results import Study, StudyRun
from ablations.tables.timings import write_timings
from ablations.tables.verdicts import write_verdicts
from experiments.overrides import seed_budget
from experiments.planning import project_benchmark
from experiments.project import current

Loaded = Sequence[tuple[Study, Sequence[StudyRun], Path]]


class Reference(NamedTuple):
    folder: Path
    studies: int
    runs: int


def write_reference(
    folder: Path, results_dir: Path, varied: Sequence[Sequence[str]] = (), *, force: bool = False
) -> Reference:
    """Write tables, figures (PNG), verdicts, report page and records of all studies not marked only_by_name.

    Args:
        folder: The reference, replaced as a whole.
        results_dir: Where the records are.
        varied: Studies to add, each as its words with its overrides.
        force: Whether it may have fewer completed runs than the existing one.

    Raises:
        UserError: The new one would have fewer completed runs or lack a table.
        OSError: It cannot be written; the old one stays.
    """
    _complete(folder)
    loaded = _load(varied, results_dir)
    defined = project_benchmark()
    timed = [one for one in read_timings(results_dir) if one.output == defined.output]
    if not force and (losses := _losses(folder / "tables", loaded, timed, defined.output)):
        raise UserError(f"{folder}: would lose results: {'; '.join(losses)}; use --force to write it anyway")
    tunings = [study.tuning for study, _, _ in loaded if study.tuning is not None]
    trials = [trial for tuning in tunings for of_arm in tuning.trials.values() for trial in of_arm]
    runs = {run.run_id for _, of_study, _ in loaded for run in of_study}
    runs |= {run for trial in trials for run in trial.runs}
    runs |= {run_id for timings in timed for run_id in timings.records}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".reference-") as name:
        new, records = Path(name, "new"), Path(name, "records")
        archive, packed = pack(results_dir, new, runs, {tuning.journal for tuning in tunings})
        unpack(archive, records)
        for timings in timed:
            write_timings(timings, defined, new / "tables")
        _write(new, _load(varied, records), varied, records)
        if folder.exists():
            folder.rename(_old(folder))
        try:
            new.rename(folder)
        finally:
            _complete(folder)
    return Reference(folder, len(loaded), packed)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _complete(folder: Path) -> None:
    """End an exchange of folders, also one whose command was killed: the old one returns if it must."""
    if not folder.exists() and _old(folder).exists():
        _old(folder).rename(folder)
    shutil.rmtree(_old(folder), ignore_errors=True)


def _load(varied: Sequence[Sequence[str]], results_dir: Path) -> Loaded:
    loaded = load_studies([], [f"results_dir={results_dir}"])
    for words in varied:
        names, overrides = names_and_overrides(words)
        loaded += load_studies(names, [*overrides, f"results_dir={results_dir}"])
    return loaded


def _losses(tables: Path, loaded: Loaded, timed: Sequence[Timings], benchmark: str) -> list[str]:
    """The tables that would have fewer runs or none, a phrase each."""
    now = {
        study.output: Completeness.of_runs(sum(run.status == COMPLETED for run in runs), len(runs))
        for study, runs, _ in loaded
    }
    now |= {one.output: Completeness.of_runs(len(one.records), len(one.records)) for one in timed}
    found = []
    for path in sorted(tables.glob("*.csv")):
        before, after = completeness_in(path), now.get(path.stem)
        if path.stem == benchmark and not timed:
            found.append(f"{path.stem} was not measured: python -m ablations benchmark")
        elif before is None or before.rank <= 0:  # not a study's table, or without a result
            continue
        elif after is None:
            found.append(f"{path.stem}: {before.words} before, now left out (--also)")
        elif after.rank < before.rank:
            found.append(f"{path.stem}: {before.words} before, {after.words} now")
    return found


def _write(folder: Path, loaded: Loaded, varied: Sequence[Sequence[str]], records: Path) -> None:
    results = f"results_dir={records}"
    for study, runs, _ in loaded:
        write_study(study, runs, folder)
    for path in (folder / "figures").glob("*.svg"):
        path.unlink()
    for names, overrides in map(names_and_overrides, varied):
        if not overrides:  # included in all verdicts below
            continue
        judged = judge(names, [*overrides, results])
        write_verdicts(judged.verdicts, judged.studies, folder / "tables", judged.suffix)
    # The last word on a study's claims is that of the seeds added to decide them.
    added = {
        name: overrides
        for names, overrides in map(names_and_overrides, varied)
        for name in names
        if seed_budget(overrides) is not None and all(word.startswith("seed") for word in overrides)
    }
    judged, studies = judged_studies([], [results], added)
    write_verdicts(judged.verdicts, judged.studies, folder / "tables", judged.suffix)
    write_report(build_report(judged, studies, [], current().name, added), folder / "report")
