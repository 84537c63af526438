"""Records of two studies, W&B without an account, and a server on this machine in its place."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations import __main__ as command
from ablations.dashboards.place import Place, find_place
from ablations.studies.planned_run import PlannedRun
from ablations.studies.planning import hydra_configuration, plan_study
from ablations.studies.results import Study, StudyRun
from ablations.studies.standing import standing
from tests.ablations.dashboards.server import WandbServer, serve

NAMES = ("residual", "intermediate_activation")
WRITTEN = {"residual": ("residual", "non_residual"), "intermediate_activation": ("none", "relu")}
"""Arms with records; `residual` and `none` are the same runs, which were logged as `residual`."""
SEEDS = (0, 1, 2)


@pytest.fixture(autouse=True, scope="module")
def no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The real W&B without an account, without settings of whoever runs the tests, without network."""
    import wandb

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
            patch.delenv(variable, raising=False)
        patch.setenv("HOME", str(home))
        for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            patch.setenv(variable, str(home / variable))
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
        wandb.teardown()
        yield
        wandb.teardown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server that takes everything, and an account there."""
    import wandb

    with serve() as listening:
        monkeypatch.setenv("WANDB_BASE_URL", listening.url)
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        wandb.teardown()
        yield listening
        wandb.teardown()


@pytest.fixture(scope="session")
def plans() -> dict[str, tuple[Study, list[PlannedRun]]]:
    """Two studies as they are planned; planning takes seconds."""
    with hydra_configuration():
        return {name: plan_study(name, ["seed=0,1,2"]) for name in NAMES}


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Study, list[StudyRun]]]]:
    """Where the first test that asks for `studies` leaves what it made, for the others."""
    return tmp_path_factory.mktemp("recorded"), []


@pytest.fixture
def studies(plans, recorded, write_run, results_dir: Path) -> list[tuple[Study, list[StudyRun]]]:
    """Both studies with records of two arms each; the last run of each was not logged."""
    folder, made = recorded
    if not made:
        for study, runs in plans.values():
            placed = [_placed(run, results_dir) for run in runs]
            for run in placed:
                if run.arm in WRITTEN[study.name] and run.directory.read() is None:
                    write_run(run.configuration, **_as_logged(run))
            made.append((study, standing(placed)[0]))
        shutil.copytree(results_dir / "runs", folder / "runs")
    elif not results_dir.exists():
        shutil.copytree(folder / "runs", results_dir / "runs")
    return [
        (study, [replace(run, directory=results_dir / "runs" / run.run_id) for run in runs])
        for study, runs in made
    ]


def _placed(run: PlannedRun, results_dir: Path) -> PlannedRun:
    """The same run, with its record elsewhere."""
    logger = run.configuration.resolved["logger"] | {"dir": str(results_dir)}
    resolved = {**run.configuration.resolved, "results_dir": str(results_dir), "logger": logger}
    return replace(run, configuration=replace(run.configuration, resolved=resolved))


def _as_logged(run: PlannedRun) -> dict[str, Any]:
    """What its record says of W&B."""
    logger = run.configuration.resolved["logger"] | {"group": run.group, "job_type": run.arm}
    last = run.arm == WRITTEN[run.group][-1] and run.seed == SEEDS[-1]
    return {
        "config": json.loads(json.dumps({**run.configuration.resolved, "logger": logger})),
        "wandb_run_id": None if last else wandb_id(run),
    }


def wandb_id(run: PlannedRun | StudyRun) -> str:
    """As run.py makes one, with a token that is none."""
    return f"{run.run_id}-0123abcd"


@pytest.fixture
def place(results_dir: Path) -> Place:
    """Of the test's results."""
    return find_place([f"results_dir={results_dir}"])


@pytest.fixture
def write_offline(place: Place) -> Callable[..., Path]:
    """Makes a folder as W&B does, of a run that says nothing: `write_offline("0123abcd")`."""

    def write(of_id: str, begun: str = "20260102_030405") -> Path:
        folder = place.folder / f"offline-run-{begun}-{of_id}"
        folder.mkdir(parents=True)
        (folder / f"run-{of_id}.wandb").write_bytes(b"")
        return folder

    return write


@pytest.fixture
def offline(studies, write_offline) -> dict[str, Path]:
    """A folder per logged run of the studies, by W&B id."""
    ids = {run.record["wandb_run_id"] for _, runs in studies for run in runs if run.record}
    return {of_id: write_offline(of_id) for of_id in sorted(ids - {None})}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, results_dir: Path) -> Callable[..., int]:
    """Calls a command on the test's results: `call("wandb-sync")` returns the exit code."""

    def run(*words: str) -> int:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", ["ablations", *words, f"results_dir={results_dir}"])
        return command.main()

    return run


def records_of(folder: Path) -> list[tuple[str, Any]]:
    """The records of one offline run as (type, content)."""
    (run,) = folder.glob("*.wandb")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(record["type"], record.get(record["type"])) for record in map(json.loads, lines)]


def only(records: list[tuple[str, Any]], kind: str) -> list[Any]:
    """The content of the records of a type."""
    return [content for of_kind, content in records if of_kind == kind]
