"""ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 validation images of 1000 classes.

Folders: root/train/<wnid>/*.JPEG and root/val/<wnid>/*.JPEG; classes are numbered in alphabetical order. Any
images in such folders can be read.

Protocol: validation is held out of `train`; ILSVRC's `val` is the test set. The paper's table 1 leaves out
the blacklisted images of `val`, so that 48,238 remain.

Source: Russakovsky et al. 2015 (arXiv:1409.0575), https://image-net.org.
"""

import os
import re
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.data.checksums import (
    CLASS_FOLDERS,
    IMAGE_SUFFIXES,
    is_image,
    visible,
)
from lightning_modules.data.files import FilePart, ImageFilesDataModule, as_names
from lightning_modules.data.images import require_multiple_of_classes, split_per_class

BLACKLIST = "blacklist"


class Folders(NamedTuple):
    """Images in class folders: paths (N,), labels (N,), class names."""

    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    classes: list[str]


class ImageNet(ImageFilesDataModule):
    """Reads ILSVRC's folders.

    Args:
        validation_images: Held out of `train`, equally many per class.
        **settings: As `ImageFilesDataModule`; `files` may name a blacklist of `val`: per line, an image's
            number (ILSVRC2012_val_000NNNNN.JPEG, from 1) or file name.

    Attributes:
        unread: Other visible entries in the folders, relative to the root, after `setup`.

    Raises:
        ValueError: An argument is invalid.
    """

    file_keys: ClassVar = (BLACKLIST,)

    def __init__(self, *, validation_images: int, **settings: Any) -> None:
        super().__init__(**settings)
        # Before listing a million files.
        require_multiple_of_classes("dataset.validation_images", validation_images, self.num_classes)
        self.validation_images = validation_images
        self.unread: list[str] = []

    def read(self) -> dict[str, FilePart]:
        train, test = (self._list(part) for part in CLASS_FOLDERS)
        if train.classes != test.classes:
            other = sorted(set(train.classes) ^ set(test.classes))[0]
            raise ValueError(f"{self.key}: class folders of train and val differ, e.g. {other}")
        kept, held_out = split_per_class(
            train.labels, self.num_classes, self.validation_images, self.split_seed
        )
        evaluated = np.setdiff1d(np.arange(len(test.labels)), self._blacklisted(test))
        if not len(evaluated):
            raise ValueError(f"dataset.files.blacklist={self.files[BLACKLIST]}: leaves no image of val")
        chosen = {"train": (train, kept), "validation": (train, held_out), "test": (test, evaluated)}
        return {
            name: FilePart(folders.names[positions], torch.from_numpy(folders.labels[positions]))
            for name, (folders, positions) in chosen.items()
        }

    def _list(self, part: str) -> Folders:
        folder = self.root / part
        entries = visible(folder) if folder.is_dir() else []
        classes = [entry.name for entry in entries if entry.is_dir()]
        if len(classes) != self.num_classes:
            layout = "train/<class>/*.JPEG and val/<class>/*.JPEG"
            if not folder.is_dir():
                raise ValueError(f"{self.key}: {folder}: no such folder; put the images there as {layout}")
            own = f"set dataset.num_classes={len(classes)}, or " if len(classes) > 1 else ""
            raise ValueError(
                f"{self.key}: {folder}: {len(classes)} class folders, must be {self.num_classes} "
                f"(dataset.num_classes); {own}put the images there as {layout}"
            )
        self.unread += [f"{part}/{entry.name}" for entry in entries if not entry.is_dir()]
        names, labels = [], []
        for label, wnid in enumerate(classes):
            entries = visible(folder / wnid)
            images = [entry for entry in entries if is_image(entry)]
            if not images:
                raise ValueError(f"{self.key}: {folder / wnid}: no images ({', '.join(IMAGE_SUFFIXES)})")
            self.unread += [f"{part}/{wnid}/{entry.name}" for entry in entries if not is_image(entry)]
            names += [f"{part}/{wnid}/{image.name}" for image in images]
            labels += [label] * len(images)
        return Folders(as_names(names), np.array(labels), classes)

    def _blacklisted(self, test: Folders) -> list[int]:
        """Positions of the images of `val` to leave out."""
        if self.files[BLACKLIST] is None:
            return []
        path = self.file(BLACKLIST)
        key = f"dataset.files.{BLACKLIST}={self.files[BLACKLIST]}"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{key}: {path} is not a text file ({error})") from None
        by_name = {os.path.basename(os.fsdecode(name)): position for position, name in enumerate(test.names)}
        positions = []
        for number, line in enumerate(lines, start=1):
            entry = line.strip()
            if not entry:
                continue
            name = f"ILSVRC2012_val_{int(entry):08d}.JPEG" if re.fullmatch("[0-9]+", entry) else entry
            position = by_name.get(os.path.basename(name))
            if position is None:
                raise ValueError(f"{key}: line {number}: {entry}: {self.root / 'val'} has no such image")
            positions.append(position)
        return positions
