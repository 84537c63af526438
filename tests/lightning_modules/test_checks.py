"""The checks, on this repository's networks and data; each fails on what breaks its rule."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, get_worker_info

from experiments.to_check import configured_data, configured_network
from lightning_modules import checks
from lightning_modules.checks import CheckFailed, DataToCheck, NetworkToCheck, parametrize_with_checks
from lightning_modules.data.images import EpochSampler, make_loader

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = "model.width=0.05"


def ours(*overrides):
    make = configured_data if overrides[0].startswith("dataset") else configured_network
    return make(*overrides, folder=REPOSITORY)


@parametrize_with_checks(
    [
        ours("model=xception_small", TINY, "model.middle_modules=1"),
        ours("residual=false", TINY, "segments=three", "intermediate_activation=relu", "fully_connected=two"),
        ours("dataset=fashion_mnist_embedded"),
    ]
)
def test_ours(subject, check, few_images):
    """Of the images that come with the repository, all are read to compare the parts, else a few others."""
    if isinstance(subject, DataToCheck) and check is not checks.check_parts_share_no_image:
        subject = replace(subject, make={**subject.make, **few_images})
    check(subject)


class Plain(nn.Module):
    """Convolution, BN, mean, logistic regression: keeps all rules."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.classifier(self.norm(self.conv(images)).mean(dim=(2, 3)))


class TwoOutputs(Plain):
    def forward(self, images):
        return super().forward(images), None


class Blind(Plain):
    def forward(self, images):
        return super().forward(torch.zeros_like(images))


class Unused(Plain):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.auxiliary = nn.Linear(8, num_classes)


class Counted(Plain):
    made = 0

    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        Counted.made += 1
        self.register_parameter(f"bias{Counted.made}", nn.Parameter(torch.zeros(num_classes)))


class Drawn(Plain):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.register_buffer("scale", torch.rand(8))


class AlwaysDropping(Plain):
    def forward(self, images):
        return nn.functional.dropout(super().forward(images), training=True)


class OfTheBatch(Plain):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


class InPlace(Plain):
    def forward(self, images):
        return super().forward(images.relu_())


class PythonsDraws(Plain):
    def forward(self, images):
        return super().forward(images) * (1 + self.training * random.random())


class Forgetful(Plain):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, images):
        self.steps += self.training
        return super().forward(images) * (1 + self.steps)


class Remembers(Plain):
    def forward(self, images):
        self.features = self.norm(self.conv(images))
        return self.classifier(self.features.mean(dim=(2, 3)))


class Viewed(Plain):
    def forward(self, images):
        features = self.norm(self.conv(images))
        return self.classifier(features.view(len(images), -1).unflatten(1, (8, -1)).mean(dim=2))


class Late(Plain):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.classifier = nn.LazyLinear(num_classes)


@pytest.mark.parametrize("check", checks.NETWORK_CHECKS)
def test_a_plain_network_of_a_callable_passes(check):
    check(NetworkToCheck(Plain, in_channels=3, image_size=8))


@pytest.mark.parametrize(
    ("network", "check", "remedy"),
    [
        (TwoOutputs, checks.check_logits_have_a_row_an_image_and_a_column_a_class, "auxiliary outputs"),
        (Blind, checks.check_logits_have_a_row_an_image_and_a_column_a_class, "dead"),
        (Unused, checks.check_gradients_reach_every_parameter, "auxiliary.weight, auxiliary.bias; use"),
        (Counted, checks.check_start_depends_on_the_seed_alone, "name modules by their place"),
        (Drawn, checks.check_start_depends_on_the_seed_alone, "scale is drawn .* its own generator"),
        (AlwaysDropping, checks.check_logits_repeat, "switch dropout"),
        (OfTheBatch, checks.check_evaluation_of_an_image_does_not_depend_on_the_others, "running statistics"),
        (InPlace, checks.check_images_are_not_changed_in_place, "in-place operation"),
        (PythonsDraws, checks.check_logits_repeat, "draw with torch"),
        (Forgetful, checks.check_a_state_dict_holds_everything, "register"),
        (Remembers, checks.check_a_state_dict_holds_everything, "keep no tensor"),
        (Viewed, checks.check_memory_order_does_not_change_the_logits, "reshape"),
        (Late, checks.check_logits_have_a_row_an_image_and_a_column_a_class, "number of inputs"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_network_that_breaks_a_rule_is_told(network, check, remedy):
    with pytest.raises(CheckFailed, match=rf"^{network.__name__}: .*{remedy}"):
        check(NetworkToCheck(network, image_size=8))


class FixedOrder(EpochSampler):
    def set_epoch(self, epoch):
        """Every epoch is the first."""


class SumOfSeedAndEpoch(EpochSampler):
    def __iter__(self):
        return iter(EpochSampler(self.num_images, self.batch_size, self.seed + self.epoch))


class GlobalOrder(EpochSampler):
    def __iter__(self):
        first = torch.randint(100, ()).item()
        return iter(EpochSampler(self.num_images, self.batch_size, first))


def with_sampler(kind):
    def harm(data, **_):
        data.train_dataloader = lambda: make_loader(data.parts["train"], kind(24, data.batch_size, data.seed))

    return harm


def bright(data, **_):
    data.val_dataloader = lambda: [(data.parts["test"].images[:5].float(), data.parts["test"].labels[:5])]


def one_class_more(data, **_):
    data.parts["test"].labels += 1


def shared(data, **_):
    data.parts["test"] = data.parts["validation"]


def another_seed(data, **_):
    data.seed = 0


def no_sampler(data, **_):
    data.train_dataloader = lambda: DataLoader(data.parts["train"], batch_size=None)


def changed_by_workers(batch):
    return batch[0], batch[1] + (get_worker_info() is not None)


def workers(data, num_workers, **_):
    def loader():
        made = make_loader(
            data.parts["train"], EpochSampler(24, data.batch_size, data.seed), num_workers=num_workers
        )
        made.collate_fn = changed_by_workers
        return made

    data.train_dataloader = loader


def split_by_seed(data, seed, **_):
    data.split_seed, data.parts = seed, {}


def shuffled(data, **_):
    order = torch.randperm(6)
    part = data.parts["validation"]
    data.val_dataloader = lambda: [(part.images[order] / 255.0, part.labels[order])]


def the_last_is_left_out(data, **_):
    whole = data.test_dataloader()
    data.test_dataloader = lambda: make_loader(whole.dataset, list(whole.sampler)[:-1])


def repeated(data, **_):
    whole = data.val_dataloader()
    data.val_dataloader = lambda: make_loader(whole.dataset, [next(iter(whole.sampler))] * len(whole))


def alone(data, **_):
    nobody = property(lambda self: None, lambda self, trainer: None)
    data.__class__ = type("Alone", (type(data),), {"trainer": nobody})


def tiny(tiny_data, harm=None):
    def make(seed, num_workers=0):
        data = tiny_data(seed=seed)
        data.setup()
        if harm is not None:
            harm(data, seed=seed, num_workers=num_workers)
        return data

    return DataToCheck(make, num_classes=6, image_size=10, name="tiny")


@pytest.mark.parametrize("check", checks.DATA_CHECKS)
def test_small_data_of_a_callable_pass(check, tiny_data):
    check(tiny(tiny_data))


@pytest.mark.parametrize(
    ("harm", "check", "remedy"),
    [
        (bright, checks.check_batches_are_as_declared, "scale them"),
        (one_class_more, checks.check_batches_are_as_declared, "must be 0 to 5"),
        (shared, checks.check_parts_share_no_image, "6 images of test are also in validation"),
        (no_sampler, checks.check_batches_follow_seed_and_epoch, "a sampler with set_epoch"),
        (with_sampler(GlobalOrder), checks.check_batches_follow_seed_and_epoch, "not with the global one"),
        (with_sampler(FixedOrder), checks.check_batches_follow_seed_and_epoch, "epochs 0 and 1"),
        (another_seed, checks.check_batches_follow_seed_and_epoch, "seed 0, epoch 0"),
        (with_sampler(SumOfSeedAndEpoch), checks.check_batches_follow_seed_and_epoch, "seed 0, epoch 1"),
        (workers, checks.check_batches_do_not_depend_on_the_workers, "num_workers=0 and 2"),
        (split_by_seed, checks.check_evaluation_does_not_depend_on_the_seed, "split_seed"),
        (shuffled, checks.check_evaluation_does_not_depend_on_the_seed, "neither shuffle"),
        (the_last_is_left_out, checks.check_evaluation_sees_each_image_once, "16 of 18 .*drop_last=False"),
        (repeated, checks.check_evaluation_sees_each_image_once, "repeats|drop_last"),
        (alone, checks.check_processes_share_the_batches, "process_of"),
    ],
)
def test_data_that_break_a_rule_are_told(harm, check, remedy, tiny_data):
    with pytest.raises(CheckFailed, match=f"^tiny: .*{remedy}"):
        check(tiny(tiny_data, harm))


def test_every_check_is_seen_to_fail():
    """By the two tests above; a new check needs a case there."""
    cases = [
        case[1]
        for test in (test_a_network_that_breaks_a_rule_is_told, test_data_that_break_a_rule_are_told)
        for mark in test.pytestmark
        if mark.name == "parametrize"
        for case in mark.args[1]
    ]
    assert set(cases) == {*checks.NETWORK_CHECKS, *checks.DATA_CHECKS}


def test_a_check_can_be_left_out_with_its_reason():
    name = checks.NETWORK_CHECKS[0].__name__
    mark = parametrize_with_checks([NetworkToCheck(Plain, leave_out={name: "has two outputs"})])
    skipped = [case.id for case in mark.args[1] if case.marks]
    assert skipped == [f"Plain-{name.removeprefix('check_')}"]
    with pytest.raises(ValueError, match=r"leave_out=check_of_nothing: no such check; available: check_"):
        parametrize_with_checks([NetworkToCheck(Plain, leave_out={"check_of_nothing": ""})])
