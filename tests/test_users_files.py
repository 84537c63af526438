"""A file that somebody adds to conf/ is theirs: it changes nothing about what is tested."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

from experiments import project
from tests.documentation.blocks import PAGES, REPOSITORY, blocks_of

KNOW_CONF = re.compile(r"FRAMEWORK_CONF|tests\.ours|import ours")
TESTS = [
    file
    for file in sorted((REPOSITORY / "tests").rglob("test_*.py"))
    if KNOW_CONF.search(file.read_text(encoding="utf-8"))
]
"""Those that know the files of conf/."""


def documented() -> dict[str, str]:
    """The files that the documentation adds to conf/."""
    blocks = [block for page in PAGES for block in blocks_of(page)]
    files = {block.file: block.text for block in blocks if block.file and block.file.startswith("conf/")}
    return {file: text for file, text in files.items() if not (REPOSITORY / file).exists()}


def checkout(folder: Path, added: dict[str, str]) -> Path:
    """A checkout with these files, and its conf/."""
    for entry in REPOSITORY.iterdir():
        if entry.name != "conf":
            (folder / entry.name).symlink_to(entry)
    shutil.copytree(REPOSITORY / "conf", folder / "conf")
    for file, text in added.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    return folder / "conf"


def cases(file: Path) -> dict[str, list[int]]:
    """How many cases each test of a file has, if it is imported now."""
    spec = importlib.util.spec_from_file_location("imported_again", file)
    assert spec
    assert spec.loader
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    marks = {name: getattr(test, "pytestmark", ()) for name, test in vars(module).items()}
    return {
        name: [len(list(mark.args[1])) for mark in of_test if mark.name == "parametrize"]
        for name, of_test in marks.items()
        if name.startswith("test_")
    }


def test_what_is_tested_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: cases(file) for file in TESTS}
    added = documented()
    assert {"conf/intermediate_activation/silu.yaml", "conf/model/plain.yaml"} <= added.keys()
    monkeypatch.setattr(project, "FRAMEWORK_CONF", checkout(tmp_path, added))
    monkeypatch.delitem(sys.modules, "tests.ours")
    monkeypatch.delattr("tests.ours")  # else `from tests import ours` is what was imported before
    assert {file: cases(file) for file in TESTS} == before
