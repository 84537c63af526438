"""What a record says of where it was made, and what it never says."""

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ablations.errors import UserError
from experiments import environment
from experiments.project import Project, use


def test_versions_leave_out_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package-anywhere"))
    found = environment.versions()
    assert list(found) == ["python", "torch"]
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git checkout of the framework, as this one, with one module."""
    module = tmp_path / "experiments" / "environment.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "All")
    monkeypatch.setattr(environment, "FRAMEWORK_CONF", tmp_path / "conf")
    with use(Project(tmp_path)):
        yield tmp_path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_changes_are_those_of_the_code_that_was_imported(checkout: Path, monkeypatch) -> None:
    clean = {"commit": git(checkout, "rev-parse", "HEAD"), "changes": {}}
    assert environment.git_state() == environment.imported(environment.git_state()) == clean
    assert "xception-ablations" not in environment.versions()  # the commit says it
    for name in ("results/a.csv", "conf/study/mine.yaml", "docs/a.md", "tests/test_a.py", "ablations/a/b.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("new")
    assert environment.git_state() == clean  # no run reads these, or its record has all of it
    (checkout / "mine.py").write_text("a = 1\n")
    (checkout / "other.py").write_text("a = 1\n")
    (checkout / "experiments" / "environment.py").write_text("b = 1\n")
    for name in ("mine", "experiments/environment"):
        module = ModuleType(name.replace("/", "."))
        module.__file__ = str(checkout / f"{name}.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = environment.imported(environment.git_state())
    assert found is not None
    assert found["commit"] == clean["commit"]
    assert sorted(found["changes"]) == ["experiments/environment.py", "mine.py"]
    assert found["changes"]["mine.py"] == "a = 1\n"
    assert "+b = 1" in found["changes"]["experiments/environment.py"]


def test_a_project_in_a_part_of_a_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it imports of the other parts counts too; folders are called as the framework's are."""
    monkeypatch.setattr(environment, "FRAMEWORK_CONF", checkout.parent / "framework" / "conf")
    project = checkout / "ablations" / "paper"
    project.mkdir(parents=True)
    (project / "networks.py").write_text("a = 1\n")
    (checkout / "experiments" / "environment.py").write_text("b = 1\n")
    for name in ("ablations/paper/networks", "experiments/environment"):
        module = ModuleType(name.replace("/", "."))
        module.__file__ = str(checkout / f"{name}.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with use(Project(project)):
        found = environment.imported(environment.git_state())
        versions = environment.versions()
    assert found is not None
    assert found["commit"] == git(checkout, "rev-parse", "HEAD")
    assert sorted(found["changes"]) == ["ablations/paper/networks.py", "experiments/environment.py"]
    assert "xception-ablations" in versions


def test_git_state_outside_a_checkout(tmp_path: Path) -> None:
    with use(Project(tmp_path)):
        assert environment.git_state() is None
        assert environment.imported(None) is None


@pytest.mark.usefixtures("checkout")
def test_a_checkout_without_git_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match=r"^the record has no git commit: .+$"):
        assert environment.git_state() is None


def test_a_damaged_checkout_is_told(checkout: Path) -> None:
    (checkout / ".git" / "HEAD").unlink()
    with pytest.warns(UserWarning, match=r"^the record has no git commit: .+$"):
        assert environment.git_state() is None


def test_git_state_of_a_checkout_of_another_user(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert environment.git_state() == {"commit": commit, "changes": {}}


@pytest.mark.parametrize(
    ("processes", "variables", "told"),
    [
        (1, {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "SLURM_NTASKS": "4"}, None),  # left over
        (1, {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        (2, {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, None),
        (2, {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, None),  # started by Lightning
        (2, {"RANK": "1", "SLURM_PROCID": "1"}, None),
        (
            1,
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            "trainer=ddp trainer.devices=2",
        ),
        (2, {"LOCAL_RANK": "1"}, "unset LOCAL_RANK"),
        (2, {"LOCAL_RANK": "0", "WORLD_SIZE": "4"}, "unset LOCAL_RANK"),
    ],
)
def test_variables_of_a_launcher(
    monkeypatch: pytest.MonkeyPatch, processes: int, variables: dict[str, str], told: str | None
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if told is None:
        environment.check_launcher(processes)
    else:
        with pytest.raises(UserError, match=told):
            environment.check_launcher(processes)


def test_process_and_device() -> None:
    assert environment.process() == {"host": socket.gethostname(), "pid": os.getpid()}
    device = environment.device(torch.device("cpu"))
    assert device == {"type": "cpu", "name": environment.cpu_name(), "threads": torch.get_num_threads()}
    assert device["name"]


def test_a_processor_is_named_with_its_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual machines call several by one name."""
    told = "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A B\nstepping\t: 1\n\nprocessor\t: 1\n"
    monkeypatch.setattr(Path, "read_text", lambda self: told)
    assert environment.cpu_name() == "A B (family 25, model 17, stepping 1)"
    monkeypatch.setattr(Path, "read_text", lambda self: "processor\t: 0\nmodel name\t: A B\n")
    assert environment.cpu_name() == "A B"


def test_nothing_of_the_environment_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "-".join(("a", "secret", "of", "mine")))
    found = [
        environment.versions(),
        environment.git_state(),
        environment.process(),
        environment.device(torch.device("cpu")),
    ]
    assert os.environ["SOME_API_KEY"] not in json.dumps(found)


def test_quieten_silences_what_it_names_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        environment.quieten()
        warnings.warn("The 'train_dataloader' does not have many workers which may be", stacklevel=1)
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", FutureWarning, stacklevel=1)
        warnings.warn("Environment variable ... `weights_only` was not set ...", stacklevel=1)
        warnings.warn("your learning rate is odd", stacklevel=1)
    assert [str(item.message) for item in caught] == ["your learning rate is odd"]
    assert warnings.formatwarning("odd", UserWarning, "file.py", 1) == "UserWarning: odd\n"
