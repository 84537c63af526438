"""Checksums of a user's files become part of a run."""

import hashlib

import pytest

from ablations.runs.configuration import NOT_IDENTITY
from ablations.studies.planning import compose_runs, hydra_configuration
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
        "blacklist": "sha256:" + hashlib.sha256(content).hexdigest(),
        "images": checksums.MISSING,
    }
    assert without.resolved["dataset"]["checksums"]["blacklist"] is None
    elsewhere = tmp_path / "other.txt"
    elsewhere.write_bytes(content)
    assert imagenet(f"dataset.files.blacklist={elsewhere}").run_id == first.run_id
    blacklist.write_text("1\n2\n")
    changed = imagenet("dataset.files.blacklist=blacklist.txt")
    lost = imagenet("dataset.files.blacklist=lost.txt")
    runs = (without, first, changed, lost)
    assert len({run.run_id for run in runs}) == len({run.data_fingerprint for run in runs}) == 4
    assert lost.resolved["dataset"]["checksums"]["blacklist"] == checksums.MISSING


def image_folder(root, *names):
    for part in ("train", "val"):
        for name in names:
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            (root / part / name).touch()
    return root


def test_other_image_folders_are_other_runs_wherever_they_are(tmp_path):
    def imagenet(*overrides):
        return composed("dataset=imagenet", *overrides)

    names = ("n1/a.JPEG", "n2/b.png")
    first = imagenet(f"dataset.root={image_folder(tmp_path / '1', *names)}")
    images = first.resolved["dataset"]["checksums"]["images"]
    listed = [f"{part}/{name}" for part in ("train", "val") for name in names]
    assert images == "sha256:" + hashlib.sha256("".join(f"{n}\n" for n in listed).encode()).hexdigest()
    moved = image_folder(tmp_path / "2", *names, "n1/notes.txt", ".hidden/c.png")
    assert imagenet(f"dataset.root={moved}").run_id == first.run_id
    other = imagenet(f"dataset.root={image_folder(tmp_path / '3', 'n1/a.JPEG', 'n2/c.png')}")
    none = imagenet(f"dataset.root={tmp_path}/none")
    assert none.resolved["dataset"]["checksums"]["images"] == checksums.MISSING
    assert len({run.run_id for run in (first, other, none)}) == 3
    written = f"dataset.checksums.images={images}"
    assert imagenet(f"dataset.root={tmp_path}/none", written).run_id == first.run_id


def test_other_shards_are_other_runs_but_a_test_shard_may_be_mended(tmp_path):
    names = ("train-0", "train-1", "validation-0", "test-0")
    patterns = {"train": "train-{0..1}.tar", "validation": "validation-0.tar", "test": "test-0.tar"}

    def shards(*overrides):
        patterned = [f"dataset.shards.{part}='{pattern}'" for part, pattern in patterns.items()]
        return composed("dataset=imagenet_shards", f"dataset.root={tmp_path}", *patterned, *overrides)

    missing = shards()
    assert missing.resolved["dataset"]["checksums"] == {"shards": checksums.MISSING}
    for name in names:
        (tmp_path / f"{name}.tar").write_bytes(b"1")
    first = shards()
    (tmp_path / "test-0.tar").write_bytes(b"mended")
    assert shards().run_id == first.run_id
    (tmp_path / "train-1.tar").write_bytes(b"other")
    afar = shards("dataset.root='https://example.org'")
    assert afar.resolved["dataset"]["checksums"]["shards"].startswith("sha256:")
    assert len({run.run_id for run in (missing, first, shards(), afar)}) == 4


def test_the_number_of_processes_is_part_of_a_run_whose_images_they_reorder():
    ddp = ("trainer=ddp", "trainer.sync_batchnorm=true", "recipe.dropout=0", "recipe.batch_size=12")
    for dataset, others in (("imagenet_shards", True), ("imagenet", False)):
        runs = [composed(f"dataset={dataset}", *ddp, f"trainer.devices={n}").run_id for n in (2, 3)]
        assert (runs[0] != runs[1]) is others


def test_a_checksum_that_is_set_stays(tmp_path, blacklist):
    expected = "sha256:" + "0" * 64
    overrides = (f"dataset.files.blacklist={blacklist}", f"dataset.checksums.blacklist={expected}")
    run = composed("dataset=imagenet", *overrides)
    assert run.resolved["dataset"]["checksums"]["blacklist"] == expected


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
