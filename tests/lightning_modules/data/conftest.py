"""Tiny datasets in the formats of the real ones."""

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_modules.data.fashion_mnist import FashionMNIST
from lightning_modules.data.idx import format_idx

SETTINGS: dict[str, Any] = {
    "download": False,
    "num_classes": 3,
    "split_seed": 0,
    "seed": 0,
    "batch_size": 4,
    "eval_batch_size": 5,
    "validation_images": 6,
    "train_images": None,
    "horizontal_flip": False,
    "crop_padding": 0,
    "num_workers": None,
}


@pytest.fixture
def idx_contents() -> dict[str, bytes]:
    """12 training and 4 test images of each of 3 classes, 6x6 pixels, by file name."""
    generator = np.random.default_rng(0)
    contents = {}
    for part, per_class in (("train", 12), ("t10k", 4)):
        labels = generator.permutation(np.repeat(np.arange(3, dtype=np.uint8), per_class))
        images = generator.integers(256, size=(3 * per_class, 6, 6), dtype=np.uint8)
        contents[f"{part}-images-idx3-ubyte"] = format_idx(images)
        contents[f"{part}-labels-idx1-ubyte"] = format_idx(labels)
    return contents


@pytest.fixture
def idx_folder(tmp_path: Path, idx_contents: dict[str, bytes]) -> Path:
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, content in idx_contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def make_data(idx_folder: Path, idx_contents: dict[str, bytes]) -> Callable[..., FashionMNIST]:
    """Makes a data module on the tiny IDX files, with some settings changed."""

    def make(**changes: Any) -> FashionMNIST:
        settings = SETTINGS | {
            "root": idx_folder,
            "channels": 1,
            "image_size": 6,
            "checksums": {
                name: "sha256:" + hashlib.sha256(content).hexdigest()
                for name, content in idx_contents.items()
            },
        }
        return FashionMNIST(**(settings | changes))

    return make


def python2_pickle(images: np.ndarray, labels: list[int]) -> bytes:
    """A CIFAR-10 batch as Python 2 and its NumPy wrote it; images are uint8 (N, 3072)."""

    def string(text: bytes) -> bytes:  # BINSTRING: Python 2's str, which Python 3 cannot write
        return b"T" + struct.pack("<i", len(text)) + text

    def number(value: int) -> bytes:  # BININT
        return b"J" + struct.pack("<i", value)

    data = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + (b"cnumpy\nndarray\n" + number(0) + b"\x85" + string(b"b") + b"\x87R")
        + (b"(" + number(1) + number(images.shape[0]) + number(images.shape[1]) + b"\x86")
        + (b"cnumpy\ndtype\n" + string(b"u1") + number(0) + number(1) + b"\x87R")
        + (b"(" + number(3) + string(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb")
        + (b"\x89" + string(images.tobytes()) + b"tb")
    )
    pickled = io.BytesIO()
    pickled.write(b"\x80\x02}(")
    pickled.write(string(b"batch_label") + string(b"training batch 1 of 5"))
    pickled.write(string(b"labels") + b"](" + b"".join(map(number, labels)) + b"e")
    pickled.write(string(b"data") + data)
    pickled.write(b"u.")
    return pickled.getvalue()


@pytest.fixture
def cifar_contents() -> dict[str, bytes]:
    """6 images of each of 3 classes in each of six batches, by file name."""
    generator = np.random.default_rng(0)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {
        name: python2_pickle(
            generator.integers(256, size=(18, 3072), dtype=np.uint8),
            generator.permutation(np.repeat(np.arange(3), 6)).tolist(),
        )
        for name in names
    }
