"""Tasks: one label per image, or several.

A dataset names its task (conf/dataset). ImageNet has one label per image, measured by top-1 and top-5
accuracy (table 1); FastEval14k has several, measured by MAP@100 with class weights (table 2). Metrics
(conf/metric) are added to a task.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.losses import BinaryCrossEntropy


class Task(nn.Module):
    """A loss and the metrics of each part.

    Attributes:
        labels: Kind of labels of an image.
        metrics: By part (train, val, test) and name, each with `update(logits, labels)`. The first of
            validation's is the main one. Train's see batches while the weights change.

    Args:
        loss: Logits (N, C) and labels -> a scalar: measured in validation and test, and minimized in
            training unless the recipe names another loss.
    """

    labels: ClassVar[Literal["single", "several"]]

    def __init__(self, *, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.metrics: dict[str, dict[str, Metric]] = {"train": {}, "val": {}, "test": {}}

    def measure(self, name: str, metric: Metric, *, training: bool = False) -> None:
        """Add a metric for validation and test.

        Args:
            name: Of the metric.
            metric: Copied for each part.
            training: Whether to measure training batches too.
        """
        for part in ("train", "val", "test") if training else ("val", "test"):
            self.metrics[part][name] = metric.clone()
            self.add_module(f"{part}_{name}", self.metrics[part][name])  # so that it moves with the network

    def update(self, part: str, logits: Tensor, labels: Tensor) -> None:
        """Update the metrics of a part with a batch."""
        for metric in self.metrics[part].values():
            metric.update(logits, labels)

    @abstractmethod
    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars of a logged training step in addition to the loss."""

    def set_class_weights(self, weights: Tensor) -> None:
        """Pass the data's class weights, float32 (C,), to metrics that use them."""
        for metrics in self.metrics.values():
            for metric in metrics.values():
                if (take := getattr(metric, "set_class_weights", None)) is not None:
                    take(weights)


class SingleLabel(Task):
    """One label per image, int64 (N,): cross entropy.

    Args:
        num_classes: Classes.
    """

    labels = "single"

    def __init__(self, num_classes: int) -> None:
        super().__init__(loss=nn.CrossEntropyLoss())

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"top1": (logits.argmax(dim=1) == labels).float().mean()}


class MultiLabel(Task):
    """Several labels per image, float32 (N, C) of 0 and 1: a logistic regression per class.

    Loss: binary cross entropy of every class's sigmoid, summed over classes, its mean over images.
    Metrics get the labels as int64, as torchmetrics expects.

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
    """The share of images with their label among the k highest logits; 1 with at most k classes."""
    # Not validated, because the CPU would wait for the device in every step; the data has checked the labels.
    return MulticlassAccuracy(
        num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False
    )
