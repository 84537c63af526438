"""Speed and memory of our networks and of the same networks in timm and torchvision, on this device.

::

    python -m ablations benchmark against=timm,torchvision
    python -m ablations benchmark against=timm precisions=bf16-mixed compiled=false,true batch_size=64
    python -m ablations benchmark against=timm networks=xception image_size=96 seconds=1 rounds=3

It measures images/second of training steps (forward, loss, backward, SGD) and of inference on noise, and a
GPU's peak memory, per precision, memory order and compilation. Within a setting, networks take turns in one
process, because a machine's speed drifts; every other round is reversed. timm's `legacy_xception` and
`inception_v3` and torchvision's `inception_v3` without auxiliary tower have our graphs. The paper's table 3
has 28 steps/second for Xception and 31 for Inception V3, a ratio of 0.90.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product, takewhile
from typing import Annotated, Any, Literal

import torch
from hydra.utils import instantiate
from pydantic import Field
from torch import nn

from ablations.errors import UserError
from ablations.files import check_writable
from experiments.benchmark import BATCH_SIZES, SEVERAL, CommonOptions, Count, find_device
from experiments.planning import compose_runs, hydra_configuration
from experiments.sizes.training_step import Noise, Step, make_pass, make_step, time_it
from lightning_modules.assembly import set_float32

OURS = "ours"

LIBRARIES: Mapping[str, Mapping[str, Callable[[int], nn.Module]]] = {
    "timm": {
        "xception": lambda classes: _of_timm("legacy_xception", classes),
        "inception_v3": lambda classes: _of_timm("inception_v3", classes),
    },
    "torchvision": {"inception_v3": lambda classes: _of_torchvision(classes)},
}
"""By library and network: makes the same network, given the number of classes."""

PRECISIONS = ("32-true", "tf32", "bf16-mixed")
"""As `recipe.precision`; tf32 is 32-true with `recipe.tf32`."""

SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-5)

Row = dict[str, Any]
"""A turn: precision, order, compiled, network, of (library), part (training or inference), round;
images_per_second, and peak_memory in bytes or None."""


BACKENDS = {"false": "", "true": "inductor", "eager": "eager"}
"""Backend of torch.compile, by the value of `compiled`."""


class Asked(CommonOptions):
    """Options of the comparison with libraries."""

    against: Annotated[tuple[Literal["timm", "torchvision"], ...], SEVERAL] = ()
    """Libraries to compare with."""
    networks: Annotated[tuple[Literal["xception", "inception_v3"], ...], SEVERAL] = (
        "xception",
        "inception_v3",
    )
    """Options of conf/model that a library also has."""
    precisions: Annotated[tuple[Literal["32-true", "tf32", "bf16-mixed"], ...], SEVERAL] = ()
    """Of arithmetic; (): all that are faster on the device."""
    orders: Annotated[tuple[Literal["contiguous", "channels-last"], ...], SEVERAL] = (
        "contiguous",
        "channels-last",
    )
    """Memory orders."""
    compiled: Annotated[tuple[Literal["false", "true", "eager"], ...], SEVERAL] = ("false",)
    """true: torch.compile with inductor; eager: with a backend that needs no compiler and is not faster."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2
    """Minimum time of a turn."""
    rounds: Count = 5
    """Turns of each network in each setting."""
    accelerator: str = Field("auto", validation_alias="trainer.accelerator")
    """As in `trainer`."""
    threads: Count = Field(1, validation_alias="trainer.threads")
    """As in `trainer`."""


def is_asked(words: Sequence[str]) -> bool:
    """Whether the arguments of "benchmark" ask for this one instead of table 3."""
    return any(word.partition("=")[0] == "against" for word in words)


def parse(words: Sequence[str]) -> Asked:
    """Read the arguments of "benchmark"; UserError if one is unknown or invalid."""
    return Asked.read(words)


def measure(words: Sequence[str]) -> tuple[Asked, torch.device, list[Row]]:
    """Measure all settings; returns options, device and turns.

    Raises:
        UserError: An option is invalid, or a batch does not fit.
    """
    asked = parse(words)
    check_writable(f"results_dir={asked.results_dir}", asked.results_dir, ["benchmark"])
    try:
        device = find_device({"accelerator": asked.accelerator, "threads": asked.threads})
    except ValueError as error:
        raise UserError(str(error)) from error
    for library in asked.against:
        if find_spec(library) is None:
            print(f"{library} is not installed, so it is left out: pip install {library}", file=sys.stderr)
    rows: list[Row] = []
    for number, setting in enumerate(all_settings := settings(asked, device), 1):
        rows += measure_setting(asked, setting, device)
        print(f"{number} of {len(all_settings)} settings measured", file=sys.stderr)
    return asked, device, rows


def settings(asked: Asked, device: torch.device) -> list[Row]:
    """Precision, memory order and compiler backend ("" for none) of each setting."""
    gains = PRECISIONS if device.type == "cuda" else ("32-true",)
    return [
        {"precision": precision, "order": order, "compiled": BACKENDS[compiled]}
        for precision, order, compiled in product(asked.precisions or gains, asked.orders, asked.compiled)
    ]


def measure_setting(
    asked: Asked, setting: Row, device: torch.device, deadline: float = math.inf
) -> list[Row]:
    """Let all networks take turns in a setting.

    After the deadline (`time.monotonic`) no further round starts.

    Raises:
        UserError: The batch does not fit.
    """
    torch.compiler.reset()  # it stops compiling after some number of variants
    set_float32({"tf32": setting["precision"] == "tf32"})
    batch = asked.batch_size or BATCH_SIZES[device.type]
    try:
        entries = [_Entry(asked, setting, device, batch, *names) for names in _names(asked)]
        rows = [
            {**setting, **entry.names, "part": part, "round": number, **turn}
            for number in takewhile(lambda n: n == 0 or time.monotonic() < deadline, range(asked.rounds))
            for entry in entries[:: -1 if number % 2 else 1]
            for part, turn in entry.turns(asked)
        ]
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(f"batch_size={batch}: too large for this device's memory") from error
    finally:
        set_float32({})
    return rows


def _names(asked: Asked) -> Iterator[tuple[str, str]]:
    """Network and source: ours, and each installed library that has it."""
    for network in asked.networks:
        yield network, OURS
        for library in asked.against:
            if network in LIBRARIES[library] and find_spec(library) is not None:
                yield network, library


class _Entry:
    """A network on its device, ready to be timed."""

    def __init__(
        self, asked: Asked, setting: Row, device: torch.device, batch: int, network: str, of: str
    ) -> None:
        self.names = {"network": network, "of": of}
        self.batch, self._device = batch, device
        self._network = build(asked, network, of)
        options: dict[str, Any] = {
            "device": device,
            "channels_last": setting["order"] == "channels-last",
            "bf16": setting["precision"] == "bf16-mixed",
            "compile_with": setting["compiled"] or None,
        }
        noise = Noise(batch, 3, asked.image_size, asked.num_classes)
        makers: dict[str, Callable[[], Step]] = {
            "inference": lambda: make_pass(self._network, noise, **options),
            "training": lambda: make_step(self._network, SGD, noise, **options),
        }
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        self._steps: dict[str, tuple[Step, int | None]] = {}
        for part, make in makers.items():  # inference first, before there are gradients
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            step = make()
            for _ in range(2):  # gradients and the optimizer's state exist from the second on
                step()
            peak = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
            self._steps[part] = step, peak

    def turns(self, asked: Asked) -> Iterator[tuple[str, Row]]:
        """Time training and inference."""
        for part, (step, peak) in self._steps.items():
            self._network.train(part == "training")
            step()  # warms the caches
            seconds, _ = time_it(step, threads=asked.threads, seconds=asked.seconds)
            yield part, {"images_per_second": self.batch / seconds, "peak_memory": peak}


def build(asked: Asked, network: str, of: str) -> nn.Module:
    """A network with PyTorch's default initial values, whatever its source."""
    torch.manual_seed(0)
    if of == OURS:
        words = [f"dataset.image_size={asked.image_size}", f"dataset.num_classes={asked.num_classes}"]
        with hydra_configuration():
            (run,) = compose_runs([f"model={network}", "dataset.channels=3", *words])
        built: nn.Module = instantiate(run.resolved["model"])
    else:
        built = LIBRARIES[of][network](asked.num_classes)
    for module in built.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return built


def _of_timm(name: str, classes: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network


def _of_torchvision(classes: int) -> nn.Module:
    import torchvision

    return torchvision.models.inception_v3(
        weights=None, aux_logits=False, init_weights=False, num_classes=classes
    )
