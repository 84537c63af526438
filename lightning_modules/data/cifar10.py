"""CIFAR-10: 32x32 colour images of 10 classes, balanced; 50,000 to train, 10,000 to test.

Not in the paper, whose datasets are ImageNet and JFT.

Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html, the "python version".
"""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torchvision import datasets

from lightning_modules.data.images import ImageDataModule, Part

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"


class CIFAR10(ImageDataModule):
    """Reads the six pickled batches, in one folder or in torchvision's layout."""

    file_names: ClassVar = (*TRAIN_BATCHES, TEST_BATCH)
    folders: ClassVar = ("", "cifar-10-batches-py")
    hint: ClassVar = (
        "unpack cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) in {root}, or "
        "set dataset.root to the folder that holds cifar-10-batches-py"
    )

    def decode(self, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
        batches = [_read_batch(contents[name]) for name in TRAIN_BATCHES]
        train = Part(
            np.concatenate([batch.images for batch in batches]),
            np.concatenate([batch.labels for batch in batches]),
        )
        return train, _read_batch(contents[TEST_BATCH])

    def download_into(self, folder: Path) -> None:
        datasets.CIFAR10(folder, download=True)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles only NumPy arrays of bytes and plain values, so that no code runs."""

    # The files are of Python 2 and an old NumPy, whose dtype flags are numbers (NumPy 2.4 warns) and whose
    # module has moved.
    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): lambda code, align, copy: np.dtype(code),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a CIFAR-10 batch")
        return self.allowed[module, name]


def _read_batch(content: bytes) -> Part:
    """Images (N, 3, 32, 32) and labels; a row holds red, then green, then blue."""
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    return Part(batch[b"data"].reshape(-1, 3, 32, 32), np.array(batch[b"labels"]))
