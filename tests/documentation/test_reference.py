"""The reference is complete: every key of every file of conf/, every key of a record."""

import importlib
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import yaml

from ablations.runs import histories, records
from ablations.runs.configuration import CONFIG_DIR
from lightning_modules import diagnostics
from tests.documentation.blocks import REPOSITORY

FILES = sorted(CONFIG_DIR.rglob("*.yaml"))


def module(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(REPOSITORY / "docs"), *sys.path])
        return importlib.import_module(name)


config_reference, record_reference = module("config_reference"), module("record_reference")
docstrings, api_reference = module("docstrings"), module("api_reference")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return config_reference.pages(CONFIG_DIR)


def keys_of(node: object) -> Iterator[str]:
    """Every key at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from keys_of(value)
    elif isinstance(node, list):
        for item in node:
            yield from keys_of(item)


def section(pages: dict[str, str], group: str, option: str) -> str:
    """The part of a group's page that is about an option."""
    page = pages[config_reference.page_name(group)]
    return page if not group else page.split(f"\n## `{option}`\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONFIG_DIR).as_posix())
def test_every_key_of_every_file_appears(file, pages: dict[str, str]) -> None:
    group = file.parent.relative_to(CONFIG_DIR).as_posix() if file.parent != CONFIG_DIR else ""
    text = section(pages, group, file.stem)
    words = set(text.replace("`", " ").replace(".", " ").replace(":", " ").replace("{", " ").split())
    every = keys_of(yaml.safe_load(file.read_text(encoding="utf-8")))
    keys = [part for key in every for part in re.split(r"[. ]", key)]
    assert [key for key in keys if key not in words and key.strip('"') not in words] == []


def test_keys_have_their_values_and_comments(tmp_path) -> None:
    conf = tmp_path / "conf"
    (conf / "group").mkdir(parents=True)
    file = conf / "group" / "option.yaml"
    file.write_text(
        "# @package model\n# What it is.\n_target_: a.b\n\n# Above,\n# in two lines.\nfirst: 1\n"
        'second: "#2" # behind\n# Of a node.\nthird:\n  # Below.\n  inner: [1, 2]\n'
        "# As it stands.\nbase:\n  x: y\n"
    )
    option = config_reference.read_option(file, conf)
    assert option.description == "What it is."
    assert [(key.path, key.value, key.comment, key.verbatim) for key in option.keys] == [
        ("model._target_", "a.b", "", ""),
        ("model.first", "1", "Above,\nin two lines.", ""),
        ("model.second", '"#2"', "behind", ""),
        ("model.third", "", "Of a node.", ""),
        ("model.third.inner", "[1, 2]", "Below.", ""),
        ("model.base", "", "As it stands.", "x: y"),
    ]


def test_every_key_of_a_record_appears(tmp_path) -> None:
    record_reference.write_page(tmp_path)
    schema = (tmp_path / "record_schema.md").read_text()
    assert [key for key in records.SCHEMA if f"| `{key}` |" not in schema] == []
    history = record_reference.comments_of(histories, "HISTORY_COLUMNS")
    assert tuple(history) == histories.HISTORY_COLUMNS
    assert history["seconds"] == "spent in the epoch's training steps"
    assert tuple(record_reference.DIAGNOSTIC_COLUMNS) == diagnostics.COLUMNS


def test_the_modules_of_the_api_exist() -> None:
    for _, _, modules in api_reference.PAGES.values():
        assert all(importlib.import_module(name).__doc__ for name in modules)


def test_docstrings_become_restructured_text() -> None:
    lines = ["Takes `a_` and *b*.", "", "    laid  out `x`", "", "Args:", "    name: A `value`.", ""]
    assert docstrings.restructured(lines) == [
        "Takes ``a_`` and \\*b\\*.", "", "::", "", "    laid  out `x`", "",
        "Args:", "    name: A ``value``.", "",
    ]  # fmt: skip
