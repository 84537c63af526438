"""Draws the embedded part of Fashion-MNIST from the four original IDX files.

::

    python -m benchmarks.embed_fashion_mnist

The originals are in /usr/share/datasets/fashion-mnist, from Debian's package dataset-fashion-mnist. Training
images come from the official training part, test images from the official test part, equally many of each
class, in the official (mixed) order. It writes the same bytes again, and prints the checksums for
conf/dataset/fashion_mnist_embedded.yaml.
"""

import gzip
import hashlib
from pathlib import Path

import yaml

from lightning_modules.data.fashion_mnist import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    FashionMNIST,
)
from lightning_modules.data.idx import format_idx, parse_idx, read_decompressed
from lightning_modules.data.images import draw_per_class

SOURCE = Path("/usr/share/datasets/fashion-mnist")
PER_CLASS = {TRAIN_LABELS: 500, TEST_LABELS: 1000}
SEED = 0
ORIGINALS = Path(__file__).parents[1] / "conf" / "dataset" / "fashion_mnist.yaml"  # with their checksums


def main() -> None:
    """Write the four gzipped files of the drawn part."""
    checksums = yaml.safe_load(ORIGINALS.read_text(encoding="utf-8"))["checksums"]
    contents = {name: read_decompressed(SOURCE / f"{name}.gz") for name in checksums}
    for name, content in contents.items():
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != checksums[name]:
            raise ValueError(f"{SOURCE / name}: is not the original")
    for images, labels in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        drawn = draw_per_class(parse_idx(contents[labels]), PER_CLASS[labels], SEED)
        for name in (images, labels):
            content = format_idx(parse_idx(contents[name])[drawn])
            # Without name and time, so that equal contents give equal files.
            path = FashionMNIST.package_folder / f"{name}.gz"
            with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
                file.write(content)
            print(f"{name}: sha256:{hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
