"""Whether the network is Szegedy et al.'s, as torchvision has it, and table 3's variant the Keras port's."""

from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from experiments.sizes.network_cost import count_network
from lightning_modules.initialization import initialize
from lightning_modules.networks.head import no_fully_connected
from lightning_modules.networks.inception_v3 import (
    BiasedConvReLUNorm,
    Branches,
    ConvNormReLU,
    InceptionV3,
    Module17x17,
    Module35x35,
    torchvision_name,
)

NORM = partial(nn.BatchNorm2d, eps=1e-3)
CANONICAL = {
    "num_classes": 1000,
    "in_channels": 3,
    "width": 1,
    "stem_stride": 2,
    "padding": 0,
    "pool_branch_channels": [32, 64, 64],
    "last_double_7x7_channels": 192,
    "dropout": 0.0,
    "convolution": ConvNormReLU,
    "average_pool": nn.AvgPool2d,
    "last_reduction_pool": nn.MaxPool2d,
    "fully_connected": no_fully_connected,
    "norm": NORM,
}
WITHOUT_PADDING = partial(nn.AvgPool2d, count_include_pad=False)
TABLE_3 = CANONICAL | {
    "pool_branch_channels": [32, 32, 32],
    "last_double_7x7_channels": 160,
    "convolution": BiasedConvReLUNorm,
    "average_pool": WITHOUT_PADDING,
    "last_reduction_pool": WITHOUT_PADDING,
}
SMALL = {"num_classes": 10, "in_channels": 1, "width": 0.125, "stem_stride": 1, "padding": 1}


def on_meta(**arguments):
    with torch.device("meta"):
        return InceptionV3(**arguments)


def count(network):
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def draw_norms(network):
    """Draw scale, shift and running statistics, so that a wrong one shows."""
    draws = torch.Generator().manual_seed(4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.bias.data, module.running_mean):
                value.add_(0.2 * torch.randn(value.shape, generator=draws))
            module.running_var.uniform_(0.5, 1.5, generator=draws)


@pytest.fixture(scope="module")
def twins():
    """Torchvision's network with drawn values, and ours with the same values."""
    theirs = torchvision.models.inception_v3(aux_logits=False, init_weights=False, transform_input=False)
    initialize(theirs, 0, partial(nn.init.kaiming_normal_, nonlinearity="relu"))
    draw_norms(theirs)
    values = theirs.state_dict()
    ours = on_meta(**CANONICAL)
    named = {name: values[torchvision_name(name)] for name in ours.state_dict()}
    ours.load_state_dict(named, assign=True)
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (CANONICAL, 23_834_568),
        (TABLE_3, 23_626_728),
        (CANONICAL | {"num_classes": 10}, 23_834_568 - 990 * 2049),
        (CANONICAL | {"in_channels": 1}, 23_834_568 - 2 * 9 * 32),
    ],
    ids=["canonical", "table 3", "10 classes", "grey"],
)
def test_parameters_are_as_many_as_the_papers(arguments, expected):
    assert count(on_meta(**arguments)) == expected


def test_the_variants_differ_by_what_table_3_declares():
    biases = sum(m.out_channels for m in on_meta(**CANONICAL).modules() if isinstance(m, nn.Conv2d))
    biased = CANONICAL | {"convolution": BiasedConvReLUNorm}
    assert count(on_meta(**biased)) == 23_834_568 + biases
    shapes = {name: p.shape for name, p in on_meta(**biased).named_parameters()}
    table_3 = {name: p.shape for name, p in on_meta(**TABLE_3).named_parameters()}
    assert shapes.keys() == table_3.keys()
    changed = {
        ".".join(name.split(".")[:3])
        for name in shapes
        if shapes[name] != table_3[name] and not name.startswith("reduction_17x17")
    }
    # Narrower pool branches, the modules that read 256 channels instead of 288 (the first 17x17 module
    # by way of the reduction, which hands its input on), the entry of one double 7x7 branch.
    readers = {
        f"{module}.branch_{branch}"
        for module, branches in (
            ("modules_35x35.2", ("1x1", "5x5", "double_3x3", "pool")),
            ("modules_17x17.0", ("1x1", "7x7", "double_7x7", "pool")),
        )
        for branch in branches
    }
    assert changed == {"modules_35x35.1.branch_pool", "modules_17x17.3.branch_double_7x7"} | readers


def test_every_name_is_one_of_torchvisions_and_the_other_way_round(twins):
    ours, theirs = twins
    assert sorted(map(torchvision_name, ours.state_dict())) == sorted(theirs.state_dict())
    assert torchvision_name("modules_8x8.0.branch_double_3x3.conv3.conv_3x1.norm.weight") == (
        "Mixed_7b.branch3x3dbl_3b.bn.weight"
    )
    with pytest.raises(ValueError, match=r"^middle_flow\.0\.weight: not a parameter of InceptionV3$"):
        torchvision_name("middle_flow.0.weight")


@pytest.mark.parametrize(("height", "width"), [(299, 299), (160, 187)])
def test_logits_are_torchvisions(twins, height, width):
    ours, theirs = twins
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, expected = ours(images), theirs(images)
    assert expected.std() > 1  # else the tolerance would mean nothing
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def sides_of(network, side):
    """The side behind each stage of a square image."""
    sides = []
    stages = [*network.stem, *network.modules_35x35, network.reduction_17x17]
    stages += [*network.modules_17x17, network.reduction_8x8, *network.modules_8x8]
    x = torch.empty(1, network.stem.conv1.conv.in_channels, side, side, device="meta")
    for stage in stages:
        x = stage(x)
        assert x.shape[-2] == x.shape[-1]
        sides.append(x.shape[-1])
    return sides


@pytest.mark.parametrize("arguments", [CANONICAL, TABLE_3], ids=["canonical", "table 3"])
def test_feature_maps_of_a_299_image_are_the_papers(arguments):
    network = on_meta(**arguments).eval()
    assert sides_of(network, 299) == [149, 147, 147, 73, 73, 71, 35] + 3 * [35] + 5 * [17] + 3 * [8]
    assert network(torch.empty(2, 3, 299, 299, device="meta")).shape == (2, 1000)
    channels = [
        m.out_channels for m in network.modules() if isinstance(m, Branches) and hasattr(m, "out_channels")
    ]
    of_35 = [256, 288, 288] if arguments is CANONICAL else [256, 256, 256]
    assert channels == [*of_35, of_35[-1] + 480, 768, 768, 768, 768, 1280, 2048, 2048]


def test_multiply_adds_are_the_published_ones():
    model = {"_target_": "lightning_modules.networks.inception_v3.InceptionV3"} | CANONICAL
    cost = count_network({"dataset": {"image_size": 299, "channels": 3}, "model": model})
    assert cost.multiply_adds == pytest.approx(5.73e9, rel=0.005)


@pytest.mark.parametrize(("side", "sides"), [(28, [14, 7, 4, 2]), (32, [16, 8, 4, 2])])
@pytest.mark.parametrize("variant", [CANONICAL, TABLE_3], ids=["canonical", "table 3"])
def test_small_images_fit_where_windows_are_padded(variant, side, sides):
    network = on_meta(**(variant | SMALL)).eval()
    half, quarter, eighth, sixteenth = sides
    assert sides_of(network, side) == (
        3 * [side] + 3 * [half] + 4 * [quarter] + 5 * [eighth] + 3 * [sixteenth]
    )


def test_width_multiplies_every_number_of_channels():
    network = on_meta(**(CANONICAL | {"width": 0.25}))
    full = on_meta(**CANONICAL)
    for ours, whole in zip(network.modules(), full.modules(), strict=True):
        if isinstance(whole, nn.Conv2d):
            assert ours.out_channels == whole.out_channels / 4
    assert network.head.logits.in_features == 512
    assert {
        m.out_channels for m in on_meta(**(CANONICAL | {"width": 1e-9})).modules() if isinstance(m, nn.Conv2d)
    } == {1}


def test_convolutions_are_in_the_order_of_their_formulas():
    square = {"kernel_size": (1, 1), "stride": 1, "padding": (0, 0), "norm": NORM}
    pixel = torch.ones(1, 1, 1, 1)
    canonical, table_3 = ConvNormReLU(1, 1, **square).eval(), BiasedConvReLUNorm(1, 1, **square).eval()
    assert [name for name, _ in canonical.named_parameters()] == ["conv.weight", "norm.weight", "norm.bias"]
    assert [name for name, _ in table_3.named_parameters()][:2] == ["conv.weight", "conv.bias"]
    for block in (canonical, table_3):
        nn.init.constant_(block.conv.weight, -2)
        nn.init.constant_(block.norm.bias, -3)
    nn.init.constant_(table_3.conv.bias, 5)
    with torch.no_grad():
        assert canonical(pixel).item() == 0  # ReLU(-2 - 3)
        assert table_3(pixel).item() == pytest.approx(3 / 1.001**0.5 - 3, abs=1e-6)  # ReLU(-2 + 5) - 3


def test_average_pools_count_the_padding_as_their_source_does():
    ones = torch.ones(1, 1, 2, 2)
    for variant, expected in ((CANONICAL, 4 / 9), (TABLE_3, 1.0)):
        network = on_meta(**variant)
        pools = [m for m in network.modules() if isinstance(m, nn.AvgPool2d) and m.stride == 1]
        assert len(pools) == 3 + 4 + 2
        for pool in pools:
            assert torch.allclose(pool(ones), torch.full((1, 1, 2, 2), expected))


def test_last_reduction_pools_the_maximum_or_the_average():
    pools = [type(on_meta(**variant).reduction_8x8.branch_pool) for variant in (CANONICAL, TABLE_3)]
    assert pools == [nn.MaxPool2d, nn.AvgPool2d]
    assert isinstance(on_meta(**TABLE_3).reduction_17x17.branch_pool, nn.MaxPool2d)


@pytest.mark.parametrize("variant", [CANONICAL, TABLE_3], ids=["canonical", "table 3"])
def test_memory_order_changes_neither_logits_nor_gradients(variant):
    """With running statistics: those of a batch differ by rounding, which a deep network amplifies."""
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        network = InceptionV3(**(variant | SMALL | {"width": 0.05}))
        initialize(network, 3, nn.init.xavier_uniform_)
        draw_norms(network)
        network.eval().to(memory_format=memory_format)
        before = images.clone()
        logits = network(images.contiguous(memory_format=memory_format))
        assert torch.equal(images, before)
        logits.square().sum().backward()
        results.append((logits, {name: p.grad for name, p in network.named_parameters()}))
    (logits, gradients), (other_logits, other_gradients) = results
    torch.testing.assert_close(other_logits, logits)
    for name, gradient in gradients.items():
        # Of a channel that no image reaches it is 0 in both.
        assert (other_gradients[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize(
    ("arguments", "smallest"),
    [(CANONICAL, 75), (CANONICAL | SMALL, 1)],
    ids=["canonical", "small scale"],
)
def test_an_image_that_is_too_small_is_told(arguments, smallest):
    model = {"_target_": "lightning_modules.networks.inception_v3.InceptionV3"} | arguments

    def cost(side):
        return count_network(
            {"dataset": {"image_size": side, "channels": arguments["in_channels"]}, "model": model}
        )

    assert cost(smallest).multiply_adds > 0
    for side in {smallest - 1, smallest // 2} - {0}:
        with pytest.raises(
            ValueError, match=rf"^dataset\.image_size={side}: too small for model .*InceptionV3"
        ):
            cost(side)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("num_classes", 0, "a whole number of at least 1"),
        ("width", 0, "a number above 0 and below 2048"),
        ("stem_stride", 3, "one of 1, 2"),
        ("padding", 2, "one of 0, 1"),
        ("pool_branch_channels", 32, "three whole numbers"),
        ("dropout", 1, "a number of at least 0 and below 1"),
    ],
)
def test_a_size_out_of_range_names_key_value_and_what_is_allowed(argument, value, allowed):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011, the whole text is compared
        on_meta(**(CANONICAL | {argument: value}))
    assert str(refusal.value) == f"model.{argument}={value}: must be {allowed}"


def test_a_pool_branch_of_no_channels_is_refused():
    with pytest.raises(
        ValueError, match=r"^model\.pool_branch_channels=0: must be a whole number of at least 1$"
    ):
        on_meta(**(CANONICAL | {"pool_branch_channels": [32, 0, 64]}))


def test_modules_are_as_many_as_published():
    network = on_meta(**CANONICAL)
    assert len(network.modules_35x35) == 3
    assert len(network.modules_17x17) == 4
    assert len(network.modules_8x8) == 2
    assert all(isinstance(m, Module35x35) for m in network.modules_35x35)
    assert [m.branch_7x7.conv1.conv.out_channels for m in network.modules_17x17] == [128, 160, 160, 192]
    assert all(isinstance(m, Module17x17) for m in network.modules_17x17)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 94
