"""Quick counts are the network's own numbers, whatever it is made of."""

import pytest

from experiments.sizes.network_cost import count_multiply_adds, count_parameters
from experiments.sizes.quick_count import QuickCount

CHOICES = [
    ("segments=three", "operation_order=pointwise_first"),
    ("segments=channels_4", "intermediate_activation=elu"),
    ("segments=one", "residual=projections", "fully_connected=two"),
    ("residual=false", "spatial_kernel=spatially_separable", "intermediate_norm=batch_norm"),
    ("model=separable_vgg", "segments=channels_16"),
    ("model=mobilenet", "dataset=cifar10"),
    ("model=inception_v3",),
]


@pytest.mark.parametrize("overrides", CHOICES, ids=",".join)
def test_a_quick_count_is_the_networks_own(configure, overrides: tuple[str, ...]) -> None:
    resolved = configure(*overrides).resolved
    model, dataset = resolved["model"], resolved["dataset"]
    image = {key: dataset[key] for key in ("channels", "image_size")}
    parameters, multiply_adds = QuickCount(model, None), QuickCount(model, tuple(image.values()))
    width = 0.83 * model["width"]
    of_width = {**model, "width": width}
    assert parameters(width) == count_parameters(of_width)
    assert multiply_adds(width) == count_multiply_adds(of_width, **image)


def test_what_was_counted_before_changes_nothing(configure) -> None:
    model = configure("segments=channels_4").resolved["model"]
    count = QuickCount(model, (1, 28))
    first, other = count(0.11), count(0.07)
    assert first > other
    assert (count(0.11), count(0.07)) == (first, other)
