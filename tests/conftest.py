"""What the tests of several packages share: a small network, small data."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from ablations.runs import environment
from lightning_modules.classifier import Classifier
from lightning_modules.data.images import ImageDataModule, Part
from lightning_modules.networks.blocks import LinearShortcut, SameMaxPool2d
from lightning_modules.networks.head import no_fully_connected
from lightning_modules.networks.separable import (
    SeparableConvNorm,
    depthwise_first,
    segments_by_size,
    square_kernel,
)
from lightning_modules.networks.xception import Xception
from lightning_modules.tasks import SingleLabel

PAPER: dict[str, Any] = {
    "num_classes": 1000,
    "in_channels": 3,
    "width": 1,
    "stem_stride": 2,
    "middle_modules": 8,
    "dropout": 0.0,
    "residual": LinearShortcut,
    "pool": SameMaxPool2d,
    "fully_connected": no_fully_connected,
    "norm": partial(nn.BatchNorm2d, eps=1e-3, momentum=0.1),
}
SMALL = PAPER | {"num_classes": 6, "in_channels": 1, "width": 0.05, "stem_stride": 1, "middle_modules": 1}
SEPARABLE: dict[str, Any] = {
    "operation_order": depthwise_first,
    "segments": partial(segments_by_size, channels_per_segment=1),
    "spatial_kernel": partial(square_kernel, kernel_size=3),
    "intermediate_norm": nn.Identity,
    "intermediate_activation": nn.Identity,
}
ONE_CYCLE = partial(OneCycleLR, max_lr=0.1, pct_start=0.3, cycle_momentum=False)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One thread, as in a run: results to the last bit, and test processes side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def xception(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> Xception:
    """An Xception with some arguments, of the network or of its separable convolutions, changed."""
    separable = {key: changes.get(key, value) for key, value in SEPARABLE.items()}
    others = {key: value for key, value in changes.items() if key not in SEPARABLE}
    return Xception(**({"separable": partial(SeparableConvNorm, **separable)} | dict(defaults) | others))


@pytest.fixture
def separable() -> Callable[..., SeparableConvNorm]:
    """Makes the paper's separable convolution with some arguments changed."""
    return lambda *channels, **changes: SeparableConvNorm(*channels, **(SEPARABLE | changes))


@pytest.fixture
def paper_xception() -> Callable[..., Xception]:
    """Makes the paper's Xception with some arguments changed."""
    return lambda **changes: xception(PAPER, changes)


@pytest.fixture
def small_xception() -> Callable[..., Xception]:
    """Makes a narrow Xception for small grey images of six classes, with some arguments changed."""
    return lambda **changes: xception(SMALL, changes)


@pytest.fixture(scope="module")
def isolated_wandb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The real W&B without an account, without settings of whoever runs the tests, without network."""
    import wandb

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
            patch.delenv(variable, raising=False)
        patch.setenv("HOME", str(home))
        for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            patch.setenv(variable, str(home / variable))
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
        wandb.teardown()
        yield wandb
        wandb.teardown()


class TinyImages(ImageDataModule):
    """Noise images of 10x10 pixels whose brightness tells the class; no files."""

    file_names = ()
    folders = ("",)
    hint = ""

    def decode(self, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
        noise = np.random.default_rng(7)

        def part(per_class: int) -> Part:
            labels = noise.permutation(np.repeat(np.arange(self.num_classes), per_class))
            images = noise.integers(0, 100, size=(len(labels), 1, 10, 10))
            images += (150 // self.num_classes * labels)[:, None, None, None]
            return Part(images.astype(np.uint8), labels)

        return part(6), part(3)


@pytest.fixture
def tiny_data(tmp_path: Path) -> Callable[..., TinyImages]:
    """Makes 30 training images in batches of 8, 6 validation and 18 test images in batches of 4."""

    def make(**changes: Any) -> TinyImages:
        settings: dict[str, Any] = {
            "root": tmp_path,
            "download": False,
            "checksums": {},
            "num_classes": 6,
            "channels": 1,
            "image_size": 10,
            "validation_images": 6,
            "split_seed": 0,
            "batch_size": 8,
            "eval_batch_size": 4,
            "seed": 0,
            "horizontal_flip": True,
            "crop_padding": 2,
        }
        return TinyImages(**(settings | changes))

    return make


@pytest.fixture
def make_classifier(small_xception: Callable[..., Xception]) -> Callable[..., Classifier]:
    """Makes a classifier, by default of the small network, with some arguments changed."""

    def make(**changes: Any) -> Classifier:
        network = small_xception(dropout=changes.pop("dropout", 0.5))
        arguments: dict[str, Any] = {
            "network": network,
            "task": SingleLabel(6),
            "seed": 0,
            "weight_init": nn.init.xavier_uniform_,
            "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-5),
            "scheduler": ONE_CYCLE,
            "channels_last": True,
            "log_every_n_steps": 1,
        }
        return Classifier(**(arguments | changes))

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer that writes nothing of its own; `quieten` as before a run."""
    environment.quieten()

    def make(
        epochs: int,
        *,
        logger: Logger | bool = False,
        callbacks: Sequence[Callback] = (),
        checkpoints: bool = False,
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
    ) -> Trainer:
        return Trainer(
            accelerator="cpu",
            devices=1,
            precision=precision,
            max_epochs=epochs,
            logger=logger,
            log_every_n_steps=1,
            callbacks=list(callbacks),
            num_sanity_val_steps=0,
            deterministic=True,
            enable_checkpointing=checkpoints,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )

    return make
