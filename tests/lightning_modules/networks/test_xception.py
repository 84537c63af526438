"""Whether the network is the paper's: counts, sizes, order, shortcuts."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_modules.initialization import initialize
from lightning_modules.networks.blocks import (
    ConvNorm,
    LinearShortcut,
    no_shortcut,
    projections_without_identities,
)
from lightning_modules.networks.separable import SeparableConvNorm
from lightning_modules.networks.xception import XceptionModule

EPSILON = 1e-3


def count(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.fixture
def on_meta(paper_xception):
    """Makes the paper's network without memory or computation."""

    def make(**changes):
        with torch.device("meta"):
            return paper_xception(**changes)

    return make


@pytest.fixture
def seeded(small_xception):
    """Makes a small network in eval mode whose values, running statistics included, are drawn."""

    def make(**changes):
        network = small_xception(**changes)
        initialize(network, 3, nn.init.xavier_uniform_)
        draws = torch.Generator().manual_seed(4)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value in (module.weight.data, module.bias.data, module.running_mean):
                    value.add_(0.3 * torch.randn(value.shape, generator=draws))
                module.running_var.uniform_(0.5, 1.5, generator=draws)
        return network.eval()

    return make


@pytest.fixture
def images():
    return torch.randn(3, 1, 21, 26, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 22_855_952),
        ({"num_classes": 10}, 20_827_442),
        ({"residual": no_shortcut}, 21_878_880),
        ({"residual": projections_without_identities}, 22_855_952),
        ({"intermediate_activation": nn.ReLU}, 22_855_952),
        ({"intermediate_activation": nn.ELU}, 22_855_952),
    ],
    ids=["paper", "10 classes", "no shortcuts", "projections", "relu", "elu"],
)
def test_parameters_are_as_many_as_the_papers(on_meta, changes, expected):
    assert count(on_meta(**changes)) == expected


def test_36_convolution_layers_in_14_modules(on_meta):
    network = on_meta()
    layers = [m for m in network.modules() if isinstance(m, ConvNorm | SeparableConvNorm)]
    projections = [
        layer
        for shortcut in network.modules()
        if isinstance(shortcut, LinearShortcut)
        for layer in shortcut.modules()
        if isinstance(layer, ConvNorm)
    ]
    assert len(projections) == 4
    assert len(layers) - len(projections) == 36
    # Around every module but the first (the stem) and the last is a residual connection.
    assert sum(isinstance(m, XceptionModule) for m in network.modules()) == 14 - 2
    assert sum(isinstance(m, LinearShortcut) for m in network.modules()) == 14 - 2
    # Every convolution is followed by BN, and there is no other.
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 36 + 4


def test_channels_of_every_layer_are_figure_5s(on_meta):
    network = on_meta()

    def channels(*parts):
        modules = (module for part in parts for module in part.modules())
        pairs = []
        for module in modules:
            if isinstance(module, SeparableConvNorm):
                depthwise, pointwise = module.depthwise, module.pointwise
                assert depthwise.out_channels == depthwise.groups == pointwise.in_channels
                pairs.append((depthwise.in_channels, pointwise.out_channels))
        return pairs

    stem = [(m.in_channels, m.out_channels) for m in network.stem.modules() if isinstance(m, nn.Conv2d)]
    assert stem == [(3, 32), (32, 64)]
    assert [channels(module) for module in network.entry_flow] == [
        [(64, 128), (128, 128)],
        [(128, 256), (256, 256)],
        [(256, 728), (728, 728)],
    ]
    assert [channels(module) for module in network.middle_flow] == [[(728, 728)] * 3] * 8
    assert channels(network.exit_flow) == [(728, 728), (728, 1024), (1024, 1536), (1536, 2048)]
    assert network.exit_flow.module.shortcut.projection.conv.out_channels == 1024
    assert (network.head.logits.in_features, network.head.logits.out_features) == (2048, 1000)


def test_feature_maps_of_a_299_image_are_figure_5s(on_meta):
    network = on_meta().eval()
    sides = []

    def note(module, inputs, output):
        assert output.shape[-2] == output.shape[-1]
        sides.append(output.shape[-1])

    for module in (network.stem.conv1, network.stem.conv2, *network.entry_flow, *network.middle_flow):
        module.register_forward_hook(note)
    network.exit_flow.module.register_forward_hook(note)
    network.exit_flow.register_forward_hook(note)
    logits = network(torch.empty(2, 3, 299, 299, device="meta"))
    assert sides == [149, 147, 74, 37, 19] + 8 * [19] + [10, 10]
    assert logits.shape == (2, 1000)


def figure_5(network, x):
    """Figure 5 once more, as a plain list of operations on a network's values. Eval mode."""
    values = dict(network.state_dict())

    def norm(x, name):
        mean, variance, scale, shift = (
            values[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, scale, shift, eps=EPSILON)

    def conv(x, name, stride=1):
        return norm(functional.conv2d(x, values[f"{name}.conv.weight"], stride=stride), name)

    def separable(x, name):
        depthwise, pointwise = (values[f"{name}.{part}.weight"] for part in ("depthwise", "pointwise"))
        x = functional.elu(functional.conv2d(x, depthwise, padding=1, groups=len(depthwise)))
        return norm(functional.conv2d(x, pointwise), name)

    def pool(x):  # TensorFlow's "same": on an even side the end alone is padded
        height, width = x.shape[-2:]
        x = functional.pad(x, (width % 2, 1, height % 2, 1), value=-torch.inf)
        return functional.max_pool2d(x, 3, 2)

    def halving(x, name, leading_relu=True):
        shortcut = conv(x, f"{name}.shortcut.projection", stride=2)
        x = separable(x.relu() if leading_relu else x, f"{name}.body.separable1")
        return pool(separable(x.relu(), f"{name}.body.separable2")) + shortcut

    x = conv(x, "stem.conv1").relu()
    x = conv(x, "stem.conv2").relu()
    x = halving(x, "entry_flow.0", leading_relu=False)
    x = halving(x, "entry_flow.1")
    x = halving(x, "entry_flow.2")
    before = x
    for number in (1, 2, 3):
        x = separable(x.relu(), f"middle_flow.0.body.separable{number}")
    x = halving(x + before, "exit_flow.module")
    x = separable(x, "exit_flow.separable1").relu()
    x = separable(x, "exit_flow.separable2").relu()
    return functional.linear(x.mean((2, 3)), values["head.logits.weight"], values["head.logits.bias"])


def test_logits_are_those_of_figure_5_written_out(seeded, images):
    network = seeded(intermediate_activation=nn.ELU).double()
    images = images.double()
    with torch.no_grad():
        logits = network(images)
        assert logits.std() > 0.01  # a dead network would agree with anything
        torch.testing.assert_close(logits, figure_5(network, images), rtol=1e-9, atol=1e-9)


def silence(module):
    """Make f(x) of a module 0, so that only the shortcut is left."""
    for norm in module.body.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for value in (norm.weight.data, norm.bias.data, norm.running_mean):
                value.zero_()


def test_identity_shortcut_reads_the_input_before_the_leading_relu(seeded):
    module = seeded().middle_flow[0]
    silence(module)
    features = -torch.rand(1, 36, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(features), features)


def test_projection_reads_the_input_before_the_leading_relu(seeded):
    module = seeded().entry_flow[1]
    silence(module)
    features = -torch.rand(1, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    conv, norm = module.shortcut.projection.conv, module.shortcut.projection.norm
    with torch.no_grad():
        projected = torch.einsum("nchw,oc->nohw", features[..., ::2, ::2], conv.weight[:, :, 0, 0])
        scaled = (projected - norm.running_mean[:, None, None]) * (
            norm.weight / (norm.running_var + EPSILON).sqrt()
        )[:, None, None]
        assert torch.allclose(module(features), scaled + norm.bias[:, None, None], atol=1e-6)


def test_every_module_but_the_first_residual_one_has_a_leading_relu(seeded):
    network = seeded()
    modules = [*network.entry_flow, *network.middle_flow, network.exit_flow.module]
    has_leading_relu = []
    with torch.no_grad():
        for module in modules:
            channels = module.body.separable1.depthwise.in_channels
            features = torch.randn(1, channels, 6, 6, generator=torch.Generator().manual_seed(0))
            same = torch.equal(module.body(features.clone()), module.body(features.relu()))
            has_leading_relu.append(same)
    assert has_leading_relu == [False, True, True, True, True]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [LinearShortcut, no_shortcut, projections_without_identities])
def test_inputs_are_not_changed_in_place(seeded, images, residual, training):
    network = seeded(residual=residual).train(training)
    parts = [network, *network.entry_flow, *network.middle_flow, network.exit_flow.module]
    for part in parts:
        if part is network:
            given = images
        else:
            channels = part.body.separable1.depthwise.in_channels
            given = torch.randn(2, channels, 6, 6, generator=torch.Generator().manual_seed(0))
        before = given.clone()
        with torch.no_grad():
            part(given)
        assert torch.equal(given, before)


def test_without_shortcuts_the_projections_are_left_out_and_nothing_else(on_meta):
    shapes = {name: p.shape for name, p in on_meta().named_parameters()}
    without = {name: p.shape for name, p in on_meta(residual=no_shortcut).named_parameters()}
    gone = {name for name in shapes if ".shortcut." in name}
    assert len(gone) == 4 * 3  # a 1x1 kernel, BN's scale and shift each
    assert without == {name: shape for name, shape in shapes.items() if name not in gone}


def test_projections_are_kept_and_the_identities_left_out(on_meta):
    network = on_meta(residual=projections_without_identities)
    assert all(module.shortcut is not None for module in [*network.entry_flow, network.exit_flow.module])
    assert [module.shortcut for module in network.middle_flow] == [None] * 8
    # Of the same names and shapes, so that arms of one seed start from the same parameters.
    shapes = [{name: p.shape for name, p in of.named_parameters()} for of in (on_meta(), network)]
    assert shapes[0] == shapes[1]


def test_width_multiplies_every_number_of_channels(on_meta):
    network = on_meta(width=0.125, in_channels=1, num_classes=10)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in network.stem.modules() if isinstance(m, nn.Conv2d)] == [4, 8]
    assert {m.out_channels for m in convolutions} == {4, 8, 16, 32, 91, 128, 192, 256}
    assert network.head.logits.in_features == 256
    assert {m.out_channels for m in on_meta(width=1e-9).modules() if isinstance(m, nn.Conv2d)} == {1}


@pytest.mark.parametrize("middle_modules", [0, 3])
def test_middle_modules_are_as_many_as_asked_for(on_meta, middle_modules):
    network = on_meta(middle_modules=middle_modules)
    assert len(network.middle_flow) == middle_modules
    # Three separable convolutions: depthwise and pointwise kernels, BN.
    assert count(network) == 22_855_952 - (8 - middle_modules) * 3 * (9 * 728 + 728 * 728 + 2 * 728)


@pytest.mark.parametrize(("stem_stride", "side"), [(1, 26), (2, 13)])
def test_stem_stride_is_the_first_convolutions(on_meta, stem_stride, side):
    network = on_meta(stem_stride=stem_stride)
    assert network.stem.conv1(torch.empty(1, 3, 28, 28, device="meta")).shape[-1] == side
    assert network.stem(torch.empty(1, 3, 28, 28, device="meta")).shape[-1] == side - 2


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("num_classes", 0, "a whole number of at least 1"),
        ("width", 0, "a number above 0 and below 2048"),
        ("width", float("nan"), "a number above 0 and below 2048"),
        ("stem_stride", 3, "one of 1, 2"),
        ("middle_modules", -1, "a whole number of at least 0"),
        ("dropout", 1, "a number of at least 0 and below 1"),
    ],
)
def test_a_size_out_of_range_names_key_value_and_what_is_allowed(on_meta, argument, value, allowed):
    with pytest.raises(ValueError, match=rf"^model\.{argument}={value}: must be {allowed}$"):
        on_meta(**{argument: value})


def test_dropout_works_on_the_features_of_training_alone(seeded, images):
    network, without = seeded(dropout=0.5), seeded()
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        assert torch.equal(network(images), without(images))
        network.train()
        without.train()
        assert not torch.equal(network(images), network(images))
        assert torch.equal(without(images), without(images))


def test_memory_order_does_not_change_the_logits(seeded, images):
    network = seeded()
    with torch.no_grad():
        usual = network(images)
        network.to(memory_format=torch.channels_last)
        assert usual.shape == (3, 6)
        torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), usual)
