"""Mosaics: labels tell what is where, the draw is long-tailed and never changes, parts share no garment."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lightning_modules.data.fashion_mosaic import GARMENTS, FashionMosaic, draw_mosaics, shrink
from lightning_modules.data.images import Part, frozen_uniforms

CONF = Path(__file__).parents[3] / "conf" / "dataset"


@pytest.fixture(scope="module")
def options():
    """The keys of the option file, with a stand-in for what comes from other groups."""
    keys = yaml.safe_load((CONF / "fashion_mosaic.yaml").read_text())
    del keys["_target_"], keys["task"]
    keys.pop("metrics", None)
    return keys | {"batch_size": 64, "seed": 0}


@pytest.fixture(scope="module")
def mosaics(options):
    data = FashionMosaic(**options)
    data.prepare_data()
    return data


def test_parts_have_their_sizes_and_types(mosaics):
    for name, count in (("train", 8000), ("validation", 1000), ("test", 10000)):
        part = mosaics.parts[name]
        assert part.images.shape == (count, 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.shape == (count, 160)
        assert set(part.labels.unique().tolist()) == {0.0, 1.0}
    images, labels = next(iter(mosaics.train_dataloader()))
    assert (images.shape, labels.shape) == ((64, 1, 28, 28), (64, 160))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.float32)
    assert labels.is_contiguous()


def test_a_mosaic_has_one_to_eight_garments_at_as_many_places(mosaics):
    for part in mosaics.parts.values():
        labels = part.labels.reshape(-1, GARMENTS, 16)
        assert labels.sum(1).max() == 1  # one garment a place
        how_many = labels.sum((1, 2)).long().bincount(minlength=9)
        assert how_many[0] == 0
        expected = len(labels) / 8
        assert (how_many[1:] - expected).abs().max() < 5 * expected**0.5
        # Where no label says that there is a garment, all is black; where one does, it is not.
        tiles = part.images.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(-1, 16, 49)
        assert torch.equal(tiles.amax(2) > 0, labels.sum(1) > 0)


def test_classes_are_as_common_as_their_weights_say(mosaics):
    weights = mosaics.class_weights
    assert weights.dtype == torch.float32
    assert weights.sum().item() == pytest.approx(1)
    by_garment = weights.reshape(GARMENTS, 16)
    assert torch.equal(by_garment, by_garment[:, :1].expand(-1, 16))
    torch.testing.assert_close(by_garment[0, 0] / by_garment[:, 0], torch.arange(1.0, 11.0))
    for part in mosaics.parts.values():
        counts = part.labels.sum(0)
        expected = counts.sum() * weights
        assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


def test_the_garments_of_a_mosaic_are_those_its_labels_name():
    """Each garment is of one brightness, which tells its kind."""
    kinds = np.array([2, 0, 1, 2, 0, 1, 1], np.uint8)
    images = np.broadcast_to(50 * (kinds + 1)[:, None, None, None], (7, 1, 3, 3)).astype(np.uint8)
    commonness = np.array([0.6, 0.3, 0.1])
    part = draw_mosaics(Part(images, kinds), 200, places=2, most_garments=4, commonness=commonness, seed=1)
    assert part.images.shape == (200, 1, 6, 6)
    for image, labels in zip(part.images[:, 0], part.labels.reshape(200, 3, 4), strict=True):
        for place in range(4):
            row, column = divmod(place, 2)
            tile = image[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            expected = 50 * (1 + labels[:, place].argmax()) if labels[:, place].any() else 0
            assert (tile == expected).all()


def test_parts_show_different_garments(options):
    """With one place a mosaic is a garment: none of a part is one of another part."""
    single = {"places": 1, "num_classes": 10, "most_garments": 1, "batch_size": 1}
    data = FashionMosaic(**(options | single))
    data.setup()
    shown = {name: {image.tobytes() for image in part.images.numpy()} for name, part in data.parts.items()}
    assert all(len(of_part) > 400 for of_part in shown.values())
    assert not shown["train"] & shown["validation"]
    assert not (shown["train"] | shown["validation"]) & shown["test"]


def test_more_places_may_make_more_classes_than_a_byte_counts(options):
    many = {"places": 7, "num_classes": 490, "train_mosaics": 64}
    data = FashionMosaic(**(options | many))
    data.setup()
    assert data.parts["train"].labels.shape == (64, 490)


def test_mosaics_stay_the_same_in_every_version(mosaics):
    digests = {}
    for name, part in mosaics.parts.items():
        content = part.images.numpy().tobytes() + part.labels.numpy().astype(np.uint8).tobytes()
        digests[name] = hashlib.sha256(content).hexdigest()[:16]
    assert digests == {
        "train": "ecac3997b5a03790",
        "validation": "210670116483ca18",
        "test": "1e1023bbe8e45e6a",
    }


def test_frozen_uniforms_are_those_of_the_raw_draws():
    draws = frozen_uniforms((2, 3), seed=5)
    raw = np.random.PCG64(5).random_raw(6)
    assert draws.ravel().tolist() == [int(value >> np.uint64(11)) / 2**53 for value in raw]
    many = frozen_uniforms((100_000,), seed=0)
    assert 0 <= many.min() < many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=0.01)


def test_the_draw_does_not_depend_on_the_run(options, mosaics):
    other = FashionMosaic(**(options | {"seed": 7, "batch_size": 8}))
    other.setup()
    assert all(torch.equal(part.images, other.parts[name].images) for name, part in mosaics.parts.items())
    resplit = FashionMosaic(**(options | {"split_seed": 1}))
    resplit.setup()
    assert not any(
        torch.equal(part.images, resplit.parts[name].images) for name, part in mosaics.parts.items()
    )


def test_shrinking_is_the_rounded_mean():
    images = np.random.default_rng(0).integers(256, size=(3, 1, 4, 6), dtype=np.uint8)
    small = shrink(images, 2)
    assert small.dtype == np.uint8
    for n in range(3):
        for row in range(2):
            for column in range(3):
                mean = images[n, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
                assert small[n, 0, row, column] == np.floor(mean + 0.5)
    assert np.array_equal(shrink(images, 1), images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 40}, "dataset.num_classes=40: must be 160, each of 10 garments at each of 4 x 4"),
        ({"most_garments": 17}, "dataset.most_garments=17: must be a whole number from 1 to 16"),
        ({"zipf_exponent": -1}, "dataset.zipf_exponent=-1: must be a number of at least 0"),
        ({"image_size": 30}, "dataset.image_size=30: must be 4 times a divisor of 28, the size of a garment"),
        ({"validation_images": 15}, "dataset.validation_images=15: must be a multiple of 10"),
    ],
)
def test_bad_input_is_one_clear_line(options, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        FashionMosaic(**(options | changes)).prepare_data()
    assert "\n" not in str(error.value)


def test_a_mosaic_cannot_be_mirrored(options):
    with pytest.raises(TypeError, match="horizontal_flip"):
        FashionMosaic(**options, horizontal_flip=True)
