"""Known matrices and hand-built networks; a run is the same with diagnostics, and resumed, to the last bit."""

import math

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from ablations.recorder import Recorder
from ablations.records import RunDirectory
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

STEPS = [1, 2, 4, 8]


def make_all():
    return [
        DeadUnits(images=5, tolerance=0.001),
        EffectiveRank(images=5, positions=40),
        GradientNorm(steps=STEPS),
    ]


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


@pytest.mark.parametrize("step", [1, 4, 8])
def test_an_interrupted_run_has_the_same_file(fit, step):
    whole, _, _ = fit("whole", make_all())
    fit("interrupted", make_all(), InterruptAt(step))
    interrupted, _, _ = fit("interrupted", make_all())
    assert interrupted.diagnostics_path.read_bytes() == whole.diagnostics_path.read_bytes()
