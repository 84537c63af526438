"""A training step on noise: it trains, in the order and precision asked for; memory of a fresh process."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from experiments import environment
from experiments.sizes.training_step import Noise, make_step, time_apart, time_step

CPU = torch.device("cpu")
NOISE = Noise(batch_size=4, channels=3, image_size=6, num_classes=5)
SGD = partial(torch.optim.SGD, lr=0.1)


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
@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_trains_every_parameter(channels_last: bool, bf16: bool) -> None:
    network = Watched().eval()
    step = make_step(network, NOISE, SGD, device=CPU, channels_last=channels_last, bf16=bf16)
    before = [p.detach().clone() for p in network.parameters()]
    step()
    assert network.training
    assert all(not torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))
    images, logits = network.calls[0]
    assert images.shape == (4, 3, 6, 6)
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=order)
    assert network.conv.weight.is_contiguous(memory_format=order)
    assert logits.dtype == (torch.bfloat16 if bf16 else torch.float32)


def test_inference_changes_nothing() -> None:
    network = Watched()
    before = copy.deepcopy(network.state_dict())
    make_step(network, NOISE, device=CPU, channels_last=False, bf16=False)()
    assert not network.training
    assert not network.calls[0][1].requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_compiled_step_trains_the_same_weights() -> None:
    torch.manual_seed(0)
    plain = Watched()
    compiled = copy.deepcopy(plain)
    for network, backend in ((plain, None), (compiled, "eager")):
        options = {"device": CPU, "channels_last": False, "bf16": False}
        make_step(network, NOISE, SGD, **options, compile_with=backend)()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, compiled.state_dict()[name])


def test_steps_follow_the_gradient() -> None:
    """The gradient of a step is its own, not the sum over steps."""
    network = Watched()
    step = make_step(network, NOISE, SGD, device=CPU, channels_last=False, bf16=False)
    step()
    gradient = network.logits.bias.grad.clone()
    moved_from = network.logits.bias.detach().clone()
    step()
    torch.testing.assert_close(network.logits.bias, moved_from - 0.1 * network.logits.bias.grad)
    assert network.logits.bias.grad.norm() < 1.5 * gradient.norm()


def test_a_step_is_timed_until_the_seconds_are_over() -> None:
    trained = []
    timing = time_step(lambda: partial(trained.append, 0), device=CPU, threads=1, seconds=0.01)
    assert 0 < timing.seconds < 0.01
    assert 0.01 / timing.seconds < 2 * timing.steps
    assert timing.steps < len(trained)  # some do not count


def hold(megabytes: int):
    """A step whose memory is known; at the top of the module, as a fresh process gets it by name."""
    return lambda: torch.ones(megabytes * 2**18)


@pytest.mark.slow
def test_peak_memory_is_what_the_steps_hold() -> None:
    # An allocation of this process must not count.
    here = torch.ones(300 * 2**18)
    peak = time_apart(partial(hold, 60), device=CPU, threads=1, seconds=1e-9).peak_memory
    assert peak is not None
    assert peak / 2**20 == pytest.approx(60, abs=25)
    assert here.sum() > 0


def test_memory_of_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(environment, "Path", lambda _: tmp_path / "missing")
    assert time_step(lambda: int, device=CPU, threads=1, seconds=1e-9).peak_memory is None
