"""`python -m ablations dashboards | wandb-sync | browse`: what they do, for `ablations.commands`."""

import argparse
import json
from collections.abc import Sequence
from importlib.util import find_spec

from ablations.dashboards.place import Place, find_place, sign_in
from ablations.errors import RunsFailed, UserError
from ablations.evidence.claims import BENCHMARK
from ablations.files import write_atomically
from ablations.reading import Judged, judge, load_studies, names_and_overrides
from ablations.studies.results import Study, StudyRun
from ablations.studies.study_file import study_names
from ablations.terminal.command_line import print_paths

Loaded = list[tuple[Study, Sequence[StudyRun]]]


def build_dashboards(parsed: argparse.Namespace) -> None:
    """Write the summary run and the report's specification; online also to the server. Prints where they are.

    Raises:
        UserError: Something that the user chose cannot be, or the server cannot be asked.
        RunsFailed: The server did not take the summary run.
    """
    names, overrides = names_and_overrides(parsed.words)
    place = find_place(overrides)
    entity = sign_in() if place.online else ""
    _require_workspaces()
    from ablations.dashboards.report import make_report, specification
    from ablations.dashboards.summary import write_outputs, write_summary_run

    judged = judge(names, overrides)
    studies = _every_study(names, overrides, judged)
    summary = write_outputs(place, studies, judged.verdicts, judged.suffix)
    run, _ = write_summary_run(place, summary)
    report = make_report(place, studies, judged.verdicts, summary)
    path = place.own / f"report{judged.suffix}.json"
    write_atomically(path, json.dumps(specification(report), indent=1, ensure_ascii=False) + "\n")
    print_paths([run.folder, path])
    if not place.online:
        print("not sent: `wandb-sync` uploads the runs, and logger.mode=online saves the report too")
        return
    from ablations.dashboards.publish import publish
    from ablations.dashboards.sync import sync, waiting

    sync(place, [run.wandb_id])
    print(publish(report, place, entity, path.with_suffix(".saved.json")))
    if left := waiting(place):
        print(f"{left} runs are not uploaded yet: `wandb-sync` does it")


def _every_study(names: Sequence[str], overrides: Sequence[str], judged: Judged) -> Loaded:
    """Those that were judged, and those that no claim is about, in the order of the paper's figures."""
    studies: dict[str, tuple[Study, Sequence[StudyRun]]] = {
        study.name: (study, runs) for study, runs in judged.studies
    }
    asked = [name for name in names or study_names(unasked=True) if name not in (*studies, BENCHMARK)]
    if asked:
        studies |= {study.name: (study, runs) for study, runs, _ in load_studies(asked, overrides)}
    return [studies[name] for name in study_names() if name in studies]


def _require_workspaces() -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError("wandb_workspaces is not installed: pip install 'xception-ablations[dashboards]'")


def upload_runs(parsed: argparse.Namespace) -> None:
    """Upload offline runs, each once; a line per run.

    Raises:
        UserError: There is no key, or the server cannot be asked.
        RunsFailed: Some could not be uploaded, or another process is uploading.
    """
    from ablations.dashboards.sync import sync, waiting

    for word in parsed.words:
        if word.partition("=")[0] not in ("results_dir", "logger.dir", "logger.entity"):
            raise UserError(f"{word}: takes results_dir=FOLDER, logger.dir=FOLDER and logger.entity=NAME")
    place = find_place(parsed.words)
    if waiting(place):
        sign_in()
    sync(place)


def browse_runs(parsed: argparse.Namespace) -> None:
    """Open `wandb leet` on links with readable names.

    Raises:
        UserError: There is no terminal, or no run.
        RunsFailed: leet failed.
    """
    from ablations.dashboards.browse import link_runs, open_leet, require_terminal

    require_terminal()
    place, studies, every = _named_studies(parsed.words)
    code = open_leet(link_runs(place, studies, with_others=every))
    if code:
        raise RunsFailed(f"wandb leet exited with {code}")


def _named_studies(words: Sequence[str]) -> tuple[Place, Loaded, bool]:
    names, overrides = names_and_overrides(words)
    loaded: Loaded = [(study, runs) for study, runs, _ in load_studies(names, overrides)]
    return find_place(overrides), loaded, not names
