"""Every kind of image file becomes RGB; crops lie where they should."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.data.decoding import Crops, UndecodableImage, decode_rgb


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(content):
    image = decode_rgb(content)
    assert image.mode == "RGB"
    return np.asarray(image)


GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def test_grey_becomes_three_equal_channels():
    np.testing.assert_array_equal(shown(encoded(Image.fromarray(GREY))), np.stack([GREY] * 3, axis=-1))


def test_16_bits_keep_the_upper_8():
    wide = GREY.astype(np.uint16) * 256 + 255
    for kind in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(wide), kind)
        np.testing.assert_array_equal(shown(content), np.stack([GREY] * 3, axis=-1))


def test_32_bits_are_read_as_16():
    deep = Image.fromarray(np.array([[0, 2**15, 2**20]], dtype=np.int32))
    assert shown(encoded(deep, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert shown(encoded(image)).tolist() == [[[200, 0, 0], [255, 255, 255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([0, 0, 9])
    assert shown(encoded(palette)).tolist() == [[[0, 0, 9]]]
    assert shown(encoded(palette, transparency=0)).tolist() == [[[255, 255, 255]]]
    assert shown(encoded(Image.new("LA", (1, 1), (0, 0)))).tolist() == [[[255, 255, 255]]]


def test_cmyk_is_converted():
    cyan = shown(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))
    assert np.abs(cyan.astype(int) - [0, 255, 255]).max() < 8


def test_exif_turns_an_image():
    image = Image.fromarray(np.repeat(np.repeat(GREY, 8, axis=0), 8, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    turned = shown(encoded(image, "PNG", exif=exif))
    np.testing.assert_array_equal(turned[..., 0], np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        encoded(Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)))[
            :900
        ],
        encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"),
    ],
    ids=["empty", "text", "truncated", "floats"],
)
def test_what_cannot_be_decoded_is_told_in_one_line(content):
    with pytest.raises(UndecodableImage, match=r".") as error:
        decode_rgb(content)
    assert "\n" not in str(error.value)


def crops(**changes):
    settings = {
        "image_size": 4,
        "horizontal_flip": False,
        "min_crop_area": 0.08,
        "max_aspect_ratio": 4 / 3,
        "eval_crop_share": 0.5,
    }
    return Crops(**(settings | changes))


def test_evaluation_shows_the_central_square():
    values = np.zeros((8, 12), np.uint8)
    values[2:6, 4:8] = np.arange(16).reshape(4, 4)  # half of the shorter side
    square = crops().for_evaluation(Image.fromarray(values).convert("RGB"))
    assert square.dtype == torch.uint8
    assert square.tolist() == [np.arange(16).reshape(4, 4).tolist()] * 3


def test_evaluation_equals_resizing_the_shorter_side_then_cropping():
    generator = np.random.default_rng(0)
    smooth = np.kron(generator.integers(256, size=(6, 8, 3)), np.ones((50, 50, 1))).astype(np.uint8)
    image = Image.fromarray(smooth)  # 400 wide, 300 high
    resized = image.resize((64, 48), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((11, 3, 53, 45)))
    square = crops(image_size=42, eval_crop_share=0.875).for_evaluation(image).permute(1, 2, 0).numpy()
    assert np.abs(square.astype(int) - expected).max() <= 1


def test_training_crops_have_the_areas_and_ratios_that_are_set():
    draws = torch.Generator()
    some = crops(min_crop_area=0.25, max_aspect_ratio=2)
    areas, ratios = [], []
    for seed in range(300):
        left, top, right, bottom = some._random_box(200, 100, draws.manual_seed(seed))
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 100
        areas.append((right - left) * (bottom - top) / 20_000)
        ratios.append((right - left) / (bottom - top))
    assert 0.25 <= min(areas) < 0.27
    assert 0.9 < max(areas) <= 1
    assert 0.5 - 1e-9 <= min(ratios) < 0.6
    assert 1.9 < max(ratios) <= 2 + 1e-9


def test_a_crop_that_never_fits_is_the_largest_central_one():
    box = crops(min_crop_area=1, max_aspect_ratio=2)._random_box(1000, 100, torch.Generator())
    assert box == (400, 0, 600, 100)


def test_training_is_drawn_from_the_uniforms_alone():
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8))

    def square(*uniforms, **changes):
        return crops(image_size=9, **changes).for_training(image, torch.tensor(uniforms, dtype=torch.float64))

    reference = square(0.3, 0.5, 0.1)
    torch.manual_seed(math.floor(1e6))
    assert torch.equal(square(0.3, 0.5, 0.9), reference)
    assert torch.equal(square(0.7, 0.5, 0.1), reference)
    assert not torch.equal(square(0.3, 0.6, 0.1), reference)
    assert torch.equal(square(0.3, 0.5, 0.1, horizontal_flip=True), reference.flip(-1))
    assert torch.equal(square(0.7, 0.5, 0.1, horizontal_flip=True), reference)
