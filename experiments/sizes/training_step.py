"""A training step or an inference pass of any network on noise, and how long it takes."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lightning_modules.assembly import compiler_of, make_optimizer

Step = Callable[[], None]
"""A training step (forward, loss, backward, optimizer) or an inference pass."""


def make_step(network: nn.Module, config: Mapping[str, Any], *, training: bool, device: torch.device) -> Step:
    """Put a network and a batch of noise on a device, ready for steps.

    Args:
        network: Images (N, C, H, W) -> logits (N, num_classes).
        config: Of a run. Its `dataset` has the sizes C, H = W and num_classes; its `recipe` N, memory order,
            precision (bf16-mixed autocasts the forward pass) and optimizer; `trainer.compile` compiles.
        training: False: inference passes, without gradients and with BN's running averages.
        device: Where.
    """
    dataset, recipe = config["dataset"], config["recipe"]
    order = torch.channels_last if recipe["channels_last"] else torch.contiguous_format
    network.train(training).to(device).to(memory_format=order)
    backend = compiler_of(config)
    forward = torch.compile(network.forward, backend=backend) if backend else network
    draws = torch.Generator().manual_seed(0)
    size = (recipe["batch_size"], dataset["channels"], dataset["image_size"], dataset["image_size"])
    images = torch.randn(size, generator=draws).to(device=device, memory_format=order)
    labels = torch.randint(dataset["num_classes"], (len(images),), generator=draws).to(device)
    loss_function = nn.CrossEntropyLoss()
    bf16 = recipe["precision"] == "bf16-mixed"

    @torch.inference_mode()
    def infer() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            forward(images)

    if not training:
        return infer
    optimizer = make_optimizer(recipe)(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_function(forward(images), labels)
        loss.backward()
        optimizer.step()

    return step


def time_it(step: Step, *, threads: int, seconds: float) -> tuple[float, int]:
    """Seconds per step, the median over blocks, and the number of steps, for at least `seconds`."""
    # An import of it warns that there is no CUDA.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timer = Timer("step()", globals={"step": step}, num_threads=threads)
    measured = timer.blocked_autorange(min_run_time=seconds)
    return measured.median, len(measured.times) * measured.number_per_run
