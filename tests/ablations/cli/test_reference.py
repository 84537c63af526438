"""`reference` in a small project: written whole from the records, and never emptier unless told to."""

import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from ablations import __main__ as command
from ablations.cli.reading import judged_studies
from ablations.cli.sweeping import run_sweep
from ablations.errors import UserError
from experiments.new_project import create_project
from experiments.planned_run import PlannedRun
from experiments.planning import hydra_configuration, plan_study
from experiments.project import Project, use


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new project, in which the command is called."""
    folder = tmp_path / "paper"
    create_project(folder)
    monkeypatch.chdir(folder)
    before = set(sys.modules)
    with use(Project(folder)):
        yield folder
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def runs(project: Path, write_run) -> list[PlannedRun]:
    """Of its study, all completed."""
    with hydra_configuration():
        planned = plan_study("attention")[1]
    for run in planned:
        write_run(run.configuration)
    return planned


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*words: str) -> int:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", ["ablations", *words])
        return command.main()

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


WRITTEN = (
    *("records.tar.xz", "report/index.html", "figures/attention.png"),
    *("tables/attention.csv", "tables/attention.md", "tables/verdicts.csv"),
)


@pytest.mark.slow
def test_the_reference_is_made_from_its_own_records(project, runs, write_run, call, capsys) -> None:
    with hydra_configuration():
        (other,) = plan_study("attention", ["seed=77"])[1][:1]
    write_run(other.configuration)  # no run of the study
    (project / "results" / "tuning").mkdir()
    (project / "results" / "tuning" / "secret.log").touch()  # of a tuning that is not in it

    assert call("reference") == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    assert (shown.err, shown.out.count(f"1 study, {len(runs)} runs")) == ("", 1)
    reference = project / "results" / "reference"
    first = content(reference)
    assert set(WRITTEN) <= set(first)
    assert not [name for name in first if name.endswith(".svg")]
    assert str(project).encode() not in b"".join(first.values())
    assert [path.name for path in (project / "results").iterdir() if path.name.startswith(".")] == []

    with tarfile.open(reference / "records.tar.xz") as archive:
        assert {name.partition("/")[0] for name in archive.getnames()} == {"runs"}

    # Nothing but its records is needed to write the same again.
    shutil.rmtree(project / "results" / "runs")
    assert call("unpack") == 0
    assert call("reference") == 0
    assert content(reference) == first

    # Seeds that were added to decide claims have the last word on them.
    capsys.readouterr()
    assert call("reference", "--also", "attention seeds=auto") == 0, capsys.readouterr().err
    assert capsys.readouterr().err == (
        "attention: look 2 of 8, 8 seeds: waiting for 4 of 16 runs; verdicts are without it\n"
    )
    for name in ("report/index.html", "tables/verdicts.md"):
        assert "seeds=auto" in (reference / name).read_text()
    assert call("reference", "--force") == 0
    assert content(reference) == first

    # Other commands leave it alone.
    assert call() == call("report") == call("pack") == 0
    assert content(reference) == first
    assert (project / "results" / "records.tar.xz").is_file()

    # With fewer runs it is refused, unless that is meant.
    shutil.rmtree(runs[0].directory.path)
    capsys.readouterr()
    assert call("reference") == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert (
        f"attention: {len(runs)} of {len(runs)} runs before, {len(runs) - 1} of {len(runs)} runs now"
        in shown.err
    )
    assert content(reference) == first
    assert call("reference", "--force") == 0
    assert content(reference) != first


@pytest.mark.slow
def test_a_command_that_is_killed_loses_no_reference(
    project, runs, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = project / "results" / "reference"
    assert call("reference") == 0
    first = content(reference)

    rename, renamed = Path.rename, []

    def killed_after_one(path: Path, target: Path) -> Path:
        if "reference" in (path.name, target.name):
            if renamed:
                raise GeneratorExit
            renamed.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_after_one)
        with pytest.raises(GeneratorExit):
            call("reference")
    assert not reference.exists()
    shutil.rmtree(runs[0].directory.path)
    assert call("reference") == 2
    assert content(reference) == first
    assert not list((project / "results").glob(".*"))


def test_a_wrong_claim_is_named_before_training(project) -> None:
    (file,) = (project / "conf" / "claims").glob("*.yaml")
    file.write_text(file.read_text().replace("control: ", "control: no_", 1))
    launcher = Mock()
    with pytest.raises(UserError, match=r"no_.*: must be an arm of study=attention"):
        run_sweep(["study=attention"], launcher)
    launcher.launch.assert_not_called()


def test_a_study_only_by_name_is_reported_once_it_has_all_its_runs(project, runs) -> None:
    file = project / "conf" / "study" / "attention.yaml"
    file.write_text(f"{file.read_text()}\nonly_by_name: true\n")
    assert [study.name for study, _ in judged_studies([], [])[1]] == ["attention"]
    shutil.rmtree(runs[0].directory.path)
    assert judged_studies([], [])[1] == []
    assert [study.name for study, _ in judged_studies(["attention"], [])[1]] == ["attention"]


@pytest.mark.slow
def test_a_fuller_result_is_not_replaced_without_a_word(project, runs, call, capsys) -> None:
    for words in ((), ("verdicts",), ("report",), ("pack",)):
        assert call(*words) == 0
        assert call(*words) == 0
        assert capsys.readouterr().err == "", words
    for run in runs[:3]:
        shutil.rmtree(run.directory.path)
    for words, told in (
        ((), "tables/attention.csv: replaced; 12 of 12 runs before, 9 of 12 runs now"),
        (("verdicts",), "tables/verdicts.csv: replaced; 0 runs missing before, 3 runs missing now"),
        (("report",), "report/index.html: replaced; 12 of 12 runs before, 9 of 12 runs now"),
        (("pack",), "records.tar.xz: replaced; 12 runs before, 9 now"),
    ):
        assert call(*words) == 0
        assert [line.partition("results/")[2] for line in capsys.readouterr().err.splitlines()] == [told]
