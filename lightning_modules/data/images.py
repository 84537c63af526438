"""In-memory image datasets: split, batch order, augmentation, and the data module they share.

A dataset is one subclass of `ImageDataModule` that reads its files (or makes its parts, `make_parts`), and
one file in conf/dataset/.

Pairing: the split depends on `split_seed` alone; the order of the batches and the augmentation of every
image depend on (seed, epoch) alone. No global generator is used, so a run that resumes at epoch e sees the
batches of an uninterrupted one.

The paper names neither a held-out part nor an augmentation: both are ours. Images are x / 127.5 - 1, in
[-1, 1], as in the author's Keras preprocessing.
"""

import contextlib
import hashlib
import http.client
import io
import os
import re
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_all_start_methods
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_modules.data.checksums import CHECKSUM
from lightning_modules.processes import device_of, process_of, require_for_each_process
from lightning_modules.seeding import draws_of, generator
from lightning_modules.validation import MAX_SEED, require_boolean, require_integer

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W), float32 in [-1, 1] or, from files or a recipe's augmentation, uint8 (see `scaled`),
and labels: int64 (N,), or of several classes an image float32 (N, num_classes) of 0 and 1."""

UNIFORMS_PER_IMAGE = 3

SHARE_OF_MEMORY = 0.25
"""Of a GPU's free memory that the images of a dataset may fill. Ours: the network needs more than they do."""


class Part(NamedTuple):
    """A part of a dataset: images, uint8 (N, C, H, W), and labels.

    Labels are (N,) with one class an image, or (N, num_classes) of 0 and 1 with any number of them.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]


class Selection(NamedTuple):
    """One batch to be gathered: positions of its images, int64 (B,), and what to augment with.

    `uniforms`, float64 (B, 3) in [0, 1): horizontal flip, vertical and horizontal crop offset (images in
    files: flip, seed of the crop). `seeds`, int64 (B,): of what the recipe does to each image besides these.
    None where nothing is augmented.
    """

    indices: Tensor
    uniforms: Tensor | None
    seeds: Tensor | None = None


class EpochSampler(Sampler[Selection]):
    """The shuffled training batches of an epoch; Lightning calls `set_epoch` before each.

    The last, smaller batch is dropped: BN statistics of a few images are noise, of one an error.

    Args:
        num_images: of the training part.
        batch_size: images of a batch, over all processes.
        seed: of the run.
        process: this process, from 0. Each has a slice of every batch.
        processes: how many train together; `batch_size` is a multiple of it.
    """

    def __init__(
        self, num_images: int, batch_size: int, seed: int, *, process: int = 0, processes: int = 1
    ) -> None:
        assert batch_size % processes == 0, f"{batch_size} images for {processes} processes"
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.process = process
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images // self.batch_size

    def __iter__(self) -> Iterator[Selection]:
        draws = generator(self.seed, "epoch", self.epoch)
        order = torch.randperm(self.num_images, generator=draws)
        # Always all of them, so that switching one augmentation leaves the others' draws alone.
        uniforms = torch.rand(self.num_images, UNIFORMS_PER_IMAGE, dtype=torch.float64, generator=draws)
        of_recipe = generator(self.seed, "epoch", self.epoch, "augmentation")
        seeds = torch.randint(2**63 - 1, (self.num_images,), generator=of_recipe)
        share = self.batch_size // self.processes
        for batch in range(len(self)):
            start = batch * self.batch_size + self.process * share
            part = slice(start, start + share)
            yield Selection(order[part], uniforms[part], seeds[part])


def sequential_selections(
    num_images: int, batch_size: int, *, process: int = 0, processes: int = 1
) -> list[Selection]:
    """Every image once, in order, without augmentation; the last batch may be smaller.

    Of several processes each has its part, every image in one of them alone: nothing is repeated to make
    the parts equally large.
    """
    indices = torch.arange(num_images).tensor_split(processes)[process]
    return [Selection(part, None) for part in torch.split(indices, batch_size)]


def augment(images: Tensor, uniforms: Tensor, *, horizontal_flip: bool, crop_padding: int) -> Tensor:
    """Pads images with zeros (black), crops them back to their size, mirrors half of them.

    Args:
        images: uint8 (B, C, H, W), on any device.
        uniforms: float64 (B, 3), as in `Selection`, on the CPU: what is drawn is the same on every device.
        horizontal_flip: whether images whose first uniform is below 0.5 are mirrored.
        crop_padding: pixels on each side; 0 crops nothing.

    Returns:
        A new tensor, uint8 (B, C, H, W).
    """
    batch, channels, height, width = images.shape
    padded = functional.pad(images, [crop_padding] * 4)
    offsets = (uniforms[:, 1:] * (2 * crop_padding + 1)).long()
    rows = offsets[:, :1] + torch.arange(height)
    columns = torch.arange(width).expand(batch, width)
    if horizontal_flip:
        columns = torch.where(uniforms[:, :1] < 0.5, width - 1 - columns, columns)
    columns = offsets[:, 1:] + columns
    device = images.device
    rows, columns = sent(rows, device), sent(columns, device)
    return padded[
        torch.arange(batch, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on a device, which may still be on their way: neither waits for the other."""
    if device.type == "cpu":
        return values
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def scaled(images: Tensor) -> Tensor:
    """Images as a network takes them: bytes become float32 in [-1, 1], others stay as they are.

    Images from files, or changed by a recipe, are bytes until they are on the training device: a
    quarter of the time to write, send and copy.
    """
    if images.dtype != torch.uint8:
        return images
    # By a tensor, because CUDA multiplies by the reciprocal of a number, which rounds otherwise.
    return images.float().div_(torch.full((), 127.5, device=images.device)).sub_(1)


class Batches(Dataset[Batch]):
    """Images that are gathered a whole batch at a time: `part[selection]` is a batch."""

    @abstractmethod
    def __len__(self) -> int:
        """Images."""

    def in_bytes(self, selection: Selection) -> Batch:
        """A batch whose images are uint8: what a recipe changes."""
        return self[selection]


class ImageBatches(Batches):
    """Images in memory that are gathered, augmented and scaled a whole batch at a time, on their device."""

    def __init__(self, part: Part, *, horizontal_flip: bool, crop_padding: int) -> None:
        self.images = torch.tensor(part.images)
        several = part.labels.ndim == 2  # classes an image
        self.labels = torch.tensor(part.labels, dtype=torch.float32 if several else torch.int64)
        self.horizontal_flip = horizontal_flip
        self.crop_padding = crop_padding

    @property
    def on_device(self) -> bool:
        """Whether batches are made on another device than the CPU."""
        return self.images.device.type != "cpu"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.images.nbytes + self.labels.nbytes

    def move(self, device: torch.device) -> None:
        """Keep the images on a device, where batches are then made."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, selection: Selection) -> Batch:
        images, labels = self.in_bytes(selection)
        return scaled(images), labels

    def in_bytes(self, selection: Selection) -> Batch:
        indices = sent(selection.indices, self.images.device)
        images = self.images[indices]
        if selection.uniforms is not None and (self.horizontal_flip or self.crop_padding):
            images = augment(
                images,
                selection.uniforms,
                horizontal_flip=self.horizontal_flip,
                crop_padding=self.crop_padding,
            )
        return images, self.labels[indices]


class AugmentedBatches(Batches):
    """Batches of a part whose images a transform has changed, each with draws of its own; they are bytes.

    Args:
        part: What is changed, after what it does of itself.
        transform: Of an image: see `transformed`.
    """

    def __init__(self, part: Batches, transform: Callable[[Tensor], Tensor]) -> None:
        self.part = part
        self.transform = transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, selection: Selection) -> Batch:
        images, labels = self.part.in_bytes(selection)
        assert selection.seeds is not None, "what is evaluated is not augmented"
        changed = [
            transformed(image, self.transform, seed)
            for image, seed in zip(images, selection.seeds.tolist(), strict=True)
        ]
        return torch.stack(changed), labels


def transformed(image: Tensor, transform: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """An image that a transform of the recipe has changed.

    Args:
        image: uint8 (C, H, W).
        transform: Keeps type and shape, and draws from torch's global generator.
        seed: What it draws.

    Raises:
        ValueError: The transform gives another type or shape.
    """
    with draws_of(seed, "augmentation"):
        changed = transform(image)
    if not isinstance(changed, Tensor) or (changed.dtype, changed.shape) != (image.dtype, image.shape):
        size = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed)
        raise ValueError(
            f"recipe.augmentation.image: makes {size} of a training image, uint8 {tuple(image.shape)}; "
            "must keep type and shape"
        )
    return changed


def frozen_uniforms(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Draws in [0, 1) that stay the same in every NumPy version; see `frozen_permutation`."""
    raw = np.random.PCG64(seed).random_raw(shape)
    return (raw >> 11).astype(np.float64) * 2.0**-53  # 53 bits fill a float64


def frozen_permutation(length: int, seed: int) -> NDArray[np.int64]:
    """A permutation that stays the same in every NumPy version.

    NumPy promises a stable stream for its bit generators only, not for `permutation` (NEP 19);
    data that must never change is therefore ordered by the raw 64-bit draws.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable")


def draw_per_class(labels: NDArray[np.integer], per_class: int, seed: int) -> NDArray[np.int64]:
    """Ascending positions of `per_class` images of every class, drawn without replacement."""
    order = frozen_permutation(len(labels), seed)
    by_class = order[np.argsort(labels[order], kind="stable")]  # within a class as the permutation has it
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    assert (sizes >= per_class).all()
    return np.sort(by_class[starts[:, None] + np.arange(per_class)].ravel())


def require_draws_and_batches(
    split_seed: object, seed: object, batch_size: object, eval_batch_size: object
) -> None:
    """Require what every dataset draws from and is batched by.

    Raises:
        ValueError: a seed or a size is out of range.
    """
    require_integer("dataset.split_seed", split_seed, 0, MAX_SEED)
    require_integer("dataset.eval_batch_size", eval_batch_size, 1)
    # These two are the recipe's and the run's: named as the user sets them.
    require_integer("recipe.batch_size", batch_size, 1)
    require_integer("seed", seed, 0, MAX_SEED)


def require_a_batch(batch_size: int, images: int) -> None:
    """Require that the training images fill a batch. Who trains nothing needs none.

    Raises:
        ValueError: They do not.
    """
    if batch_size > images:
        raise ValueError(
            f"recipe.batch_size={batch_size}: must be from 1 to {images}, the number of training images"
        )


def require_multiple_of_classes(key: str, images: int, num_classes: int) -> None:
    """Require a number of images of which each class can have the same share.

    Raises:
        ValueError: `images` is no positive multiple of the classes.
    """
    require_integer(key, images, num_classes)
    if images % num_classes:
        raise ValueError(f"{key}={images}: must be a multiple of {num_classes}, the number of classes")


def split_per_class(
    labels: NDArray[np.integer], num_classes: int, validation_images: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending positions of the images that are kept, and of those that are held out.

    Args:
        labels: (N,), 0 to num_classes - 1.
        num_classes: Classes.
        validation_images: Held out, the same number of each class.
        seed: Draws them.

    Raises:
        ValueError: `validation_images` is no positive multiple of the classes, or leaves a class empty.
    """
    require_multiple_of_classes("dataset.validation_images", validation_images, num_classes)
    smallest = np.bincount(labels, minlength=num_classes).min()
    if validation_images >= smallest * num_classes:
        raise ValueError(
            f"dataset.validation_images={validation_images}: must be below {smallest * num_classes}, as the "
            f"smallest of the {num_classes} classes has {smallest} training images"
        )
    held_out = draw_per_class(labels, validation_images // num_classes, seed)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def hold_out(train: Part, num_classes: int, validation_images: int, seed: int) -> tuple[Part, Part]:
    """Split a training part with one class an image: what is kept, and what is held out of it.

    Raises:
        ValueError: As `split_per_class`.
    """
    kept, held_out = split_per_class(train.labels, num_classes, validation_images, seed)
    return Part(train.images[kept], train.labels[kept]), Part(train.images[held_out], train.labels[held_out])


def keep_per_class(train: Part, num_classes: int, train_images: int, seed: int) -> Part:
    """The same number of images of each class, drawn so that fewer are a subset of more.

    Args:
        train: With one class an image, 0 to num_classes - 1.
        num_classes: Classes.
        train_images: Of all classes together.
        seed: Draws them.

    Raises:
        ValueError: `train_images` is no positive multiple of the classes, or a class has too few.
    """
    require_multiple_of_classes("dataset.train_images", train_images, num_classes)
    smallest = np.bincount(train.labels, minlength=num_classes).min()
    if train_images > smallest * num_classes:
        raise ValueError(
            f"dataset.train_images={train_images}: must be at most {smallest * num_classes}, as the "
            f"smallest of the {num_classes} classes has {smallest} images to train on"
        )
    kept = draw_per_class(train.labels, train_images // num_classes, seed)
    return Part(train.images[kept], train.labels[kept])


class ImageDataModule(LightningDataModule):
    """Finds, verifies, splits and serves an image dataset that fits into memory.

    A subclass names its files and reads them (`decode`), and may download them.

    Args:
        root: folder of the files, or the one above `folders`; None is the package's own data.
        download: whether to download missing files into `root`.
        checksums: `sha256:...` or `md5:...` of each file's (decompressed) content.
        num_classes: labels are 0 to num_classes - 1.
        channels: of an image.
        image_size: height and width of an image, in pixels.
        validation_images: held out of the training part, the same number of each class.
        train_images: of the rest, the same number of each class, fewer are a subset of more; None: all.
        split_seed: draws both.
        batch_size: images of a training batch, over all processes.
        eval_batch_size: images of a validation or test batch, of each process.
        seed: of the run: draws order and augmentation, with the epoch.
        horizontal_flip: whether training images are mirrored with probability 0.5.
        crop_padding: pixels of black around a training image before a crop of its own size.

    Raises:
        ValueError: an argument has the wrong type or is out of range.
    """

    file_names: ClassVar[tuple[str, ...]]
    """The files of the dataset, as `checksums` names them."""
    suffixes: ClassVar[tuple[str, ...]] = ("",)
    """What a file's name may end in on disk, in order of preference."""
    folders: ClassVar[tuple[str, ...]]
    """Where in `root` the files may be; the last is where a download goes."""
    package_folder: ClassVar[Path | None] = None
    """Where the files are if `root` is None."""
    hint: ClassVar[str]
    """What to put where if a file is missing; `{root}` stands for the root."""
    most_classes: ClassVar[int | None] = 256
    """Labels are bytes in the files; None where those that are served are not the files'."""
    augmentation: Callable[[Tensor], Tensor] | None = None
    """What the recipe does to each training image, after what the dataset does: see `transformed`."""
    class_weights: Tensor | None = None
    """What each class counts where a metric weighs them, float32 (num_classes,); set by `setup`."""

    def __init__(
        self,
        *,
        root: str | os.PathLike[str] | None,
        download: bool,
        checksums: Mapping[str, str],
        num_classes: int,
        channels: int,
        image_size: int,
        validation_images: int,
        train_images: int | None,
        split_seed: int,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        horizontal_flip: bool,
        crop_padding: int,
    ) -> None:
        super().__init__()
        if root is None and self.package_folder is None:
            raise ValueError("dataset.root=null: must be a folder; this dataset is not embedded")
        if root is not None and not isinstance(root, str | os.PathLike):
            raise ValueError(f"dataset.root={root}: must be a folder")
        require_boolean("dataset.download", download)
        if root is None and download:
            raise ValueError("dataset.download=true: needs a dataset.root to download into")
        _check_checksums(checksums, self.file_names)
        require_boolean("dataset.horizontal_flip", horizontal_flip)
        require_integer("dataset.num_classes", num_classes, 1, self.most_classes)
        require_integer("dataset.channels", channels, 1)
        require_integer("dataset.image_size", image_size, 1)
        require_integer("dataset.crop_padding", crop_padding, 0, image_size)
        require_draws_and_batches(split_seed, seed, batch_size, eval_batch_size)

        self.key = f"dataset.root={'null' if root is None else root}"
        self.root = self.package_folder if root is None else Path(os.path.expanduser(root))
        self.download = download
        self.checksums = dict(checksums)
        self.num_classes = num_classes
        self.channels = channels
        self.image_size = image_size
        self.validation_images = validation_images
        self.train_images = train_images
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.horizontal_flip = horizontal_flip
        self.crop_padding = crop_padding
        self.parts: dict[str, ImageBatches] = {}

    @abstractmethod
    def decode(self, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
        """The training and the test part in the verified contents of `file_names`."""

    def read_file(self, path: Path) -> bytes:
        """The content that the checksum is of.

        Raises:
            ValueError: the file is damaged; says how.
            OSError: the file cannot be read.
        """
        return path.read_bytes()

    def download_into(self, folder: Path) -> None:
        """Downloads the files into `folder / self.folders[-1]`.

        Raises:
            RuntimeError: the dataset has no download, which is so unless a subclass has one.
            OSError: the download failed.
        """
        raise RuntimeError("this dataset has none")

    def prepare_data(self) -> None:
        """Downloads what is missing, if allowed, then verifies and loads (see `setup`).

        Safe in several processes at once: each downloads into its own folder and renames.

        Raises:
            ValueError: a file is missing or wrong, or a size does not fit the data.
        """
        missing = self._missing_files()
        if missing and self.download:
            self._download(missing)
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Reads, verifies and splits, once. Every stage needs the same files.

        Raises:
            ValueError: as `prepare_data`; or there are more processes than validation or test images.
        """
        if not self.parts:
            self._load()
        # Both before the first step, also where no trainer knew the processes when the data were loaded.
        evaluated = {name: len(self.parts[name]) for name in ("validation", "test")}
        require_for_each_process(self, evaluated, "images")

    def _load(self) -> None:
        parts = self.make_parts(*self.decode(self._read_verified()))
        self.parts = {
            name: ImageBatches(part, horizontal_flip=self.horizontal_flip, crop_padding=self.crop_padding)
            for name, part in parts.items()
        }

    def make_parts(self, train: Part, test: Part) -> dict[str, Part]:
        """The parts train, validation and test, from the files' training and test part.

        Raises:
            ValueError: a size that does not fit the data.
        """
        train, test = self._in_colour(train), self._in_colour(test)
        self._check_part("training", train)
        self._check_part("test", test)
        kept, held_out = hold_out(train, self.num_classes, self.validation_images, self.split_seed)
        if self.train_images is not None:
            kept = keep_per_class(kept, self.num_classes, self.train_images, self.split_seed)
        return {"train": kept, "validation": held_out, "test": test}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented batches. Outside Lightning: call `sampler.set_epoch` every epoch.

        Raises:
            ValueError: a batch is larger than the part.
        """
        # What a recipe does to each image by itself stays on the CPU: a GPU would start work for every image,
        # and round otherwise.
        part = self.parts["train"] if self.augmentation is not None else self._on_device("train")
        return train_loader(self, part, self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        return eval_loader(self, self._on_device("validation"), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return eval_loader(self, self._on_device("test"), self.eval_batch_size)

    def _on_device(self, name: str) -> "ImageBatches":
        """A part, moved to the device that trains where all parts fit there."""
        device, part = device_of(self), self.parts[name]
        if part.images.device != device and fits(sum(one.size for one in self.parts.values()), device):
            part.move(device)
        return part

    def _find(self, folder: Path, name: str) -> Path | None:
        candidates = (folder / f"{name}{suffix}" for suffix in self.suffixes)
        return next((path for path in candidates if os.path.isfile(path)), None)

    def _folder(self) -> Path:
        """The folder below the root that holds most of the files."""
        assert self.root is not None
        candidates = [self.root / folder for folder in self.folders]
        return max(candidates, key=lambda folder: sum(bool(self._find(folder, n)) for n in self.file_names))

    def _missing_files(self) -> list[str]:
        folder = self._folder()
        return [name for name in self.file_names if self._find(folder, name) is None]

    def _missing_error(self, missing: list[str], why: str = "") -> ValueError:
        return ValueError(f"{self.key}: missing {', '.join(missing)}{why}; {self._remedy()}")

    def _remedy(self) -> str:
        if self.root == self.package_folder:
            return "reinstall this package, or set dataset.root to a folder that holds the files"
        return self.hint.format(root=self.root)

    def _read_verified(self) -> dict[str, bytes]:
        missing = self._missing_files()
        if missing:
            raise self._missing_error(missing)
        contents = {}
        folder = self._folder()
        for name in self.file_names:
            path = self._find(folder, name)
            assert path is not None
            try:
                contents[name] = self.read_file(path)
                _verify(contents[name], self.checksums[name])
            except (OSError, ValueError) as error:
                raise ValueError(f"{self.key}: {path}: {error}; {self._remedy()}") from None
        return contents

    def _download(self, missing: list[str]) -> None:
        assert self.root is not None
        existed = self.root.exists()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (
                tempfile.TemporaryDirectory(dir=self.root, prefix=".download-") as scratch,
                contextlib.redirect_stderr(io.StringIO()),  # torchvision's progress bar
                contextlib.redirect_stdout(io.StringIO()),
                warnings.catch_warnings(action="ignore"),  # of torchvision's own reading
            ):
                self.download_into(Path(scratch))
                folder = self.root / self.folders[-1]
                folder.mkdir(parents=True, exist_ok=True)
                for name in self.file_names:
                    os.replace(Path(scratch) / self.folders[-1] / name, folder / name)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            if not existed:
                with contextlib.suppress(OSError):  # others may be putting files there
                    self.root.rmdir()
            why = " ".join(str(error).split())
            raise self._missing_error(missing, f" and the download failed ({why})") from None

    def _in_colour(self, part: Part) -> Part:
        """The part, or where three channels are asked for and it is grey, the one channel three times."""
        if self.channels == 3 and part.images.ndim == 4 and part.images.shape[1] == 1:
            return part._replace(images=np.repeat(part.images, 3, axis=1))
        return part

    def _check_part(self, name: str, part: Part) -> None:
        size = (self.channels, self.image_size, self.image_size)
        if part.images.shape[1:] != size:
            raise ValueError(
                f"dataset.channels={self.channels}, dataset.image_size={self.image_size}: the "
                f"{name} images are {' x '.join(map(str, part.images.shape[1:]))} "
                "(channels, height, width)"
            )
        if part.labels.shape != part.images.shape[:1] or not len(part.labels):
            raise ValueError(
                f"{self.key}: {len(part.images)} {name} images, but {len(part.labels)} labels; "
                "must be equally many, at least one"
            )
        if part.labels.min() < 0 or part.labels.max() >= self.num_classes:
            raise ValueError(
                f"dataset.num_classes={self.num_classes}: the {name} labels go from "
                f"{part.labels.min()} to {part.labels.max()}, must be 0 to {self.num_classes - 1}"
            )


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes may stay on a device; what is no GPU of NVIDIA shares the CPU's memory."""
    return device.type != "cuda" or size <= SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]


def train_loader(
    data: LightningDataModule, part: Batches, batch_size: int, seed: int, *, num_workers: int = 0
) -> DataLoader[Batch]:
    """The share that this process has of every shuffled batch of a part.

    Args:
        data: Whose loader it is; its trainer knows the processes, its `augmentation` changes the images.
        part: Takes a `Selection` as its index.
        batch_size: Images of a batch, of all processes together.
        seed: The run's.
        num_workers: Processes that decode.

    Raises:
        ValueError: A batch is larger than the part.
    """
    require_a_batch(batch_size, len(part))
    if (transform := getattr(data, "augmentation", None)) is not None:
        part = AugmentedBatches(part, transform)
    process, processes = process_of(data)
    sampler = EpochSampler(len(part), batch_size, seed, process=process, processes=processes)
    return make_loader(part, sampler, num_workers=num_workers, device=device_of(data))


def eval_loader(
    data: LightningDataModule, part: Batches, batch_size: int, *, num_workers: int = 0
) -> DataLoader[Batch]:
    """The share that this process has of a part, every image of which is in the share of one process.

    Args:
        data: Whose loader it is; its trainer knows the processes.
        part: Takes a `Selection` as its index.
        batch_size: Images of a batch of one process.
        num_workers: Processes that decode.
    """
    process, processes = process_of(data)
    selections = sequential_selections(len(part), batch_size, process=process, processes=processes)
    return make_loader(part, selections, num_workers=num_workers, device=device_of(data))


def make_loader(
    part: Dataset[Batch],
    selections: Sampler[Selection] | list[Selection] | None,
    *,
    num_workers: int = 0,
    device: torch.device | None = None,
) -> DataLoader[Batch]:
    """A loader of whole batches, which the part itself gathers: nothing is collated.

    Args:
        part: gives a batch for a selection.
        selections: the batches of an epoch; None where the part is a stream.
        num_workers: processes that gather; data in memory has no use for them.
        device: that trains; None: the CPU.
    """
    # A generator of its own: a loader draws a seed for its workers even where it has none, and
    # would draw it from the global generator.
    return DataLoader(
        part,
        batch_size=None,
        sampler=selections,
        num_workers=num_workers,
        # Python's default here. In a worker of joblib the start method is joblib's own, in which none starts.
        multiprocessing_context=get_all_start_methods()[0] if num_workers else None,
        persistent_workers=num_workers > 0 and selections is not None,
        # From pinned memory a GPU fetches a batch while it trains on another; some are on it already. A run
        # on the CPU must not pin: that would make it a user of the first GPU.
        pin_memory=device is not None
        and device.type == "cuda"
        and torch.cuda.is_available()
        and not getattr(part, "on_device", False),
        generator=torch.Generator(),
    )


def _verify(content: bytes, checksum: str) -> None:
    """Raises ValueError where the content has not the checksum, `sha256:...` or `md5:...`."""
    algorithm, _, expected = checksum.partition(":")
    actual = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise ValueError(
            f"wrong checksum, so truncated, changed or another file: {len(content)} bytes with "
            f"{algorithm}:{actual}, must have {checksum}"
        )


def _check_checksums(checksums: object, file_names: tuple[str, ...]) -> None:
    if not isinstance(checksums, Mapping) or set(checksums) != set(file_names):
        raise ValueError(f"dataset.checksums={checksums}: must have one for each of {', '.join(file_names)}")
    for name, checksum in checksums.items():
        if not re.fullmatch(CHECKSUM, str(checksum)):
            raise ValueError(f"dataset.checksums.{name}={checksum}: must be sha256: or md5: and its digits")
