"""Checksums of a user's files become part of a run."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ablations.runs.identity import is_outside_identity
from experiments.plan import plan_sweep
from experiments.planning import compose_runs, hydra_configuration
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


def image_folder(root, *names, content=b""):
    for part in ("train", "val"):
        for name in names:
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            (root / part / name).write_bytes(content)
    return root


def sha256sum(root, *names):
    """The SHA-256 of what sha256sum prints."""
    lines = [f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names)]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def test_other_images_are_other_runs_wherever_they_are(tmp_path):
    def imagenet(*overrides):
        return composed("dataset=imagenet", *overrides)

    names = ("n1/a.JPEG", "n1-2/b.png")
    first = imagenet(f"dataset.root={image_folder(tmp_path / '1', *names)}")
    images = first.resolved["dataset"]["checksums"]["images"]
    listed = [f"{part}/{name}" for part in ("train", "val") for name in names]
    assert images == sha256sum(tmp_path / "1", *listed)
    moved = image_folder(tmp_path / "2", *names, "n1/notes.txt", ".hidden/c.png")
    assert imagenet(f"dataset.root={moved}").run_id == first.run_id
    other = imagenet(f"dataset.root={image_folder(tmp_path / '3', 'n1/a.JPEG', 'n1-2/c.png')}")
    none = imagenet(f"dataset.root={tmp_path}/none")
    assert none.resolved["dataset"]["checksums"]["images"] == checksums.MISSING
    (moved / "val/n1/a.JPEG").write_bytes(b"1")
    pixels = imagenet(f"dataset.root={moved}")
    assert len({run.run_id for run in (first, other, none, pixels)}) == 4
    written = f"dataset.checksums.images={images}"
    assert imagenet(f"dataset.root={tmp_path}/none", written).run_id == first.run_id


def test_a_sweep_over_folders_is_a_run_per_content(tmp_path):
    roots = [image_folder(tmp_path / name, "n1/a.png", content=name.encode()) for name in ("v1", "v2")]
    with hydra_configuration():
        runs = plan_sweep(["dataset=imagenet", f"dataset.root={roots[0]},{roots[1]}"])
    assert len({run.run_id for run in runs}) == 2
    assert [run.arm for run in runs] == [f"dataset.root={root}" for root in roots]


def test_images_that_tables_list_are_part_of_a_run(tmp_path):
    def multilabel():
        return composed("dataset=multilabel", f"dataset.root={tmp_path}")

    for part in ("train", "test"):
        table = {"path": [f"{part}.png", "absent.png"], "labels": ["a", ""]}
        pd.DataFrame(table).to_csv(tmp_path / f"{part}.csv", index=False)
        (tmp_path / f"{part}.png").write_bytes(b"1")
    first = multilabel()
    images = first.resolved["dataset"]["checksums"]["images"]
    assert images == sha256sum(tmp_path, "test.png", "train.png")
    (tmp_path / "unlisted.png").touch()
    assert multilabel().run_id == first.run_id
    (tmp_path / "test.png").write_bytes(b"2")
    assert multilabel().run_id != first.run_id


def test_other_shards_are_other_runs_though_they_have_the_same_size(tmp_path):
    patterns = {"train": "train-{0..1}.tar", "validation": "validation-0.tar", "test": "test-0.tar"}
    names = ("test-0.tar", "train-0.tar", "train-1.tar", "validation-0.tar")

    def shards(root=tmp_path):
        patterned = [f"dataset.shards.{part}='{pattern}'" for part, pattern in patterns.items()]
        return composed("dataset=imagenet_shards", f"dataset.root='{root}'", *patterned)

    missing = shards()
    assert missing.resolved["dataset"]["checksums"] == {"shards": checksums.MISSING}
    runs = [missing, shards("https://example.org/v1"), shards("https://example.org/v2")]
    for changed in (None, "train-1.tar", "test-0.tar"):
        for name in names:
            (tmp_path / name).write_bytes(b"2" if name == changed else b"1")
        runs.append(shards())
    assert len({run.run_id for run in runs}) == len(runs)


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
    for key in ("files", "num_workers", "max_undecodable_share"):
        assert is_outside_identity(f"dataset.{key}")
    reference = composed("dataset=imagenet").run_id
    assert composed("dataset=imagenet", "dataset.num_workers=2").run_id == reference
    assert composed("dataset=imagenet", "dataset.split_seed=1").run_id != reference
    shards = composed("dataset=imagenet_shards").run_id
    assert composed("dataset=imagenet_shards", "dataset.streams=2").run_id != shards


@pytest.fixture
def read(monkeypatch, tmp_path_factory):
    """The files that are read, with an empty cache; a file counts as old at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(checksums, "UNSETTLED_NS", -(10**9))
    names = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: names.append(file.name) or digest(file, kind)
    )
    return names


def test_a_file_is_read_once_until_it_changes(tmp_path, read):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"1")
    first = checksums.contents_checksum(tmp_path, ["a", "b"])
    assert checksums.contents_checksum(tmp_path, ["b", "a"]) == first
    assert len(read) == 2
    times = (tmp_path / "a").stat()
    (tmp_path / "a").write_bytes(b"2")
    os.utime(tmp_path / "a", ns=(times.st_atime_ns, times.st_mtime_ns))  # as rsync and cp -p leave it
    second = checksums.contents_checksum(tmp_path, ["a", "b"])
    os.replace(tmp_path / "b", tmp_path / "c")
    (tmp_path / "b").write_bytes(b"1")
    assert checksums.contents_checksum(tmp_path, ["a", "b"]) == second != first


def test_another_process_reads_nothing_anew(tmp_path, read):
    (tmp_path / "a").write_bytes(b"1")
    first = checksums.file_checksum(tmp_path / "a")
    command = f"""
import hashlib, pathlib
from lightning_modules.data import checksums
hashlib.file_digest = None
print(checksums.file_checksum(pathlib.Path({str(tmp_path / "a")!r})))
"""
    again = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == first


def test_what_may_still_change_is_not_kept(tmp_path, read, monkeypatch):
    monkeypatch.setattr(checksums, "UNSETTLED_NS", 10**15)
    (tmp_path / "a").write_bytes(b"1")
    for _ in range(2):
        checksums.file_checksum(tmp_path / "a")
    assert len(read) == 2


@pytest.mark.parametrize("damage", ["no folder", "cut off"])
def test_without_a_cache_a_process_reads_once(tmp_path, read, monkeypatch, damage):
    (tmp_path / "a").write_bytes(b"1")
    if damage == "no folder":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))  # as one that cannot be written
    else:
        checksums.file_checksum(tmp_path / "a")
        (file,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("contents/*")
        file.write_bytes(file.read_bytes()[:20])
    read.clear()
    found = {checksums.file_checksum(tmp_path / "a") for _ in range(3)}
    assert found == {"sha256:" + hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()}
    assert len(read) == 1


def test_any_number_of_files_in_any_order(tmp_path, read):
    names = [f"{number % 7}/{number:04}" for number in range(700)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    first = checksums.contents_checksum(tmp_path, names)
    assert first == checksums.contents_checksum(tmp_path, reversed(names)) == sha256sum(tmp_path, *names)
    assert len(read) == len(names)
    (tmp_path / "3/0003").write_bytes(b"changed")
    assert checksums.contents_checksum(tmp_path, names) == sha256sum(tmp_path, *names)


def test_a_missing_file_or_a_folder_has_no_checksum(tmp_path):
    for name in ("none", "."):
        with pytest.raises(FileNotFoundError, match=r"none|not a file"):
            checksums.file_checksum(tmp_path / name)
