"""Checksums of a user's files become part of a run."""

import hashlib

import pytest

from ablations.configuration import NOT_IDENTITY
from ablations.studies import compose_runs, hydra_configuration
from lightning_modules.data import checksums


def composed(*overrides):
    with hydra_configuration():
        (run,) = compose_runs(overrides)
    return run


@pytest.fixture
def blacklist(tmp_path):
    file = tmp_path / "blacklist.txt"
    file.write_text("1\n")
    return file


def test_a_changed_file_is_another_run_and_its_place_is_not(tmp_path, blacklist):
    def imagenet(*overrides):
        return composed("dataset=imagenet", f"dataset.root={tmp_path}", *overrides)

    without = imagenet()
    first = imagenet("dataset.files.blacklist=blacklist.txt")
    content = blacklist.read_bytes()
    assert first.resolved["dataset"]["checksums"] == {
        "blacklist": "sha256:" + hashlib.sha256(content).hexdigest()
    }
    assert without.resolved["dataset"]["checksums"] == {"blacklist": None}
    elsewhere = tmp_path / "other.txt"
    elsewhere.write_bytes(content)
    assert imagenet(f"dataset.files.blacklist={elsewhere}").run_id == first.run_id
    blacklist.write_text("1\n2\n")
    changed = imagenet("dataset.files.blacklist=blacklist.txt")
    lost = imagenet("dataset.files.blacklist=lost.txt")
    runs = (without, first, changed, lost)
    assert len({run.run_id for run in runs}) == len({run.data_fingerprint for run in runs}) == 4
    assert lost.resolved["dataset"]["checksums"] == {"blacklist": checksums.MISSING}


def test_a_checksum_that_is_set_stays(tmp_path, blacklist):
    expected = "sha256:" + "0" * 64
    overrides = (f"dataset.files.blacklist={blacklist}", f"dataset.checksums.blacklist={expected}")
    run = composed("dataset=imagenet", *overrides)
    assert run.resolved["dataset"]["checksums"] == {"blacklist": expected}


def test_workers_and_places_are_no_part_of_a_run():
    assert {"dataset.files", "dataset.num_workers", "dataset.max_undecodable_share"} <= set(NOT_IDENTITY)
    reference = composed("dataset=imagenet").run_id
    assert composed("dataset=imagenet", "dataset.num_workers=2").run_id == reference
    assert composed("dataset=imagenet", "dataset.split_seed=1").run_id != reference
    shards = composed("dataset=imagenet_shards").run_id
    assert composed("dataset=imagenet_shards", "dataset.streams=2").run_id != shards


def test_a_file_is_read_once_until_it_changes(blacklist, monkeypatch):
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(1) or digest(file, name))
    first = checksums.file_checksum(blacklist)
    assert checksums.file_checksum(blacklist) == first
    assert len(read) == 1
    blacklist.write_text("another size\n")
    assert checksums.file_checksum(blacklist) != first
    assert len(read) == 2
