"""Split, pairing, augmentation and bad input, on tiny IDX files."""

import random
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torchvision.transforms import v2

from lightning_modules.checks import DATA_CHECKS, DataToCheck, check_batches_do_not_depend_on_the_workers
from lightning_modules.data.images import (
    AugmentedBatches,
    EpochSampler,
    ImageBatches,
    Part,
    augment,
    draw_per_class,
    make_loader,
    scaled,
    transformed,
)


def batches_of(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def equal(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b)
        for one, other in zip(left, right, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def augmented(make_data):
    """Makes a loaded data module with both augmentations for a seed."""

    def make(**changes):
        data = make_data(horizontal_flip=True, crop_padding=2, **changes)
        data.prepare_data()
        return data

    return make


def test_split_is_stratified_and_disjoint(make_data):
    data = make_data()
    data.prepare_data()
    assert {name: len(part) for name, part in data.parts.items()} == {
        "train": 30,
        "validation": 6,
        "test": 12,
    }
    for name, per_class in (("train", 10), ("validation", 2), ("test", 4)):
        assert data.parts[name].labels.bincount().tolist() == [per_class] * 3
    images = torch.cat([data.parts[name].images for name in ("train", "validation")])
    assert len(images.flatten(1).unique(dim=0)) == 36  # the tiny images differ from each other


def test_fewer_training_images_are_a_subset_of_more_and_leave_the_rest_alone(make_data):
    loaded = {}
    for number in (None, 12, 6):
        data = make_data(train_images=number)
        data.setup()
        loaded[number] = data.parts
        assert torch.equal(data.parts["validation"].images, loaded[None]["validation"].images)
    for more, fewer in ((None, 12), (12, 6)):
        images = {image.numpy().tobytes() for image in loaded[more]["train"].images}
        assert {image.numpy().tobytes() for image in loaded[fewer]["train"].images} < images
        assert loaded[fewer]["train"].labels.bincount().tolist() == [fewer // 3] * 3


def test_split_depends_on_its_own_seed_alone(make_data):
    def held_out(**changes):
        data = make_data(**changes)
        data.setup()
        return data.parts["validation"].images

    assert torch.equal(held_out(seed=0), held_out(seed=1, batch_size=7))
    assert not torch.equal(held_out(split_seed=0), held_out(split_seed=1))


def test_draw_stays_the_same_in_every_version():
    labels = np.tile(np.arange(2), 10)
    assert draw_per_class(labels, 3, seed=0).tolist() == [2, 3, 8, 11, 13, 18]


def test_batches_have_shape_range_and_type(augmented):
    data = augmented()
    images, labels = batches_of(data, epoch=0)[0]
    assert images.shape == (4, 1, 6, 6)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < images.max() <= 1
    assert labels.shape == (4,)
    assert labels.dtype == torch.int64


def test_scale_maps_black_to_minus_one_and_white_to_one(make_data):
    data = make_data()
    data.setup()
    images = torch.cat([images for images, _ in data.test_dataloader()])
    expected = np.asarray(data.parts["test"].images, np.float32) / 127.5 - 1
    np.testing.assert_array_equal(images.numpy(), expected)
    assert images.min() == -1
    assert images.max() == 1


def test_an_epoch_shows_every_image_once_but_the_rest(make_data):
    data = make_data()
    data.setup()
    batches = batches_of(data, epoch=0)
    assert len(batches) == len(data.train_dataloader()) == 30 // 4
    images = torch.cat([images for images, _ in batches])
    assert len(images.flatten(1).unique(dim=0)) == 28


def test_evaluation_shows_every_image_once_in_order(augmented):
    data = augmented()
    loader = data.val_dataloader()
    assert [len(labels) for _, labels in loader] == [5, 1]
    labels = torch.cat([labels for _, labels in loader])
    assert torch.equal(labels, data.parts["validation"].labels)
    assert equal(list(loader), list(data.val_dataloader()))


@pytest.mark.parametrize(
    "check", [check for check in DATA_CHECKS if check is not check_batches_do_not_depend_on_the_workers]
)
def test_the_engine_can_rely_on_it(augmented, check):
    check(DataToCheck(augmented, num_classes=3, image_size=6))


def test_order_does_not_depend_on_the_augmentation(make_data, augmented):
    plain = make_data()
    plain.setup()
    labels = [labels for _, labels in batches_of(plain, epoch=0)]
    assert equal([labels], [[labels for _, labels in batches_of(augmented(), epoch=0)]])


def test_global_generators_are_neither_read_nor_moved(augmented):
    reference = batches_of(augmented(), epoch=0)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    data = augmented()
    assert equal(reference, batches_of(data, epoch=0))
    list(data.val_dataloader())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002


@pytest.mark.parametrize(("num_workers", "on_a_gpu"), [(None, 12), (2, 2), (0, 0)])
def test_workers_augment_for_a_gpu_alone(augmented, monkeypatch, num_workers, on_a_gpu):
    monkeypatch.setattr("lightning_modules.data.images.usable_cores", lambda: 12)
    data = augmented(num_workers=num_workers)
    data.augmentation = v2.RandAugment()
    reference = batches_of(data, epoch=1)
    assert data.train_dataloader().num_workers == 0
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1, num_devices=1)
    with warnings.catch_warnings(action="ignore"):  # more workers than this machine has cores
        loader = data.train_dataloader()
    assert loader.num_workers == on_a_gpu
    if num_workers == 2:
        loader.sampler.set_epoch(1)
        assert equal(reference, list(loader))


class Recorder(LightningModule):
    """Learns nothing and keeps the batches of every epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(36, 3)
        self.seen = {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(self.current_epoch, []).append(batch)
        return self.layer(batch[0].flatten(1)).square().mean()

    def validation_step(self, batch, batch_idx):
        torch.rand(3)  # moves the global generator, as a network with dropout does

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own
def test_lightning_sees_the_same_epochs_resumed_or_not(augmented, tmp_path):
    def fit(epochs, checkpoint=None, **options):
        module = Recorder()
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(module, augmented(), ckpt_path=checkpoint)
        return trainer, module.seen

    _, whole = fit(epochs=3)
    assert sorted(whole) == [0, 1, 2]
    for epoch, batches in whole.items():
        assert equal(batches, batches_of(augmented(), epoch))

    first, _ = fit(epochs=1)
    first.save_checkpoint(tmp_path / "epoch.ckpt")
    _, resumed = fit(3, tmp_path / "epoch.ckpt", num_sanity_val_steps=0)
    assert sorted(resumed) == [1, 2]
    assert all(equal(batches, whole[epoch]) for epoch, batches in resumed.items())


def test_sampler_streams_differ_between_neighbouring_seeds():
    """Seed + epoch, the obvious way, would give (0, 1) and (1, 0) the same order."""
    orders = set()
    for seed in range(5):
        for epoch in range(5):
            sampler = EpochSampler(16, 16, seed)
            sampler.set_epoch(epoch)
            orders.add(tuple(next(iter(sampler)).indices.tolist()))
    assert len(orders) == 25


def slow_augment(image, uniforms, flip, padding):
    """One image (C, H, W), as one would write it down."""
    size = image.shape[-1]
    padded = np.zeros((image.shape[0], size + 2 * padding, size + 2 * padding), np.uint8)
    padded[:, padding : padding + size, padding : padding + size] = image
    top, left = (int(uniform * (2 * padding + 1)) for uniform in uniforms[1:])
    crop = padded[:, top : top + size, left : left + size]
    return crop[:, :, ::-1] if flip and uniforms[0] < 0.5 else crop


def test_a_recipe_changes_the_very_pixels_that_are_trained_on_without_it():
    images = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(2, 1, 16, 16)  # every byte twice
    part = ImageBatches(Part(images, np.arange(2)), horizontal_flip=True, crop_padding=2)
    (selection,) = EpochSampler(2, 2, seed=0)
    change = v2.RandomErasing(p=1.0)
    plain, labels = part[selection]
    as_bytes = ((plain + 1) * 127.5).round().to(torch.uint8)  # from what trains without it
    expected = [
        transformed(image, change, seed)
        for image, seed in zip(as_bytes, selection.seeds.tolist(), strict=True)
    ]
    found, found_labels = AugmentedBatches(part, change)[selection]
    assert torch.equal(scaled(found), scaled(torch.stack(expected)))
    assert not torch.equal(scaled(found), plain)
    assert torch.equal(found_labels, labels)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_augmentation_equals_the_slow_one(flip, padding):
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(50, 3, 7, 7), dtype=np.uint8)
    uniforms = generator.random((50, 3))
    before = images.copy()
    fast = augment(
        torch.from_numpy(images),
        torch.from_numpy(uniforms),
        horizontal_flip=flip,
        crop_padding=padding,
    )
    slow = [slow_augment(*pair, flip, padding) for pair in zip(images, uniforms, strict=True)]
    np.testing.assert_array_equal(fast.numpy(), np.stack(slow))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "recipe.batch_size=0: must be a whole number of at least 1"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0 to 4294967295"),
        ({"validation_images": 7}, "dataset.validation_images=7: must be a multiple of 3"),
        ({"validation_images": 36}, "dataset.validation_images=36: must be below 36"),
        ({"train_images": 33}, "dataset.train_images=33: must be at most 30"),
        ({"crop_padding": 7}, "dataset.crop_padding=7: must be a whole number from 0 to 6"),
        ({"horizontal_flip": 1}, "dataset.horizontal_flip=1: must be true or false"),
        ({"num_classes": 2}, "dataset.num_classes=2: the training labels go from 0 to 2"),
        ({"channels": 2}, "dataset.channels=2, dataset.image_size=6: the training images are 1 x"),
        ({"root": None, "download": True}, "dataset.download=true: needs a dataset.root"),
        ({"checksums": {}}, "dataset.checksums={}: must have one for each of train-images"),
    ],
)
def test_bad_input_is_one_clear_line(make_data, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        make_data(**changes).prepare_data()
    assert "\n" not in str(error.value)


def test_a_checksum_without_its_kind_is_refused(make_data):
    checksums = make_data().checksums
    name = "train-labels-idx1-ubyte"
    with pytest.raises(ValueError, match=rf"^dataset\.checksums\.{name}=abc: must be sha256:"):
        make_data(checksums=checksums | {name: "abc"})


@pytest.mark.parametrize(("device", "pinned"), [(None, False), ("cpu", False), ("cuda", True)])
def test_only_a_run_on_a_gpu_pins_memory(device, pinned, make_data, monkeypatch):
    """A run on the CPU of a machine with GPUs leaves them alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    data = make_data()
    data.prepare_data()
    loader = make_loader(data.parts["train"], [], device=None if device is None else torch.device(device))
    assert loader.pin_memory is pinned
