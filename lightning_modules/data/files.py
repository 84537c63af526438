"""Datasets of images in files: decoded while training, in worker processes, a whole batch at a time.

Split, order and augmentation are those of the datasets in memory (`images`): drawn from (seed, epoch) by
the sampler and sent to a worker with a batch's positions, so they do not depend on the number of workers.

An image that cannot be decoded::

    training      is replaced by the next image of the part, named once and counted; beyond
                  `max_undecodable_share` of the training images the run stops
    evaluation    stops the run

Images are identified by their content (`checksums`), which is verified when a run begins or continues.
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

from lightning_modules.cores import usable_cores
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
    train_loader,
)
from lightning_modules.processes import of_each_process, require_for_each_process
from lightning_modules.validation import require_boolean, require_integer, require_number

log = logging.getLogger(__name__)

MOST_WORKERS = 1024
"""More is a typing error: each is a process."""


class Labels(Protocol):
    """The labels of a part: those of the images at some positions, as a loss takes them."""

    def __getitem__(self, positions: Tensor) -> Tensor: ...


class FilePart(NamedTuple):
    """A part of a dataset: paths of its images relative to the root, as bytes (N,), and their labels."""

    names: NDArray[np.bytes_]  # no list of str: workers would copy it by counting references
    labels: Labels


class UndecodableImages(ValueError):
    """More images cannot be decoded than is allowed, or one that is evaluated. One line.

    A loader makes a worker's exception anew from its traceback, of which only the message is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


class ImageFiles(Batches):
    """Images in files that are decoded and cropped straight into a batch of bytes.

    Args:
        root: Folder that the names are relative to.
        part: Names and labels.
        crops: What of an image is shown.
        max_undecodable_share: Of the images, beyond which training stops.

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
            UndecodableImages: see the module.
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
                f"dataset.root={self.root}: {self.path(position)} cannot be decoded ({error}); an image that "
                "is evaluated must be; with another image it is another run"
            ) from None

    def _trained(self, position: int, uniforms: Tensor) -> tuple[Tensor, int]:
        """The image at a position or the next that can be decoded, and where that is."""
        while True:
            if not self.undecodable[position]:
                try:
                    return self.crops.for_training(decode_rgb(self.path(position)), uniforms), position
                except UndecodableImage as error:
                    self.undecodable[position] = True
                    log.warning("%s cannot be decoded (%s): left out", self.path(position), error)
            # Also where it was found by another worker, or by the run that this one goes on from.
            require_few_undecodable(int(self.undecodable.sum()), self.max_undecodable_share, len(self))
            position = (position + 1) % len(self)


def require_few_undecodable(undecodable: int, max_share: float, images: int) -> None:
    """Require that at most a share of the training images could not be decoded.

    Raises:
        UndecodableImages: it is more.
    """
    if undecodable > max_share * images:
        raise UndecodableImages(
            f"dataset.max_undecodable_share={max_share}: {undecodable} of {images} training images cannot be "
            "decoded; their paths are logged"
        )


class ImageFilesDataModule(LightningDataModule):
    """Verifies, splits and serves a dataset of image files. A subclass lists them (`read`).

    Args:
        root: Folder of the images.
        files: Lists and tables of the dataset, relative to `root`; None: there is none.
        checksums: Of each of `files` and of the `images`; None is not verified.
        num_classes: Labels are 0 to num_classes - 1.
        channels: Of an image as it is served: 3.
        image_size: Height and width of an image as it is served, in pixels.
        split_seed: Draws the held-out images.
        batch_size: Images of a training batch, over all processes.
        eval_batch_size: Images of a validation or test batch, of each process.
        seed: Of the run: draws order and augmentation, with the epoch.
        horizontal_flip, min_crop_area, max_aspect_ratio, eval_crop_share: See `Crops`.
        max_undecodable_share: Of the training images, in [0, 1); more stop the run.
        num_workers: Processes that decode; 0: the training process itself; None: the cores of this process,
            divided among the processes of the run on this machine.

    Attributes:
        parts: Train, validation and test, after `setup`.

    Raises:
        ValueError: An argument has the wrong type or is out of range.
    """

    file_keys: ClassVar[tuple[str, ...]]
    """What `files` names."""
    augmentation: Callable[[Tensor], Tensor] | None = None
    """What the recipe does to each training image: see `lightning_modules.data.images.transformed`."""

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
                raise ValueError(f"dataset.{name}={node}: must have {', '.join(keys)}, maybe null")
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
        if num_workers is not None:
            require_integer("dataset.num_workers", num_workers, 0, MOST_WORKERS)
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
        """What tells which images are listed, where they are not all that class folders hold."""
        return {}

    @abstractmethod
    def read(self) -> dict[str, FilePart]:
        """Train, validation and test.

        Raises:
            ValueError: one line: the key, what is wrong, what is allowed.
        """

    def prepare_data(self) -> None:
        """Verifies and lists (see `setup`); nothing is downloaded.

        Raises:
            ValueError: as `setup`.
        """
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Lists the images, splits them and verifies the checksums, once.

        Raises:
            ValueError: one line: the key, what is wrong, what is allowed.
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
        """Where a file of `files` that is not None is."""
        name = self.files[key]
        assert name is not None
        return file_path(self.root, name)

    def _verify(self, key: str, name: str) -> None:
        path = file_path(self.root, name)
        try:
            actual = file_checksum(path)
        except FileNotFoundError:
            raise ValueError(f"dataset.files.{key}={name}: there is no file {path}") from None
        except OSError as error:
            raise ValueError(f"dataset.files.{key}={name}: {error}") from None
        if (expected := self.checksums[key]) not in (None, actual):
            since = "it appeared" if expected == MISSING else "it is changed or another file"
            raise ValueError(
                f"dataset.checksums.{key}={expected}: {path} has {actual}; {since}, so start the run anew"
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
                f"dataset.checksums.{IMAGES}={expected}: the images in {self.root} have {actual}; they are "
                "others, or changed while the run was prepared: start it anew"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented batches. Outside Lightning: call `sampler.set_epoch` every epoch.

        Raises:
            ValueError: a batch is larger than the part.
        """
        part = self.parts["train"]
        return train_loader(self, part, self.batch_size, self.seed, num_workers=self._workers())

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader(self.parts["validation"])

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader(self.parts["test"])

    def _eval_dataloader(self, part: ImageFiles) -> DataLoader[Batch]:
        return eval_loader(self, part, self.eval_batch_size, num_workers=self._workers())

    def _workers(self) -> int:
        if self.num_workers is not None:
            return self.num_workers
        return max(1, usable_cores() // getattr(self.trainer, "num_devices", 1))

    def count_undecodable(self) -> int:
        """Training images that could not be decoded so far, each once. Every process must call this.

        From then on each process, and its checkpoint, knows of those that the others met.
        """
        undecodable = self.parts["train"].undecodable
        for positions in of_each_process(self.state_dict()["undecodable"]):
            undecodable[positions] = True
        return int(undecodable.sum())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which images could not be decoded."""
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
        ValueError: an argument has the wrong type or is out of range.
    """
    if channels != 3 or isinstance(channels, bool):
        raise ValueError(f"dataset.channels={channels}: must be 3, as every image is decoded to RGB")
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
    """Relative paths as `FilePart` holds them."""
    return np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
