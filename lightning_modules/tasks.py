"""What is learned, and from what: one label an image, or several.

A dataset names its task (files in conf/dataset). ImageNet has one label an image and is measured by
top-1 and top-5 accuracy (table 1); JFT has several, and FastEval14k is measured by MAP@100 with class
weights (table 2). What measures is added to a task: files in conf/metric.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.losses import BinaryCrossEntropy


class Task(nn.Module):
    """A loss, and the metrics of each part.

    Attributes:
        labels: What an image has.
        metrics: By part (train, val, test) and name, each with `update(logits, labels)`. The first of
            validation's is the main one. Train's see the batches of an epoch while the weights change.

    Args:
        loss: Logits (N, C) and labels -> a scalar: what validation and test measure, whatever loss training
            made small, and what training makes small where the recipe names none.
    """

    labels: ClassVar[Literal["single", "several"]]

    def __init__(self, *, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.metrics: dict[str, dict[str, Metric]] = {"train": {}, "val": {}, "test": {}}

    def measure(self, name: str, metric: Metric, *, training: bool = False) -> None:
        """Measure validation and test.

        Args:
            name: Of the metric.
            metric: What measures; each part has a copy.
            training: Whether the training batches are measured as well.
        """
        for part in ("train", "val", "test") if training else ("val", "test"):
            self.metrics[part][name] = metric.clone()
            self.add_module(f"{part}_{name}", self.metrics[part][name])  # so that it moves with the network

    def update(self, part: str, logits: Tensor, labels: Tensor) -> None:
        """Show a batch to what measures a part."""
        for metric in self.metrics[part].values():
            metric.update(logits, labels)

    @abstractmethod
    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What a logged training step shows besides its loss: scalars by name."""

    def set_class_weights(self, weights: Tensor) -> None:
        """Give the data's class weights, float32 (C,), to the metrics that weigh classes."""
        for metrics in self.metrics.values():
            for metric in metrics.values():
                if (take := getattr(metric, "set_class_weights", None)) is not None:
                    take(weights)


class SingleLabel(Task):
    """One label an image, int64 (N,): cross entropy.

    Args:
        num_classes: Classes.
    """

    labels = "single"

    def __init__(self, num_classes: int) -> None:
        super().__init__(loss=nn.CrossEntropyLoss())

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"top1": (logits.argmax(dim=1) == labels).float().mean()}


class MultiLabel(Task):
    """Any number of labels an image, float32 (N, C) of 0 and 1: a logistic regression per class.

    Loss: binary cross entropy of every class's sigmoid, summed over classes, its mean over images.
    Metrics get the labels as int64, which is what torchmetrics takes.

    Args:
        num_classes: Classes.
    """

    labels = "several"

    def __init__(self, num_classes: int) -> None:
        super().__init__(loss=BinaryCrossEntropy())

    def update(self, part: str, logits: Tensor, labels: Tensor) -> None:
        super().update(part, logits, labels.to(torch.int64))

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {}


def top_k_accuracy(num_classes: int, top_k: int) -> Metric:
    """The share of images whose label is among the k highest logits; 1 with no more than k classes."""
    # Unchecked: to look at the labels the CPU would wait for the device in every step; the data checked them.
    return MulticlassAccuracy(
        num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False
    )
