"""What is learned and measured, against values worked out by hand, and in training."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.classifier import TrainingDiverged
from lightning_modules.map_at_k import MeanAveragePrecisionAtK
from lightning_modules.tasks import MultiLabel


def test_single_label_by_hand(make_task):
    task = make_task(6)
    logits = torch.tensor([[0.0, 1, 2, 3, 4, 5], [5.0, 4, 3, 2, 1, 0], [0.0, 0, 0, 9, 0, 0]])
    labels = torch.tensor([0, 0, 3])
    expected = torch.logsumexp(logits, 1) - logits[torch.arange(3), labels]
    assert task.loss(logits, labels).item() == pytest.approx(expected.mean().item())
    assert task.of_batch(logits, labels)["top1"].item() == pytest.approx(2 / 3)
    assert {part: list(metrics) for part, metrics in task.metrics.items()} == {
        "train": ["top1"],
        "val": ["top1", "top5"],
        "test": ["top1", "top5"],
    }
    for part, metrics in task.metrics.items():
        task.update(part, logits, labels)
        for metric in metrics.values():
            assert metric.compute().item() == pytest.approx(2 / 3)


def test_multi_label_loss_is_a_logistic_regression_per_class():
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, -2.0, 0.5]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    loss = MultiLabel(3).loss(logits, labels)
    by_hand = 0.0
    for row, targets in zip(logits.tolist(), labels.tolist(), strict=True):
        for logit, target in zip(row, targets, strict=True):
            by_hand += math.log1p(math.exp(-logit if target else logit))
    assert loss.item() == pytest.approx(by_hand / 2)
    loss.backward()
    # Of a class and an image: probability minus label, whatever other classes there are.
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - labels) / 2)


def measuring_map(num_classes):
    task = MultiLabel(num_classes)
    task.measure("map100", MeanAveragePrecisionAtK(num_classes, 100))
    return task


def test_metrics_of_a_task_move_with_the_network_and_leave_no_trace_in_a_checkpoint(make_task):
    for task in (make_task(6), measuring_map(6)):
        assert task.metrics["val"]
        assert task.state_dict() == {}
        registered = {id(module) for module in task.modules()}
        for metrics in task.metrics.values():
            assert {id(metric) for metric in metrics.values()} <= registered


class MultiLabelData(LightningDataModule):
    """Noise images of 10x10 pixels with any of six classes; the last has no labels."""

    def __init__(self, class_weights):
        super().__init__()
        self.class_weights = None
        self._class_weights = class_weights
        draws = torch.Generator().manual_seed(0)
        self.images = torch.rand(14, 1, 10, 10, generator=draws)
        self.labels = torch.randint(2, (14, 6), generator=draws).float()
        self.labels[-1] = 0

    def setup(self, stage):
        self.class_weights = self._class_weights

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.images, self.labels), batch_size=4)

    val_dataloader = test_dataloader = train_dataloader


class MemoryLogger(Logger):
    """Keeps what is logged."""

    name = version = None

    def __init__(self):
        super().__init__()
        self.logged = {}

    def log_metrics(self, metrics, step=None):
        self.logged |= metrics

    def log_hyperparams(self, *_):
        pass


@pytest.fixture
def fit_linear(make_classifier, make_trainer):
    """Fits and tests a linear network that does not move on many labels."""

    def fit(class_weights, logger=False):
        network = nn.Sequential(nn.Flatten(), nn.Linear(100, 6))
        module = make_classifier(
            network=network,
            task=measuring_map(6),
            channels_last=False,
            compile_with=None,
            optimizer=partial(torch.optim.SGD, lr=0.0),
            scheduler=lambda optimizer, total_steps: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        )
        data, trainer = MultiLabelData(class_weights), make_trainer(1, logger=logger)
        trainer.fit(module, data)
        validation = dict(trainer.callback_metrics)
        trainer.test(module, data, verbose=False)
        return module, data, validation | dict(trainer.callback_metrics)

    return fit


@pytest.mark.parametrize("weights", [None, [5.0, 0.0, 1.0, 1.0, 0.1, 2.0]])
def test_what_is_measured_in_training_is_map_with_the_datas_weights(fit_linear, weights):
    logger = MemoryLogger()
    class_weights = None if weights is None else torch.tensor(weights)
    module, data, metrics = fit_linear(class_weights, logger)
    with torch.no_grad():
        logits = module.network(data.images)
    metric = MeanAveragePrecisionAtK(6, 100)
    if class_weights is not None:
        metric.set_class_weights(class_weights)
    metric.update(logits, data.labels)
    expected = pytest.approx(metric.compute().item(), rel=1e-6)
    loss = pytest.approx(MultiLabel(6).loss(logits, data.labels).item(), rel=1e-5)
    assert {name: value.item() for name, value in metrics.items()} == {
        "train_loss": loss,
        "learning_rate": 0.0,
        **{f"{part}_loss": loss for part in ("val", "test")},
        **{f"{part}_map100": expected for part in ("val", "test")},
    }
    assert {name for name in logger.logged if name.startswith("train/")} == {"train/loss"}
    assert logger.logged["train/loss"] == pytest.approx(
        MultiLabel(6).loss(logits[12:], data.labels[12:]).item(), rel=1e-5
    )


def test_weights_change_what_is_measured(fit_linear):
    equal, weighted = (fit_linear(weights)[2] for weights in (None, torch.arange(6.0)))
    assert equal["val_map100"] != weighted["val_map100"]
    assert equal["val_loss"] == weighted["val_loss"]


def test_many_labels_diverge_as_one_label_does(make_classifier, make_trainer):
    def poison(weight, generator):
        return weight.fill_(math.nan)

    module = make_classifier(task=MultiLabel(6), weight_init=poison)
    with pytest.raises(TrainingDiverged, match="the loss is nan after 0 steps"):
        make_trainer(1).fit(module, MultiLabelData(None))
    assert np.isnan(module.network.head.logits.weight.detach().numpy()).all()
