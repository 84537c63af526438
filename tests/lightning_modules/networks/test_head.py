"""The layers before the logistic regression: counts by hand, order, where the dropout is, names."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_modules.networks.head import FullyConnectedLayers, Head, no_fully_connected

TWO = partial(FullyConnectedLayers, layers=2, units=4096, activation=nn.ReLU)
ARGUMENTS = {"num_classes": 3, "width": 1, "dropout": 0.0}


def count(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(("num_classes", "expected"), [(1000, 50_077_968), (17_000, 115_629_968)])
def test_parameters_of_xception_with_fully_connected_layers(paper_xception, num_classes, expected):
    body = 22_855_952 - (2048 * 1000 + 1000)
    layers = (2048 * 4096 + 4096) + (4096 * 4096 + 4096)
    assert body + layers + 4096 * num_classes + num_classes == expected
    with torch.device("meta"):
        network = paper_xception(num_classes=num_classes, fully_connected=TWO)
    assert count(network) == expected


def test_only_the_head_is_another(paper_xception):
    with torch.device("meta"):
        without = {name: p.shape for name, p in paper_xception().named_parameters()}
        shapes = {name: p.shape for name, p in paper_xception(fully_connected=TWO).named_parameters()}
    added = {
        f"head.fully_connected.linear{number}.{part}" for number in (1, 2) for part in ("weight", "bias")
    }
    assert shapes.keys() - without.keys() == added
    assert without.keys() <= shapes.keys()
    assert {name for name in without if shapes[name] != without[name]} == {"head.logits.weight"}
    assert {name for name in without if name.startswith("head.")} == {
        "head.logits.weight",
        "head.logits.bias",
    }


def test_width_multiplies_the_units(small_xception):
    network = small_xception(width=0.125, fully_connected=TWO)
    layers = network.head.fully_connected
    assert (layers.linear1.in_features, layers.linear1.out_features) == (256, 512)
    assert (layers.linear2.in_features, layers.linear2.out_features) == (512, 512)
    assert network.head.logits.in_features == 512
    assert FullyConnectedLayers(2, width=1e-9, layers=1, units=8, activation=nn.ReLU).out_features == 1


def test_without_layers_it_is_dropout_and_logistic_regression_of_the_mean():
    head = Head(2, fully_connected=no_fully_connected, **ARGUMENTS)
    images = torch.randn(4, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = images.mean((2, 3)) @ head.logits.weight.T + head.logits.bias
        torch.testing.assert_close(head(images), expected)
    assert list(dict(head.named_children())) == ["pool", "flatten", "dropout", "logits"]


def test_layers_are_linear_then_activation_each():
    layers = partial(FullyConnectedLayers, layers=2, units=5, activation=nn.ELU)
    head = Head(2, fully_connected=layers, **ARGUMENTS)
    images = torch.randn(4, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = images.mean((2, 3))
        for linear in (head.fully_connected.linear1, head.fully_connected.linear2):
            x = nn.functional.elu(x @ linear.weight.T + linear.bias)
        torch.testing.assert_close(head(images), x @ head.logits.weight.T + head.logits.bias)
    order = ["pool", "flatten", "fully_connected", "dropout", "logits"]
    assert list(dict(head.named_children())) == order


def test_dropout_works_on_what_the_logistic_regression_reads():
    layers = partial(FullyConnectedLayers, layers=2, units=400, activation=nn.Sigmoid)
    head = Head(2, fully_connected=layers, **(ARGUMENTS | {"dropout": 0.5})).train()
    seen = []
    head.logits.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    head(torch.ones(1, 2, 1, 1))
    # Nothing behind a sigmoid is 0 but what was dropped.
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("key", ["layers", "units"])
@pytest.mark.parametrize("value", [0, 2.0, True])
def test_a_size_out_of_range_is_told(key, value):
    sizes = {"layers": 2, "units": 8} | {key: value}
    with pytest.raises(ValueError, match=rf"^fully_connected\.{key}={value}: must be a whole number of at"):
        FullyConnectedLayers(2, width=1, activation=nn.ReLU, **sizes)
