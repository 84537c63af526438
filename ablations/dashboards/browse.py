"""The offline runs in the terminal: `wandb leet` on a folder of links whose names say arm, seed and study.

leet lists folders by name, knows no groups and cuts a name after some thirty characters. It takes a folder
whose name begins with `run-`, and finds what W&B wrote by the end of the name, `run-YYYYMMDD_HHMMSS-ID`. So a
link is `run-ARM sSEED STUDY   offline-run-YYYYMMDD_HHMMSS-ID`: by name, the runs of an arm stand together,
what tells them apart comes first, and spaces keep what a person has no use for behind the cut.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablations.dashboards.links import (
    OfflineRun,
    directory_of,
    names_of_runs,
    offline_runs,
    readable,
)
from ablations.dashboards.place import Place
from ablations.errors import UserError
from ablations.runs.configuration import RunConfiguration
from ablations.studies.results import Study, StudyRun

LEET = (sys.executable, "-m", "wandb", "leet")
SHOWN = 27
"""Characters of a name that leet shows after `run-`, at 100 columns and at 160."""


def link_runs(
    place: Place, studies: Sequence[tuple[Study, Sequence[StudyRun]]], *, with_others: bool
) -> Path:
    """Make the folder of links anew, and take out of it what is there no more.

    Args:
        place: Where the runs are.
        studies: Whose runs; one that several of them share has a link for each.
        with_others: Whether runs of no study here have a link too, named as their sweep.

    Returns:
        The folder.

    Raises:
        UserError: There is no offline run.
    """
    links = link_names(place, studies, with_others=with_others)
    if not links:
        of = "" if with_others else f" of {', '.join(study.name for study, _ in studies)}"
        raise UserError(f"no offline run{of} in {place.folder}; `python run.py` writes them")
    folder = place.own / "browse" / ("all" if with_others else ",".join(study.name for study, _ in studies))
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: os.path.relpath(run.folder, folder) for name, run in links.items()}
    for path in folder.iterdir():
        if path.is_symlink() and wanted.get(path.name) != os.readlink(path):
            path.unlink(missing_ok=True)
    for name, target in wanted.items():
        path = folder / name
        if not path.is_symlink():
            path.symlink_to(target, target_is_directory=True)
    return folder


def link_names(
    place: Place, studies: Sequence[tuple[Study, Sequence[StudyRun]]], *, with_others: bool
) -> Mapping[str, OfflineRun]:
    """The offline run per link's name."""
    names = names_of_runs(studies)
    many = with_others or len(studies) > 1
    links = {}
    for run in offline_runs(place.folder):
        if run.wandb_id in names:
            for study, arm, seed in names[run.wandb_id]:
                text = f"{arm} s{seed} {study}" if many else f"{arm} seed={seed}"
                links[_link(text, run)] = run
        elif with_others:
            links[_link(_other(run, place.results_dir), run)] = run
    return links


def _other(run: OfflineRun, results_dir: Path) -> str:
    record = readable(directory_of(run.wandb_id, results_dir))
    if record is None:
        return run.wandb_id
    logger = record["config"].get("logger") or {}
    arm = logger.get("job_type") or RunConfiguration(record["config"], record["choices"]).arm_name
    return " ".join([f"{arm} s{record['seed']}", *filter(None, [logger.get("group")])])


def _link(text: str, run: OfflineRun) -> str:
    room = 250 - len(f"run- {run.folder.name}".encode())  # a name ends at 255 bytes
    text = re.sub(r"[/\0\s]+", " ", text).encode()[:room].decode(errors="ignore")
    return f"run-{text:{min(SHOWN, room)}} {run.folder.name}"


def require_terminal() -> None:
    """Check that there is one.

    Raises:
        UserError: There is none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "browse draws in a terminal, and this is none; `wandb leet inspect --summary` prints a run"
        )


def open_leet(folder: Path) -> int:
    """Open leet, until the user leaves it.

    Returns:
        Its exit code.
    """
    own = os.environ | {"WANDB_MODE": "offline"}  # nobody is asked and nothing is sent
    return subprocess.run([*LEET, str(folder.absolute())], env=own, check=False).returncode
