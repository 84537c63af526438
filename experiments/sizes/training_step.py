"""A training step or an inference pass of any network on noise: time and memory that it takes."""

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
"""Trains one step: forward, loss, backward, optimizer."""


@dataclass(frozen=True)
class Noise:
    """A batch of noise images (batch_size, channels, image_size, image_size) with labels.

    Attributes:
        batch_size: Images.
        channels: Of an image.
        image_size: Height and width, in pixels.
        num_classes: Labels are below it.
    """

    batch_size: int
    channels: int
    image_size: int
    num_classes: int


def place_noise(
    noise: Noise, device: torch.device, *, channels_last: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The noise images and their labels on a device."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    draws = torch.Generator().manual_seed(0)
    size = (noise.batch_size, noise.channels, noise.image_size, noise.image_size)
    images = torch.randn(size, generator=draws).to(device=device, memory_format=memory_format)
    return images, torch.randint(noise.num_classes, (noise.batch_size,), generator=draws).to(device)


def place_network(
    network: nn.Module, device: torch.device, *, channels_last: bool, compile_with: str | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Move a network to a device.

    Returns:
        What computes its logits: the network, or its forward pass compiled by a backend of torch.compile.
    """
    network.to(device).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return torch.compile(network.forward, backend=compile_with) if compile_with else network


def make_step(
    network: nn.Module,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    noise: Noise,
    *,
    device: torch.device,
    channels_last: bool,
    bf16: bool,
    compile_with: str | None = None,
) -> Step:
    """Put a network and a batch of noise on a device, ready to be trained on it.

    Args:
        network: Images -> logits; it is moved there.
        make_optimizer: Makes the optimizer of the parameters.
        noise: What it is trained on, the same batch in every step.
        device: Where.
        channels_last: Whether images and weights lie in channels-last memory order.
        bf16: Whether the forward pass is autocast to bfloat16.
        compile_with: Backend of torch.compile for the forward and backward pass; None: not compiled.
    """
    forward = place_network(network.train(), device, channels_last=channels_last, compile_with=compile_with)
    optimizer = make_optimizer(network.parameters())
    loss_function = nn.CrossEntropyLoss()
    images, labels = place_noise(noise, device, channels_last=channels_last)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_function(forward(images), labels)
        loss.backward()
        optimizer.step()

    return step


def make_pass(
    network: nn.Module,
    noise: Noise,
    *,
    device: torch.device,
    channels_last: bool,
    bf16: bool,
    compile_with: str | None = None,
) -> Step:
    """As `make_step`, for inference: logits without gradients, BN by its running averages."""
    forward = place_network(network.eval(), device, channels_last=channels_last, compile_with=compile_with)
    images, _ = place_noise(noise, device, channels_last=channels_last)

    @torch.inference_mode()
    def infer() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            forward(images)

    return infer


def prepare_step(config: Mapping[str, Any], device: torch.device) -> Step:
    """Build a network as a run does, with the recipe's initial values and optimizer.

    Args:
        config: A resolved configuration.
        device: Where it is trained.
    """
    dataset, recipe = config["dataset"], config["recipe"]
    set_float32(recipe)
    return make_step(
        make_network(config),
        make_optimizer(recipe),
        Noise(recipe["batch_size"], dataset["channels"], dataset["image_size"], dataset["num_classes"]),
        device=device,
        channels_last=recipe["channels_last"],
        bf16=recipe["precision"] == "bf16-mixed",
        compile_with=compiler_of(config),
    )


@dataclass(frozen=True)
class Timing:
    """What was measured of a training step.

    Attributes:
        seconds: Of a step, its median over blocks of steps.
        steps: That were timed.
        peak_memory: Bytes that network, optimizer and steps needed at most; None where the system does not
            tell (it is no Linux).
    """

    seconds: float
    steps: int
    peak_memory: int | None


def time_apart(prepare: Callable[[], Step], *, device: torch.device, threads: int, seconds: float) -> Timing:
    """Train in a fresh process, so that nothing of an earlier network, its memory least of all, takes part.

    Args:
        prepare: Builds the network; it must be picklable, a function of a module or a `partial` of one.
        device: Where.
        threads: Of the CPU.
        seconds: That are timed at least.

    Raises:
        MemoryError: The process was killed, as the system does where memory runs out.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(
                time_step, prepare, device=device, threads=threads, seconds=seconds
            ).result()
    except BrokenProcessPool as error:
        raise MemoryError("the process that trains was killed") from error


def time_step(prepare: Callable[[], Step], *, device: torch.device, threads: int, seconds: float) -> Timing:
    """As `time_apart`, in this process: its peak of memory counts only what it never needed before."""
    torch.set_num_threads(threads)
    before = highest_memory(device)
    step = prepare()
    step()  # gradients and the optimizer's state are there from the second one on
    seconds, steps = time_it(step, threads=threads, seconds=seconds)
    after = highest_memory(device)
    return Timing(
        seconds=seconds,
        steps=steps,
        peak_memory=None if before is None or after is None else after - before,
    )


def time_it(step: Step, *, threads: int, seconds: float) -> tuple[float, int]:
    """Seconds of a step, its median over blocks of steps, and how many were timed, for `seconds` at least."""
    # What builds extensions comes with it, and says that there is no CUDA.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timer = Timer("step()", globals={"step": step}, num_threads=threads)
    measured = timer.blocked_autorange(min_run_time=seconds)
    return measured.median, len(measured.times) * measured.number_per_run


def highest_memory(device: torch.device) -> int | None:
    """Bytes that PyTorch had allocated at most on a GPU; of a CPU those that this process had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return environment.highest_resident_memory()
