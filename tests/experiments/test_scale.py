"""The scale of a study in a line."""

import pytest

from experiments.planning import plan_study

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks


@pytest.mark.usefixtures("hydra")
def test_many_sizes_of_one_network_are_told_as_a_range() -> None:
    study, _ = plan_study("spectrum", ["seed=0"])
    assert study.scale.startswith(
        "Xception (width 0.04052 to 0.12432, stem stride 1) on Fashion MNIST embedded (28×28 "
    )


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(("option", "name"), [("imagenet", "ImageNet"), ("jft", "jft")])
def test_data_are_named_by_their_option_not_by_their_reader(option: str, name: str) -> None:
    words = [f"dataset={option}", "recipe=embedded", "seed=0"]
    if option == "jft":
        words.append("dataset.root=/tmp")
    study, _ = plan_study("residual", words)
    assert f" on {name} (" in study.scale
