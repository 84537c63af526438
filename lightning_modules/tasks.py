"""What is learned and measured: one label an image, or several.

A dataset names its task (files in conf/dataset). ImageNet has one label an image and is measured by
top-1 and top-5 accuracy (table 1); JFT has several, and FastEval14k is measured by MAP@100 with class
weights (table 2).
"""

from abc import abstractmethod

from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.losses import BinaryCrossEntropy
from lightning_modules.map_at_k import MeanAveragePrecisionAtK


class Task(nn.Module):
    """A loss, and the metrics of each part.

    Attributes:
        metrics: By part (train, val, test) and name, each with `update(logits, labels)`. The first of
            validation's is the main one. Train's see the batches of an epoch while the weights change.

    Args:
        loss: Logits (N, C) and labels -> a scalar: what validation and test measure, whatever loss training
            made small, and what training makes small where the recipe names none.
        training: Of the training part, by name.
        evaluation: Of the validation and of the test part, by name.
    """

    def __init__(
        self, *, loss: nn.Module, training: dict[str, Metric], evaluation: dict[str, Metric]
    ) -> None:
        super().__init__()
        self.loss = loss
        test = {name: metric.clone() for name, metric in evaluation.items()}
        self.metrics = {"train": training, "val": evaluation, "test": test}
        for part, metrics in self.metrics.items():
            for name, metric in metrics.items():
                self.add_module(f"{part}_{name}", metric)  # so that it moves with the network

    @abstractmethod
    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What a logged training step shows beside its loss: scalars by name."""

    def set_class_weights(self, weights: Tensor) -> None:
        """Take the data's class weights, float32 (C,), where a metric weighs classes; none does here."""


class SingleLabel(Task):
    """One label an image, int64 (N,): cross entropy; top-1 and top-5 accuracy, as fractions.

    Args:
        num_classes: Classes; with fewer than five, "top-5" is top-`num_classes`, which is 1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            loss=nn.CrossEntropyLoss(),
            training={"top1": _accuracy(num_classes, 1)},
            evaluation={"top1": _accuracy(num_classes, 1), "top5": _accuracy(num_classes, 5)},
        )

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"top1": (logits.argmax(dim=1) == labels).float().mean()}


class MultiLabel(Task):
    """Any number of labels an image, float32 (N, C) of 0 and 1: a logistic regression per class.

    Loss: binary cross entropy of every class's sigmoid, summed over classes, its mean over images.
    Metric: MAP@100, weighted where the data has class weights. It is not measured in training.

    Args:
        num_classes: Classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            loss=BinaryCrossEntropy(),
            training={},
            evaluation={"map100": MeanAveragePrecisionAtK(num_classes, 100)},
        )

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {}

    def set_class_weights(self, weights: Tensor) -> None:
        for part in ("val", "test"):
            metric = self.metrics[part]["map100"]
            assert isinstance(metric, MeanAveragePrecisionAtK)
            metric.set_class_weights(weights)


def _accuracy(num_classes: int, top_k: int) -> Metric:
    return MulticlassAccuracy(num_classes, top_k=min(top_k, num_classes), average="micro")
