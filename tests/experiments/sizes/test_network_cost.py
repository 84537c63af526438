"""Parameters, multiply-adds and depth, against numbers worked out by hand."""

import pytest
from torch import nn

from experiments.sizes.network_cost import activation_memory, count_network, without_memory


def config(model, image_size, channels=3):
    return {"dataset": {"image_size": image_size, "channels": channels}, "model": model}


def part(target, **arguments):
    return {"_target_": target, "_partial_": True} | arguments


def xception(intermediate_activation="torch.nn.Identity", **changes):
    separable = part(
        "lightning_modules.networks.separable.SeparableConvNorm",
        operation_order=part("lightning_modules.networks.separable.depthwise_first"),
        segments=part("lightning_modules.networks.separable.segments_by_size", channels_per_segment=1),
        spatial_kernel=part("lightning_modules.networks.separable.square_kernel", kernel_size=3),
        intermediate_norm=part("torch.nn.Identity"),
        intermediate_activation=part(intermediate_activation),
    )
    return {
        "_target_": "lightning_modules.networks.xception.Xception",
        "num_classes": 1000,
        "in_channels": 3,
        "width": 1,
        "stem_stride": 2,
        "middle_modules": 8,
        "dropout": 0,
        "separable": separable,
        "residual": part("lightning_modules.networks.blocks.LinearShortcut"),
        "fully_connected": part("lightning_modules.networks.head.no_fully_connected"),
        "pool": part("lightning_modules.networks.blocks.SameMaxPool2d"),
        "norm": part("torch.nn.BatchNorm2d"),
    } | changes


def test_one_convolution():
    model = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 3}
    cost = count_network(config(model, 8))
    assert cost.parameters == 4 * 3 * 9 + 4
    assert cost.multiply_adds == 6 * 6 * 4 * 3 * 9  # a bias and the edges are no multiply-adds
    assert cost.depth == 1


class Convolution:
    """Makes a convolution; its text does not say of how many channels."""

    def __init__(self, channels):
        self.channels = channels

    def __repr__(self):
        return "Convolution"

    def __call__(self):
        return nn.Conv2d(3, self.channels, 1, bias=False)


def called(make):
    return make()


def test_nodes_with_objects_of_the_same_text_are_counted_apart():
    costs = [
        count_network(config({"_target_": f"{__name__}.called", "make": Convolution(channels)}, 8))
        for channels in (4, 5)
    ]
    assert [cost.parameters for cost in costs] == [12, 15]


def test_a_depthwise_convolution_sees_one_channel():
    model = {
        "_target_": "torch.nn.Conv2d",
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": 3,
        "groups": 4,
    }
    assert count_network(config(model, 8, channels=4)).multiply_adds == 6 * 6 * 4 * 9


class HalfFrozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1, bias=False).requires_grad_(False)
        self.second = nn.Conv2d(2, 5, 1, bias=False)

    def forward(self, x):
        return self.second(self.first(x))


def test_frozen_parameters_are_not_trainable(monkeypatch):
    monkeypatch.setattr(nn, "HalfFrozen", HalfFrozen, raising=False)
    cost = count_network(config({"_target_": "torch.nn.HalfFrozen"}, 2))
    assert cost.parameters == 2 * 5
    assert cost.multiply_adds == 2 * 2 * (3 * 2 + 2 * 5)
    assert cost.depth == 2  # frozen or not


class NormFirst(nn.Module):
    """BN of the image, whose output is changed in place."""

    def __init__(self, channels=3):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))

    def forward(self, x):
        y = nn.functional.relu_(self.norm(x))
        y += self.convs[0](x)
        return y + self.convs[1](x)


def test_what_bn_returns_may_be_changed_in_place(monkeypatch):
    monkeypatch.setattr(nn, "NormFirst", NormFirst, raising=False)
    cost = count_network(config({"_target_": "torch.nn.NormFirst"}, 2))
    assert (cost.multiply_adds, cost.depth) == (2 * 2 * 2 * 3 * 3, 1)  # the second one still sees the image


def test_bn_of_another_number_of_channels_is_refused(monkeypatch):
    monkeypatch.setattr(nn, "NormFirst", NormFirst, raising=False)
    with pytest.raises(ValueError, match="should contain 3 elements not 4"):
        count_network(config({"_target_": "torch.nn.NormFirst", "channels": 4}, 2))


class Branches(nn.Module):
    """Two ways of three and of one convolution, and a linear layer without bias on a third."""

    def __init__(self):
        super().__init__()
        self.long = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)))
        self.short = nn.Conv2d(3, 3, 1)
        self.gate = nn.Linear(3, 3, bias=False)

    def forward(self, x):
        features = self.long(x) + self.short(x)
        return features.mean((2, 3)) * self.gate(x.mean((2, 3)))


def test_the_depth_is_that_of_the_longest_way(monkeypatch):
    monkeypatch.setattr(nn, "Branches", Branches, raising=False)
    assert count_network(config({"_target_": "torch.nn.Branches"}, 4)).depth == 3


class Repeated(nn.Module):
    """One convolution, applied again and again: a long way, each piece of which branches."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        for _ in range(3000):
            x = x + self.conv(x)
        return x


def test_a_way_longer_than_the_recursion_limit_is_counted(monkeypatch):
    monkeypatch.setattr(nn, "Repeated", Repeated, raising=False)
    assert count_network(config({"_target_": "torch.nn.Repeated"}, 1)).depth == 3000


def test_a_network_without_layers_has_no_depth():
    assert count_network(config({"_target_": "torch.nn.ReLU"}, 4)).depth == 0


def test_xception_is_as_expensive_as_the_papers():
    cost = count_network(config(xception(), 299))
    assert cost.parameters == 22_855_952
    assert cost.multiply_adds == pytest.approx(8.4e9, rel=0.01)
    assert cost.depth == 2 + 34 * 2 + 1  # convolutions, separable ones, the logistic regression


def test_activation_costs_no_multiply_adds_and_shortcuts_cost_their_projections():
    none = part("lightning_modules.networks.blocks.no_shortcut")
    whole = count_network(config(xception(), 299))
    assert count_network(config(xception(intermediate_activation="torch.nn.ReLU"), 299)) == whole
    difference = whole.multiply_adds - count_network(config(xception(residual=none), 299)).multiply_adds
    assert difference == 74**2 * 64 * 128 + 37**2 * 128 * 256 + 19**2 * 256 * 728 + 10**2 * 728 * 1024


def test_a_network_that_fits_in_no_memory_is_counted():
    classes = 10**12
    assert count_network(config(xception(num_classes=classes), 299)).parameters > 2048 * classes


@pytest.mark.parametrize(("stem_stride", "image_size"), [(2, 4), (2, 2), (1, 4), (1, 1)])
def test_an_image_that_is_too_small_is_told(stem_stride, image_size):
    with pytest.raises(
        ValueError, match=rf"^dataset\.image_size={image_size}: too small for model .*Xception"
    ):
        count_network(config(xception(stem_stride=stem_stride), image_size))


def test_the_smallest_image_there_can_be_is_counted():
    assert count_network(config(xception(stem_stride=1), 5)).multiply_adds > 0
    assert count_network(config(xception(stem_stride=2), 7)).multiply_adds > 0


def test_activations_are_what_the_backward_pass_needs() -> None:
    with without_memory():
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    config = {"dataset": {"channels": 3, "image_size": 2}, "recipe": {"precision": "32-true"}}
    # The images, of 12 numbers, and what ReLU gives, which it shares with the layer behind it.
    assert activation_memory(network, config, batch_size=7) == 7 * (12 + 5) * 4
    config["recipe"]["precision"] = "bf16-mixed"
    assert activation_memory(network, config, batch_size=7) == 7 * (12 + 5) * 2
