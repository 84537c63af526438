"""What is done with a command that the documentation shows. A command that no rule knows fails the test."""

import importlib.util
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra import compose
from hydra.utils import get_class

from experiments.benchmark import compose_networks, parse_options
from experiments.configuration import quote_option_names
from experiments.new_project import create_project
from experiments.overrides import seed_budget, split_studies
from experiments.plan import plan_sweep
from experiments.planning import hydra_configuration, plan_study
from experiments.project import Project, current
from tests.documentation.blocks import REPOSITORY
from tests.documentation.workspace import Workspace, words_of

ELSEWHERE = (
    "hydra/launcher=|trainer=ddp|runs_per_device=|=imagenet|"
    "tuning=|seeds=auto|mode=online|match_[a-z_]+=|weights="
)
"""What needs a cluster, GPUs, ImageNet, weights, an account or an hour: it is planned, not run."""


def planned(workspace: Workspace, words: Sequence[str]) -> None:
    """Compose what a command of run.py or of ablations chooses, and plan its runs."""
    words = [word for word in words[2:] if word != "-m"]
    words = [word for word in words if word != "ablations" and not word.startswith("--")]
    studies = [word for word in words if "=" not in word and word != "verdicts"]
    words = [word for word in words if "=" in word] + [f"study={name}" for name in studies]
    for_hydra = [word for word in words if word.lstrip("+").startswith("hydra")]
    of_runs = [word for word in words if word not in for_hydra and not word.startswith("tuning")]
    with hydra_configuration():
        single = [word for word in words if not re.match(r"(study|seeds?)=|.*=[^\[]*,", word)]
        config = compose(current().config_name, quote_option_names(single), return_hydra_config=True)
        assert get_class(config.hydra.launcher._target_)
        if config.weights is not None:  # needs the file
            assert config.weights in ("xception.h5", "resnet18.pt")
        elif seed_budget(of_runs) is None:
            assert plan_sweep(of_runs)
        else:
            names, others = split_studies(of_runs)
            assert all(plan_study(name, others, auto_seeds=range(6))[1] for name in names)
    for word in words:
        if word.startswith("tuning="):
            assert (workspace.conf / "tuning" / f"{word.partition('=')[2]}.yaml").is_file()


def make(workspace: Workspace, words: Sequence[str]) -> None:
    """The target exists."""
    result = subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def pip(workspace: Workspace, words: Sequence[str]) -> None:
    """The extra exists."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.fullmatch(r"\.\[([\w,]+)\]", words[-1])
    assert extras
    assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()


def evaluated(workspace: Workspace, words: Sequence[str]) -> None:
    """`eval "$(COMMAND)"`: the command."""
    inner = re.fullmatch(r"\$\((.*)\)", words[1])
    assert inner
    do(workspace, inner[1])


def module(workspace: Workspace, words: Sequence[str]) -> None:
    """`python -m benchmarks.NAME`: takes minutes; it exists."""
    assert importlib.util.find_spec(words[2])


def speeds(workspace: Workspace, words: Sequence[str]) -> None:
    """`python -m ablations benchmark KEY=VALUE`: takes minutes; its networks are composed."""
    assert compose_networks(parse_options(words[4:]))


def script(workspace: Workspace, words: Sequence[str]) -> None:
    """A script of the repository: it can be executed."""
    assert os.access(REPOSITORY / words[0], os.X_OK)


def new_project(workspace: Workspace, words: Sequence[str]) -> None:
    """The project is written, from the reader's folder."""
    assert create_project(Path(words[2]))


def enter(workspace: Workspace, words: Sequence[str]) -> None:
    """The reader finds a project there."""
    assert Project.found_from(Path(words[1])).root == Path(words[1]).resolve()


def nothing(workspace: Workspace, words: Sequence[str]) -> None:
    """Changes the reader's shell or clone alone."""


Rule = Callable[[Workspace, Sequence[str]], None]

RULES: tuple[tuple[str, Rule], ...] = (
    (r"python run\.py .*(--(help|cfg|shell-completion)|-sc)", lambda place, words: place.shown(words[2:])),
    (rf"python run\.py .*({ELSEWHERE})", planned),
    (r"python run\.py( |$)", lambda place, words: place.run_py(words[2:])),
    (r"python -m ablations .*tuning=", planned),
    (r"python -m ablations benchmark$", nothing),  # minutes; tests/experiments/test_benchmark.py does
    (r"python -m ablations benchmark ", speeds),
    (r"python -m ablations( |$)", lambda place, words: place.ablations(words[3:])),
    (r"ablations new ", new_project),
    (r"cd ", enter),
    (r"python -m benchmarks\.", module),
    (r"python -m pytest ", nothing),  # this is run by it
    (r"make ", make),
    (r"pip install -e ", pip),
    (r"eval ", evaluated),
    (r"\.ci/run$", script),
    (r"source \.venv/bin/activate$", nothing),
    (r"wandb leet --help$", nothing),
    (r"git (clone|switch|add|commit) ", nothing),
)
"""Per pattern of a command, without variables and comment, what is done; the first that matches counts."""


def do(workspace: Workspace, command: str) -> None:
    """Do what the first rule says that knows a command.

    Raises:
        LookupError: None does.
    """
    words = words_of(command)
    line = " ".join(words)
    for pattern, rule in RULES:
        if re.match(pattern, line):
            rule(workspace, words)
            return
    raise LookupError(f"no rule of tests/documentation/rules.py covers: {command}")
