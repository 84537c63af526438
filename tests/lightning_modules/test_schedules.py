"""The paper's learning rates, step by step, against numbers worked out by hand."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from lightning_modules.schedules import decay_by_epochs, decay_by_images, make_scheduler


def rates_of(schedule, total_steps, lr=1.0, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make_scheduler(partial(schedule, **options), optimizer, total_steps=total_steps)
    rates = []
    for _ in range(total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_a_decay_every_two_epochs():
    rates = rates_of(decay_by_epochs, 15, lr=0.045, epochs=5, factor=0.94, every_epochs=2)  # 3 steps each
    assert rates == pytest.approx([0.045] * 6 + [0.0423] * 6 + [0.039762] * 3, rel=1e-12)


def test_a_decay_every_so_many_images():
    # Of 8 images a step: after 3,000,000 images, 375,000 steps.
    optimizer = torch.optim.RMSprop([nn.Parameter(torch.zeros(1))], lr=0.001)
    schedule = decay_by_images(optimizer, batch_size=8, factor=0.9, every_images=3_000_000)
    (factor_at,) = schedule.lr_lambdas
    assert [factor_at(step) for step in (0, 374_999, 375_000, 749_999, 750_000)] == [
        1,
        1,
        0.9,
        0.9,
        pytest.approx(0.81),
    ]


def test_a_decay_within_a_batch_takes_effect_with_the_next_one():
    # Seen before each step: 0, 8, 16, 24, 32, 40, 48, 56, 64 images.
    rates = rates_of(decay_by_images, 9, batch_size=8, factor=0.5, every_images=20)
    assert rates == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


class Rates(Callback):
    """Keeps the rate of every step, and ends training after an epoch if told so."""

    def __init__(self, last_epoch=None):
        self.rates = []
        self.last_epoch = last_epoch

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch == self.last_epoch:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("schedule", "expected", "interrupted_after"),
    [
        # 30 images in batches of 8: three steps, 6 images are dropped.
        (partial(decay_by_epochs, epochs=4, factor=0.5, every_epochs=2), [1] * 6 + [0.5] * 6, 1),
        # 24 images of an epoch are trained on, not 30.
        (partial(decay_by_images, batch_size=8, factor=0.5, every_images=48), [1] * 6 + [0.5] * 6, None),
        (
            partial(decay_by_images, batch_size=8, factor=0.5, every_images=40),
            [1] * 5 + [0.5] * 5 + [0.25] * 2,
            0,
        ),
    ],
    ids=["epochs", "images", "images, within an epoch"],
)
def test_rates_of_a_training_interrupted_or_not(
    make_classifier, make_trainer, tiny_data, tmp_path, schedule, expected, interrupted_after
):
    def fit(checkpoint, last_epoch=None):
        network = nn.Sequential(nn.Flatten(), nn.Linear(100, 6))
        module = make_classifier(
            network=network, scheduler=schedule, optimizer=partial(torch.optim.SGD, lr=1.0)
        )
        kept = Rates(last_epoch)
        trainer = make_trainer(4, callbacks=[kept])
        trainer.fit(module, tiny_data(), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / "epoch.ckpt")
        return kept.rates

    rates = [] if interrupted_after is None else fit(None, interrupted_after)
    rates += fit(None if interrupted_after is None else tmp_path / "epoch.ckpt")
    assert rates == expected


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (partial(decay_by_epochs, epochs=2, factor=0, every_epochs=2), "factor=0: must be a number above 0"),
        (partial(decay_by_epochs, epochs=2, factor=0.9, every_epochs=0), "every_epochs=0: must be a whole"),
        (partial(decay_by_images, batch_size=2, factor="x", every_images=2), "factor=x: must be a number"),
        (partial(decay_by_images, batch_size=2, factor=0.9, every_images=1.5), "every_images=1.5: must be"),
    ],
)
def test_bad_input_is_one_clear_line(schedule, message):
    with pytest.raises(ValueError, match=rf"^recipe\.scheduler\.{message}"):
        rates_of(schedule, 2)
