"""A network from outside the package: its initial values, its norm, and the channels that it takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from ablations.errors import UserError
from ablations.runs.identity import LEFT_OUT
from experiments.check import check_run
from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import FRAMEWORK_CONF, Project, load_yaml, use
from lightning_modules.assembly import make_data_and_module, make_network


class Pretrained(nn.Module):
    """Images (N, 3, H, W) -> logits (N, num_classes); its convolution brings weights of its own."""

    def __init__(self, *, num_classes: int, norm_layer) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        nn.init.constant_(self.conv.weight, 0.25)
        self.norm = norm_layer(4)
        self.classifier = nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.norm(self.conv(images)).mean(dim=(2, 3)))


class ReadsValues(Pretrained):
    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            images.mean().item()
        return super().forward(images)


NETWORK = """\
_target_: tests.test_own_networks.Pretrained
num_classes: ${dataset.num_classes}
norm_layer:
  _target_: torch.nn.BatchNorm2d
  _partial_: true
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[None]:
    """A project whose network is `Pretrained`."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text(NETWORK)
    primary = "defaults:\n  - config\n  - override model: own\n  - _self_\n"
    (tmp_path / "conf" / "project.yaml").write_text(primary)
    with use(Project(tmp_path)), hydra_configuration():
        yield


def configured(*overrides: str) -> RunConfiguration:
    (run,) = compose_runs([*overrides, "logger=none"])
    return run


def test_a_network_of_ones_own_keeps_its_weights_and_the_record_says_so(own) -> None:
    run = configured()
    assert run.resolved["initialize"] == "network"
    network = make_network(run.resolved)
    assert network.conv.weight.eq(0.25).all()
    _, module = make_data_and_module(run.resolved)
    assert module.network.conv.weight.eq(0.25).all()


def test_what_it_draws_itself_depends_on_the_seed_alone(own) -> None:
    drawn = []
    for seed, before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(before)
        drawn.append(make_network(configured(f"seed={seed}").resolved).classifier.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_seed_may_set_its_values_and_a_network_of_the_package_its_own(own) -> None:
    run, by_seed = configured(), configured("initialize=seed")
    assert run.run_id != by_seed.run_id
    assert not make_network(by_seed.resolved).conv.weight.eq(0.25).any()
    packaged = configured("model=xception_small")
    assert packaged.resolved["initialize"] == "seed"
    assert configured("model=xception_small", "initialize=seed").run_id == packaged.run_id
    assert configured("model=xception_small", "initialize=network").run_id != packaged.run_id


def test_its_own_weights_are_read_from_a_file(own, tmp_path: Path) -> None:
    trained = Pretrained(num_classes=7, norm_layer=nn.BatchNorm2d)
    nn.init.constant_(trained.conv.weight, 0.5)
    file = tmp_path / "trained.pt"
    torch.save({f"module.{name}": value for name, value in trained.state_dict().items()}, file)
    chosen = ("dataset.channels=3", f"weights={file}")
    with pytest.raises(UserError, match="has 7 classes, but dataset"):
        check_run(configured(*chosen))
    run = configured(*chosen, "new_head=true")
    check_run(run)
    _, module = make_data_and_module(run.resolved)
    assert module.network.conv.weight.eq(0.5).all()
    assert torch.equal(module.network.classifier.weight, make_network(run.resolved).classifier.weight)
    others = nn.Conv2d(3, 4, 3)
    torch.save(others.state_dict(), file)
    with pytest.raises(UserError, match="of another network than Pretrained as configured: without "):
        check_run(configured(*chosen, "new_head=true"))


def test_a_recipe_of_ones_own_may_say_all_in_its_file(own, tmp_path: Path) -> None:
    (tmp_path / "conf" / "recipe").mkdir()
    (tmp_path / "conf" / "recipe" / "own.yaml").write_text(
        "defaults:\n  - embedded\n  - _self_\n"
        "optimizer:\n  _target_: torch.optim.Adam\n  _partial_: true\n  lr: 0.002\n"
    )
    assert configured("recipe=own").resolved["recipe"]["optimizer"] == {
        "_target_": "torch.optim.Adam",
        "_partial_": True,
        "lr": 0.002,
        "weight_decay": 1e-5,
    }


def test_a_recipe_may_leave_keys_out_and_is_the_same_run(own, tmp_path: Path) -> None:
    recipe = load_yaml(FRAMEWORK_CONF / "recipe" / "embedded.yaml")
    (tmp_path / "conf" / "recipe").mkdir()
    left = {key: value for key, value in recipe.items() if key not in LEFT_OUT["recipe"]}
    assert len(left) < len(recipe)
    (tmp_path / "conf" / "recipe" / "short.yaml").write_text(yaml.safe_dump(left))
    run, whole = configured("recipe=short", "dataset.channels=3"), configured("dataset.channels=3")
    assert (run.run_id, run.resolved["recipe"]) == (whole.run_id, whole.resolved["recipe"])
    check_run(run)
    assert configured("recipe=short", "dataset.channels=3", "+recipe.tf32=true").run_id != run.run_id


def test_grey_images_are_refused_with_what_to_do_which_works(own) -> None:
    with pytest.raises(UserError) as refusal:
        check_run(configured())
    assert str(refusal.value).startswith(
        "dataset.channels=1: model tests.test_own_networks.Pretrained takes 3 channels; "
        "dataset.channels=3 repeats the one of a grey image"
    )
    run = configured("dataset.channels=3")
    check_run(run)
    data, module = make_data_and_module(run.resolved)
    data.prepare_data()
    images, _ = next(iter(data.val_dataloader()))
    assert images.shape[1:] == (3, 28, 28)
    assert torch.equal(images[:, 0], images[:, 2])
    assert module(images).shape == (500, 10)


def test_a_training_step_that_cannot_be_estimated_is_told(own) -> None:
    run = configured("model._target_=tests.test_own_networks.ReadsValues", "dataset.channels=3")
    with pytest.warns(UserWarning, match=r"^tests.*ReadsValues: memory of a training step not checked: .+$"):
        check_run(run)


def test_a_norm_is_exchanged_in_any_network_that_takes_one(own) -> None:
    grouped = configured("norm=group_norm")
    network = make_network(grouped.resolved)
    assert isinstance(network.norm, nn.GroupNorm)
    assert network.norm.num_groups == 4  # 32 and 4 channels
    assert grouped.run_id != configured().run_id
    small = configured("model=xception_small", "norm=group_norm")
    kinds = {type(module) for module in make_network(small.resolved).modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds
    as_it_is = configured("model=xception_small")
    assert configured("model=xception_small", "norm=batch_norm").run_id == as_it_is.run_id
    with pytest.raises(UserError, match="norm=group_norm: model=vgg16 has no key"):
        configured("model=vgg16", "norm=group_norm")
