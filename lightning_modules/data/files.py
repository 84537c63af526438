"""Datasets of image files, decoded by worker processes, a whole batch at a time.

Split, order and augmentation are as for datasets in memory (`images`). The sampler draws them and sends them
to a worker with a batch's positions, so they do not depend on the number of workers.

An undecodable image::

    training      is replaced by the next image, logged once and counted; the run stops if there are more
                  than `max_undecodable_share`
    evaluation    stops the run

Images are identified by their content (`checksums`), verified when a run starts or resumes.
"""

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.data.checksums import (
    IMAGES,
    MISSING,
    file_checksum,
    file_path,
    images_checksum,
)
from lightning_modules.data.decoding import Crops, UndecodableImage, decode_rgb
from lightning_modules.data.images import (
    Batch,
    Batches,
    Selection,
    eval_loader,
    require_draws_and_batches,
    require_workers,
    train_loader,
    workers_of,
)
from lightning_modules.processes import of_each_process, require_for_each_process
from lightning_modules.validation import require_boolean, require_integer, require_number

log = logging.getLogger(__name__)


class Labels(Protocol):
    """Labels of a part, indexed by positions."""

    def __getitem__(self, positions: Tensor) -> Tensor: ...


class FilePart(NamedTuple):
    """Part of a dataset: image paths relative to the root, as bytes (N,), and labels."""

    names: NDArray[np.bytes_]  # workers would copy a list of str, by counting references
    labels: Labels


class UndecodableImages(ValueError):
    """Too many training images, or an evaluated one, cannot be decoded.

    A loader recreates a worker's exception from its traceback; only the message is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


class ImageFiles(Batches):
    """Image files, decoded and cropped into a batch of bytes.

    Attributes:
        undecodable: bool (N,), in memory that the workers share.
    """

    def __init__(self, root: Path, part: FilePart, crops: Crops, max_undecodable_share: float) -> None:
        self.root = root
        self.names = part.names
        self.labels = part.labels
        self.crops = crops
        self.max_undecodable_share = max_undecodable_share
        self.undecodable = torch.zeros(len(part.names), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, position: int) -> Path:
        return self.root / os.fsdecode(self.names[position])

    def __getitem__(self, selection: Selection) -> Batch:
        """
        Raises:
            UndecodableImages: See the module.
        """
        indices, uniforms = selection.indices, selection.uniforms
        images = self.crops.empty(len(indices))
        shown = indices.clone()
        for row, position in enumerate(indices.tolist()):
            if uniforms is None:
                images[row] = self._evaluated(position)
            else:
                images[row], shown[row] = self._trained(position, uniforms[row])
        return images, self.labels[shown]

    def _evaluated(self, position: int) -> Tensor:
        try:
            return self.crops.for_evaluation(decode_rgb(self.path(position)))
        except UndecodableImage as error:
            raise UndecodableImages(
                f"dataset.root={self.root}: {self.path(position)} cannot be decoded ({error}); every "
                "evaluated image must be; replacing it makes another run"
            ) from None

    def _trained(self, position: int, uniforms: Tensor) -> tuple[Tensor, int]:
        """The image at a position, or the next decodable one, and its position."""
        while True:
            if not self.undecodable[position]:
                try:
                    return self.crops.for_training(decode_rgb(self.path(position)), uniforms), position
                except UndecodableImage as error:
                    self.undecodable[position] = True
                    log.warning("%s cannot be decoded (%s): left out", self.path(position), error)
            # Counts those found by other workers and by the resumed run.
            require_few_undecodable(int(self.undecodable.sum()), self.max_undecodable_share, len(self))
            position = (position + 1) % len(self)


def require_few_undecodable(undecodable: int, max_share: float, images: int) -> None:
    """Raise UndecodableImages if too many training images could not be decoded."""
    if undecodable > max_share * images:
        raise UndecodableImages(
            f"dataset.max_undecodable_share={max_share}: {undecodable} of {images} training images cannot be "
            "decoded; their paths are logged"
        )


class ImageFilesDataModule(LightningDataModule):
    """Verifies, splits and serves a dataset of image files, which a subclass lists (`read`).

    The arguments are explained in conf/dataset/multilabel.yaml. A checksum of None is not verified.

    Attributes:
        parts: Train, validation and test, after `setup`.

    Raises:
        ValueError: An argument is invalid.
    """

    file_keys: ClassVar[tuple[str, ...]]
    """Keys of `files`."""
    augmentation: Callable[[Tensor], Tensor] | None = None
    """The recipe's transform of a training image: see `lightning_modules.data.images.transformed`."""

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        files: Mapping[str, str | None],
        checksums: Mapping[str, str | None],
        num_classes: int,
        channels: int,
        image_size: int,
        split_seed: int,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        horizontal_flip: bool,
        min_crop_area: float,
        max_aspect_ratio: float,
        eval_crop_share: float,
        max_undecodable_share: float,
        num_workers: int | None,
    ) -> None:
        super().__init__()
        if not isinstance(root, str | os.PathLike):
            raise ValueError(f"dataset.root={root}: must be a folder")
        named = (*self.file_keys, IMAGES)
        for name, node, keys in (("files", files, self.file_keys), ("checksums", checksums, named)):
            if not isinstance(node, Mapping) or set(node) != set(keys):
                raise ValueError(f"dataset.{name}={node}: must have {', '.join(keys)}; each may be null")
        require_integer("dataset.num_classes", num_classes, 1)
        require_draws_and_batches(split_seed, seed, batch_size, eval_batch_size)
        self.crops = checked_crops(
            channels=channels,
            image_size=image_size,
            horizontal_flip=horizontal_flip,
            min_crop_area=min_crop_area,
            max_aspect_ratio=max_aspect_ratio,
            eval_crop_share=eval_crop_share,
        )
        require_number("dataset.max_undecodable_share", max_undecodable_share, 0, below=1)
        require_workers(num_workers)
        self.root = Path(os.path.expanduser(root))
        self.key = f"dataset.root={root}"
        self.files = dict(files)
        self.checksums = dict(checksums)
        self.num_classes = num_classes
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.max_undecodable_share = max_undecodable_share
        self.num_workers = num_workers
        self.parts: dict[str, ImageFiles] = {}

    @property
    def tables(self) -> Mapping[str, Any]:
        """Settings that list the images; empty if class folders do."""
        return {}

    @abstractmethod
    def read(self) -> dict[str, FilePart]:
        """Train, validation and test; ValueError if a file or setting is wrong."""

    def prepare_data(self) -> None:
        """See `setup`; nothing is downloaded."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """List, split and verify the images, once.

        Raises:
            ValueError: A file or setting is wrong, or there are too many processes.
        """
        if not self.parts:
            self._load()
        evaluated = {name: len(self.parts[name]) for name in ("validation", "test")}
        require_for_each_process(self, evaluated, "images")

    def _load(self) -> None:
        for key, name in self.files.items():
            if name is not None:
                self._verify(key, name)
        parts = self.read()
        self._verify_images()
        self.parts = {
            name: ImageFiles(self.root, part, self.crops, self.max_undecodable_share)
            for name, part in parts.items()
        }

    def file(self, key: str) -> Path:
        """Path of a file in `files`, which must be set."""
        name = self.files[key]
        assert name is not None
        return file_path(self.root, name)

    def _verify(self, key: str, name: str) -> None:
        path = file_path(self.root, name)
        try:
            actual = file_checksum(path)
        except FileNotFoundError:
            raise ValueError(f"dataset.files.{key}={name}: no such file: {path}") from None
        except OSError as error:
            raise ValueError(f"dataset.files.{key}={name}: {error}") from None
        if (expected := self.checksums[key]) not in (None, actual):
            found = "it appeared" if expected == MISSING else "another file, or it changed"
            raise ValueError(
                f"dataset.checksums.{key}={expected}: {path} has {actual}; {found} since the run was "
                "prepared: rerun the command"
            )

    def _verify_images(self) -> None:
        if (expected := self.checksums[IMAGES]) is None:
            return
        try:
            actual = images_checksum(self.root, self.tables)
        except OSError as error:
            raise ValueError(f"{self.key}: {error}") from None
        if actual != expected:
            raise ValueError(
                f"dataset.checksums.{IMAGES}={expected}: the images in {self.root} have {actual}; other "
                "images, or changed since the run was prepared: rerun the command"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented batches. Outside Lightning, call `sampler.set_epoch` every epoch."""
        part = self.parts["train"]
        return train_loader(
            self, part, self.batch_size, self.seed, num_workers=workers_of(self, self.num_workers)
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader(self.parts["validation"])

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader(self.parts["test"])

    def _eval_dataloader(self, part: ImageFiles) -> DataLoader[Batch]:
        return eval_loader(self, part, self.eval_batch_size, num_workers=workers_of(self, self.num_workers))

    def count_undecodable(self) -> int:
        """Undecodable training images so far. Every process must call this.

        It also shares them among processes, and so with their checkpoints.
        """
        undecodable = self.parts["train"].undecodable
        for positions in of_each_process(self.state_dict()["undecodable"]):
            undecodable[positions] = True
        return int(undecodable.sum())

    def state_dict(self) -> dict[str, Any]:
        """Positions of undecodable images, for a checkpoint."""
        return {"undecodable": self.parts["train"].undecodable.nonzero().flatten().tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.parts["train"].undecodable[state_dict["undecodable"]] = True


def checked_crops(
    *,
    channels: int,
    image_size: int,
    horizontal_flip: bool,
    min_crop_area: float,
    max_aspect_ratio: float,
    eval_crop_share: float,
) -> Crops:
    """The crops of a dataset of colour images.

    Raises:
        ValueError: An argument is invalid.
    """
    if channels != 3 or isinstance(channels, bool):
        raise ValueError(f"dataset.channels={channels}: must be 3, because images are decoded to RGB")
    require_integer("dataset.image_size", image_size, 1)
    require_boolean("dataset.horizontal_flip", horizontal_flip)
    for key, share in (("min_crop_area", min_crop_area), ("eval_crop_share", eval_crop_share)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"dataset.{key}={share}: must be a number above 0 and at most 1")
    require_number("dataset.max_aspect_ratio", max_aspect_ratio, 1)
    return Crops(
        image_size=image_size,
        horizontal_flip=horizontal_flip,
        min_crop_area=min_crop_area,
        max_aspect_ratio=max_aspect_ratio,
        eval_crop_share=eval_crop_share,
    )


def as_names(names: Iterable[str]) -> NDArray[np.bytes_]:
    """Relative paths for `FilePart`."""
    return np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
