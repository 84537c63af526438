"""Time and memory of a training step or an inference pass of any network on noise."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from torch import nn

from experiments import environment
from lightning_modules.assembly import compiler_of, make_network, make_optimizer, set_float32

Step = Callable[[], None]
"""A training step (forward, loss, backward, optimizer) or an inference pass."""


@dataclass(frozen=True)
class Noise:
    """Noise images (batch_size, channels, image_size, image_size), with labels below num_classes."""

    batch_size: int
    channels: int
    image_size: int
    num_classes: int


def make_step(
    network: nn.Module,
    noise: Noise,
    make_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    *,
    device: torch.device,
    channels_last: bool,
    bf16: bool,
    compile_with: str | None = None,
) -> Step:
    """Put a network and a batch of noise on a device, ready for training steps.

    Without `make_optimizer` a step is an inference pass: no gradients, BN's running averages. `bf16`
    autocasts the forward pass to bfloat16; `compile_with` is a backend of torch.compile.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    network.train(make_optimizer is not None).to(device).to(memory_format=order)
    forward = torch.compile(network.forward, backend=compile_with) if compile_with else network
    draws = torch.Generator().manual_seed(0)
    size = (noise.batch_size, noise.channels, noise.image_size, noise.image_size)
    images = torch.randn(size, generator=draws).to(device=device, memory_format=order)
    labels = torch.randint(noise.num_classes, (noise.batch_size,), generator=draws).to(device)
    loss_function = nn.CrossEntropyLoss()

    @torch.inference_mode()
    def infer() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            forward(images)

    if make_optimizer is None:
        return infer
    optimizer = make_optimizer(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_function(forward(images), labels)
        loss.backward()
        optimizer.step()

    return step


def prepare_step(config: Mapping[str, Any], device: torch.device) -> Step:
    """Build a network as for a run, and its training step."""
    dataset, recipe = config["dataset"], config["recipe"]
    set_float32(recipe)
    return make_step(
        make_network(config),
        Noise(recipe["batch_size"], dataset["channels"], dataset["image_size"], dataset["num_classes"]),
        make_optimizer(recipe),
        device=device,
        channels_last=recipe["channels_last"],
        bf16=recipe["precision"] == "bf16-mixed",
        compile_with=compiler_of(config),
    )


@dataclass(frozen=True)
class Timing:
    """Measurements of a training step.

    Attributes:
        seconds: Per step, the median over blocks of steps.
        steps: Number of timed steps.
        peak_memory: Bytes of network, optimizer and steps; None if unknown (not Linux).
    """

    seconds: float
    steps: int
    peak_memory: int | None


def time_apart(prepare: Callable[[], Step], *, device: torch.device, threads: int, seconds: float) -> Timing:
    """Time a training step, for at least `seconds`, in a new process; `prepare` is picklable.

    Raises:
        MemoryError: The process was killed, as the system does if memory runs out.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(
                time_step, prepare, device=device, threads=threads, seconds=seconds
            ).result()
    except BrokenProcessPool as error:
        raise MemoryError("the process that trains was killed") from error


def time_step(prepare: Callable[[], Step], *, device: torch.device, threads: int, seconds: float) -> Timing:
    """As `time_apart`, in this process, so peak memory counts only what exceeds earlier peaks."""
    torch.set_num_threads(threads)
    before = highest_memory(device)
    step = prepare()
    step()  # gradients and the optimizer's state exist from the second on
    seconds, steps = time_it(step, threads=threads, seconds=seconds)
    after = highest_memory(device)
    return Timing(
        seconds=seconds,
        steps=steps,
        peak_memory=None if before is None or after is None else after - before,
    )


def time_it(step: Step, *, threads: int, seconds: float) -> tuple[float, int]:
    """Seconds per step, the median over blocks, and the number of steps, for at least `seconds`."""
    # An import of it warns that there is no CUDA.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timer = Timer("step()", globals={"step": step}, num_threads=threads)
    measured = timer.blocked_autorange(min_run_time=seconds)
    return measured.median, len(measured.times) * measured.number_per_run


def highest_memory(device: torch.device) -> int | None:
    """Peak bytes allocated by PyTorch on a GPU; on a CPU, this process's peak resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return environment.highest_resident_memory()
