"""Whether `benchmarks.many_records` makes up what commands read, and these read each file of a run once."""

import io
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablations import __main__ as command
from ablations.runs.records import RunDirectory
from benchmarks import many_records

SEEDS = 12


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a made-up study."""
    results_dir = tmp_path_factory.mktemp("results")
    many_records.write_results(SEEDS, results_dir)
    return results_dir


@pytest.fixture
def words(results_dir: Path) -> list[str]:
    """The study's words on a command line."""
    return [many_records.STUDY, *many_records.overrides(SEEDS, results_dir)]


@pytest.fixture
def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Calls `python -m ablations` on the study, with words before it."""

    def call(*name: str) -> None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", ["ablations", *name, *words])
        assert command.main() == 0

    return call


def test_what_is_made_up_is_read(words, call, results_dir, capsys) -> None:
    runs = list(results_dir.joinpath("runs").iterdir())
    standing = Counter(RunDirectory(results_dir, run.name).status() for run in runs)
    assert standing.keys() <= {"completed", "diverged"}
    many_records.tables(words)
    call("verdicts")
    assert capsys.readouterr().err == ""
    study, claims = (pd.read_csv(file) for file in sorted(results_dir.joinpath("tables").glob("*.csv")))
    assert study["n_completed"].sum() == standing["completed"]
    assert study["n_diverged"].sum() == standing["diverged"]
    assert study["n_planned"].tolist() == [SEEDS] * 3
    assert {"activation-final", "activation-speed"} <= set(claims["claim"])


def test_each_file_of_a_run_is_opened_once(call, results_dir, monkeypatch) -> None:
    """So the time that reading takes grows with the number of runs, and no faster."""
    opened = Counter[tuple[str, str]]()
    really_open = io.open

    def counted(file, *args, **kwargs):
        path = Path(str(file))
        if path.parent.parent == results_dir / "runs":
            opened[path.parent.name, path.name] += 1
        return really_open(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", counted)
    call("list")
    runs = [run.name for run in results_dir.joinpath("runs").iterdir()]
    assert opened == {(run, file): 1 for run in runs for file in ("record.json", "metrics.csv")}
