"""Speed of data loading: images/second of our data modules relative to a bare torchvision loader.

    python -m benchmarks.data_loading [--rounds 5] [--images 512] [--workers N]

Both do the same work: read, decode, random resized crop or flip, float32 in [-1, 1], shuffled batches. They
take turns in one process with equally many workers, started before. The median of the ratios per round is
printed; above 1, ours is faster.

    imagenet          class folders, against ImageFolder (Pillow), v2's transforms and DataLoader
    imagenet_shards   the same images in tar files, against the same loader
    tensors           imagenet against torchvision's fastest: its own JPEG decoder and resizing of bytes,
                      which rounds pixels and crops differently from Pillow
    memory            28x28 in memory, in the process itself, against v2's transforms of each image

Images are generated: smooth random fields with noise, 500x375 and about 100 kB on average, as ImageNet's. At
the end it prints where the time of an image goes.
"""

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from experiments.planning import compose_runs, hydra_configuration
from lightning_modules.assembly import data_node
from lightning_modules.cores import usable_cores
from lightning_modules.data.decoding import Crops, decode_rgb
from lightning_modules.data.images import scaled

BATCH = 64
SIZES = ((500, 375), (375, 500), (500, 333), (500, 400), (640, 480), (400, 300))
"""Width and height of the images, in turns."""
CLASSES = 4
SHARDS = 8
NOISE = 12
"""Standard deviation of a pixel's noise, for files as large as ImageNet's."""

Epoch = Callable[[], Iterable[Any]]
"""Makes the batches of an epoch: images and labels."""


def picture(draws: np.random.Generator, width: int, height: int) -> bytes:
    """A JPEG of smooth coloured fields of three sizes and noise."""
    pixels = 110 + draws.normal(0, NOISE, (height, width, 1))
    for cells, contrast in ((4, 60), (16, 30), (64, 14)):
        field = draws.normal(0, contrast, (max(2, cells * height // width), cells, 3))
        field = 0.8 * field.mean(axis=2, keepdims=True) + 0.4 * field  # colours of a picture are correlated
        channels = [Image.fromarray(field[..., channel].astype(np.float32)) for channel in range(3)]
        grown = [channel.resize((width, height), Image.Resampling.BICUBIC) for channel in channels]
        pixels = pixels + np.stack([np.asarray(channel) for channel in grown], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=93)
    return file.getvalue()


def write_images(root: Path, images: int) -> int:
    """Write class folders and shards of the same images; returns their size in bytes."""
    draws = np.random.default_rng(0)
    size = 0
    with ExitStack() as tars:

        def opened(name: str) -> tarfile.TarFile:
            return tars.enter_context(tarfile.open(root / name, "w"))

        shards = [opened(f"train-{number:04d}.tar") for number in range(SHARDS)]
        evaluated = [opened(f"{part}-0000.tar") for part in ("validation", "test")]
        for part, count in (("val", 2 * CLASSES), ("train", images + CLASSES)):  # some of train are held out
            for number in range(count):
                label, content = number % CLASSES, picture(draws, *SIZES[number % len(SIZES)])
                folder = root / part / f"n{label:08d}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}.JPEG").write_bytes(content)
                if part == "val":
                    for tar in evaluated:
                        _add(tar, number, content, label)
                elif number < images:
                    size += len(content)
                    _add(shards[number % SHARDS], number, content, label)
    return size


def _add(tar: tarfile.TarFile, number: int, image: bytes, label: int) -> None:
    for suffix, content in (("jpeg", image), ("cls", str(label).encode())):
        entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def ours(*overrides: str) -> Epoch:
    """The training batches of a data module, as the network gets them."""
    with hydra_configuration():
        (run,) = compose_runs([f"recipe.batch_size={BATCH}", *overrides])
    data = instantiate(data_node(run.resolved["dataset"]))
    data.prepare_data()
    loader = data.train_dataloader()

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        loader.sampler.set_epoch(loader.sampler.epoch + 1)
        for images, labels in loader:
            yield scaled(images), labels

    return epoch


def decoded(path: str) -> Tensor:
    """An image decoded by torchvision, uint8 (3, H, W)."""
    return decode_jpeg(read_file(path), mode=ImageReadMode.RGB)


def torchvisions(root: Path, workers: int, read: Callable[[str], Any] | None = None) -> Epoch:
    """A bare loader of class folders; without `read` by Pillow, ImageFolder's default."""
    transforms = v2.Compose(
        [
            v2.RandomResizedCrop(299, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    folder = ImageFolder(root / "train", transforms, **({} if read is None else {"loader": read}))
    loader = DataLoader(
        folder,
        BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    return lambda: loader


class InMemory(Dataset[tuple[Tensor, int]]):
    """Embedded images, each flipped and scaled by itself."""

    def __init__(self) -> None:
        with hydra_configuration():
            (run,) = compose_runs([])
        data = instantiate(data_node(run.resolved["dataset"]))
        data.prepare_data()
        part = data.parts["train"]
        self.images, self.labels = part.images, part.labels.tolist()
        steps = [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
        self.transforms = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.transforms(self.images[position]), self.labels[position]


def speed(epoch: Epoch) -> float:
    """Images/second of an epoch."""
    start, images = time.perf_counter(), 0
    for batch, _ in epoch():
        images += len(batch)
    return images / (time.perf_counter() - start)


def compare(name: str, ours: Epoch, theirs: Epoch, rounds: int) -> None:
    """Time both in turns and print the medians; the order alternates, because a machine's speed drifts."""
    speed(ours), speed(theirs)  # starts the workers and reads the files once
    pairs = []
    for number in range(rounds):
        if number % 2:
            their = speed(theirs)
            pairs.append((speed(ours), their))
        else:
            pairs.append((speed(ours), speed(theirs)))
    our, their = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(one / other for one, other in pairs)
    print(
        f"{name:16}{our:10.0f}{their:14.0f}{statistics.median(ratios):10.2f}  "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def print_stages(root: Path) -> None:
    """Print the time of each stage for an image of `imagenet` in one process."""
    crops = Crops(299, True, min_crop_area=0.08, max_aspect_ratio=4 / 3, eval_crop_share=0.875)
    paths = sorted((root / "train").rglob("*.JPEG"))[:BATCH]
    images = [decode_rgb(path) for path in paths]
    uniforms = torch.rand(len(paths), 3, dtype=torch.float64)
    batch = crops.empty(len(paths))
    stages: dict[str, Callable[[], Any]] = {
        "read the file": lambda: [path.read_bytes() for path in paths],
        "decode, reading included": lambda: [decode_rgb(path) for path in paths],
        "crop, resize, flip": lambda: [
            crops.for_training(*pair) for pair in zip(images, uniforms, strict=True)
        ],
        "copy to another process": batch.clone,
        "scale to float32": lambda: scaled(batch),
    }
    print("\nms per image of imagenet, in one process (the last is done on the device that trains):")
    for name, stage in stages.items():
        seconds = []
        for _ in range(5):
            start = time.thread_time()
            stage()
            seconds.append(time.thread_time() - start)
        print(f"  {name:26}{1000 * statistics.median(seconds) / len(paths):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often the two take turns")
    parser.add_argument("--images", type=int, default=512, help=f"of an epoch, a multiple of {BATCH}")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes that decode")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, workers = Path(folder), arguments.workers
        size = write_images(root, arguments.images)
        print(
            f"{arguments.images} images of {size / arguments.images / 1000:.0f} kB, {workers} workers, "
            f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}\n\n"
            f"{'images/second':16}{'ours':>10}{'torchvision':>14}{'ratio':>10}"
        )
        classes = ("dataset.num_classes=4", f"dataset.root={folder}")
        folders = ours(
            "dataset=imagenet",
            f"dataset.validation_images={CLASSES}",
            f"dataset.num_workers={workers}",
            *classes,
        )
        names = {"train": f"train-{{0000..{SHARDS - 1:04d}}}.tar", "validation": "validation-0000.tar"}
        shards = ours(
            "dataset=imagenet_shards",
            *(f"dataset.shards.{part}='{name}'" for part, name in {**names, "test": "test-0000.tar"}.items()),
            f"dataset.train_images={arguments.images}",
            f"dataset.streams={workers}",
            *classes,
        )
        compare("imagenet", folders, torchvisions(root, workers), arguments.rounds)
        compare("imagenet_shards", shards, torchvisions(root, workers), arguments.rounds)
        compare("tensors", folders, torchvisions(root, workers, decoded), arguments.rounds)
        in_memory = partial(DataLoader, InMemory(), BATCH, shuffle=True, drop_last=True)
        compare("memory", ours(), in_memory, arguments.rounds)
        print_stages(root)


if __name__ == "__main__":
    main()
