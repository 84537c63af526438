"""Draws the embedded part of Fashion-MNIST from the four original IDX files.

::

    python -m lightning_modules.data.embed_fashion_mnist SOURCE_FOLDER [DESTINATION]

SOURCE_FOLDER holds the originals, such as /usr/share/datasets/fashion-mnist of Debian's package
dataset-fashion-mnist. Training and test images come from the official parts, equally many per class, in their
order. Equal arguments write equal bytes. Prints the checksums for conf/dataset/fashion_mnist_embedded.yaml.
"""

import argparse
import gzip
import hashlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_modules.data.fashion_mnist import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    FashionMNIST,
)
from lightning_modules.data.idx import format_idx, parse_idx, read_decompressed
from lightning_modules.data.images import draw_per_class

ORIGINAL_SHA256 = {  # of the decompressed content
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def embed(
    source: Path,
    destination: Path,
    *,
    original_sha256: Mapping[str, str],
    train_per_class: int,
    test_per_class: int,
    seed: int,
) -> dict[str, str]:
    """Write the four gzipped IDX files.

    Returns:
        SHA-256 of each file's decompressed content, by its name without `.gz`.

    Raises:
        ValueError: An original is missing, damaged or another file, or a class is too small.
    """
    written = {}
    for images_name, labels_name, per_class in (
        (TRAIN_IMAGES, TRAIN_LABELS, train_per_class),
        (TEST_IMAGES, TEST_LABELS, test_per_class),
    ):
        images = _read_original(source, images_name, original_sha256)
        labels = _read_original(source, labels_name, original_sha256)
        smallest = np.bincount(labels).min()
        if not 1 <= per_class <= smallest:
            raise ValueError(
                f"{per_class} images per class: must be from 1 to {smallest}, as many as the "
                f"smallest class of {labels_name} has"
            )
        drawn = draw_per_class(labels, per_class, seed)
        for name, array in ((images_name, images[drawn]), (labels_name, labels[drawn])):
            content = format_idx(array)
            _write(destination / f"{name}.gz", reproducible_gzip(content))
            written[name] = hashlib.sha256(content).hexdigest()
    return written


def reproducible_gzip(content: bytes) -> bytes:
    """Gzip without name and time, so that equal contents give equal files."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def _read_original(folder: Path, name: str, original_sha256: Mapping[str, str]) -> NDArray[np.uint8]:
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise ValueError(f"{folder}: has neither {name}.gz nor {name}")
    try:
        content = read_decompressed(path)
        actual = hashlib.sha256(content).hexdigest()
        if actual != original_sha256[name]:
            raise ValueError(f"sha256 {actual}, the original's is {original_sha256[name]}")
        return parse_idx(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.data.embed_fashion_mnist",
        description="Draws the embedded part of Fashion-MNIST from the four original IDX files.",
    )
    parser.add_argument("source", type=Path, help="folder of the original IDX files, raw or .gz")
    parser.add_argument(
        "destination",
        type=Path,
        nargs="?",
        default=FashionMNIST.package_folder,
        help="folder to write to (default: %(default)s)",
    )
    parser.add_argument("--train-per-class", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--test-per-class", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        written = embed(
            arguments.source,
            arguments.destination,
            original_sha256=ORIGINAL_SHA256,
            train_per_class=arguments.train_per_class,
            test_per_class=arguments.test_per_class,
            seed=arguments.seed,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for name, sha256 in written.items():
        print(f"{name}: sha256:{sha256}")


if __name__ == "__main__":
    main()
