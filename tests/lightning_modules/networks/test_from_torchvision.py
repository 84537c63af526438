"""Whether torchvision's networks are what the papers count, and what of them a run chooses."""

import pytest
import torch
import torchvision
from torch import nn

from experiments.sizes.network_cost import count_network
from lightning_modules.initialization import initialize
from lightning_modules.networks import from_torchvision

COMMON = {"num_classes": 1000, "in_channels": 3, "dropout": 0.5}
RESNET = COMMON | {"stem_stride": 2, "norm": nn.BatchNorm2d}
NETWORKS = {"vgg16": COMMON, "resnet18": RESNET}
FIRST = {"vgg16": "features.0", "resnet18": "conv1"}


def on_meta(name, **changes):
    with torch.device("meta"):
        return getattr(from_torchvision, name)(**(NETWORKS[name] | changes))


def cost(name, side):
    model = {"_target_": f"lightning_modules.networks.from_torchvision.{name}"} | NETWORKS[name]
    if "norm" in model:
        model["norm"] = {"_target_": "torch.nn.BatchNorm2d", "_partial_": True}
    return count_network({"dataset": {"image_size": side, "channels": model["in_channels"]}, "model": model})


@pytest.mark.parametrize(
    ("name", "parameters", "giga", "depth"),
    # Multiply-adds per 224x224 image as torchvision publishes them, "_ops" of its weights.
    [
        ("vgg16", 138_357_544, 15.47, 16),
        ("resnet18", 11_689_512, 1.814, 18),
    ],
)
def test_parameters_multiply_adds_and_depth_are_the_published_ones(name, parameters, giga, depth):
    counted = cost(name, 224)
    assert counted.parameters == parameters
    assert counted.multiply_adds / 1e9 == pytest.approx(giga, rel=0.001)
    assert counted.depth == depth


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(num_classes=7)
    ours = on_meta(name, num_classes=7)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_first_convolution_alone_reads_other_channels(name):
    colour, grey = on_meta(name), on_meta(name, in_channels=1)
    shapes = [{key: p.shape for key, p in network.named_parameters()} for network in (colour, grey)]
    first = f"{FIRST[name]}.weight"
    assert [key for key in shapes[0] if shapes[0][key] != shapes[1][key]] == [first]
    assert list(shapes[0]) == list(shapes[1])
    assert shapes[1][first][1] == 1
    before, after = (network.get_submodule(FIRST[name]) for network in (colour, grey))
    for key in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(before, key) == getattr(after, key)
    assert (before.bias is None) == (after.bias is None) == (name != "vgg16")


def test_stem_stride_is_the_first_convolutions():
    for stride in (1, 2):
        first = on_meta("resnet18", stem_stride=stride).get_submodule("conv1")
        assert first.stride == (stride, stride)
        assert first(torch.empty(1, 3, 28, 28, device="meta")).shape[-1] == 28 // stride


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_is_the_recipes(name):
    shares = [m.p for m in on_meta(name, dropout=0.25).modules() if isinstance(m, nn.Dropout)]
    assert shares == [0.25] * (2 if name == "vgg16" else 1)


def test_resnets_dropout_works_on_the_pooled_features_of_training():
    network = from_torchvision.resnet18(**(RESNET | {"num_classes": 2}))
    features = torch.ones(1, 64, 3, 3)
    assert torch.equal(network.eval().avgpool(features), torch.ones(1, 64, 1, 1))
    torch.manual_seed(0)
    dropped = network.train().avgpool(features)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_vgg16_needs_32_pixels_and_resnet18_fewer():
    assert cost("vgg16", 32).multiply_adds > 0
    with pytest.raises(ValueError, match=r"^dataset\.image_size=31: too small for model .*vgg16 \("):
        cost("vgg16", 31)
    assert cost("resnet18", 1).multiply_adds > 0


@pytest.mark.parametrize(("side", "stride", "last"), [(28, 1, 2), (224, 2, 7)])
def test_pixels_that_the_last_modules_see(side, stride, last):
    network = on_meta("resnet18", stem_stride=stride).eval()
    seen = []
    network.avgpool.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-2:]))
    logits = network(torch.empty(2, 3, side, side, device="meta"))
    assert logits.shape == (2, 1000)
    assert seen == [(last, last)]


def test_initial_values_are_the_runs():
    torch.manual_seed(1)
    first = from_torchvision.resnet18(**(RESNET | {"num_classes": 3, "in_channels": 1}))
    torch.manual_seed(2)
    second = from_torchvision.resnet18(**(RESNET | {"num_classes": 3, "in_channels": 1}))
    for network in (first, second):
        initialize(network, 5, nn.init.xavier_uniform_)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("num_classes", 0, "a whole number of at least 1"),
        ("in_channels", 1.0, "a whole number of at least 1"),
        ("stem_stride", 3, "one of 1, 2"),
        ("dropout", 1, "a number of at least 0 and below 1"),
    ],
)
def test_a_size_out_of_range_names_key_value_and_what_is_allowed(argument, value, allowed):
    with pytest.raises(ValueError, match=rf"^model\.{argument}={value}: must be {allowed}$"):
        on_meta("resnet18", **{argument: value})
