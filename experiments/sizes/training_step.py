"""One training step of any network on noise: how long it takes, how much memory it needs."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

Step = Callable[[], None]
"""Trains one step: forward, loss, backward, optimizer."""

STEPS_TO_PEAK = 2
"""The second step is the first that has gradients and the optimizer's state in memory from its start on."""


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


def make_step(
    network: nn.Module,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    noise: Noise,
    *,
    device: torch.device,
    channels_last: bool,
    bf16: bool,
) -> Step:
    """Put a network and a batch of noise on a device, ready to be trained on it.

    Args:
        network: Images -> logits; it is moved there.
        make_optimizer: Makes the optimizer of the parameters.
        noise: What it is trained on, the same batch in every step.
        device: Where.
        channels_last: Whether images and weights lie in channels-last memory order.
        bf16: Whether the forward pass is autocast to bfloat16.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    network.train().to(device).to(memory_format=memory_format)
    optimizer = make_optimizer(network.parameters())
    loss_function = nn.CrossEntropyLoss()
    draws = torch.Generator().manual_seed(0)
    size = (noise.batch_size, noise.channels, noise.image_size, noise.image_size)
    images = torch.randn(size, generator=draws).to(device=device, memory_format=memory_format)
    labels = torch.randint(noise.num_classes, (noise.batch_size,), generator=draws).to(device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_function(network(images), labels)
        loss.backward()
        optimizer.step()

    return step


def steps_per_second(step: Step, steps: int, device: torch.device) -> float:
    """Train one step that is not counted, then time others.

    Args:
        step: Trains one.
        steps: How many are timed, 1 or more.
        device: Where they run; it has finished when the clock is read.
    """
    step()
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _synchronize(device)
    return steps / (time.perf_counter() - start)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_resident_memory(prepare: Callable[[], Step], threads: int) -> int | None:
    """Bytes that network, optimizer and training steps need at most, on a CPU.

    A fresh process trains: its resident set at its highest, less what was resident before `prepare`.
    In one process after the other, what the allocator keeps of the first would count for the second.

    Args:
        prepare: Builds the network; it must be picklable, a function of a module or a `partial` of one.
        threads: Of the CPU.

    Returns:
        The bytes; None where the system does not tell them (it is no Linux).

    Raises:
        MemoryError: The process was killed, as the system does where memory runs out.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(_growth_of_resident_memory, prepare, threads).result()
    except BrokenProcessPool as error:
        raise MemoryError("the process that trains was killed") from error


def _growth_of_resident_memory(prepare: Callable[[], Step], threads: int) -> int | None:
    torch.set_num_threads(threads)
    before = _highest_resident_memory()
    step = prepare()
    for _ in range(STEPS_TO_PEAK):
        step()
    after = _highest_resident_memory()
    return None if before is None or after is None else after - before


def _highest_resident_memory() -> int | None:
    """Bytes. Not getrusage's, which a process inherits from the one that started it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(found[0][1]) if found else None
