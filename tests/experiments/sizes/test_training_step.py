"""A training step on noise: it trains, in the order and precision asked for, and is timed."""

import copy
import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import benchmark

from experiments.sizes.training_step import make_step, time_it

CPU = torch.device("cpu")


def config(*, precision: str = "32-true", channels_last: bool = False, compiler: str | None = None) -> dict:
    """What a step takes of a run's configuration."""
    sgd = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
    recipe = {"batch_size": 4, "precision": precision, "channels_last": channels_last, "optimizer": sgd}
    recipe |= {"fused_optimizer": False}
    dataset = {"channels": 3, "image_size": 6, "num_classes": 5}
    return {"dataset": dataset, "recipe": recipe, "trainer": {"compile": compiler}}


def step_of(network: nn.Module, *, training: bool = True, **options: Any):
    return make_step(network, config(**options), training=training, device=CPU)


class Watched(nn.Module):
    """Keeps what it was given and what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.logits = nn.Linear(4, 5)
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.logits(self.conv(images).mean((2, 3)))
        self.calls.append((images, logits))
        return logits


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_trains_every_parameter(channels_last: bool, precision: str) -> None:
    network = Watched().eval()
    step = step_of(network, channels_last=channels_last, precision=precision)
    before = [p.detach().clone() for p in network.parameters()]
    step()
    assert network.training
    assert all(not torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))
    images, logits = network.calls[0]
    assert images.shape == (4, 3, 6, 6)
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=order)
    assert network.conv.weight.is_contiguous(memory_format=order)
    assert logits.dtype == (torch.bfloat16 if precision == "bf16-mixed" else torch.float32)


def test_inference_changes_nothing() -> None:
    network = Watched()
    before = copy.deepcopy(network.state_dict())
    step_of(network, training=False)()
    assert not network.training
    assert not network.calls[0][1].requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_compiled_step_trains_the_same_weights() -> None:
    torch.manual_seed(0)
    plain = Watched()
    compiled = copy.deepcopy(plain)
    step_of(plain)()
    step_of(compiled, compiler="eager")()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, compiled.state_dict()[name])


def test_steps_follow_the_gradient() -> None:
    """The gradient of a step is its own, not the sum over steps."""
    network = Watched()
    step = step_of(network)
    step()
    gradient = network.logits.bias.grad.clone()
    moved_from = network.logits.bias.detach().clone()
    step()
    torch.testing.assert_close(network.logits.bias, moved_from - 0.1 * network.logits.bias.grad)
    assert network.logits.bias.grad.norm() < 1.5 * gradient.norm()


def test_a_step_is_timed_until_the_seconds_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = itertools.cycle([1.0, 1.0, 1.0, 9.0])  # a slow step now and then
    taken: list[float] = []
    monkeypatch.setattr(benchmark, "Timer", partial(benchmark.Timer, timer=lambda: sum(taken)))
    per_step, steps = time_it(lambda: taken.append(next(durations)), threads=1, seconds=12.5)
    assert per_step == 1
    assert steps < len(taken)  # some do not count
    assert sum(taken[-steps:-1]) < 12.5 <= sum(taken[-steps:])
