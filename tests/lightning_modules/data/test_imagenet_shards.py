"""Shards: every sample once per epoch, whatever reads them; what is drawn; bad input."""

import io
import logging
import re
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.data.imagenet_shards import ImageNetShards
from tests.lightning_modules.data.epochs import (
    as_process,
    assert_epochs_are_the_same_resumed_or_not,
    batches_of,
    equal,
    labels_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core

SETTINGS = {
    "shards": {"train": "train-{0..3}.tar", "validation": "validation-{0..1}.tar", "test": "test-0.tar"},
    "checksums": {"shards": None},
    "processes_change_order": True,
    "num_classes": 40,
    "channels": 3,
    "image_size": 4,
    "train_images": 22,
    "batch_size": 4,
    "eval_batch_size": 4,
    "seed": 0,
    "shuffle_buffer": 3,
    "streams": 0,
    "horizontal_flip": True,
    "min_crop_area": 0.2,
    "max_aspect_ratio": 4 / 3,
    "eval_crop_share": 0.875,
    "max_undecodable_share": 0.1,
}

TWO_TESTS = {"shards": SETTINGS["shards"] | {"test": "test-{0..1}.tar"}}


def write_shard(path, labels, damaged=()):
    with tarfile.open(path, "w") as tar:
        for label in labels:
            pixels = np.random.default_rng(label).integers(256, size=(8, 8, 3), dtype=np.uint8)
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "JPEG")
            content = image.getvalue()[:50] if label in damaged else image.getvalue()
            for suffix, member in (("jpg", content), ("cls", str(label).encode())):
                info = tarfile.TarInfo(f"{label:04d}.{suffix}")
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))


@pytest.fixture
def folder(tmp_path):
    """22 training images in shards of 6, 6, 6 and 4; every image has a label of its own."""
    for number, start in enumerate((0, 6, 12, 18)):
        write_shard(tmp_path / f"train-{number}.tar", range(start, min(start + 6, 22)))
    write_shard(tmp_path / "validation-0.tar", range(22, 27))
    write_shard(tmp_path / "validation-1.tar", range(27, 28))
    write_shard(tmp_path / "test-0.tar", range(28, 34))
    write_shard(tmp_path / "test-1.tar", [34])
    return tmp_path


@pytest.fixture
def make(folder):
    """Makes a set-up data module on the folder, with some settings changed."""

    def make(**changes):
        data = ImageNetShards(**(SETTINGS | {"root": folder} | changes))
        data.prepare_data()
        return data

    return make


@pytest.mark.parametrize("streams", [0, 2])
def test_an_epoch_shows_every_image_once_but_the_rest(make, streams):
    batches = batches_of(make(streams=streams), 0)
    assert [len(labels) for _, labels in batches] == [4] * 5
    assert len(set(labels_of(batches))) == 20
    exactly = batches_of(make(streams=streams, batch_size=2), 0)
    assert sorted(labels_of(exactly)) == list(range(22))
    images, labels = exactly[0]
    assert images.shape == (2, 3, 4, 4)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("streams", [0, 2])
def test_evaluation_shows_every_image_once(make, streams):
    data = make(streams=streams)
    for loader, expected in (
        (data.val_dataloader(), range(22, 28)),
        (data.test_dataloader(), range(28, 34)),
    ):
        assert sorted(labels_of(loader)) == list(expected)
        assert equal(list(loader), list(loader))


@pytest.mark.parametrize("streams", [0, 2])
def test_batches_depend_on_seed_and_epoch_alone(make, streams):
    reference = batches_of(make(streams=streams), 2)
    data = make(streams=streams)
    batches_of(data, 0)
    torch.manual_seed(1)
    assert equal(batches_of(data, 2), reference)
    assert not equal(batches_of(data, 1), reference)
    assert not equal(batches_of(make(streams=streams, seed=1), 2), reference)


def test_an_images_augmentation_does_not_depend_on_the_streams(make):
    def by_label(streams, epoch):
        batches = batches_of(make(streams=streams, batch_size=2), epoch)
        return {
            label: image
            for images, labels in batches
            for image, label in zip(images, labels.tolist(), strict=True)
        }

    alone, several = by_label(0, 0), by_label(2, 0)
    assert all(torch.equal(alone[label], several[label]) for label in range(22))
    assert not all(torch.equal(image, alone[label]) for label, image in by_label(0, 1).items())


def test_the_order_mixes_shards_and_images(make):
    first, second = (labels_of(batches_of(make(batch_size=2), epoch)) for epoch in (0, 1))
    assert first != second
    assert first != sorted(first)
    assert [label // 6 for label in first] != sorted(label // 6 for label in first)


@pytest.mark.parametrize("streams", [0, 2])
def test_processes_take_equally_many_steps_of_shards_of_their_own(make, streams):
    seen, data = [], make(**TWO_TESTS, streams=streams)
    for rank in range(2):
        batches = batches_of(as_process(data, rank, 2), 0)
        assert [len(labels) for _, labels in batches] == [2] * 5
        seen.append(set(labels_of(batches)))
    assert not seen[0] & seen[1]
    evaluated = []
    for rank in range(2):
        evaluated += labels_of(as_process(data, rank, 2).val_dataloader())
    assert sorted(evaluated) == list(range(22, 28))


def test_a_process_that_is_short_begins_again(make, folder):
    for number in range(4):
        write_shard(folder / f"train-{number}.tar", range(10 * number, 10 * number + (1 if number else 9)))
    counts = Counter()
    for rank in range(2):
        data = as_process(make(**TWO_TESTS, train_images=12, batch_size=4), rank, 2)
        batches = batches_of(data, 0)
        assert [len(labels) for _, labels in batches] == [2] * 3
        counts.update(labels_of(batches))
    assert max(counts.values()) > 1


def test_a_shard_of_each_part_for_each_process_is_needed_before_training(make):
    data = make(**TWO_TESTS)
    as_process(data, 0, 2)
    with pytest.raises(ValueError, match=r"^trainer.devices: 3 processes .* only 2 validation shards$"):
        as_process(data, 0, 3)
    with pytest.raises(ValueError, match=r"^trainer.devices: 5 processes .* only 4 train shards$"):
        as_process(data, 0, 5)
    with pytest.raises(ValueError, match=r"^trainer.devices: 2 processes .* only 1 test shards$"):
        as_process(make(), 0, 2)


@pytest.mark.parametrize(("bad", "streams"), [(3, 0), (21, 2)])
def test_an_undecodable_training_image_gives_its_place_away(make, folder, bad, streams, caplog):
    logging.getLogger("lightning_modules").setLevel(logging.WARNING)
    for number, start in enumerate((0, 6, 12, 18)):
        write_shard(folder / f"train-{number}.tar", range(start, min(start + 6, 22)), damaged=[bad])
    data = make(batch_size=2, streams=streams)
    assert data.count_undecodable() == 0
    for epoch in (0, 1):  # counted in each epoch anew
        labels = labels_of(batches_of(data, epoch))
        assert set(labels) == set(range(22)) - {bad}
        assert len(labels) == 22
        assert data.count_undecodable() == 1
    if not streams:
        assert re.search(rf"train-{bad // 6}.tar: {bad:04d} cannot be decoded", caplog.text)


def test_too_many_undecodable_training_images_stop_a_run(make, folder):
    write_shard(folder / "train-1.tar", range(6, 12), damaged=[6, 8, 11])
    with pytest.raises(ValueError, match=r"^dataset.max_undecodable_share=0.1: 3 of 22 ") as error:
        batches_of(make(), 0)
    assert "\n" not in str(error.value)


def test_an_undecodable_evaluated_image_stops_a_run(make, folder):
    write_shard(folder / "test-0.tar", range(28, 34), damaged=[30])
    with pytest.raises(ValueError, match=r"^dataset.shards: .*test-0.tar: 0030 cannot be decoded"):
        list(make().test_dataloader())


@pytest.mark.slow
def test_lightning_sees_the_same_epochs_resumed_or_not(make, tmp_path):
    assert_epochs_are_the_same_resumed_or_not(make, tmp_path)


def test_shards_at_an_address_are_not_looked_for(make):
    data = make(root="https://example.org/shards")
    assert data.shards["test"] == ["https://example.org/shards/test-0.tar"]
    assert len(data.shards["train"]) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, "dataset.root=None: must be a folder"),
        (
            {"shards": SETTINGS["shards"] | {"test": "no-{0..1}.tar"}},
            "dataset.shards.test=no-{0..1}.tar: no such file",
        ),
        (
            {"shards": SETTINGS["shards"] | {"test": "train-3.tar"}},
            "dataset.shards.test=train-3.tar: duplicate train-3.tar",
        ),
        ({"checksums": {"shards": "sha256:0"}}, "dataset.checksums.shards=sha256:0: the shards"),
        ({"processes_change_order": False}, "dataset.processes_change_order=False: must be one of True"),
        ({"train_images": 24}, "dataset.train_images=24: the training shards hold fewer images"),
        ({"batch_size": 23}, "recipe.batch_size=23: must be from 1 to 22"),
        ({"num_classes": 10}, "dataset.num_classes=10: "),
    ],
)
def test_bad_input_is_one_clear_line(make, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        batches_of(make(**changes), 0)
    assert "\n" not in str(error.value)


def test_hidden_files_are_not_there(make, folder):
    before = labels_of(make().test_dataloader())
    with tarfile.open(folder / "test-0.tar", "a") as tar:
        for name in ("._0001.jpg", "folder/._0001.jpg", ".DS_Store"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    assert labels_of(make().test_dataloader()) == before


def test_a_sample_without_label_is_refused(make, folder):
    with tarfile.open(folder / "test-0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("0001.jpg"), io.BytesIO(b""))
    with pytest.raises(ValueError, match=r"test-0.tar: 0001: must have an image .* and .cls"):
        list(make().test_dataloader())
