"""Fashion-MNIST in small: what tests train on that are not about its numbers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightning_modules.data.fashion_mnist import FashionMNIST
from lightning_modules.data.idx import format_idx

PER_CLASS = {"train": 30, "t10k": 5}
"""Of ten classes. 280 images are trained on, two batches of 128, and 20 held out."""


def write_few_images(folder: Path) -> dict[str, Any]:
    """Write the four files; returns what dataset=fashion_mnist_embedded has in place of its values.

    The images are noise, as bright as their class's number says.
    """
    draws = np.random.default_rng(0)
    checksums = {}
    for part, per_class in PER_CLASS.items():
        labels = draws.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
        images = draws.integers(0, 60, (len(labels), 28, 28), np.uint8) + 20 * labels[:, None, None]
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = format_idx(array)
            (folder / name).write_bytes(content)
            checksums[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert checksums.keys() == set(FashionMNIST.file_names)
    return {"root": str(folder), "checksums": checksums, "validation_images": 20}


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """The settings as a command line has them."""
    checksums = ",".join(f"{name}:'{value}'" for name, value in settings["checksums"].items())
    others = [f"dataset.{key}={value}" for key, value in settings.items() if key != "checksums"]
    return [*others, f"dataset.checksums={{{checksums}}}"]
