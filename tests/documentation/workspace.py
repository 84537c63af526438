"""A small copy of what a page of the documentation is followed in: its configuration, its results.

The copy's network, data and training are tiny, and its sweeps run in this process, so that what a page
says can be typed as it stands.
"""

import hashlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import lightning_modules.data
import lightning_modules.networks
from ablations import __main__ as ablations_command
from experiments import run
from experiments.plan import plan_sweep
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF, Project, use
from experiments.sizes.network_cost import count_network
from experiments.study_file import project_claims
from tests.documentation.blocks import Block
from tests.few_studies import copy_few_studies

EXTENSIBLE = (lightning_modules.data, lightning_modules.networks)
"""Packages that a page adds modules to."""

MOST_TRAINED = 2
"""Runs of a command that are trained; where it asks for more, their records are made up."""

TINY = {
    "model/xception.yaml": {"width": 0.02, "middle_modules": 0},
    "model/xception_small.yaml": {"width": 0.02, "stem_stride": 2},
    "recipe/embedded.yaml": {"epochs": 1, "batch_size": 20},
}
"""What the copy has in place of the values in its files; its images are few."""


class Workspace:
    """The folder that a page is followed in.

    Args:
        folder: Empty; gets the reader's clone, and what the page writes next to it.
        write_run: Makes up a run's record.
        few_images: Settings of the embedded dataset.
    """

    def __init__(self, folder: Path, write_run: Callable[..., Any], few_images: dict[str, Any]) -> None:
        self.folder = folder / "clone"
        self.conf = self.folder / "conf"
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self._write_run = write_run
        copy_few_studies(self.folder)
        few = few_images | {"train_images": 40}
        for file, values in {**TINY, "dataset/fashion_mnist_embedded.yaml": few}.items():
            self.change_file(self.conf / file, yaml.dump(values))
            os.utime(self.conf / file, (0, 0))  # of every workspace, so that tests.composing knows it
        shutil.copy(FRAMEWORK_CONF.parent / "run.py", self.folder)
        shutil.copy(FRAMEWORK_CONF.parent / ".gitignore", self.folder)
        for part in ("records.tar.xz", "tables/figure09_residual.csv", "report/index.html"):
            copy = self.folder / "results" / "reference" / part
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(FRAMEWORK_CONF.parent / "results" / "reference" / part, copy)
        (folder / "shared" / "results").mkdir(parents=True)
        self._git("init", "-q")
        self._git("add", "-A")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "as cloned")

    @contextmanager
    def used(self) -> Iterator[None]:
        """Make it the working directory, its conf/ the configuration, its packages part of ours."""
        before = set(sys.modules)
        with pytest.MonkeyPatch.context() as patch, use(Project(self.folder)):
            patch.chdir(self.folder)
            for package in EXTENSIBLE:
                own = self.folder.joinpath(*package.__name__.split("."))
                patch.setattr(package, "__path__", [*package.__path__, str(own)])
            try:
                yield
            finally:
                for name in set(sys.modules) - before:
                    if name.startswith(("my_", *(f"{package.__name__}." for package in EXTENSIBLE))):
                        del sys.modules[name]

    def git_status(self) -> str:
        """What git names as changed or new, a line each."""
        return self._git("status", "--porcelain")

    def _git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout

    # Files

    def write(self, block: Block) -> None:
        """Write a block to the file that the text names, or change that file, and read it as a run would."""
        assert block.file is not None
        path = self.folder / block.file
        text = block.text.replace("sha256:CHECKSUM", f"sha256:{self._data_checksum()}")
        if path.is_file():
            self.change_file(path, text)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if path.suffix == ".py":
            importlib.invalidate_caches()
            importlib.import_module(".".join(Path(block.file).with_suffix("").parts))
        else:
            self._read(path)

    def change_file(self, path: Path, text: str) -> None:
        """Top-level keys take the place of those in a file; a list joins the file's defaults."""
        old, new = path.read_text(encoding="utf-8"), yaml.safe_load(text)
        if isinstance(new, list):
            assert "\ndefaults:\n  - _self_\n" in f"\n{old}"
            items = "".join(f"  {line}\n" for line in text.splitlines())
            path.write_text(old.replace("  - _self_\n", f"  - _self_\n{items}"), encoding="utf-8")
            return
        lines = old.splitlines(keepends=True)
        node = yaml.compose(old)
        for key, value in reversed(node.value):
            if key.value in new:
                end = value.end_mark.line + (value.end_mark.column > 0)
                del lines[key.start_mark.line : end]
        path.write_text("".join(lines).rstrip("\n") + "\n" + text, encoding="utf-8")

    def _data_checksum(self) -> str:
        files = sorted((self.folder / "data").glob("*"))
        return hashlib.sha256(files[0].read_bytes()).hexdigest() if files else ""

    def _read(self, path: Path) -> None:
        """Compose with an option, plan a study, load claims."""
        group, option = path.parent.relative_to(self.conf).as_posix(), path.stem
        with hydra_configuration():
            if group == "claims":
                assert project_claims()
            elif group == "study":
                assert plan_study(option)[1]
            elif group == "metric":
                (configuration,) = compose_runs([f"metrics={option}"])
                assert option in configuration.metrics
            elif group != ".":
                in_default = (self.conf / "config.yaml").read_text(encoding="utf-8").count(f"- {group}: ")
                (configuration,) = compose_runs([f"{group}={option}" if in_default else f"+{group}={option}"])
                assert configuration.choices[group] == option

    # Commands

    def _here(self, words: Sequence[str]) -> list[str]:
        """The machines' shared folder of a page, `/shared`, is one next to the clone."""
        return [word.replace("/shared/", f"{self.folder.parent}/shared/") for word in words]

    def run_py(self, words: Sequence[str]) -> None:
        """`python run.py`: trained where the runs are few, else their records are made up before."""
        words = self._here(words)
        if not any(word.startswith("logger") for word in words):
            words.append("logger=none")
        if "-m" in words and not any(word.startswith("hydra/launcher") for word in words):
            words.append("hydra/launcher=basic")
        if "-m" in words:
            with hydra_configuration():
                planned = plan_sweep([word for word in words if word != "-m"])
            if len(planned) > MOST_TRAINED:
                self._make_up(planned)
        assert self._call(run.main, ["run.py", *words], str(self.folder / "run.py")) == 0

    def shown(self, words: Sequence[str]) -> None:
        """`python run.py` with a flag that shows something and runs nothing."""
        assert self._call(run.main, ["run.py", *words], str(self.folder / "run.py")) == 0

    def ablations(self, words: Sequence[str]) -> None:
        """`python -m ablations`."""
        words = self._here(words)
        assert self._call(ablations_command.main, ["ablations", *words]) == 0

    def _call(self, function: Callable[..., int], arguments: list[str], *others: Any) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", arguments)
            patch.setenv("HYDRA_FULL_ERROR", "0")  # a command sets it
            try:
                return function(*others)
            except SystemExit as ended:  # after --help and the like
                return int(ended.code or 0)

    def _make_up(self, planned: Sequence[PlannedRun]) -> None:
        @cache
        def size(arm: str) -> dict[str, int]:
            cost = count_network(next(run for run in planned if run.arm == arm).configuration.resolved)
            return {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds, "depth": cost.depth}

        for planned_run in planned:  # also where one was trained before: its steps are others
            self._write_run(planned_run.configuration, **size(planned_run.arm))


def words_of(command: str) -> list[str]:
    """A command's words, without a comment at its end and variables of the environment before it."""
    words = shlex.split(command, comments=True)
    while words and "=" in words[0] and words[0].split("=")[0].isupper():
        words = words[1:]
    return words
