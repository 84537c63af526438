"""ImageNet's folders, tiny: split, draws, workers, blacklist, what is damaged, bad input."""

import logging
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import distributed, multiprocessing
from torchvision.transforms import v2

from lightning_modules.checks import DATA_CHECKS, DataToCheck
from lightning_modules.data.checksums import images_checksum
from lightning_modules.data.imagenet import ImageNet
from lightning_modules.data.images import scaled
from tests.lightning_modules.data.epochs import (
    as_process,
    assert_epochs_are_the_same_resumed_or_not,
    batches_of,
    equal,
    labels_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core

CLASSES = ("n01440764", "n01443537", "n01484850")
SETTINGS = {
    "files": {"blacklist": None},
    "checksums": {"blacklist": None, "images": None},
    "num_classes": 3,
    "channels": 3,
    "image_size": 8,
    "validation_images": 6,
    "split_seed": 0,
    "batch_size": 4,
    "eval_batch_size": 4,
    "seed": 0,
    "horizontal_flip": True,
    "min_crop_area": 0.2,
    "max_aspect_ratio": 4 / 3,
    "eval_crop_share": 0.875,
    "max_undecodable_share": 0.2,
    "num_workers": 0,
}


@pytest.fixture
def folder(tmp_path):
    """7 training and 2 val images of each of 3 classes; a class is told by its red."""
    noise = np.random.default_rng(0)
    for part, per_class in (("train", 7), ("val", 2)):
        for label, wnid in enumerate(CLASSES):
            (tmp_path / part / wnid).mkdir(parents=True)
            for number in range(per_class):
                pixels = noise.integers(256, size=(12, 16, 3), dtype=np.uint8)
                pixels[..., 0] = 100 * label
                stem = (
                    f"{wnid}_{number}" if part == "train" else f"ILSVRC2012_val_{number * 3 + label + 1:08d}"
                )
                Image.fromarray(pixels).save(tmp_path / part / wnid / f"{stem}.JPEG", quality=95)
    return tmp_path


@pytest.fixture
def make(folder):
    """Makes a loaded data module on the folder, with some settings changed."""

    def make(**changes):
        data = ImageNet(**(SETTINGS | {"root": folder} | changes))
        data.prepare_data()
        return data

    return make


def test_parts_are_stratified_disjoint_and_complete(make):
    data = make()
    names = {part: set(files.names.tolist()) for part, files in data.parts.items()}
    assert {part: len(of_part) for part, of_part in names.items()} == {
        "train": 15,
        "validation": 6,
        "test": 6,
    }
    assert len(set.union(*names.values())) == 27
    assert all(name.startswith(b"val/") for name in names["test"])
    for files in data.parts.values():
        for position, name in enumerate(files.names.tolist()):
            assert CLASSES[files.labels[torch.tensor(position)]] == name.decode().split("/")[1]
    assert data.parts["validation"].labels[:].bincount().tolist() == [2, 2, 2]
    assert make(seed=1).parts["validation"].names.tolist() == data.parts["validation"].names.tolist()
    assert make(split_seed=1).parts["validation"].names.tolist() != data.parts["validation"].names.tolist()


def test_batches_are_images_with_their_labels(make):
    data = make()
    images, labels = batches_of(data, 0)[0]
    assert images.shape == (4, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    red = (images[:, 0].float().mean(dim=(1, 2)) / 100).round().long()
    assert torch.equal(red, labels)
    assert [len(labels) for _, labels in data.val_dataloader()] == [4, 2]
    assert equal(list(data.test_dataloader()), list(data.test_dataloader()))


@pytest.mark.parametrize(
    "check", [check for check in DATA_CHECKS if check.__name__.startswith(("check_batches", "check_proc"))]
)
def test_the_engine_can_rely_on_what_the_recipe_does_to_an_image(make, check):
    """Drawn by image and epoch: the same for any number of workers and processes, interrupted or not."""

    def augmented(**changes):
        data = make(**changes)
        data.augmentation = v2.RandAugment()
        return data

    check(DataToCheck(augmented, num_classes=3, channels=3, image_size=8))
    if "workers" in check.__name__:
        assert not equal(batches_of(augmented(), 0), batches_of(make(), 0))


@pytest.mark.parametrize("check", DATA_CHECKS)
def test_the_engine_can_rely_on_it(make, check):
    check(DataToCheck(make, num_classes=3, channels=3, image_size=8))


def test_more_processes_than_evaluated_images_are_refused_before_training(make, folder):
    (folder / "list.txt").write_text("1\n2\n3\n")  # leaves 3 test images
    data = make(files={"blacklist": "list.txt"})
    evaluated = [labels_of(as_process(data, rank, 3).test_dataloader()) for rank in range(3)]
    assert [len(labels) for labels in evaluated] == [1] * 3
    with pytest.raises(ValueError, match=r"^trainer.devices: 4 processes .* only 3 test images$"):
        as_process(data, 0, 4)


def damage(folder, part, wnid, number):
    path = sorted((folder / part / wnid).iterdir())[number]
    path.write_bytes(path.read_bytes()[:100])
    return path


@pytest.mark.filterwarnings("ignore:This DataLoader will create 12 worker processes")
def test_as_many_workers_as_cores_decode_for_all_processes_of_a_machine(make, monkeypatch):
    monkeypatch.setattr("lightning_modules.data.images.usable_cores", lambda: 12)
    data = make(num_workers=None)
    assert data.val_dataloader().num_workers == 12
    data.trainer = SimpleNamespace(global_rank=0, world_size=8, num_devices=4)
    assert data.val_dataloader().num_workers == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_undecodable_training_image_is_replaced_named_once_and_counted(make, num_workers, caplog):
    whole = make(batch_size=15)
    images, _ = batches_of(whole, 0)[0]
    bad = 4
    path = whole.parts["train"].path(bad)
    path.write_bytes(path.read_bytes()[:100])
    data = make(batch_size=15, num_workers=num_workers)
    logging.getLogger("lightning_modules").setLevel(logging.WARNING)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(0)
    ((shown, classes),) = list(loader)
    order = next(iter(loader.sampler)).indices
    row = (order == bad).nonzero().item()
    others = order != bad
    assert torch.equal(shown[others], images[others])
    assert classes[row] == whole.parts["train"].labels[torch.tensor(bad + 1)]
    assert not torch.equal(shown[row], images[row])
    list(loader)
    assert data.parts["train"].undecodable.nonzero().flatten().tolist() == [bad]
    assert data.count_undecodable() == 1
    if num_workers == 0:
        assert caplog.text.count(f"{path} cannot be decoded") == 1
    state = data.state_dict()
    assert state["undecodable"] == [bad]
    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.parts["train"].undecodable.sum() == 1


@pytest.mark.slow
def test_an_undecodable_image_that_two_processes_meet_counts_once(make, tmp_path):
    def count(process, port):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        distributed.init_process_group("gloo", rank=process, world_size=2)
        data = make()
        data.load_state_dict({"undecodable": [1]})  # both go on from a checkpoint
        data.parts["train"].undecodable[[2, 3 + process]] = True
        torch.save([data.count_undecodable(), data.state_dict()], tmp_path / f"{process}.pt")
        distributed.destroy_process_group()

    port = 20_000 + os.getpid() % 20_000
    multiprocessing.start_processes(count, (port,), nprocs=2, start_method="fork")
    for process in range(2):
        assert torch.load(tmp_path / f"{process}.pt") == [4, {"undecodable": [1, 2, 3, 4]}]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_undecodable_training_images_stop_a_run(make, num_workers):
    data = make(max_undecodable_share=0.1, num_workers=num_workers, batch_size=15)
    for position in (0, 5):
        data.parts["train"].path(position).write_bytes(b"")
    with pytest.raises(ValueError, match=r"^dataset.max_undecodable_share=0.1: 2 of 15 training") as error:
        batches_of(data, 0)
    assert "\n" not in str(error.value)


def test_an_undecodable_evaluated_image_stops_a_run(make, folder):
    path = damage(folder, "val", CLASSES[1], 0)
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be decoded (")) as error:
        list(make().test_dataloader())
    assert str(error.value).startswith("dataset.root=")
    assert "\n" not in str(error.value)


def test_the_blacklist_is_left_out_of_the_test_alone(make, folder):
    (folder / "list.txt").write_text("1\n\n ILSVRC2012_val_00000005.JPEG \n")
    data = make(files={"blacklist": "list.txt"})
    left = [name.decode()[-7:-5] for name in data.parts["test"].names.tolist()]
    assert sorted(left) == ["02", "03", "04", "06"]
    assert len(data.parts["train"]) == 15


@pytest.mark.parametrize("part", ["train", "val"])
def test_other_images_than_those_that_name_the_run_are_refused(make, folder, part):
    images = {"blacklist": None, "images": images_checksum(folder, {})}
    make(checksums=images)
    Image.new("RGB", (20, 20)).save(next((folder / part / CLASSES[0]).iterdir()))
    with pytest.raises(ValueError, match=r"^dataset.checksums.images="):
        make(checksums=images)


def test_what_is_no_image_in_its_class_folder_is_named_and_hidden_files_are_not_there(make, folder):
    before = images_checksum(folder, {})
    train, val = folder / "train" / CLASSES[0], folder / "val" / CLASSES[1]
    for path in (train / "._x.JPEG", val / ".DS_Store", folder / "train" / "._.JPEG"):
        path.write_bytes(b"Mac OS X")
    (train / ".hidden").mkdir()
    data = make()
    assert data.unread == []
    assert images_checksum(folder, {}) == before
    (train / "more").mkdir()
    (train / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    (train / "notes.txt").touch()
    (val / "x.heic").touch()
    (folder / "train" / "x.jpg").touch()
    data = make()
    of_class = [f"train/{CLASSES[0]}/{name}" for name in ("lost.jpg", "more", "notes.txt")]
    assert data.unread == ["train/x.jpg", *of_class, f"val/{CLASSES[1]}/x.heic"]
    assert images_checksum(folder, {}) == before


@pytest.mark.parametrize("suffix", ["jpg", "PNG", "webp", "bmp", "tif", "TIFF", "ppm"])
def test_images_of_every_usual_format_are_read(make, folder, suffix):
    size = len(make().parts["test"])
    Image.new("RGB", (10, 10), "red").save(folder / "val" / CLASSES[0] / f"zz.{suffix}")
    images, labels = zip(*make().test_dataloader(), strict=True)
    assert len(torch.cat(labels)) == size + 1
    assert torch.cat(labels)[2] == 0
    assert scaled(torch.cat(images)[2]).mean(dim=(1, 2)) == pytest.approx([1, -1, -1], abs=0.05)


def test_weights_may_be_evaluated_with_fewer_training_images_than_a_batch(make):
    data = make(batch_size=16)
    assert len(labels_of(data.test_dataloader())) == 6
    with pytest.raises(ValueError, match=r"^recipe.batch_size=16: must be from 1 to 15"):
        data.train_dataloader()


@pytest.mark.slow
def test_lightning_sees_the_same_epochs_resumed_or_not(make, tmp_path):
    assert_epochs_are_the_same_resumed_or_not(make, tmp_path)


def without(*parts):
    def change(folder):
        (folder.joinpath(*parts)).rename(folder / "away")

    return change


def emptied(folder):
    for file in (folder / "val" / CLASSES[1]).iterdir():
        file.rename(file.with_suffix(".txt"))


def renamed(folder):
    (folder / "val" / CLASSES[1]).rename(folder / "val" / "n09999999")


def flat(folder):
    for file in list((folder / "val").glob("*/*")):
        file.rename(folder / "val" / file.name)
    for wnid in CLASSES:
        (folder / "val" / wnid).rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("train"), "train: no such folder; put the images there as train/"),
        (without("val"), "val: no such folder; put the images there as train/"),
        (without("train", CLASSES[0]), "train: 2 class folders, must be 3 .*; set dataset.num_classes=2, "),
        (flat, "val: 0 class folders, must be 3"),
        (emptied, f"val/{CLASSES[1]}: no images"),
        (renamed, f"class folders of train and val differ, e.g. {CLASSES[1]}"),
    ],
)
def test_a_folder_that_is_not_imagenet_is_told_in_one_line(make, folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=f"^dataset.root={folder}: .*{message}") as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, "dataset.root=None: must be a folder"),
        ({"files": {"blacklist": "lost.txt"}}, "dataset.files.blacklist=lost.txt: "),
        ({"files": {"blacklist": "wrong.txt"}}, "dataset.files.blacklist=wrong.txt: line 2: 50001: "),
        ({"files": {"blacklist": "names.txt"}}, "dataset.files.blacklist=names.txt: line 1: x.JPEG: "),
        ({"files": {"blacklist": "all.txt"}}, "dataset.files.blacklist=all.txt: leaves no image"),
        (
            {"files": {"blacklist": "all.txt"}, "checksums": {"blacklist": "missing", "images": None}},
            "dataset.checksums.blacklist=missing: ",
        ),
        ({"validation_images": 21}, "dataset.validation_images=21: must be below 21"),
        ({"min_crop_area": 0}, "dataset.min_crop_area=0: must be"),
        ({"max_undecodable_share": 1}, "dataset.max_undecodable_share=1: must be"),
    ],
)
def test_bad_input_is_one_clear_line(make, folder, changes, message):
    (folder / "wrong.txt").write_text("1\n50001\n")
    (folder / "names.txt").write_text("x.JPEG\n")
    (folder / "all.txt").write_text("\n".join(map(str, range(1, 7))))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        make(**changes)
    assert "\n" not in str(error.value)
