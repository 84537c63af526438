"""In-memory image datasets: split, batch order, augmentation, and the data module they share.

A dataset is a subclass of `ImageDataModule` and a file in conf/dataset/.

The split depends only on `split_seed`, batch order and augmentation only on (seed, epoch), so a resumed run
sees the same batches. Pixels are x / 127.5 - 1, in [-1, 1], as in the author's Keras preprocessing. The
paper gives neither a validation set nor an augmentation; both are ours.
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

from lightning_modules.cores import usable_cores
from lightning_modules.data.checksums import CHECKSUM
from lightning_modules.processes import device_of, process_of, require_for_each_process
from lightning_modules.seeding import draws_of, generator
from lightning_modules.validation import MAX_SEED, require_boolean, require_integer

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W), float32 in [-1, 1] or uint8 (see `scaled`), and labels: int64 (N,), or float32
(N, num_classes) of 0 and 1 for several classes per image."""

UNIFORMS_PER_IMAGE = 3

MOST_WORKERS = 1024
"""More is a typing error."""

SHARE_OF_MEMORY = 0.25
"""Largest share of a GPU's free memory that a dataset's images may fill. Ours."""


class Part(NamedTuple):
    """Part of a dataset: images, uint8 (N, C, H, W); labels (N,), or (N, num_classes) of 0 and 1."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]


class Selection(NamedTuple):
    """Positions of a batch's images, int64 (B,), and the draws that augment them (None: no augmentation).

    `uniforms`, float64 (B, 3) in [0, 1): horizontal flip, vertical and horizontal crop offset (image files:
    flip, seed of the crop). `seeds`, int64 (B,): for the recipe's augmentation of each image.
    """

    indices: Tensor
    uniforms: Tensor | None
    seeds: Tensor | None = None


class EpochSampler(Sampler[Selection]):
    """The shuffled training batches of an epoch; Lightning calls `set_epoch` before each.

    The last, smaller batch is dropped: its BN statistics would be noise, or an error for a single image.
    `batch_size` is over all `processes`; process number `process` gets its slice of every batch.
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
        # Always draw all, so that switching off one augmentation does not change the others.
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
    """The process's images in order, without augmentation. No image is repeated, so shares may differ."""
    indices = torch.arange(num_images).tensor_split(processes)[process]
    return [Selection(part, None) for part in torch.split(indices, batch_size)]


def augment(images: Tensor, uniforms: Tensor, *, horizontal_flip: bool, crop_padding: int) -> Tensor:
    """Pad images with black, crop them to their size, and mirror those whose first uniform is below 0.5.

    Args:
        images: uint8 (B, C, H, W), on any device.
        uniforms: As in `Selection`, on the CPU, so that all devices use the same draws.
        horizontal_flip: Whether to mirror.
        crop_padding: Pixels per side.
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
    """Copy values from the CPU to a device without waiting."""
    if device.type == "cpu":
        return values
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def scaled(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [-1, 1]; others stay.

    Image files and augmented images are bytes until they reach the training device: a quarter of the memory.
    """
    if images.dtype != torch.uint8:
        return images
    # A tensor, because CUDA would multiply by a number's reciprocal, which rounds differently.
    return images.float().div_(torch.full((), 127.5, device=images.device)).sub_(1)


class Batches(Dataset[Batch]):
    """A dataset indexed by `Selection`, which yields a whole batch."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    def in_bytes(self, selection: Selection) -> Batch:
        """A batch of uint8 images, for the recipe's augmentation."""
        return self[selection]


class ImageBatches(Batches):
    """Images in memory; batches are gathered, augmented and scaled on the device that holds them."""

    def __init__(self, part: Part, *, horizontal_flip: bool, crop_padding: int) -> None:
        self.images = torch.tensor(part.images)
        several = part.labels.ndim == 2  # classes per image
        self.labels = torch.tensor(part.labels, dtype=torch.float32 if several else torch.int64)
        self.horizontal_flip = horizontal_flip
        self.crop_padding = crop_padding

    @property
    def on_device(self) -> bool:
        return self.images.device.type != "cpu"

    @property
    def size(self) -> int:
        return self.images.nbytes + self.labels.nbytes

    def move(self, device: torch.device) -> None:
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
    """Batches of uint8 images, each changed by the recipe's transform."""

    def __init__(self, part: Batches, transform: Callable[[Tensor], Tensor]) -> None:
        self.part = part
        self.transform = transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, selection: Selection) -> Batch:
        images, labels = self.part.in_bytes(selection)
        assert selection.seeds is not None, "evaluation is not augmented"
        changed = [
            transformed(image, self.transform, seed)
            for image, seed in zip(images, selection.seeds.tolist(), strict=True)
        ]
        return torch.stack(changed), labels


def transformed(image: Tensor, transform: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """Apply the recipe's transform to an image, uint8 (C, H, W), with torch's global generator seeded.

    Raises:
        ValueError: The transform changes dtype or shape.
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
    """Uniform draws in [0, 1), the same in every NumPy version; see `frozen_permutation`."""
    raw = np.random.PCG64(seed).random_raw(shape)
    return (raw >> 11).astype(np.float64) * 2.0**-53  # 53 bits fill a float64


def frozen_permutation(length: int, seed: int) -> NDArray[np.int64]:
    """A permutation, the same in every NumPy version: NEP 19 guarantees bit generators, not `permutation`."""
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable")


def draw_per_class(labels: NDArray[np.integer], per_class: int, seed: int) -> NDArray[np.int64]:
    """Ascending positions of `per_class` images of each class, drawn without replacement."""
    order = frozen_permutation(len(labels), seed)
    by_class = order[np.argsort(labels[order], kind="stable")]  # keeps the permutation within a class
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    assert (sizes >= per_class).all()
    return np.sort(by_class[starts[:, None] + np.arange(per_class)].ravel())


def require_draws_and_batches(
    split_seed: object, seed: object, batch_size: object, eval_batch_size: object
) -> None:
    """Raise ValueError if a seed or batch size is out of range."""
    require_integer("dataset.split_seed", split_seed, 0, MAX_SEED)
    require_integer("dataset.eval_batch_size", eval_batch_size, 1)
    # Named as the user sets them: `batch_size` is the recipe's, `seed` the run's.
    require_integer("recipe.batch_size", batch_size, 1)
    require_integer("seed", seed, 0, MAX_SEED)


def require_workers(num_workers: object) -> None:
    """Raise ValueError if the number of workers is out of range."""
    if num_workers is not None:
        require_integer("dataset.num_workers", num_workers, 0, MOST_WORKERS)


def workers_of(data: LightningDataModule, num_workers: int | None) -> int:
    """`num_workers`; if it is None, the process's share of the cores."""
    if num_workers is not None:
        return num_workers
    return max(1, usable_cores() // getattr(data.trainer, "num_devices", 1))


def require_a_batch(batch_size: int, images: int) -> None:
    """Raise ValueError if there are fewer training images than a batch has."""
    if batch_size > images:
        raise ValueError(
            f"recipe.batch_size={batch_size}: must be from 1 to {images}, the number of training images"
        )


def require_multiple_of_classes(key: str, images: int, num_classes: int) -> None:
    """Raise ValueError unless `images` is a positive multiple of the number of classes."""
    require_integer(key, images, num_classes)
    if images % num_classes:
        raise ValueError(f"{key}={images}: must be a multiple of {num_classes}, the number of classes")


def split_per_class(
    labels: NDArray[np.integer], num_classes: int, validation_images: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending positions of the training and the held-out images, the latter equally many per class.

    Raises:
        ValueError: `validation_images` is not a positive multiple of the classes, or would empty a class.
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
    """Split a single-label training part into training and validation."""
    kept, held_out = split_per_class(train.labels, num_classes, validation_images, seed)
    return Part(train.images[kept], train.labels[kept]), Part(train.images[held_out], train.labels[held_out])


def keep_per_class(train: Part, num_classes: int, train_images: int, seed: int) -> Part:
    """Draw `train_images`, equally many per class; a smaller draw is a subset of a larger one.

    Raises:
        ValueError: `train_images` is not a positive multiple of the classes, or a class has too few images.
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

    A subclass names and decodes its files, and may download them.

    The arguments are explained in conf/dataset/fashion_mnist.yaml. `root=None` is the package's own data.

    Raises:
        ValueError: An argument is invalid.
    """

    file_names: ClassVar[tuple[str, ...]]
    """Names of the dataset's files, the keys of `checksums`."""
    suffixes: ClassVar[tuple[str, ...]] = ("",)
    """Possible suffixes of the files on disk, the preferred first."""
    folders: ClassVar[tuple[str, ...]]
    """Possible folders of the files below `root`; downloads go to the last."""
    package_folder: ClassVar[Path | None] = None
    """Folder of the embedded files."""
    hint: ClassVar[str]
    """What the user can do about a missing file; `{root}` is filled in."""
    most_classes: ClassVar[int | None] = 256
    """Largest number of classes that the files can label; None: no limit."""
    augmentation: Callable[[Tensor], Tensor] | None = None
    """The recipe's augmentation, after the dataset's own: see `transformed`."""
    class_weights: Tensor | None = None
    """Weight of each class in weighted metrics, float32 (num_classes,); set by `setup`."""

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
        num_workers: int | None,
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
        require_workers(num_workers)
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
        self.num_workers = num_workers
        self.parts: dict[str, ImageBatches] = {}

    @abstractmethod
    def decode(self, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
        """The training and test part from the verified contents of `file_names`."""

    def read_file(self, path: Path) -> bytes:
        """The content to verify and decode; ValueError if it is damaged, OSError if it cannot be read."""
        return path.read_bytes()

    def download_into(self, folder: Path) -> None:
        """Download the files into `folder / self.folders[-1]`; OSError if it fails."""
        raise RuntimeError("this dataset has no download")

    def prepare_data(self) -> None:
        """Download missing files, if allowed, then `setup`.

        Safe in several processes: each downloads into its own folder and renames.

        Raises:
            ValueError: A file is missing or wrong, or a size does not fit the data.
        """
        missing = self._missing_files()
        if missing and self.download:
            self._download(missing)
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read, verify and split, once for all stages.

        Raises:
            ValueError: As `prepare_data`; or there are more processes than validation or test images.
        """
        if not self.parts:
            self._load()
        # Check both parts here: the data may have been loaded before there was a trainer.
        evaluated = {name: len(self.parts[name]) for name in ("validation", "test")}
        require_for_each_process(self, evaluated, "images")

    def _load(self) -> None:
        parts = self.make_parts(*self.decode(self._read_verified()))
        self.parts = {
            name: ImageBatches(part, horizontal_flip=self.horizontal_flip, crop_padding=self.crop_padding)
            for name, part in parts.items()
        }

    def make_parts(self, train: Part, test: Part) -> dict[str, Part]:
        """Split the files' two parts into train, validation and test.

        Raises:
            ValueError: A size does not fit the data.
        """
        train, test = self._in_colour(train), self._in_colour(test)
        self._check_part("training", train)
        self._check_part("test", test)
        kept, held_out = hold_out(train, self.num_classes, self.validation_images, self.split_seed)
        if self.train_images is not None:
            kept = keep_per_class(kept, self.num_classes, self.train_images, self.split_seed)
        return {"train": kept, "validation": held_out, "test": test}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented batches. Outside Lightning, call `sampler.set_epoch` every epoch."""
        if self.augmentation is None:
            return train_loader(self, self._on_device("train"), self.batch_size, self.seed)
        # The recipe augments on the CPU: a GPU would start kernels for each image and round differently.
        workers = workers_of(self, self.num_workers) if device_of(self).type != "cpu" else 0
        return train_loader(self, self.parts["train"], self.batch_size, self.seed, num_workers=workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        return eval_loader(self, self._on_device("validation"), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return eval_loader(self, self._on_device("test"), self.eval_batch_size)

    def _on_device(self, name: str) -> "ImageBatches":
        """A part, on the training device if all parts fit there."""
        device, part = device_of(self), self.parts[name]
        if part.images.device != device and fits(sum(one.size for one in self.parts.values()), device):
            part.move(device)
        return part

    def _find(self, folder: Path, name: str) -> Path | None:
        candidates = (folder / f"{name}{suffix}" for suffix in self.suffixes)
        return next((path for path in candidates if os.path.isfile(path)), None)

    def _folder(self) -> Path:
        """The folder with most of the files."""
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
                warnings.catch_warnings(action="ignore"),  # from torchvision's own reading
            ):
                self.download_into(Path(scratch))
                folder = self.root / self.folders[-1]
                folder.mkdir(parents=True, exist_ok=True)
                for name in self.file_names:
                    os.replace(Path(scratch) / self.folders[-1] / name, folder / name)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            if not existed:
                with contextlib.suppress(OSError):  # other processes may be downloading into it
                    self.root.rmdir()
            why = " ".join(str(error).split())
            raise self._missing_error(missing, f" and the download failed ({why})") from None

    def _in_colour(self, part: Part) -> Part:
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
                "must be equal numbers of at least 1"
            )
        if part.labels.min() < 0 or part.labels.max() >= self.num_classes:
            raise ValueError(
                f"dataset.num_classes={self.num_classes}: the {name} labels go from "
                f"{part.labels.min()} to {part.labels.max()}, must be 0 to {self.num_classes - 1}"
            )


def fits(size: int, device: torch.device) -> bool:
    """Whether this many bytes may stay on a device; others than CUDA share the CPU's memory."""
    return device.type != "cuda" or size <= SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]


def train_loader(
    data: LightningDataModule, part: Batches, batch_size: int, seed: int, *, num_workers: int = 0
) -> DataLoader[Batch]:
    """The process's share of every shuffled, augmented batch; `batch_size` is over all processes.

    Raises:
        ValueError: The batch is larger than the part.
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
    """The process's images of a part, in order; `batch_size` is per process."""
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
    """A loader of whole batches, one per selection; without selections, of a stream."""
    # A loader draws a seed even without workers; not from the global generator.
    return DataLoader(
        part,
        batch_size=None,
        sampler=selections,
        num_workers=num_workers,
        # Python's default start method: within joblib's workers it is loky, with which none can start.
        multiprocessing_context=get_all_start_methods()[0] if num_workers else None,
        persistent_workers=num_workers > 0 and selections is not None,
        # A GPU copies from pinned memory while it trains. A CPU run must not pin: it would open the first
        # GPU.
        pin_memory=device is not None
        and device.type == "cuda"
        and torch.cuda.is_available()
        and not getattr(part, "on_device", False),
        generator=torch.Generator(),
    )


def _verify(content: bytes, checksum: str) -> None:
    """Raise ValueError unless the content has the checksum, `sha256:...` or `md5:...`."""
    algorithm, _, expected = checksum.partition(":")
    actual = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise ValueError(
            f"wrong checksum; the file is truncated, changed or another one: {len(content)} bytes with "
            f"{algorithm}:{actual} instead of {checksum}"
        )


def _check_checksums(checksums: object, file_names: tuple[str, ...]) -> None:
    if not isinstance(checksums, Mapping) or set(checksums) != set(file_names):
        raise ValueError(f"dataset.checksums={checksums}: must have one for each of {', '.join(file_names)}")
    for name, checksum in checksums.items():
        if not re.fullmatch(CHECKSUM, str(checksum)):
            raise ValueError(f"dataset.checksums.{name}={checksum}: must be sha256:DIGITS or md5:DIGITS")
