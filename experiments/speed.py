"""Speed and memory of our networks and of the same networks in timm and torchvision, on this device.

::

    python -m ablations benchmark against=timm,torchvision
    python -m ablations benchmark against=timm precisions=bf16-mixed compiled=false,true batch_size=64
    python -m ablations benchmark against=timm models=xception image_size=96 seconds=1 rounds=3

It measures images/second of training steps (forward, loss, backward, SGD) and of inference on noise, and a
GPU's peak memory, per precision, memory order and compilation. Within a setting, networks take turns in one
process, because a machine's speed drifts; every other round is reversed. timm's `legacy_xception` and
`inception_v3` and torchvision's `inception_v3` without auxiliary tower have our graphs. The paper's table 3
has 28 steps/second for Xception and 31 for Inception V3, a ratio of 0.90.
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import product, takewhile
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from ablations.errors import UserError, as_user_error
from ablations.files import check_writable
from ablations.tables.timings import OURS
from ablations.text import amount
from experiments import environment
from experiments.benchmark import BATCH_SIZES, Options, compose_networks, find_device
from experiments.sizes.training_step import Noise, Step, make_step, time_it
from lightning_modules.assembly import set_float32

LIBRARIES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "timm": {
        model: {"_target_": "timm.create_model", "model_name": name, "pretrained": False}
        for model, name in (("xception", "legacy_xception"), ("inception_v3", "inception_v3"))
    },
    "torchvision": {
        "inception_v3": {
            "_target_": "torchvision.models.inception_v3",
            **{"weights": None, "aux_logits": False, "init_weights": False},
        }
    },
}
"""By library and network: makes the same network, given `num_classes`."""

PRECISIONS = ("32-true", "tf32", "bf16-mixed")
"""As `recipe.precision`; tf32 is 32-true with `recipe.tf32`."""

SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-5)

BACKENDS = {"false": "", "true": "inductor", "eager": "eager"}
"""Backend of torch.compile, by the value of `compiled`."""

Row = dict[str, Any]
"""A turn: precision, memory_order, compiled (backend), model, of (library), part (training or inference),
round; images_per_second, and peak_memory_bytes or None."""


def measure(options: Options) -> tuple[str, list[Row]]:
    """Measure all settings; returns a line about the device and the batch, and the turns.

    Raises:
        UserError: An option is invalid, or a batch does not fit.
    """
    check_writable(f"results_dir={options.results_dir}", options.results_dir, ["benchmark"])
    if options.of_networks:
        raise UserError(f"{options.of_networks[0]}: against= compares equal networks; leave it out")
    for model in options.models:
        if not any(model in LIBRARIES[of] for of in options.against):
            known = ", ".join(sorted({name for of in options.against for name in LIBRARIES[of]}))
            raise UserError(f"models={model}: no equal in {', '.join(options.against)}; available: {known}")
    networks = composed(options)
    trainer = networks[options.models[0]]["trainer"]
    with as_user_error():
        device = find_device(trainer)
    for library in options.against:
        if find_spec(library) is None:
            print(f"{library} is not installed, so it is left out: pip install {library}", file=sys.stderr)
    rows: list[Row] = []
    for number, setting in enumerate(all_settings := settings(options, device), 1):
        rows += measure_setting(options, networks, setting, device)
        print(f"{number} of {len(all_settings)} settings measured", file=sys.stderr)
    batch = options.batch_size or BATCH_SIZES[device.type]
    what = f"{environment.device(device)['name']}, {amount(trainer['threads'], 'thread')}"
    return f"{what}, {batch} images of {options.image_size} pixels", rows


def composed(options: Options) -> dict[str, Mapping[str, Any]]:
    """Resolved configurations of our networks; raises as `compose_networks`."""
    return {model: runs[0].resolved for model, runs in compose_networks(options).items()}


def settings(options: Options, device: torch.device) -> list[Row]:
    """Precision, memory order and compiler backend ("" for none) of each setting."""
    gains = PRECISIONS if device.type == "cuda" else ("32-true",)
    return [
        {"precision": precision, "memory_order": order, "compiled": BACKENDS[compiled]}
        for precision, order, compiled in product(
            options.precisions or gains, options.orders, options.compiled
        )
    ]


def measure_setting(
    options: Options,
    networks: Mapping[str, Mapping[str, Any]],
    setting: Row,
    device: torch.device,
    deadline: float = math.inf,
) -> list[Row]:
    """Let all networks (`composed`, and the libraries') take turns in a setting.

    After the deadline (`time.monotonic`) no further round starts.

    Raises:
        UserError: The batch does not fit.
    """
    torch.compiler.reset()  # it stops compiling after some number of variants
    set_float32({"tf32": setting["precision"] == "tf32"})
    batch = options.batch_size or BATCH_SIZES[device.type]
    noise = Noise(batch, 3, options.image_size, options.num_classes)
    sources = [
        (model, of)
        for model in networks
        for of in (OURS, *options.against)
        if of == OURS or (model in LIBRARIES[of] and find_spec(of) is not None)
    ]
    try:
        entries = []
        for model, of in sources:
            network = build(networks[model], model, of)
            entries.append((model, of, network, list(_steps(network, noise, setting, device))))
        rows = []
        for number in takewhile(lambda n: n == 0 or time.monotonic() < deadline, range(options.rounds)):
            for model, of, network, steps in entries[:: -1 if number % 2 else 1]:
                for part, step, peak in steps:
                    network.train(part == "training")
                    step()  # warms the caches
                    threads = networks[model]["trainer"]["threads"]
                    seconds, _ = time_it(step, threads=threads, seconds=options.seconds)
                    turn = {**setting, "model": model, "of": of, "part": part, "round": number}
                    rows.append(turn | {"images_per_second": batch / seconds, "peak_memory_bytes": peak})
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(f"batch_size={batch}: too large for this device's memory") from error
    finally:
        set_float32({})
    return rows


def _steps(
    network: nn.Module, noise: Noise, setting: Row, device: torch.device
) -> Iterator[tuple[str, Step, int | None]]:
    """Each part's step, and the peak memory in bytes on a GPU."""
    gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if gpu else 0
    for part, optimizer in (("inference", None), ("training", SGD)):  # first, before there are gradients
        if gpu:
            torch.cuda.reset_peak_memory_stats(device)
        step = make_step(
            network,
            noise,
            optimizer,
            device=device,
            channels_last=setting["memory_order"] == "channels-last",
            bf16=setting["precision"] == "bf16-mixed",
            compile_with=setting["compiled"] or None,
        )
        for _ in range(2):  # gradients and the optimizer's state exist from the second on
            step()
        yield part, step, torch.cuda.max_memory_allocated(device) - before if gpu else None


def build(config: Mapping[str, Any], model: str, of: str) -> nn.Module:
    """A network with PyTorch's default initial values, whatever its source."""
    torch.manual_seed(0)
    classes = config["dataset"]["num_classes"]
    built: nn.Module = (
        instantiate(config["model"]) if of == OURS else instantiate(LIBRARIES[of][model], num_classes=classes)
    )
    for module in built.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return built
