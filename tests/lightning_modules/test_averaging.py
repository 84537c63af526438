"""The average is what is evaluated, training goes on from the weights, also after an interruption."""

import pytest
import torch
from lightning.pytorch import Callback

from ablations.runs.records import RunDirectory
from experiments.recorder import Recorder
from lightning_modules.averaging import PolyakAveraging

STEPS = 9
"""Three epochs of three batches."""


class Interrupted(Exception):
    """Stands for a process that ends."""


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal_states(left, right):
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


class Witness(Callback):
    """Keeps the network's state after every step and in every evaluation; ends training where told so."""

    def __init__(self, interrupt_in=None):
        self.trained, self.validated, self.tested = {}, {}, None
        self.interrupt_in = interrupt_in

    def on_train_batch_end(self, trainer, module, *_):
        self.trained[trainer.global_step] = state_of(module.network)
        self._interrupt("train", trainer)

    def on_validation_batch_start(self, trainer, module, *_):
        self.validated[trainer.global_step] = state_of(module.network)
        self._interrupt("validation", trainer)

    def on_test_batch_start(self, trainer, module, *_):
        self.tested = state_of(module.network)

    def on_fit_end(self, trainer, module):
        self._interrupt("fit_end", trainer)

    def _interrupt(self, what, trainer):
        if self.interrupt_in == (what, trainer.global_step):
            raise Interrupted


@pytest.fixture
def fit(tmp_path, make_classifier, make_trainer, tiny_data):
    """Fits three epochs in a run directory, from its checkpoint on where it has one, then tests."""

    def fit(name, averaging, interrupt_in=None):
        directory = RunDirectory(tmp_path, name)
        directory.path.mkdir(parents=True, exist_ok=True)
        witness, recorder, module = Witness(interrupt_in), Recorder(directory), make_classifier()
        callbacks = [recorder, witness, *([] if averaging is None else [averaging])]
        trainer = make_trainer(3, callbacks=callbacks, checkpoints=True)
        trainer.fit(module, tiny_data(), ckpt_path=directory.checkpoint())
        (metrics,) = trainer.test(module, tiny_data(), verbose=False)
        rows = [{key: row[key] for key in row if key != "seconds"} for row in recorder.rows]
        return witness, rows, metrics

    return fit


def averages_by_hand(states, decay):
    """After each step: decay * average + (1 - decay) * weights, from the first step's weights on."""
    average, averages = states[1], {1: states[1]}
    for step in range(2, len(states) + 1):
        done = step - 1
        kept = min(decay, (1 + done) / (10 + done))
        average = {
            name: kept * average[name] + (1 - kept) * value if value.is_floating_point() else value
            for name, value in states[step].items()
        }
        averages[step] = average
    return averages


@pytest.mark.parametrize("decay", [0.25, 0.9999])
def test_the_average_is_evaluated_and_training_goes_on_from_the_weights(fit, decay):
    plain, _, plain_metrics = fit("plain", None)
    witness, rows, metrics = fit("averaged", PolyakAveraging(decay=decay))
    for step in range(1, STEPS + 1):
        assert_equal_states(witness.trained[step], plain.trained[step])
    expected = averages_by_hand(plain.trained, decay)
    for step in (3, 6, 9):
        for name, value in witness.validated[step].items():
            if value.is_floating_point():  # running statistics too
                torch.testing.assert_close(value, expected[step][name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(
            witness.validated[step]["head.logits.weight"], plain.validated[step]["head.logits.weight"]
        )
    assert_equal_states(witness.tested, witness.validated[9])
    assert metrics != plain_metrics
    assert len(rows) == 3


def test_a_checkpoint_holds_both(fit, tmp_path):
    witness, _, _ = fit("run", PolyakAveraging(decay=0.9))
    checkpoint = torch.load(tmp_path / "runs" / "run" / "checkpoint.ckpt", weights_only=False)
    evaluated = {
        name.removeprefix("network."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("network.")
    }
    assert_equal_states(evaluated, witness.tested)
    assert_equal_states(dict(checkpoint["averaging"]["weights"]), witness.trained[9])


@pytest.mark.parametrize(
    "interruptions",
    [[("validation", 6)], [("train", 5), ("train", 8)]],
    ids=["while the average is evaluated", "twice"],
)
def test_interrupted_or_not_a_run_is_the_same_to_the_last_bit(fit, interruptions):
    whole, whole_rows, whole_metrics = fit("whole", PolyakAveraging(decay=0.6))
    for interruption in interruptions:
        with pytest.raises(Interrupted):
            fit("interrupted", PolyakAveraging(decay=0.6), interruption)
    witness, rows, metrics = fit("interrupted", PolyakAveraging(decay=0.6))
    assert rows == whole_rows
    assert metrics == whole_metrics
    assert_equal_states(witness.tested, whole.tested)
    for step, state in witness.trained.items():
        assert_equal_states(state, whole.trained[step])


def test_a_diverged_weight_is_no_average(make_classifier, make_trainer, tiny_data):
    class Ruin(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if trainer.global_step == 3:
                with torch.no_grad():
                    module.network.head.logits.weight.fill_(torch.nan)

    from lightning_modules.classifier import TrainingDiverged

    with pytest.raises(TrainingDiverged, match="after 3 steps"):
        make_trainer(1, callbacks=[Ruin(), PolyakAveraging(decay=0.9)]).fit(make_classifier(), tiny_data())


@pytest.mark.parametrize("decay", [-0.1, 1, "slow", True])
def test_bad_input_is_one_clear_line(decay):
    with pytest.raises(
        ValueError, match=rf"^recipe\.averaging\.decay={decay}: must be a number of at least 0"
    ):
        PolyakAveraging(decay=decay)
