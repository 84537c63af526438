"""Tasks: one label per image, or several.

ImageNet has one label per image, measured by top-1 and top-5 accuracy (table 1); FastEval14k has several,
measured by MAP@100 with class weights (table 2). A dataset names its task (conf/dataset); metrics
(conf/metric) are added to it.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.losses import BinaryCrossEntropy


class Task(nn.Module):
    """A loss, and metrics for each part.

    Attributes:
        labels: Kind of labels.
        metrics: By part (train, val, test) and name; the first is the main one.
        loss: Logits (N, C) and labels -> a scalar. The recipe may name another for training.
    """

    labels: ClassVar[Literal["single", "several"]]

    def __init__(self, *, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.metrics: dict[str, dict[str, Metric]] = {"train": {}, "val": {}, "test": {}}

    def measure(self, name: str, metric: Metric, *, training: bool = False) -> None:
        """Add a copy of a metric for validation and test, and with `training` for training batches."""
        for part in ("train", "val", "test") if training else ("val", "test"):
            self.metrics[part][name] = metric.clone()
            self.add_module(f"{part}_{name}", self.metrics[part][name])  # moves with the network

    def update(self, part: str, logits: Tensor, labels: Tensor) -> None:
        """Add a batch to the metrics of a part."""
        for metric in self.metrics[part].values():
            metric.update(logits, labels)

    @abstractmethod
    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars, besides the loss, that a training step logs."""

    def set_class_weights(self, weights: Tensor) -> None:
        """Pass the class weights, float32 (C,), to metrics that use them."""
        for metrics in self.metrics.values():
            for metric in metrics.values():
                if (take := getattr(metric, "set_class_weights", None)) is not None:
                    take(weights)


class SingleLabel(Task):
    """One label per image, int64 (N,): cross entropy."""

    labels = "single"

    def __init__(self, num_classes: int) -> None:
        super().__init__(loss=nn.CrossEntropyLoss())

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"top1": (logits.argmax(dim=1) == labels).float().mean()}


class MultiLabel(Task):
    """Several labels per image, float32 (N, C) of 0 and 1: binary cross entropy, summed over classes.

    Metrics get the labels as int64, as torchmetrics expects.
    """

    labels = "several"

    def __init__(self, num_classes: int) -> None:
        super().__init__(loss=BinaryCrossEntropy())

    def update(self, part: str, logits: Tensor, labels: Tensor) -> None:
        super().update(part, logits, labels.to(torch.int64))

    def of_batch(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {}


def top_k_accuracy(num_classes: int, top_k: int) -> Metric:
    """Share of images with their label among the k highest logits; 1 with at most k classes."""
    # Validating arguments would wait for the device in every step; the data has checked the labels.
    return MulticlassAccuracy(
        num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False
    )
