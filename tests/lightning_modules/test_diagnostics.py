"""Known matrices and hand-built networks; a run is the same with diagnostics, interrupted or not."""

import math
from collections import OrderedDict
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from ablations.runs.records import RunDirectory
from experiments.recorder import Recorder
from lightning_modules import diagnostics
from lightning_modules.averaging import PolyakAveraging
from lightning_modules.diagnostics import (
    COLUMNS,
    DeadUnits,
    EffectiveRank,
    GradientNorm,
    effective_rank,
    gradient_norms,
    require_diagnostics,
)
from lightning_modules.networks.separable import segments_by_number

STEPS = [1, 2, 4, 8]


def make_all():
    return [
        DeadUnits(images=5, tolerance=0.001),
        EffectiveRank(images=5, positions=40),
        GradientNorm(steps=STEPS),
    ]


def test_all_are_tested_here():
    concrete = {one for one in vars(diagnostics).values() if isinstance(one, type) and "name" in vars(one)}
    assert {type(diagnostic) for diagnostic in make_all()} == concrete


class Interrupted(Exception):
    """Stands for a process that ends."""


class InterruptAt(Callback):
    """Ends training after a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise Interrupted


@pytest.fixture
def fit(tmp_path, make_classifier, make_trainer, tiny_data):
    """Fits three epochs of three batches, from a checkpoint on where there is one, then tests."""

    def fit(name, diagnostics, *others, epochs=3):
        directory = RunDirectory(tmp_path, name)
        directory.path.mkdir(parents=True, exist_ok=True)
        module = make_classifier()
        trainer = make_trainer(
            epochs, callbacks=[Recorder(directory, diagnostics), *diagnostics, *others], checkpoints=True
        )
        try:
            trainer.fit(module, tiny_data(), ckpt_path=directory.checkpoint())
            trainer.test(module, tiny_data(), verbose=False)
        except Interrupted:
            pass
        return directory, module, dict(trainer.callback_metrics)

    return fit


@pytest.mark.parametrize("others", [[], [lambda: PolyakAveraging(decay=0.9)]], ids=["weights", "average"])
def test_a_run_is_the_same_with_them_to_the_last_bit(fit, others):
    plain, plain_module, plain_metrics = fit("plain", [], *(make() for make in others))
    draws = torch.rand(3)
    measured, module, metrics = fit("measured", make_all(), *(make() for make in others))
    assert torch.equal(torch.rand(3), draws)
    assert metrics.keys() == plain_metrics.keys()
    assert all(torch.equal(metrics[name], plain_metrics[name]) for name in metrics)
    states = plain_module.state_dict(), module.state_dict()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []
    without_times = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in directory.rows()]
        for directory in (plain, measured)
    ]
    assert without_times[0] == without_times[1]
    assert not plain.diagnostics_path.exists()
    assert {row["diagnostic"] for row in measured.diagnostic_rows()} == {d.name for d in make_all()}


class Touched(Callback):
    """Keeps what of a network a diagnostic might touch, around the moments at which one measures."""

    def __init__(self):
        self.seen = {}

    def look(self, when, trainer, module):
        network = module.network
        state = {name: value.clone() for name, value in network.state_dict().items()}
        gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
        modes = [part.training for part in network.modules()]
        hooks = [len(part._forward_hooks) for part in network.modules()]
        self.seen[when, trainer.global_step] = state, gradients, modes, hooks, torch.get_rng_state()

    def on_train_start(self, trainer, module):
        self.look("start", trainer, module)

    def on_validation_epoch_end(self, trainer, module):
        self.look("validation", trainer, module)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.look("step", trainer, module)


def test_they_touch_nothing_where_they_measure(fit):
    # Beside each diagnostic once before and once behind it, in the order of the trainer's callbacks.
    before, after = Touched(), Touched()
    fit("touched", [before_as_diagnostic(before), *make_all()], after, epochs=1)
    assert before.seen.keys() == after.seen.keys()
    assert {when for when, _ in after.seen} == {"start", "validation", "step"}
    for moment in after.seen:
        states = before.seen[moment], after.seen[moment]
        assert all(torch.equal(states[0][0][name], value) for name, value in states[1][0].items())
        for left, right in zip(states[0][1], states[1][1], strict=True):
            assert (left is None) == (right is None)
            assert left is None or torch.equal(left, right)
        assert states[0][2] == states[1][2]
        assert not any(states[1][3])
        assert torch.equal(states[0][4], states[1][4])


def before_as_diagnostic(callback):
    callback.rows = []
    return callback


def test_an_interrupted_run_has_the_same_file(fit):
    whole, _, _ = fit("whole", make_all())
    fit("interrupted", make_all(), InterruptAt(4))
    interrupted, _, _ = fit("interrupted", make_all())
    assert interrupted.diagnostics_path.read_bytes() == whole.diagnostics_path.read_bytes()


def test_moments_and_layers_of_a_run(fit):
    directory, module, _ = fit("run", make_all())
    rows = directory.diagnostic_rows()
    assert all(tuple(row) == COLUMNS for row in rows)

    def moments(name):
        return sorted({(row["epoch"], row["step"]) for row in rows if row["diagnostic"] == name})

    assert moments("dead_units") == [(1, 3), (2, 6), (3, 9)]
    assert moments("effective_rank") == [(0, 0), (1, 3), (2, 6), (3, 9)]
    assert moments("gradient_norm") == [(1, 1), (1, 2), (2, 4), (3, 8)]
    for name in ("dead_units", "effective_rank", "gradient_norm"):
        for moment in moments(name):
            at = [row for row in rows if row["diagnostic"] == name and (row["epoch"], row["step"]) == moment]
            assert [row["depth"] for row in at] == list(range(1, len(at) + 1))
            assert len({row["layer"] for row in at}) == len(at)
    first = {(row["diagnostic"], row["layer"]): row for row in rows if row["depth"] == 1}
    assert ("dead_units", "stem.relu1") in first
    assert ("effective_rank", "stem.conv1.conv") in first
    assert ("gradient_norm", "stem.conv1.conv") in first
    layers = {row["layer"]: row for row in rows if row["diagnostic"] == "gradient_norm"}
    weights = [
        name for name, p in module.network.named_parameters() if name.endswith("weight") and p.ndim > 1
    ]
    assert set(layers) == {name.removesuffix(".weight") for name in weights}
    assert max(row["depth"] for row in layers.values()) == layers["head.logits"]["depth"]
    assert layers["head.logits"]["channels"] == 6


def test_a_resumed_run_does_not_change_what_was_loaded(fit):
    directory, _, _ = fit("run", make_all())
    checkpoint = torch.load(directory.checkpoint_path, weights_only=False)
    for diagnostic in make_all():
        state = checkpoint["callbacks"][type(diagnostic).__name__]
        kept = list(state["rows"])
        diagnostic.load_state_dict(state)
        assert diagnostic.rows == kept
        diagnostic.rows.append({})
        assert state["rows"] == kept


# Effective rank


def test_effective_rank_of_known_matrices():
    # Columns +-1 that are orthogonal and of mean zero: equal eigenvalues.
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert effective_rank(signs) == pytest.approx(3, rel=1e-12)
    assert effective_rank(signs[:, [0, 0, 0]]) == pytest.approx(1, rel=1e-7)
    assert effective_rank(signs[:, [0, 1, 0]]) == pytest.approx(
        math.exp(-2 / 3 * math.log(2 / 3) - math.log(1 / 3) / 3)
    )
    # Variances 4 and 1: shares 0.8 and 0.2.
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    assert effective_rank(signs[:, :2] * torch.tensor([2, 1])) == pytest.approx(math.exp(entropy), rel=1e-12)


def test_effective_rank_depends_on_neither_scale_shift_nor_rotation():
    features = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features *= torch.arange(1, 8)
    expected = effective_rank(features)
    assert 1 < expected < 7
    rotation, _ = torch.linalg.qr(
        torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    for same in (features * 1e-200, features * 1e200, features + 5, features @ rotation, features.flip(0)):
        assert effective_rank(same) == pytest.approx(expected, rel=1e-9)
    share = np.linalg.eigvalsh(np.cov(features.numpy().T))
    share /= share.sum()
    assert expected == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-9)


def test_effective_rank_where_there_is_none():
    assert effective_rank(torch.full((5, 3), 2.5)) == 0
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.inf], [0.0, 1.0]])))
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan], [0.0, 1.0]])))


def test_positions_are_spread_over_images_and_pixels():
    """Each feature is its own place, so that what was taken can be read off."""
    diagnostic = EffectiveRank(images=16, positions=16 * 4)
    images = torch.arange(16 * 2 * 4 * 4).view(16, 4, 4, 2).permute(0, 3, 1, 2)  # channels last
    taken = diagnostic.summary(nn.Identity(), images)
    assert taken.shape == (64, 2)
    assert torch.equal(taken[:, 1], taken[:, 0] + 1)
    place = taken[:, 0] // 2
    assert torch.equal(place // 16, torch.arange(16).repeat_interleave(4))
    assert place.unique().numel() == 64
    assert torch.equal((place % 16).bincount(), torch.full((16,), 4))  # each pixel equally often
    everything = EffectiveRank(images=16, positions=10**6).summary(nn.Identity(), images)
    assert torch.equal(everything[:, 0].sort().values, torch.arange(0, 512, 2))


def test_spatial_operations(small_xception):
    diagnostic = EffectiveRank(images=1, positions=1)
    for changes in ({}, {"segments": partial(segments_by_number, number=3)}):
        found = list(diagnostic.layers(small_xception(**changes)))
        assert found[:2] == ["stem.conv1.conv", "stem.conv2.conv"]
        assert len(found) == 2 + 2 * 3 + 3 + 2 + 2
        assert all(name.endswith(".depthwise") for name in found[2:])
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, (1, 7)), nn.Linear(2, 2))
    assert list(diagnostic.layers(network)) == ["1"]


# Units and gradients by hand


class Known(nn.Module):
    """Activations whose units are known; the last is called twice, and its output is written over."""

    def __init__(self):
        super().__init__()
        self.late = nn.ReLU()  # named first, called last
        self.elu = nn.ELU()
        self.twice = nn.ReLU(inplace=True)

    def forward(self, images):
        images = images[:, :1]
        shifts = torch.tensor([-2.0, 0.0, 2.0, -1.0]).view(1, 4, 1, 1)
        x = self.twice(images + shifts)
        x = self.elu(torch.cat([images, images - 100], 1))
        x.add_(1000)
        x = self.twice(torch.cat([images - 2, images], 1))
        return self.late(-1 - images.abs()).mean((1, 2, 3)) + x.mean()


def passed(diagnostic, network, *batches, epoch=1):
    """The rows of a validation of these batches, outside of a trainer."""
    trainer = SimpleNamespace(
        is_global_zero=True, current_epoch=epoch - 1, global_step=7, state=SimpleNamespace(fn="fit")
    )
    module = SimpleNamespace(network=network)
    diagnostic.on_validation_epoch_start(trainer, module)
    for images in batches:
        diagnostic.on_validation_batch_start(trainer, module, (images, None), 0)
        network(images)
        diagnostic.on_validation_batch_end(trainer, module, None, (images, None), 0)
    diagnostic.on_validation_epoch_end(trainer, module)
    assert not any(part._forward_hooks for part in network.modules())
    return diagnostic.rows


def test_dead_units_of_a_known_network():
    images = torch.linspace(-1, 1, 50).view(2, 1, 5, 5)
    rows = passed(DeadUnits(images=512, tolerance=0.001), Known(), images)
    found = [(row["layer"], row["depth"], row["channels"], row["value"]) for row in rows]
    assert found == [
        ("twice", 1, 4, 0.5),  # -2 is never above zero; -1 is, at no pixel: the largest is 1 - 1
        ("elu", 2, 2, 0.5),  # one saturates at -1
        ("twice#2", 3, 2, 0.5),
        ("late", 4, 1, 1.0),
    ]
    assert {(row["diagnostic"], row["epoch"], row["step"]) for row in rows} == {("dead_units", 1, 7)}


def test_a_unit_that_lives_in_one_image_of_any_batch_is_not_dead():
    dark, light = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    light[2, 0, 1, 1] = 1.0
    network = nn.Sequential(OrderedDict(relu=nn.ReLU()))
    for batches, images, dead in [
        ([dark, light], 512, 0.0),
        ([dark, dark], 512, 1.0),
        ([dark, light], 6, 0.0),
        ([dark, light], 5, 1.0),  # the sixth image is not looked at
        ([light, dark], 3, 0.0),
        ([light, dark], 2, 1.0),
    ]:
        (row,) = passed(DeadUnits(images=images, tolerance=0.0), network, *batches)
        assert row["value"] == dead, (images, dead)


def test_the_tolerance_is_a_share_of_the_largest_variation():
    images = torch.tensor([[100.0, 10.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]) * 1e-6  # whatever the scale
    network = nn.Sequential(nn.LeakyReLU())
    for tolerance, dead in [(0.0, 0.25), (0.011, 0.5), (0.11, 0.75)]:
        (row,) = passed(DeadUnits(images=2, tolerance=tolerance), network, images)
        assert row["value"] == dead
    (row,) = passed(DeadUnits(images=2, tolerance=0.0), network, images * 0)
    assert row["value"] == 1.0


def test_effective_rank_of_a_known_network():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1, bias=False))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[:, 0, 1, 1] = torch.tensor([1.0, -2.0, 5.0])  # three times the same
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    (row,) = passed(EffectiveRank(images=4, positions=80), network, images)
    assert (row["layer"], row["channels"]) == ("0", 3)
    assert row["value"] == pytest.approx(1, abs=1e-6)


def test_gradient_norms_by_hand():
    """The loss is the sum of w1 times w2: the gradient of one is the other."""
    first, second, idle = (
        torch.tensor(value, requires_grad=True) for value in ([3.0, 4.0], [2.0, 1.0], [1.0])
    )
    (first * second).sum().backward()
    assert gradient_norms([first, second, idle]) == [math.sqrt(5), 5.0, 0.0]
    assert gradient_norms([]) == []
    first.grad.fill_(1e30)  # whose square no float32 holds
    assert gradient_norms([first]) == pytest.approx([math.sqrt(2) * 1e30])


class Gradients(Callback):
    """Norms by hand of what the optimizer sees."""

    def __init__(self):
        self.norms = {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        for name, parameter in module.network.named_parameters():
            norm = np.linalg.norm(parameter.grad.double().numpy())
            self.norms[trainer.global_step + 1, name.removesuffix(".weight")] = norm


def test_gradient_norms_of_a_run_are_the_optimizers(fit):
    gradients = Gradients()
    directory, _, _ = fit("run", [GradientNorm(steps=STEPS)], gradients)
    rows = directory.diagnostic_rows()
    assert {row["step"] for row in rows} == set(STEPS)
    for row in rows:
        assert row["value"] == pytest.approx(gradients.norms[row["step"], row["layer"]], rel=1e-12)
        assert row["value"] > 0


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DeadUnits(images=0, tolerance=0.1),
            "diagnostics.dead_units.images=0: must be a whole number",
        ),
        (lambda: DeadUnits(images=1, tolerance=1), "diagnostics.dead_units.tolerance=1: must be a number"),
        (lambda: EffectiveRank(images=8, positions=7), "diagnostics.effective_rank.positions=7: must be"),
        (lambda: GradientNorm(steps=[1, 0]), "diagnostics.gradient_norm.steps=0: must be a whole number"),
        (lambda: require_diagnostics({"dead_units": 1}), "diagnostics.dead_units=int: must be a diagnostic"),
        (
            lambda: require_diagnostics({"mine": GradientNorm(steps=[1])}),
            "diagnostics.mine=GradientNorm: must be named gradient_norm",
        ),
        (
            lambda: DeadUnits(images=1, tolerance=0).require_layers(nn.Sequential(nn.Linear(1, 1))),
            "diagnostics.dead_units: Sequential has no module to measure",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_line(make, message):
    with pytest.raises(ValueError, match=r"^diagnostics\.") as refusal:
        make()
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
