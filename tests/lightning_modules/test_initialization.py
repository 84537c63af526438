"""The pairing of initial values: equal where two arms share a parameter, whatever else differs."""

import math

import pytest
import torch
from torch import nn

from lightning_modules.initialization import initialize
from lightning_modules.networks.blocks import LinearShortcut, no_shortcut

GLOROT = nn.init.xavier_uniform_


@pytest.fixture
def initial(small_xception):
    """Builds a network, moves the global generator first, and returns its parameters by name."""

    def make(seed=0, global_seed=0, **changes):
        torch.manual_seed(global_seed)
        network = small_xception(**changes)
        initialize(network, seed, GLOROT)
        return dict(network.named_parameters())

    return make


def assert_equal_where_shared(left, right):
    shared = left.keys() & right.keys()
    assert len(shared) > 40
    assert [name for name in shared if not torch.equal(left[name], right[name])] == []


def test_arms_of_one_seed_share_their_start(initial):
    arms = [
        {"residual": residual, "intermediate_activation": activation}
        for residual in (LinearShortcut, no_shortcut)
        for activation in (nn.Identity, nn.ReLU, nn.ELU, nn.PReLU)
    ]
    in_order = [initial(global_seed=1, **arm) for arm in arms]
    reversed_order = [initial(global_seed=2, **arm) for arm in reversed(arms)][::-1]
    baseline = in_order[0]
    for network in in_order + reversed_order:
        assert_equal_where_shared(baseline, network)
    without = in_order[4]
    assert {name for name in baseline if ".shortcut." not in name} == set(without)


def test_other_seed_other_start(initial):
    left, right = initial(seed=0), initial(seed=1)
    drawn = [name for name, parameter in left.items() if parameter.ndim >= 2]
    assert len(drawn) == 2 * (34 - 7 * 3) + 2 + 4 + 1  # one middle module of eight
    assert [name for name in drawn if torch.equal(left[name], right[name])] == []


def test_parameters_of_one_shape_start_apart(initial):
    parameters = initial(middle_modules=2)
    places = [f"middle_flow.{module}.body.separable{number}" for module in (0, 1) for number in (1, 2, 3)]
    names = [f"{place}.pointwise.weight" for place in places]
    for number, name in enumerate(names):
        for other in names[:number]:
            assert not torch.equal(parameters[name], parameters[other])


def test_the_global_generator_is_neither_read_nor_moved(small_xception):
    network = small_xception()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    initialize(network, 0, GLOROT)
    assert torch.equal(torch.get_rng_state(), before)


def test_constants_stay_constants(small_xception):
    network = small_xception(intermediate_activation=nn.PReLU)
    initialize(network, 0, GLOROT)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.tolist() == [1] * module.num_features
            assert module.bias.tolist() == [0] * module.num_features
            assert module.running_mean.tolist() == [0] * module.num_features
            assert module.running_var.tolist() == [1] * module.num_features
            assert (module.eps, module.num_batches_tracked.item()) == (1e-3, 0)
        if isinstance(module, nn.PReLU):
            assert module.weight.tolist() == [0.25]
    assert network.head.logits.bias.tolist() == [0] * 6


def keras_glorot_limit(kernel_shape):
    """Keras' glorot_uniform: sqrt(6 / (fan_in + fan_out)) of a kernel (..., in, out)."""
    *window, fan_in, fan_out = kernel_shape
    return math.sqrt(6 / (math.prod(window) * (fan_in + fan_out)))


@pytest.mark.parametrize(
    ("layer", "keras_shape", "limit"),
    [
        # 9 * (32 + 64) = 864 connections in and out.
        (nn.Conv2d(32, 64, 3), (3, 3, 32, 64), 0.08333333),
        # A depthwise kernel of 128 channels, (3, 3, 128, 1): 9 * (128 + 1) = 1161.
        (nn.Conv2d(128, 128, 3, groups=128), (3, 3, 128, 1), 0.07188852),
        # A pointwise kernel: 128 + 256 = 384.
        (nn.Conv2d(128, 256, 1), (1, 1, 128, 256), 0.125),
        # A dense kernel: 256 + 10 = 266.
        (nn.Linear(256, 10), (256, 10), 0.15018785),
    ],
    ids=["convolution", "depthwise", "pointwise", "dense"],
)
def test_draws_are_uniform_within_keras_limit(layer, keras_shape, limit):
    assert keras_glorot_limit(keras_shape) == pytest.approx(limit, rel=1e-6)
    initialize(layer, 0, GLOROT)
    drawn = layer.weight.detach().flatten()
    assert 0.97 * limit < drawn.abs().max() <= limit * (1 + 1e-6)
    # Uniform: mean 0, standard deviation limit / sqrt(3); 5 standard errors.
    assert abs(drawn.mean()) < 5 * limit / math.sqrt(3 * len(drawn))
    assert drawn.std() == pytest.approx(limit / math.sqrt(3), rel=0.1)
    assert layer.bias.abs().max() == 0
