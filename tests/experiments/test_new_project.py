"""`ablations new NAME`, and what commands say outside of a project."""

import os
import sys
from pathlib import Path

import pytest

from ablations import __main__ as command
from ablations.cli.commands import COMMANDS
from experiments import run
from experiments.command_line import example_commands
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF, Project, use


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Calls `ablations` in an empty folder, or in another one."""

    def run_in(*words: str, folder: Path = tmp_path) -> int:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["ablations", *words])
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        return command.main()

    return run_in


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_a_new_project_is_whole(call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "my_paper") == 0
    shown = capsys.readouterr().out
    there = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert {line for line in shown.splitlines() if line.startswith("my_paper/")} == there
    assert {"my_paper/run.py", "my_paper/README.md", "my_paper/networks.py", "my_paper/.gitignore"} <= there
    assert "python run.py -m study=attention" in shown
    assert len((tmp_path / "my_paper" / "run.py").read_text().split("\n\n")[-1].splitlines()) <= 3

    with use(project := Project(tmp_path / "my_paper")), hydra_configuration():
        assert project.name == "my_paper"
        study, planned = plan_study("attention")
        assert len(planned) == 12
        (theirs,) = compose_runs(["model=xception", "residual=false"])  # the framework's, beside the user's
    assert study.baseline == "none"
    assert theirs.resolved["logger"]["project"] == "my_paper"


@pytest.mark.parametrize("name", ["on", "null", "e5", "a" * 64, "A-b_c1"])
def test_a_name_is_a_text(call, tmp_path: Path, name: str) -> None:
    assert call("new", name) == 0
    assert Project(tmp_path / name).name == name


def test_results_are_the_projects_from_every_folder(
    call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("new", "my_paper") == 0
    for folder in (root := tmp_path / "my_paper", root / "conf" / "study"):
        capsys.readouterr()
        assert call("list", folder=folder) == 0
        shown = capsys.readouterr().out
        assert "attention: 0 of 12 completed" in shown
        records = Path(shown.rpartition("records: ")[2].strip())
        assert folder / records == root / "results" / "runs" / "RUN" / "record.json"
        (folder / "here").mkdir()
        assert call("list", "results_dir=here", folder=folder) == 0  # as typed
        assert "records: here/runs/" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my_paper/run.py", "--cfg", "job"])
    assert run.main("my_paper/run.py") == 0
    assert "project: my_paper" in capsys.readouterr().out


def test_the_frameworks_studies_are_not_the_projects(
    call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("new", "my_paper") == 0
    assert (FRAMEWORK_CONF / "study" / "residual.yaml").is_file()
    capsys.readouterr()
    assert call("list", "residual", folder=tmp_path / "my_paper") == 2
    monkeypatch.chdir(tmp_path / "my_paper")
    monkeypatch.setattr(sys, "argv", ["run.py", "-m", "study=residual"])
    assert run.main(str(tmp_path / "my_paper" / "run.py")) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all("study=residual: no such" in line and line.endswith("attention") for line in errors)
    assert not (tmp_path / "my_paper" / "results").exists()


def test_help_recommends_what_the_project_has(call, tmp_path: Path) -> None:
    assert "residual=true,false" in example_commands()
    assert call("new", "my_paper") == 0
    with use(Project(tmp_path / "my_paper")):
        commands = example_commands()
        shown = [COMMANDS[name].parser(name).format_help() for name in ("tables", "verdicts", "reference")]
    assert "residual" not in " ".join([commands, *shown])
    assert all("attention" in text for text in shown)
    for words in ("study=attention", "attention=none,squeeze_excite"):
        assert words in commands


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        (
            "conf/model/small_convnet.yaml",
            "SmallConvNet",
            "SmallConvNets",
            ["model._target_=", "small_convnet.yaml"],
        ),
        ("networks.py", "from torch import", "from torc import", ["No module named", "networks.py, line 5"]),
        (
            "networks.py",
            "        layers: list",
            "        oops\n        layers: list",
            ["oops", "networks.py, line 42"],
        ),
    ],
)
def test_a_typo_in_the_users_code_is_named_with_its_place(
    call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, file, old, new, named
) -> None:
    assert call("new", "my_paper") == 0
    capsys.readouterr()
    path = tmp_path / "my_paper" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    sys.modules.pop("networks", None)
    monkeypatch.chdir(tmp_path / "my_paper")
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert run.main(str(tmp_path / "my_paper" / "run.py")) == 2
    sys.modules.pop("networks", None)
    error = error_of(capsys)
    for words in named:
        assert words in error
    assert not (tmp_path / "my_paper" / "results").exists()


@pytest.mark.parametrize("name", ["", "..", "my paper", "a" * 65, "taken", "file/a"])
def test_an_odd_name(call, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    assert call("new", name) == 2
    error_of(capsys)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "taken"]


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_one_name_is_needed(call, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", *names) == 2
    assert "one name" in error_of(capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (closed := tmp_path / "closed").mkdir(mode=0o500)
    assert call("new", "closed/my_paper") == 2
    assert "closed" in error_of(capsys)
    closed.chmod(0o700)


def test_a_place_that_nobody_can_write(call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "/proc/my_paper") == 2
    assert "/proc" in error_of(capsys)


def test_a_project_in_a_project(call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("new", "my_paper") == 0
    capsys.readouterr()
    assert call("new", "another", folder=tmp_path / "my_paper" / "conf") == 2
    assert str(tmp_path / "my_paper") in error_of(capsys)


@pytest.mark.parametrize("words", [("list",), (), ("report",), ("pack",), ("benchmark",)])
def test_outside_of_a_project(call, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 2
    assert "ablations new" in error_of(capsys)


def test_half_a_project(call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf").mkdir()
    assert call("list") == 2
    assert "run.py" in error_of(capsys)
    (tmp_path / "conf").rmdir()
    assert run.main(str(tmp_path / "run.py")) == 2
    assert "conf/" in error_of(capsys)
