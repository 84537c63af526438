"""ImageNet, or single-label images, streamed from tar files ("shards") of WebDataset.

For clusters where a million small files are slow. A shard holds pairs of an image (KEY.jpg or another of
`IMAGE_SUFFIXES`) and its class index as text (KEY.cls). Validation and test have their own shards (see
"Protocol" in `imagenet`).

An epoch shows every training image once, except those that fill no batch. Shards are divided among processes
and, within a process, among `streams` workers; each mixes its shards per epoch and its images in a buffer.

::

    augmentation of an image    depends on (seed, epoch, its key)
    batches                     depend on (seed, epoch, streams, processes), which are part of the identity

All processes take equally many steps. If their images differ in number, a process that runs out starts its
shards again, and one with more leaves some out; equal shards in a multiple of the processes avoid both.

Source: https://github.com/webdataset/webdataset.
"""

import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_modules.data.checksums import (
    IMAGE_SUFFIXES,
    SHARDS,
    address,
    expanded,
    is_address,
    is_hidden,
    shards_checksum,
)
from lightning_modules.data.decoding import Crops, UndecodableImage, decode_rgb
from lightning_modules.data.files import UndecodableImages, checked_crops, require_few_undecodable
from lightning_modules.data.images import (
    UNIFORMS_PER_IMAGE,
    Batch,
    make_loader,
    require_a_batch,
    require_draws_and_batches,
    transformed,
)
from lightning_modules.processes import device_of, of_each_process, process_of, require_for_each_process
from lightning_modules.seeding import derive_seed, generator
from lightning_modules.validation import require_integer, require_number, require_one_of

PARTS = ("train", "validation", "test")
IMAGES = tuple(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
LABEL = "cls"
log = logging.getLogger(__name__)


class ShardStream(IterableDataset[Batch]):
    """Batches from the shards of one process, or of one of its workers; the last may be smaller.

    `shards` are paths or addresses, in order, divided among all workers of all processes.
    """

    def __init__(
        self,
        shards: list[str],
        *,
        num_classes: int,
        crops: Crops,
        batch_size: int,
        rank: int,
        processes: int,
    ) -> None:
        self.shards = shards
        self.num_classes = num_classes
        self.crops = crops
        self.batch_size = batch_size
        self.rank = rank
        self.processes = processes

    def _consumer(self) -> tuple[int, int]:
        """Index of this worker among all workers of all processes, and their number."""
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return number * self.processes + self.rank, workers * self.processes

    def samples(self) -> Iterator[dict[str, Any]]:
        """The undecoded samples of this worker's shards, in order."""
        from webdataset.gopen import gopen
        from webdataset.tariterators import group_by_keys, tar_file_expander

        consumer, consumers = self._consumer()
        for shard in self.shards[consumer::consumers]:
            with gopen(shard) as stream:  # webdataset's own opener closes only at garbage collection
                files = tar_file_expander([{"url": shard, "stream": stream}], select_files=_is_visible)
                yield from group_by_keys(files)

    def squares(self) -> Iterator[tuple[Tensor, int]]:
        """Cropped images, uint8 (3, S, S), and their labels.

        Raises:
            UndecodableImages: An image cannot be decoded; see `files`.
        """
        for sample in self.samples():
            content, label = self.read(sample)
            try:
                yield self.crops.for_evaluation(decode_rgb(content)), label
            except UndecodableImage as error:
                raise UndecodableImages(
                    f"dataset.shards: {_name(sample)} cannot be decoded ({error}); replace it and rerun the "
                    "command; a changed validation shard makes another run"
                ) from None

    def read(self, sample: Mapping[str, Any]) -> tuple[bytes, int]:
        """A sample's encoded image and label.

        Raises:
            ValueError: One is missing, or the label is not a class.
        """
        content = next((sample[suffix] for suffix in IMAGES if suffix in sample), None)
        if content is None or LABEL not in sample:
            raise ValueError(
                f"dataset.shards: {_name(sample)}: must have an image ({', '.join(IMAGES)}) and .{LABEL}"
            )
        text = sample[LABEL].decode(errors="replace").strip()
        if not text.isascii() or not text.isdigit() or int(text) >= self.num_classes:
            raise ValueError(
                f"dataset.num_classes={self.num_classes}: {_name(sample)} has label {text!s:.40}, must be 0 "
                f"to {self.num_classes - 1}"
            )
        return content, int(text)

    def __iter__(self) -> Iterator[Batch]:
        images, labels = self.crops.empty(self.batch_size), torch.empty(self.batch_size, dtype=torch.int64)
        filled = 0
        for square, label in self.squares():
            images[filled], labels[filled] = square, label
            filled += 1
            if filled == self.batch_size:
                yield images, labels
                images, labels, filled = torch.empty_like(images), torch.empty_like(labels), 0
        if filled:
            yield images[:filled], labels[:filled]


class TrainingStream(ShardStream):
    """Batches of one training epoch: shards and images mixed, augmented.

    Args:
        expected_images: Number of images in all streams.
        undecodable: int64 (workers,), in shared memory: images that each worker could not decode.
        **settings: As `ShardStream`; the other arguments as `ImageNetShards`.
    """

    def __init__(
        self,
        shards: list[str],
        *,
        seed: int,
        epoch: int,
        shuffle_buffer: int,
        max_undecodable_share: float,
        expected_images: int,
        undecodable: Tensor,
        augmentation: Callable[[Tensor], Tensor] | None,
        **settings: Any,
    ) -> None:
        order = torch.randperm(len(shards), generator=generator(seed, "epoch", epoch)).tolist()
        super().__init__([shards[position] for position in order], **settings)
        self.seed = seed
        self.epoch = epoch
        self.shuffle_buffer = shuffle_buffer
        self.max_undecodable_share = max_undecodable_share
        self.expected_images = expected_images
        self.undecodable = undecodable
        self.augmentation = augmentation

    def samples(self) -> Iterator[dict[str, Any]]:
        """As in `ShardStream`, mixed."""
        import webdataset

        consumer, _ = self._consumer()
        draws = random.Random(derive_seed(self.seed, "epoch", self.epoch, "stream", consumer))
        mix = webdataset.shuffle(self.shuffle_buffer, initial=self.shuffle_buffer, rng=draws)
        return mix(super().samples())

    def squares(self) -> Iterator[tuple[Tensor, int]]:
        """As in `ShardStream`; the next image replaces an undecodable one."""
        undecodable = missing = 0
        shown = None
        _, consumers = self._consumer()
        worker = get_worker_info()
        of_epoch = self.undecodable[0 if worker is None else worker.id]
        for sample in self.samples():
            content, label = self.read(sample)
            draws = generator(self.seed, "epoch", self.epoch, "image", sample["__key__"])
            uniforms = torch.rand(UNIFORMS_PER_IMAGE, dtype=torch.float64, generator=draws)
            try:
                shown = self.crops.for_training(decode_rgb(content), uniforms), label
            except UndecodableImage as error:
                log.warning("%s cannot be decoded (%s): left out", _name(sample), error)
                undecodable, missing = undecodable + 1, missing + 1
                of_epoch.clamp_(min=undecodable)  # a process may read its shards twice in an epoch
                require_few_undecodable(
                    undecodable, self.max_undecodable_share, self.expected_images // consumers
                )
                continue
            if self.augmentation is not None:
                own = derive_seed(self.seed, "epoch", self.epoch, "augmentation", sample["__key__"])
                shown = transformed(shown[0], self.augmentation, own), label
            for _ in range(1 + missing):
                yield shown
            missing = 0
        if shown is not None:  # undecodable images at the end of the stream
            for _ in range(missing):
                yield shown


class TrainingShards:
    """An epoch's training batches, equally many in every process and epoch, for Lightning.

    `batch_size` is over all processes and a multiple of their number; `settings` are those of
    `TrainingStream` that depend on neither epoch nor process.

    Attributes:
        undecodable: int64 (workers,), undecodable images of the last epoch.
    """

    def __init__(
        self,
        shards: list[str],
        *,
        train_images: int,
        batch_size: int,
        streams: int,
        rank: int,
        processes: int,
        device: torch.device,
        **settings: Any,
    ) -> None:
        assert batch_size % processes == 0, f"{batch_size} images for {processes} processes"
        self.shards = shards
        self.rank = rank
        self.processes = processes
        self.train_images = train_images
        self.batch_size = batch_size
        self.streams = streams
        self.device = device
        self.settings = settings
        self.epoch = 0
        self.undecodable = torch.zeros(max(1, streams), dtype=torch.int64).share_memory_()

    @property
    def sampler(self) -> "TrainingShards":
        """Lightning calls `set_epoch` of this attribute."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.train_images // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """
        Raises:
            ValueError: The number of batches shows that the shards do not hold `train_images`.
        """
        self.undecodable.zero_()
        alone = self.processes == 1
        batches = self._batches(endless=not alone)
        for number in range(1, len(self) + 1):
            batch = next(batches, None)
            # Ask for one batch more before yielding the last: nobody asks after it.
            if batch is None or (alone and number == len(self) and next(batches, None) is not None):
                raise ValueError(
                    f"dataset.train_images={self.train_images}: the training shards hold "
                    f"{'fewer' if batch is None else 'more'} images"
                )
            yield batch

    def _batches(self, *, endless: bool) -> Iterator[Batch]:
        """The process's shares of full batches; incomplete last batches of streams are joined."""
        share = self.batch_size // self.processes
        rest: list[Batch] = []
        while True:
            stream = TrainingStream(
                self.shards,
                epoch=self.epoch,
                batch_size=share,
                rank=self.rank,
                processes=self.processes,
                expected_images=self.train_images,
                undecodable=self.undecodable,
                **self.settings,
            )
            begun = False
            for batch in make_loader(stream, None, num_workers=self.streams, device=self.device):
                begun = True
                if len(batch[1]) == share:
                    yield batch
                    continue
                rest.append(batch)
                if sum(len(labels) for _, labels in rest) >= share:
                    images, labels = (torch.cat(of_all) for of_all in zip(*rest, strict=True))
                    yield images[:share], labels[:share]
                    rest = [(images[share:], labels[share:])]
            if not (endless and begun):
                return


class ImageNetShards(LightningDataModule):
    """Streams shards with the package webdataset.

    The arguments are explained in conf/dataset/imagenet_shards.yaml. A checksum of None is not verified.

    Attributes:
        shards: Paths or addresses per part, after `setup`.

    Raises:
        ValueError: An argument is invalid.
    """

    augmentation: Callable[[Tensor], Tensor] | None = None
    """The recipe's transform of a training image: see `lightning_modules.data.images.transformed`."""

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        shards: Mapping[str, str],
        checksums: Mapping[str, str | None],
        num_classes: int,
        channels: int,
        image_size: int,
        train_images: int,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        shuffle_buffer: int,
        streams: int,
        processes_change_order: bool,
        horizontal_flip: bool,
        min_crop_area: float,
        max_aspect_ratio: float,
        eval_crop_share: float,
        max_undecodable_share: float,
    ) -> None:
        super().__init__()
        if not isinstance(root, str | os.PathLike):
            raise ValueError(f"dataset.root={root}: must be a folder or the start of an address")
        if not isinstance(shards, Mapping) or set(shards) != set(PARTS):
            raise ValueError(f"dataset.shards={shards}: must have {', '.join(PARTS)}")
        if not isinstance(checksums, Mapping) or set(checksums) != {SHARDS}:
            raise ValueError(f"dataset.checksums={checksums}: must have {SHARDS}, which may be null")
        require_one_of("dataset.processes_change_order", processes_change_order, (True,))
        require_integer("dataset.num_classes", num_classes, 1)
        require_draws_and_batches(0, seed, batch_size, eval_batch_size)
        require_integer("dataset.train_images", train_images, 1)
        require_integer("dataset.shuffle_buffer", shuffle_buffer, 1)
        require_integer("dataset.streams", streams, 0)
        require_number("dataset.max_undecodable_share", max_undecodable_share, 0, below=1)
        self.crops = checked_crops(
            channels=channels,
            image_size=image_size,
            horizontal_flip=horizontal_flip,
            min_crop_area=min_crop_area,
            max_aspect_ratio=max_aspect_ratio,
            eval_crop_share=eval_crop_share,
        )
        self.root = str(root)
        self.patterns = dict(shards)
        self.num_classes = num_classes
        self.train_images = train_images
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.shuffle_buffer = shuffle_buffer
        self.streams = streams
        self.max_undecodable_share = max_undecodable_share
        self.shards: dict[str, list[str]] = {}
        self.checksum = checksums[SHARDS]
        self._training: TrainingShards | None = None

    def prepare_data(self) -> None:
        """See `setup`; nothing is downloaded."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Find the shards, once, without reading them.

        Raises:
            ValueError: A shard is missing or in two parts, webdataset is not installed, or a part has fewer
                shards than there are processes.
        """
        if not self.shards:
            self._find_shards()
        counts = {part: len(of_part) for part, of_part in self.shards.items()}
        require_for_each_process(self, counts, "shards")

    def _find_shards(self) -> None:
        if find_spec("webdataset") is None:
            raise ValueError(
                "dataset=imagenet_shards: needs webdataset: pip install 'xception-ablations[streaming]'"
            )
        names = {part: expanded(pattern) for part, pattern in self.patterns.items()}
        seen: dict[str, str] = {}
        for part, of_part in names.items():
            for name in of_part:
                if name in seen:
                    raise ValueError(
                        f"dataset.shards.{part}={self.patterns[part]}: duplicate {name}, also in {seen[name]}"
                    )
                seen[name] = part
                path = address(self.root, name)
                if not is_address(self.root) and not os.path.isfile(path):
                    raise ValueError(
                        f"dataset.shards.{part}={self.patterns[part]}: no such file: {path} (dataset.root)"
                    )
        actual = shards_checksum(self.root, self.patterns)
        if self.checksum not in (None, actual):
            raise ValueError(
                f"dataset.checksums.{SHARDS}={self.checksum}: the shards in {self.root} have {actual}; other "
                "shards, or changed since the run was prepared: rerun the command"
            )
        self.shards = {
            part: [address(self.root, name) for name in of_part] for part, of_part in names.items()
        }

    def train_dataloader(self) -> TrainingShards:
        """Mixed, augmented batches. Outside Lightning, call `set_epoch` every epoch."""
        require_a_batch(self.batch_size, self.train_images)
        rank, processes = process_of(self)
        self._training = TrainingShards(
            self.shards["train"],
            rank=rank,
            processes=processes,
            train_images=self.train_images,
            batch_size=self.batch_size,
            streams=self.streams,
            device=device_of(self),
            num_classes=self.num_classes,
            crops=self.crops,
            seed=self.seed,
            shuffle_buffer=self.shuffle_buffer,
            max_undecodable_share=self.max_undecodable_share,
            augmentation=self.augmentation,
        )
        return self._training

    def count_undecodable(self) -> int:
        """Undecodable training images of the last epoch. Every process must call this."""
        return sum(of_each_process(0 if self._training is None else int(self._training.undecodable.sum())))

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_dataloader("test")

    def _eval_dataloader(self, part: str) -> DataLoader[Batch]:
        rank, processes = process_of(self)
        stream = ShardStream(
            self.shards[part],
            num_classes=self.num_classes,
            crops=self.crops,
            batch_size=self.eval_batch_size,
            rank=rank,
            processes=processes,
        )
        return make_loader(stream, None, num_workers=self.streams, device=device_of(self))


def _is_visible(name: str) -> bool:
    return not is_hidden(os.path.basename(name))


def _name(sample: Mapping[str, Any]) -> str:
    return f"{sample['__url__']}: {sample['__key__']}"
