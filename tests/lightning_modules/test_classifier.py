"""Training on tiny data: what is logged, divergence, pairing, and going on after an interruption."""

import csv
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from ablations.runs.records import RunDirectory
from experiments.recorder import Recorder
from lightning_modules.classifier import TrainingDiverged
from lightning_modules.diagnostics import GradientNorm


def schedule(factor):
    """A schedule that needs no `total_steps`."""
    return lambda optimizer, total_steps: LambdaLR(optimizer, factor)


class MemoryLogger(Logger):
    """Keeps what Lightning logs, as (step, metrics)."""

    name = version = None

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, metrics))

    def log_hyperparams(self, *_):
        pass

    def with_key(self, key):
        return [(step, metrics) for step, metrics in self.logged if key in metrics]


@pytest.fixture
def make_linear(make_classifier, make_task):
    """Makes a classifier whose weights stay at their start: logits by hand are easy."""

    def make(**changes):
        num_classes = changes.pop("num_classes", 6)
        changes.setdefault("task", make_task(num_classes))
        network = nn.Sequential(nn.Flatten(), nn.Linear(100, num_classes))
        frozen = {"optimizer": partial(torch.optim.SGD, lr=0.0), "scheduler": schedule(lambda _: 1.0)}
        return make_classifier(**({"network": network, "channels_last": False} | frozen | changes))

    return make


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal_states(left, right):
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def cross_entropy_by_hand(logits, labels):
    """Of every image: log of the sum of exponentials, minus the logit of the label."""
    logits = logits.double()
    shifted = logits - logits.amax(1, keepdim=True)
    return shifted.exp().sum(1).log() - shifted[torch.arange(len(labels)), labels]


def hits_by_hand(logits, labels, k):
    """Of every image: whether fewer than k classes have a greater logit than the label."""
    return ((logits > logits[torch.arange(len(labels)), labels][:, None]).sum(1) < k).double()


def test_metrics_are_those_worked_out_by_hand(make_linear, make_trainer, tiny_data):
    logger, data, module = MemoryLogger(), tiny_data(), make_linear()
    trainer = make_trainer(2, logger=logger)
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)

    def expected(batches):
        with torch.no_grad():
            logits = torch.cat([module.network(images) for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
        return (
            pytest.approx(cross_entropy_by_hand(logits, labels).mean().item(), rel=1e-5),
            pytest.approx(hits_by_hand(logits, labels, 1).mean().item()),
            pytest.approx(hits_by_hand(logits, labels, 5).mean().item()),
        )

    def subset(metrics, *names):
        return {name: metrics[name] for name in names}

    steps = logger.with_key("train/loss")
    assert [step for step, _ in steps] == list(range(6))  # 24 training images in batches of 8
    train, validation, test = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    for epoch in (0, 1):
        train.sampler.set_epoch(epoch)
        batches = list(train)
        for batch, (_, metrics) in zip(batches, steps[3 * epoch :], strict=False):
            loss, top1, _ = expected([batch])
            given = subset(metrics, "train/loss", "train/top1", "learning_rate")
            assert given == {"train/loss": loss, "train/top1": top1, "learning_rate": 0.0}
        loss, top1, _ = expected(batches)
        step, metrics = logger.with_key("train_loss")[epoch]
        assert subset(metrics, "train_loss", "train_top1") == {"train_loss": loss, "train_top1": top1}
        assert (step, metrics["epoch"]) == (3 * epoch + 2, epoch)
        loss, top1, top5 = expected(list(validation))  # 6 images in batches of 4 and 2
        step, metrics = logger.with_key("val_loss")[epoch]
        given = subset(metrics, "val_loss", "val_top1", "val_top5")
        assert given == {"val_loss": loss, "val_top1": top1, "val_top5": top5}
        assert (step, metrics["epoch"]) == (3 * epoch + 2, epoch)
    loss, top1, top5 = expected(list(test))  # 18 images, the last batch has 2
    ((_, metrics),) = logger.with_key("test_loss")
    given = subset(metrics, "test_loss", "test_top1", "test_top5")
    assert given == {"test_loss": loss, "test_top1": top1, "test_top5": top5}
    assert 0 < metrics["test_top1"] < metrics["test_top5"] < 1
    assert len(logger.logged) == 6 + 2 + 2 + 1
    assert {name for _, metrics in logger.logged for name in metrics} == {
        *("epoch", "learning_rate", "train/loss", "train/top1", "train_loss", "train_top1"),
        *("val_loss", "val_top1", "val_top5", "test_loss", "test_top1", "test_top5"),
    }


def test_steps_are_logged_as_often_as_asked_for(make_linear, make_trainer, tiny_data):
    logger = MemoryLogger()
    make_trainer(2, logger=logger).fit(make_linear(log_every_n_steps=2), tiny_data())
    steps = [step for step, _ in logger.with_key("train/loss")]
    assert len(steps) == 3
    assert steps == list(range(steps[0], 6, 2))


def test_top5_of_fewer_than_five_classes_is_one(make_linear, make_trainer, tiny_data):
    data, module = tiny_data(num_classes=3), make_linear(num_classes=3)
    trainer = make_trainer(1)
    trainer.fit(module, data)
    assert trainer.callback_metrics["val_top5"] == 1
    assert trainer.callback_metrics["val_top1"] < 1


def test_learning_rates_of_every_step_are_the_schedules(make_classifier, make_trainer, tiny_data):
    logger = MemoryLogger()
    make_trainer(3, logger=logger).fit(make_classifier(), tiny_data())
    rates = [metrics["learning_rate"] for _, metrics in logger.with_key("train/loss")]

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    by_hand = OneCycleLR(optimizer, max_lr=0.1, pct_start=0.3, cycle_momentum=False, total_steps=9)
    expected = []
    for _ in range(9):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 9:
            by_hand.step()
    assert rates == pytest.approx(expected, rel=1e-6)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) > 0.09
    assert rates[-1] < 1e-6


def test_a_step_is_the_optimizers(make_linear, make_trainer, tiny_data):
    data, module = tiny_data(), make_linear(optimizer=partial(torch.optim.SGD, lr=0.5))
    data.setup()
    start = module.network[1].weight.detach().clone()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(0)
    after = start.clone()
    bias = torch.zeros(6)
    for images, labels in loader:
        pixels = images.flatten(1)
        error = (pixels @ after.T + bias).softmax(1) - nn.functional.one_hot(labels, 6)
        after -= 0.5 * error.T @ pixels / len(labels)
        bias -= 0.5 * error.mean(0)
    make_trainer(1).fit(module, data)
    assert not torch.allclose(start, after)
    torch.testing.assert_close(module.network[1].weight.detach(), after, rtol=1e-4, atol=1e-6)


def test_bytes_are_scaled_images_to_the_last_bit(make_linear):
    images = torch.arange(256, dtype=torch.uint8).repeat(2)[:400].view(4, 1, 10, 10)
    module = make_linear()
    assert torch.equal(module(images), module(images.float() / 127.5 - 1))


def test_poisoned_weights_diverge_before_the_first_step(make_classifier, make_trainer, tiny_data):
    def poison(weight, generator):
        return weight.fill_(math.nan)

    with pytest.raises(TrainingDiverged, match="the loss is nan after 0 steps") as divergence:
        make_trainer(2).fit(make_classifier(weight_init=poison), tiny_data())
    assert divergence.value.step == 0
    assert math.isnan(divergence.value.loss)


@pytest.mark.parametrize(("last", "every"), [(3, None), (6, 1), (4, 4)])
def test_divergence_names_the_steps_that_were_completed(
    make_classifier, make_trainer, tiny_data, last, every
):
    """Whenever the loss is looked at: at a logged step, or before validation."""
    # The rate is infinite from a step on, which ruins the weights that the next one reads.
    ruin = schedule(lambda step: math.inf if step >= last else 1.0)
    optimizer, logger = partial(torch.optim.SGD, lr=0.01), MemoryLogger() if every else False
    module = make_classifier(scheduler=ruin, optimizer=optimizer, log_every_n_steps=every or 1)
    with pytest.raises(TrainingDiverged, match=f"after {last + 1} steps") as divergence:
        make_trainer(3, logger=logger).fit(module, tiny_data())
    assert divergence.value.step == last + 1
    assert not logger or all(math.isfinite(row["train/loss"]) for _, row in logger.with_key("train/loss"))


def test_what_breaks_on_numbers_that_are_none_is_divergence(make_classifier, make_trainer, tiny_data):
    class Breaks(nn.CrossEntropyLoss):
        def forward(self, logits, labels):
            if self.broken:
                raise ValueError("broken")
            self.broken = not logits.isfinite().all()
            return super().forward(logits, labels)

    loss = Breaks()
    loss.broken = False
    ruin = schedule(lambda step: math.inf if step >= 3 else 1.0)
    module = make_classifier(scheduler=ruin, optimizer=partial(torch.optim.SGD, lr=0.01), loss=loss)
    with pytest.raises(TrainingDiverged) as divergence:
        make_trainer(3).fit(module, tiny_data())
    assert divergence.value.step == 4


def test_a_diagnostic_has_no_row_of_a_step_after_divergence(
    tmp_path, make_classifier, make_trainer, tiny_data
):
    gradients = GradientNorm(steps=[1, 4, 5, 6])
    ruin = schedule(lambda step: math.inf if step >= 3 else 1.0)
    module = make_classifier(scheduler=ruin, optimizer=partial(torch.optim.SGD, lr=0.01))
    directory = RunDirectory(tmp_path, "run")
    directory.path.mkdir(parents=True)
    recorder = Recorder(directory, [gradients])
    with pytest.raises(TrainingDiverged):
        make_trainer(3, callbacks=[recorder, gradients], checkpoints=True).fit(module, tiny_data())
    with directory.diagnostics_path.open(newline="") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"1", "4"}


def test_weights_that_the_last_step_ruined_diverge_in_validation(make_classifier, make_trainer, tiny_data):
    data = tiny_data()
    data.setup()
    steps = len(data.train_dataloader())
    ruin = schedule(lambda step: math.inf if step >= steps - 1 else 1.0)
    module = make_classifier(scheduler=ruin, optimizer=partial(torch.optim.SGD, lr=0.01))
    with pytest.raises(TrainingDiverged) as divergence:
        make_trainer(1).fit(module, data)
    assert divergence.value.step == steps


def test_ruined_weights_diverge_in_test(make_classifier, make_trainer, tiny_data):
    module = make_classifier()
    torch.nn.init.constant_(module.network.head.logits.weight, math.nan)
    with pytest.raises(TrainingDiverged, match="the loss is nan"):
        make_trainer(1).test(module, tiny_data(), verbose=False)


def test_divergence_survives_the_way_between_processes():
    copy = pickle.loads(pickle.dumps(TrainingDiverged(7, math.inf)))
    assert (type(copy), copy.step, copy.loss, str(copy)) == (
        TrainingDiverged, 7, math.inf, "the loss is inf after 7 steps"
    )  # fmt: skip


def test_fits_of_one_seed_are_equal_whatever_was_drawn_before(make_classifier, make_trainer, tiny_data):
    def fit(global_seed, **changes):
        torch.manual_seed(global_seed)
        module = make_classifier(**changes)
        torch.rand(global_seed)
        make_trainer(2).fit(module, tiny_data(seed=changes.get("seed", 0)))
        return state_of(module)

    first = fit(1)
    assert_equal_states(first, fit(2))
    for other in (fit(1, seed=1), fit(1, dropout=0.0)):
        assert not torch.equal(first["network.head.logits.weight"], other["network.head.logits.weight"])


def test_dropout_draws_anew_in_every_epoch(make_classifier, make_trainer, tiny_data):
    class Draws(Callback):
        def __init__(self):
            self.states = []

        def on_train_batch_start(self, trainer, module, batch, batch_index):
            if batch_index == 0:
                self.states.append(torch.get_rng_state())

    draws, other_seed = Draws(), Draws()
    make_trainer(2, callbacks=[draws]).fit(make_classifier(), tiny_data())
    make_trainer(1, callbacks=[other_seed]).fit(make_classifier(seed=1), tiny_data())
    first, second = draws.states
    assert not torch.equal(first, second)
    assert not torch.equal(first, other_seed.states[0])


@pytest.mark.parametrize(
    ("channels_last", "memory_format"), [(True, torch.channels_last), (False, torch.contiguous_format)]
)
def test_memory_order_is_the_recipes(make_classifier, channels_last, memory_format):
    module = make_classifier(channels_last=channels_last)
    seen = []
    module.network.stem.conv2.register_forward_hook(lambda _, inputs, output: seen.append(output))
    images = torch.randn(4, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    module(images.contiguous())
    assert seen[0].is_contiguous(memory_format=memory_format)
    assert module.network.stem.conv2.conv.weight.is_contiguous(memory_format=memory_format)


class Interrupted(Exception):
    """Stands for a process that ends."""


class Interrupt(Callback):
    """Ends training in a hook when as many steps have been taken."""

    def __init__(self, hook, step):
        def end(trainer, *_, **__):
            if trainer.global_step == step:
                raise Interrupted

        setattr(self, hook, end)


class Steps(Callback):
    """Counts training steps."""

    count = 0

    def on_train_batch_end(self, *_):
        self.count += 1


def rows_of(directory):
    """metrics.csv without the time."""
    with directory.history_path.open(newline="") as file:
        return [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture
def fit_recorded(tmp_path, make_classifier, make_trainer, tiny_data):
    """Fits three epochs in a run directory, from its checkpoint on where it has one."""

    def fit(name, *, callback=None, global_seed=0):
        torch.manual_seed(global_seed)
        directory = RunDirectory(tmp_path, name)
        directory.path.mkdir(parents=True, exist_ok=True)
        recorder, module = Recorder(directory), make_classifier()
        # As in a run, the recorder is the only one that keeps checkpoints.
        callbacks = [recorder] if callback is None else [callback, recorder]
        trainer = make_trainer(3, callbacks=callbacks, checkpoints=True)
        trainer.fit(module, tiny_data(), ckpt_path=directory.checkpoint())
        return directory, recorder, module, trainer

    return fit


@pytest.mark.parametrize(
    ("interruptions", "epochs_done"),
    [
        ([("on_train_batch_start", 1)], [0]),
        ([("on_validation_batch_start", 6)], [1]),
        ([("on_train_batch_end", 5), ("on_train_batch_end", 8)], [1, 2]),
        ([("on_fit_end", 9)], [3]),
    ],
    ids=["in the first epoch", "in validation", "twice", "after the last epoch"],
)
def test_interrupted_or_not_a_run_is_the_same_to_the_last_bit(fit_recorded, interruptions, epochs_done):
    whole, _, expected, expected_trainer = fit_recorded("whole")
    for number, (interruption, epochs) in enumerate(zip(interruptions, epochs_done, strict=True)):
        with pytest.raises(Interrupted):
            fit_recorded("interrupted", callback=Interrupt(*interruption), global_seed=number)
        directory = RunDirectory(whole.path.parents[1], "interrupted")
        assert len(directory.rows() or ()) == epochs
    taken = Steps()
    directory, recorder, module, trainer = fit_recorded("interrupted", callback=taken, global_seed=99)
    assert taken.count == 9 - 3 * epochs_done[-1]  # what was done is not done again

    assert_equal_states(state_of(module), state_of(expected))
    rows = rows_of(directory)
    assert rows == rows_of(whole)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    assert trainer.global_step == expected_trainer.global_step == recorder.steps == 9
    left, right = (t.optimizers[0].state_dict() for t in (trainer, expected_trainer))
    assert left["param_groups"] == right["param_groups"]
    for ours, theirs in zip(left["state"].values(), right["state"].values(), strict=True):
        assert torch.equal(ours["momentum_buffer"], theirs["momentum_buffer"])


def test_what_is_tested_of_a_finished_run_is_what_was_trained(fit_recorded, tiny_data, make_trainer):
    """A run whose process ended between the last checkpoint and the test goes on to the same test."""
    directory, _, module, trainer = fit_recorded("run")
    expected = trainer.test(module, tiny_data(), verbose=False)
    _, _, again, trainer = fit_recorded("run", global_seed=5)
    assert trainer.test(again, tiny_data(), verbose=False) == expected
    assert np.isfinite(list(expected[0].values())).all()
    assert len(directory.rows() or ()) == 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precision_is_the_trainers_and_the_weights_stay_single(
    make_classifier, make_trainer, tiny_data, precision
):
    module, seen = make_classifier(), []
    module.network.head.logits.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    trainer = make_trainer(1, precision=precision)
    trainer.fit(module, tiny_data())
    assert set(seen) == {torch.float32 if precision == "32-true" else torch.bfloat16}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert all(math.isfinite(value) for value in trainer.callback_metrics.values())


def test_compiled_steps_keep_the_names_of_the_weights_and_train_alike(make_linear, make_trainer, tiny_data):
    """Evaluation is not compiled: its batches are of other sizes, each of which would be compiled."""
    graphs = []

    def backend(graph, inputs):
        graphs.append([len(value) for value in inputs if value.ndim == 4])
        return graph.forward

    sgd = partial(torch.optim.SGD, lr=0.1)
    plain, compiled = make_linear(optimizer=sgd), make_linear(optimizer=sgd, compile_with=backend)
    compiled.load_state_dict(state_of(plain))
    for module in (plain, compiled):
        make_trainer(2).fit(module, tiny_data())
    assert graphs == [[8]]  # images of a training batch
    assert_equal_states(state_of(compiled), state_of(plain))


@pytest.mark.slow
def test_inductor_compiles_training_steps(make_linear, make_trainer, tiny_data):
    sgd = partial(torch.optim.SGD, lr=0.1)
    plain, compiled = make_linear(optimizer=sgd), make_linear(optimizer=sgd, compile_with="inductor")
    compiled.load_state_dict(state_of(plain))
    for module in (plain, compiled):
        make_trainer(1).fit(module, tiny_data())
    assert state_of(compiled).keys() == state_of(plain).keys()
    torch.testing.assert_close(compiled.network[1].weight, plain.network[1].weight)
