"""Checks of a network or data module for what paired runs rely on.

In a test file, as with scikit-learn's `parametrize_with_checks`::

    @parametrize_with_checks([NetworkToCheck(MyNetwork), DataToCheck(MyData)])
    def test_mine(subject, check):
        check(subject)

Each check is one test; a failure says what to do. Nothing is trained.
"""

import copy
import hashlib
import inspect
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from lightning_modules.assembly import data_node
from lightning_modules.initialization import all_draws_of, initialize

if TYPE_CHECKING:
    import pytest

IMAGES = 4
"""Images of noise per batch."""


MOST_REPEATED = 0.05
"""Allowed share of duplicate images in evaluation."""


class CheckFailed(AssertionError):
    """A check failed; its message is one line."""


@dataclass(frozen=True)
class NetworkToCheck:
    """A network and its images.

    Attributes:
        make: Called as `make(num_classes=, in_channels=)`, returns a module from images
            (N, in_channels, H, W) to logits (N, num_classes); or a composed node with `_target_`.
        num_classes, in_channels: Ignored for a node, which has its own.
        image_size: Height and width in pixels.
        name: For the tests.
        leave_out: Checks to skip, by name, with the reason.
    """

    make: Callable[..., nn.Module] | Mapping[str, Any]
    num_classes: int = 10
    in_channels: int = 1
    image_size: int = 32
    name: str = ""
    leave_out: Mapping[str, str] = field(default_factory=dict)

    def build(self, **changes: int) -> nn.Module:
        """A network initialized as for a run with seed 0."""
        if isinstance(self.make, Mapping):
            network = instantiate(self.make, **changes)
        else:
            network = self.make(
                **({"num_classes": self.num_classes, "in_channels": self.in_channels} | changes)
            )
        lazy = [name for name, value in network.named_parameters() if nn.parameter.is_lazy(value)]
        _require(
            not lazy,
            self,
            f"{_some(lazy)} have no shape before the first batch",
            "give these layers their number of inputs, because initial values are drawn earlier",
        )
        initialize(network, 0, nn.init.xavier_uniform_)
        return network

    def images(self, number: int = IMAGES, seed: int = 0) -> Tensor:
        """Noise in [-1, 1], float32 (number, in_channels, image_size, image_size)."""
        channels = self.in_channels
        if isinstance(self.make, Mapping):
            channels = self.make.get("in_channels", channels)
        draws = torch.Generator().manual_seed(seed)
        return torch.rand(number, channels, self.image_size, self.image_size, generator=draws) * 2 - 1


@dataclass(frozen=True)
class DataToCheck:
    """A data module. Every image is read several times, so use a small part of large data.

    Attributes:
        make: Called as `make(seed=)`, with `num_workers=` if it takes that; returns a
            LightningDataModule; or a composed node with `_target_`.
        num_classes, channels, image_size: Ignored for a node, which has its own.
        name: For the tests.
        leave_out: Checks to skip, by name, with the reason.
    """

    make: Callable[..., LightningDataModule] | Mapping[str, Any]
    num_classes: int = 10
    channels: int = 1
    image_size: int = 32
    name: str = ""
    leave_out: Mapping[str, str] = field(default_factory=dict)

    def takes(self, argument: str) -> bool:
        if isinstance(self.make, Mapping):
            return argument in self.make
        return argument in inspect.signature(self.make).parameters

    def size_of(self, key: str) -> int:
        return self.make[key] if isinstance(self.make, Mapping) else getattr(self, key)

    def build(
        self, *, seed: int = 0, process: tuple[int, int] = (0, 1), **changes: Any
    ) -> LightningDataModule:
        """The data module of one of several processes, set up."""
        if isinstance(self.make, Mapping):
            data = instantiate(data_node(self.make), seed=seed, **changes)
        else:
            data = self.make(seed=seed, **changes)
        if process != (0, 1):
            data.trainer = cast(Any, SimpleNamespace(global_rank=process[0], world_size=process[1]))
        data.prepare_data()
        for stage in ("fit", "test"):
            data.setup(stage)
        return data

    def evaluated(self, part: str, **settings: Any) -> list[list[bytes]]:
        """Digests of every image with its label, by batch, of "val" or "test"."""
        return _digests(_loader(self.build(**settings), part))

    def trained(self, *epochs: int, **settings: Any) -> list[list[list[bytes]]]:
        """Digests of every image with its label, by epoch and batch, all epochs from one loader."""
        loader = self.build(**settings).train_dataloader()
        return [_digests(self.told(loader, epoch)) for epoch in epochs]

    def told(self, loader: Any, epoch: int) -> Any:
        """Set the epoch of a training loader as Lightning does."""
        of_batches = getattr(loader, "batch_sampler", None)
        samplers: list[Any] = [getattr(at, "sampler", None) for at in (loader, of_batches)]
        samplers = [sampler for sampler in samplers if hasattr(sampler, "set_epoch")]
        _require(
            bool(samplers),
            self,
            "the training loader does not know the epoch, so an interrupted run continues with other batches",
            "give it a sampler with set_epoch(epoch), such as lightning_modules.data.images.EpochSampler",
        )
        for sampler in samplers:
            sampler.set_epoch(epoch)
        return loader


Subject = NetworkToCheck | DataToCheck


def _require(holds: bool, subject: Subject, found: str, remedy: str) -> None:
    if not holds:
        raise CheckFailed(f"{name_of(subject)}: {found}; {remedy}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def name_of(subject: Subject) -> str:
    made = subject.make
    if isinstance(made, Mapping):
        return subject.name or str(made["_target_"]).rpartition(".")[2]
    while isinstance(made, partial):
        made = made.func
    return subject.name or getattr(made, "__name__", type(made).__name__)


# Networks


def check_logits_have_a_row_an_image_and_a_column_a_class(network: NetworkToCheck) -> None:
    """Logits are float32 (N, num_classes) and finite, for one image and for several."""
    for changes in ({}, {"num_classes": 7}):
        module = network.build(**changes).eval()
        classes = changes.get("num_classes") or (
            network.make["num_classes"] if isinstance(network.make, Mapping) else network.num_classes
        )
        for number in (1, 2, IMAGES + 1):
            with torch.no_grad():
                logits = module(network.images(number))
            shape = tuple(getattr(logits, "shape", ()))
            _require(
                shape == (number, classes),
                network,
                f"{number} images and num_classes={classes} give {type(logits).__name__} {shape}",
                f"return logits ({number}, {classes}), without softmax and without auxiliary outputs",
            )
            _require(
                logits.dtype == torch.float32 and bool(logits.isfinite().all()),
                network,
                f"logits are {logits.dtype}, {int((~logits.isfinite()).sum())} of them not finite",
                "return finite float32 for the loss",
            )
        _require(
            not torch.equal(logits[0], logits[1]),
            network,
            "two images have the same logits",
            "look for units that are dead at the start",
        )


def check_gradients_reach_every_parameter(network: NetworkToCheck) -> None:
    """A training step gives every trainable parameter a finite gradient."""
    module = network.build().train()
    module(network.images()).square().sum().backward()
    parameters = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    without = [name for name, value in parameters if value.grad is None]
    _require(bool(parameters), network, "no parameter is trainable", "register them as nn.Parameter")
    _require(
        not without,
        network,
        f"no gradient reaches {_some(without)}",
        "use them in forward or remove them: they count as parameters, and several processes would wait for "
        "their gradients",
    )
    bad = [name for name, value in parameters if value.grad is not None and not value.grad.isfinite().all()]
    _require(not bad, network, f"the gradient of {_some(bad)} is not finite", "look for a division by zero")


def check_start_depends_on_the_seed_alone(network: NetworkToCheck) -> None:
    """Names are equal in every network built; initial values depend on them and the run's seed."""
    starts = []
    for state in (1, 2):  # of the global generators
        with all_draws_of(state):
            starts.append(network.build().state_dict())
    renamed = sorted(starts[0].keys() ^ starts[1].keys())
    _require(
        not renamed,
        network,
        f"when built twice, {_some(renamed)} differ in name",
        "name modules by their place, not by a counter or at random",
    )
    differ = [name for name, value in starts[0].items() if not torch.equal(value, starts[1][name])]
    _require(
        not differ,
        network,
        f"the start of {_some(differ)} is drawn from the global random state, so arms are not paired",
        "start it from a constant, or draw it with its own generator; weights of two or more dimensions are "
        "drawn by seed and name",
    )


def check_logits_repeat(network: NetworkToCheck) -> None:
    """The same images give bit-identical logits, in train mode for the same random state of torch."""
    module, images, logits = network.build().eval(), network.images(), []
    with all_draws_of(1), torch.no_grad():
        _require(
            torch.equal(module(images), module(images)),
            network,
            "in eval mode the same images give different logits the second time",
            "switch dropout and other random draws off if self.training is false",
        )
    for seed in (0, 1):
        module = network.build().train()
        with all_draws_of(seed), torch.no_grad():
            torch.manual_seed(0)
            logits.append(module(images))
    _require(
        torch.equal(*logits),
        network,
        "in train mode the logits differ for the same random state of torch",
        "draw with torch, not with Python's random or NumPy, so that an interrupted run continues alike",
    )


def check_evaluation_of_an_image_does_not_depend_on_the_others(network: NetworkToCheck) -> None:
    """In eval mode an image's logits do not depend on the rest of its batch."""
    module = network.build().eval()
    images, others = network.images(), network.images(seed=1)
    others[:1] = images[:1]
    with torch.no_grad():
        logits, next_to_others = module(images), module(others)
    _require_close(
        network,
        logits[0],
        next_to_others[0],
        "in eval mode the logits of an image depend on the other images of its batch",
        "use running statistics in eval mode (nn.BatchNorm2d does, with track_running_stats)",
    )


def check_images_are_not_changed_in_place(network: NetworkToCheck) -> None:
    """Training and evaluation do not change the images."""
    module = network.build()
    for training in (True, False):
        images = network.images()
        with torch.no_grad():
            module.train(training)(images)
        _require(
            torch.equal(images, network.images()),
            network,
            f"the images are changed in place ({'train' if training else 'eval'} mode)",
            "use no in-place operation, such as nn.ReLU(inplace=True), on the input",
        )


def check_a_state_dict_holds_everything(network: NetworkToCheck) -> None:
    """A network with another's state_dict gives the same logits, and Polyak averaging can copy it."""
    module, restored = _trained_a_little(network), network.build()
    try:
        copy.deepcopy(module)
    except Exception as error:
        why = " ".join(str(error).split())
        _require(False, network, f"it cannot be copied ({why})", "keep no tensor with a gradient in a module")
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        same = torch.equal(module.eval()(network.images()), restored.eval()(network.images()))
    _require(
        same,
        network,
        "a network with another's state_dict gives different logits",
        "register everything that training changes as nn.Parameter or with register_buffer(persistent=True)",
    )


def check_memory_order_does_not_change_the_logits(network: NetworkToCheck) -> None:
    """Channels-last memory, which recipes may use, gives the same logits."""
    module, images = network.build().eval(), network.images()
    with torch.no_grad():
        logits = module(images)
    try:
        last = module.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        last.sum().backward()
    except RuntimeError as error:
        why = " ".join(str(error).split())
        _require(False, network, f"fails in channels-last memory ({why})", "use reshape instead of view")
    _require_close(
        network,
        logits,
        last.detach(),
        "channels-last memory changes the logits",
        "use flatten or reshape instead of strides",
    )


def _trained_a_little(network: NetworkToCheck) -> nn.Module:
    module = network.build().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    with all_draws_of(0):
        module(network.images()).square().mean().backward()
    optimizer.step()
    module.zero_grad()
    return module


def _require_close(network: NetworkToCheck, one: Tensor, other: Tensor, found: str, remedy: str) -> None:
    difference, scale = (one - other).abs().max().item(), one.abs().max().item()
    _require(difference <= 1e-3 * scale, network, f"{found}, by {difference:.2g} of {scale:.2g}", remedy)


# Data


def check_batches_are_as_declared(data: DataToCheck) -> None:
    """Images are (N, channels, image_size, image_size), float32 in [-1, 1] or uint8; labels as declared."""
    size = (data.size_of("channels"), data.size_of("image_size"), data.size_of("image_size"))
    for part, images, labels in _batches(data):
        _require(
            images.dtype in (torch.float32, torch.uint8) and tuple(images.shape[1:]) == size,
            data,
            f"a {part} batch is {images.dtype} {tuple(images.shape)}",
            f"serve float32 or uint8 (N, {', '.join(map(str, size))}), as channels and image_size say",
        )
        low, high = images.min().item(), images.max().item()
        _require(
            images.dtype == torch.uint8 or (low >= -1 and high <= 1),  # NaN fails too
            data,
            f"pixels of {part} go from {low:.4g} to {high:.4g}",
            "scale them to [-1, 1]: x / 127.5 - 1 for bytes",
        )
        _check_labels(data, part, labels, len(images))


def _check_labels(data: DataToCheck, part: str, labels: Tensor, number: int) -> None:
    """Labels are int64 (N,) in 0 to num_classes - 1, or float32 (N, num_classes) of 0 and 1."""
    classes = data.size_of("num_classes")
    one = labels.dtype == torch.int64 and labels.shape == (number,)
    several = labels.dtype == torch.float32 and labels.shape == (number, classes)
    _require(
        one or several,
        data,
        f"labels of {number} {part} images are {labels.dtype} {tuple(labels.shape)}",
        f"serve int64 (N,), or float32 (N, {classes}) for several labels per image",
    )
    allowed = (labels >= 0) & (labels < classes) if one else (labels == 0) | (labels == 1)
    _require(
        bool(allowed.all()),
        data,
        f"labels of {part} go from {labels.min().item():g} to {labels.max().item():g}",
        f"they must be 0 to {classes - 1}" if one else "they must be 0 or 1",
    )


def check_parts_share_no_image(data: DataToCheck) -> None:
    """Train, validation and test share no image. Mirrored copies are found, crops are not."""
    module = data.build()
    parts = {
        "train": _images_of(data.told(module.train_dataloader(), 0)),
        "validation": _images_of(_loader(module, "val")),
        "test": _images_of(_loader(module, "test")),
    }
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = len(parts[one] & parts[other])
        _require(
            not shared,
            data,
            f"{shared} images of {other} are also in {one}",
            "keep each image in one part, even if the files have it twice",
        )


def check_batches_follow_seed_and_epoch(data: DataToCheck) -> None:
    """Batches depend on seed and epoch, and on nothing drawn or read before."""
    with all_draws_of(1):
        first, second = data.trained(0, 1)
    with all_draws_of(2):
        (again,), (resumed,) = data.trained(0), data.trained(1)
    _require(bool(first), data, "an epoch has no batch", "make batch_size smaller than the training part")
    _require(
        first == again,
        data,
        "the same seed gives different training batches",
        "draw order and augmentation with a generator from seed and epoch, not with the global one",
    )
    _require(
        second == resumed,
        data,
        "epoch 1 depends on whether epoch 0 was read before, so an interrupted run continues differently",
        "make a new generator in every epoch, from seed and epoch",
    )
    _require(
        first != second, data, "epochs 0 and 1 have the same batches", "let the order depend on the epoch"
    )
    (of_another_seed,) = data.trained(0, seed=1)
    _require(
        of_another_seed not in (first, second),  # the second: a generator of seed + epoch
        data,
        f"seed 1 has the training batches of seed 0, epoch {int(of_another_seed != first)}",
        "shuffle by seed and epoch, as lightning_modules.seeding.generator does",
    )


def check_batches_do_not_depend_on_the_workers(data: DataToCheck) -> None:
    """The number of workers does not change batches."""
    for part in ("train", "val", "test"):
        read: Callable[..., Any] = (
            partial(data.trained, 0, 1) if part == "train" else partial(data.evaluated, part)
        )
        _require(
            read(num_workers=0) == read(num_workers=2),
            data,
            f"batches of {part} differ between num_workers=0 and 2",
            "draw for an image before it goes to a worker, or from its position",
        )


def check_evaluation_does_not_depend_on_the_seed(data: DataToCheck) -> None:
    """Every seed and every pass evaluates the same images in the same order."""
    for part in ("val", "test"):
        with all_draws_of(1):
            first = data.evaluated(part)
        with all_draws_of(2):
            others = data.evaluated(part), data.evaluated(part, seed=1)
        _require(
            first == others[0],
            data,
            f"{part} differs between two passes",
            "neither shuffle nor augment in evaluation",
        )
        _require(
            first == others[1],
            data,
            f"{part} differs between seeds 0 and 1",
            "give the split its own seed (split_seed), equal in all runs",
        )


def check_evaluation_sees_each_image_once(data: DataToCheck) -> None:
    """Evaluation shows each image once."""
    for part in ("val", "test"):
        loader = _loader(data.build(), part)
        seen = [digest for batch in _digests(loader) for digest in batch]
        try:
            planned = len(loader.dataset)
        except (AttributeError, TypeError):  # a stream
            planned = len(seen)
        _require(
            bool(seen) and len(seen) == planned,
            data,
            f"{part} shows {len(seen)} of {planned} images",
            "evaluate with drop_last=False",
        )
        twice = len(seen) - len(set(seen))
        _require(
            twice <= MOST_REPEATED * len(seen),  # real data have a few duplicates
            data,
            f"{part} shows {twice} of {len(seen)} images more than once",
            "evaluate in order, without a sampler that repeats",
        )


def check_processes_share_the_batches(data: DataToCheck) -> None:
    """Two processes together see the same batches as one, and evaluate each image once."""
    remedy = "give each its share by lightning_modules.processes.process_of"
    (whole,) = data.trained(0)
    shares = [data.trained(0, process=(rank, 2))[0] for rank in range(2)]
    together = [[*one, *other] for one, other in zip(*shares, strict=False)]
    _require(
        len(shares[0]) == len(shares[1]) == len(whole)
        and [*map(Counter, together)] == [*map(Counter, whole)],
        data,
        "two processes together have other training batches than one",
        remedy,
    )
    for part in ("val", "test"):
        shown = Counter(
            digest
            for rank in range(2)
            for batch in data.evaluated(part, process=(rank, 2))
            for digest in batch
        )
        _require(
            shown == Counter(digest for batch in data.evaluated(part) for digest in batch),
            data,
            f"two processes together do not show each image of {part} once",
            remedy,
        )


def _loader(data: LightningDataModule, part: str) -> Any:
    return data.val_dataloader() if part == "val" else data.test_dataloader()


def _batches(data: DataToCheck) -> Iterator[tuple[str, Tensor, Tensor]]:
    module = data.build()
    loaders = {
        "train": data.told(module.train_dataloader(), 0),
        **{part: _loader(module, part) for part in ("val", "test")},
    }
    for part, loader in loaders.items():
        for images, labels in loader:
            yield part, images, labels


def _digests(loader: Any) -> list[list[bytes]]:
    return [
        [
            hashlib.sha256(image.numpy().tobytes() + label.numpy().tobytes()).digest()
            for image, label in zip(images, labels, strict=True)
        ]
        for images, labels in loader
    ]


def _images_of(loader: Any) -> set[bytes]:
    """Digests of a loader's images, equal for an image and its mirror image."""
    return {
        min(hashlib.sha256(side.numpy().tobytes()).digest() for side in (image, image.flip(-1)))
        for images, _ in loader
        for image in images
    }


NETWORK_CHECKS: tuple[Callable[[NetworkToCheck], None], ...] = (
    check_logits_have_a_row_an_image_and_a_column_a_class,
    check_gradients_reach_every_parameter,
    check_start_depends_on_the_seed_alone,
    check_logits_repeat,
    check_evaluation_of_an_image_does_not_depend_on_the_others,
    check_images_are_not_changed_in_place,
    check_a_state_dict_holds_everything,
    check_memory_order_does_not_change_the_logits,
)
DATA_CHECKS: tuple[Callable[[DataToCheck], None], ...] = (
    check_batches_are_as_declared,
    check_parts_share_no_image,
    check_batches_follow_seed_and_epoch,
    check_batches_do_not_depend_on_the_workers,
    check_evaluation_does_not_depend_on_the_seed,
    check_evaluation_sees_each_image_once,
    check_processes_share_the_batches,
)


def checks_of(subject: Subject) -> list[Callable[[Any], None]]:
    """The checks that apply; ValueError if `leave_out` names no check."""
    checks: list[Callable[[Any], None]] = list(
        NETWORK_CHECKS if isinstance(subject, NetworkToCheck) else DATA_CHECKS
    )
    names = [check.__name__ for check in checks]
    if unknown := sorted(set(subject.leave_out) - set(names)):
        raise ValueError(f"leave_out={unknown[0]}: no such check; available: {', '.join(names)}")
    if isinstance(subject, DataToCheck) and not subject.takes("num_workers"):
        checks.remove(check_batches_do_not_depend_on_the_workers)
    return checks


def parametrize_with_checks(subjects: Sequence[Subject]) -> "pytest.MarkDecorator":
    """Parametrize a test of (subject, check) by each check of each subject; needs pytest.

    Raises:
        ValueError: A subject's `leave_out` names no check.
    """
    import pytest  # not needed for training

    return pytest.mark.parametrize(
        ("subject", "check"),
        [
            pytest.param(
                subject,
                check,
                id=f"{name_of(subject)}-{check.__name__.removeprefix('check_')}",
                marks=[pytest.mark.skip(reason=subject.leave_out[check.__name__])]
                if check.__name__ in subject.leave_out
                else [],
            )
            for subject in subjects
            for check in checks_of(subject)
        ],
    )
