"""The committed records: the configuration of today finds every one of them."""

import json
import tarfile
from typing import Any

import pytest

from ablations.runs.identity import run_id_of
from experiments.planning import hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF
from tests import ours

ARCHIVE = FRAMEWORK_CONF.parent / "results" / "reference" / "records.tar.xz"
LONG = ("spectrum", "spectrum_width")
"""Studies that take long to plan. test_planning.py finds the records of these and of those only by name."""
STUDIES = [name for name in ours.STUDIES if not ours.file_of(name).get("only_by_name") and name not in LONG]


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
