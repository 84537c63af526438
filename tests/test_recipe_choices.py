"""What a recipe chooses (optimizer, schedule, loss, augmentation) trains, interrupted or not to the same end.

The choices are composed as on the command line; the data and the network are tiny.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback
from torch import nn

from ablations.runs.records import RunDirectory
from experiments.planning import compose_runs, hydra_configuration
from experiments.recorder import Recorder

SCHEDULES = "recipe.scheduler._target_=torch.optim.lr_scheduler."
OPTIMIZERS = "recipe.optimizer._target_=torch.optim."
CLASSES = 6


class Interrupted(Exception):
    """Stands for a process that ends."""


class Interrupt(Callback):
    """Ends training before the second batch of the second epoch."""

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if trainer.current_epoch == 1 and batch_index == 1:
            raise Interrupted


def recipe_of(*overrides: str) -> Mapping[str, Any]:
    """The recipe that a command chooses, for labels of the tiny data."""
    with hydra_configuration():
        (run,) = compose_runs([*overrides, "dataset.num_classes=6", "recipe.epochs=3"])
    return run.resolved["recipe"]


@pytest.fixture
def fit(tmp_path, make_classifier, make_trainer, tiny_data):
    """Fits three epochs of three batches in a run directory, from its checkpoint on where it has one."""

    def make(recipe: Mapping[str, Any], name: str, *callbacks: Callback):
        torch.manual_seed(len(name))  # nothing may depend on it
        directory = RunDirectory(tmp_path, name)
        directory.path.mkdir(parents=True, exist_ok=True)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)]
        augmentation = recipe["augmentation"] or {}
        data = tiny_data()
        data.augmentation = instantiate(augmentation.get("image"))
        module = make_classifier(
            network=nn.Sequential(*layers, nn.Linear(4 * 64, CLASSES)),
            optimizer=instantiate(recipe["optimizer"]),
            scheduler=instantiate(recipe["scheduler"]),
            scheduler_interval=recipe["scheduler_interval"],
            loss=instantiate(recipe["loss"]),
            mix=instantiate(augmentation.get("batch")),
        )
        recorder = Recorder(directory)
        trainer = make_trainer(
            recipe["epochs"],
            callbacks=[*callbacks, recorder],
            checkpoints=True,
            gradient_clip_val=recipe["gradient_clipping"],
            accumulate_grad_batches=recipe["gradient_accumulation"],
        )
        trainer.fit(module, data, ckpt_path=directory.checkpoint(), weights_only=True)
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in recorder.rows]
        return {name: value.clone() for name, value in module.network.state_dict().items()}, rows

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("augmentation=rand_augment",),
        ("loss=label_smoothing", "augmentation=mixup"),
        ("optimizer=adamw", "scheduler=cosine"),
        (f"{OPTIMIZERS}NAdam", f"{SCHEDULES}CosineAnnealingWarmRestarts"),
        (f"{SCHEDULES}StepLR", "+recipe.scheduler.step_size=1", "recipe.scheduler_interval=epoch"),
        ("recipe.gradient_accumulation=2", "recipe.gradient_clipping=0.1"),
    ],
    ids=lambda overrides: " ".join(overrides).replace("torch.optim.", ""),
)
def test_a_choice_trains_and_goes_on_after_an_interruption_to_the_last_bit(fit, overrides):
    recipe = recipe_of(*overrides)
    state, rows = fit(recipe, "whole")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    with pytest.raises(Interrupted):
        fit(recipe, "interrupted", Interrupt())
    state_of_other, rows_of_other = fit(recipe, "interrupted")
    assert rows_of_other == rows
    assert [name for name in state if not torch.equal(state[name], state_of_other[name])] == []


def rates(rows):
    return [round(row["learning_rate"], 6) for row in rows]


def test_a_schedule_is_stepped_after_what_the_recipe_says(fit):
    by_epoch = ("recipe.scheduler_interval=epoch", "recipe.optimizer.lr=0.1")
    _, rows = fit(recipe_of("scheduler=cosine", *by_epoch), "cosine")
    assert rates(rows) == [0.1, 0.075, 0.025]  # of 3 epochs: (1 + cos(pi k / 3)) / 2
    images = ("scheduler=decay_by_images", "recipe.scheduler.every_images=24", "recipe.scheduler.factor=0.5")
    _, rows = fit(recipe_of(*images, *by_epoch, "recipe.batch_size=8"), "images")
    assert rates(rows) == [0.1, 0.05, 0.025]  # three batches of 8 an epoch
    _, rows = fit(recipe_of(*images, "recipe.batch_size=8", "recipe.optimizer.lr=0.1"), "by step")
    assert rates(rows) == [0.1, 0.05, 0.025]


def test_a_schedule_that_looks_at_the_validation_loss_lowers_the_rate(fit):
    never = ("+recipe.scheduler.threshold=100", "+recipe.scheduler.threshold_mode=abs")
    chosen = ("+recipe.scheduler.patience=0", *never, "recipe.optimizer.lr=0.1")
    recipe = recipe_of(f"{SCHEDULES}ReduceLROnPlateau", *chosen)
    _, rows = fit(recipe, "plateau")
    assert rates(rows) == [0.1, 0.1, 0.01]  # no loss is lower than the first by 100
    with pytest.raises(Interrupted):
        fit(recipe, "interrupted", Interrupt())
    assert fit(recipe, "interrupted")[1] == rows


def test_a_step_of_several_batches_is_one_step(fit):
    _, rows = fit(recipe_of("recipe.gradient_accumulation=3"), "accumulated")
    assert [row["step"] for row in rows] == [1, 2, 3]
    _, rows = fit(recipe_of("recipe.gradient_accumulation=2"), "with a rest")
    assert [row["step"] for row in rows] == [2, 4, 6]


def test_choices_change_what_is_trained(fit):
    plain, _ = fit(recipe_of(), "plain")
    for override in (
        *("augmentation=rand_augment", "augmentation=mixup"),
        *("loss=label_smoothing", "recipe.gradient_clipping=0.01"),
    ):
        other, _ = fit(recipe_of(override), override.replace("=", "_"))
        assert not torch.equal(plain["5.weight"], other["5.weight"]), override


def test_validation_measures_the_task_s_loss_whatever_training_made_small(fit):
    chosen = ("recipe.optimizer.lr=0", "scheduler=constant")  # the weights stay as they are
    _, plain = fit(recipe_of(*chosen), "plain")
    _, smoothed = fit(recipe_of(*chosen, "loss=label_smoothing"), "smoothed")
    assert [row["val_loss"] for row in smoothed] == [row["val_loss"] for row in plain]
    assert [row["train_loss"] for row in smoothed] != [row["train_loss"] for row in plain]
