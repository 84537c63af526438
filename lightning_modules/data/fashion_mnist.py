"""Fashion-MNIST: 28x28 grey images of 10 kinds of clothing, balanced; 60,000 to train, 10,000 to test.

A part is embedded in this package (root: null; 5,000 + 10,000 images). Not in the paper, whose datasets are
ImageNet and JFT.

Source: Xiao, Rasul, Vollgraf 2017 (arXiv:1708.07747), MIT licence.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torchvision import datasets

from lightning_modules.data.idx import parse_idx, read_decompressed
from lightning_modules.data.images import ImageDataModule, Part

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


class FashionMNIST(ImageDataModule):
    """Reads the four IDX files, raw or gzipped, in one folder or in torchvision's layout."""

    file_names: ClassVar = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    suffixes: ClassVar = ("", ".gz")
    folders: ClassVar = ("", "FashionMNIST/raw")
    package_folder: ClassVar = Path(__file__).parent / "fashion_mnist_embedded"
    hint: ClassVar = (
        "put the four IDX files of Fashion-MNIST (raw or .gz) into {root}, or set dataset.root to "
        "where they are (Debian's package dataset-fashion-mnist: /usr/share/datasets/fashion-mnist)"
    )

    def read_file(self, path: Path) -> bytes:
        content = read_decompressed(path)
        parse_idx(content)  # recognizes truncated files, where a checksum is only wrong
        return content

    def decode(self, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
        train_images, train_labels, test_images, test_labels = (
            parse_idx(contents[name]) for name in self.file_names
        )
        # IDX holds (N, H, W).
        return Part(train_images[:, None], train_labels), Part(test_images[:, None], test_labels)

    def download_into(self, folder: Path) -> None:
        datasets.FashionMNIST(folder, download=True)
