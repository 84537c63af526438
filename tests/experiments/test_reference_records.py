"""The committed records: the configuration of today finds every one of them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ablations.runs.identity import run_id_of
from experiments.planning import hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF, load_yaml

REFERENCE = FRAMEWORK_CONF.parent / "results" / "reference"
ARCHIVE = REFERENCE / "records.tar.xz"
SOLVED = ("spectrum", "spectrum_width")
"""Studies whose widths are solved, which takes a while: test_planning.py plans them once."""
STUDIES = sorted(
    file.stem
    for file in Path(FRAMEWORK_CONF / "study").glob("*.yaml")
    if not load_yaml(file).get("only_by_name")
    and file.stem not in SOLVED
    and (REFERENCE / "tables" / f"{load_yaml(file)['output']}.csv").exists()
)
"""Those of the reproduction; not one that a user has added."""


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    with tarfile.open(ARCHIVE) as archive:
        contents = (archive.extractfile(file) for file in archive if file.name.endswith("/record.json"))
        found = [json.load(content) for content in contents if content is not None]
    return {record["run_id"]: record for record in found}


def test_a_record_is_named_by_its_configuration(records) -> None:
    assert records
    assert [name for name, record in records.items() if run_id_of(record["config"]) != name] == []


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_finds_its_records(records, name: str) -> None:
    with hydra_configuration():
        _, runs = plan_study(name)
    assert [run.run_id for run in runs if run.run_id not in records] == []
