"""The LightningModule: how a network is trained and measured. One for every network and dataset.

Loss: cross entropy of the logits. Metrics: top-1 and top-5 accuracy (torchmetrics), as fractions. The
paper's training is in section 4.3; what stands in a recipe arrives here as arguments.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.initialization import initialize
from lightning_modules.seeding import derive_seed


class TrainingDiverged(RuntimeError):
    """The loss is not finite. `step` counts optimizer steps that were completed before."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"the loss is {loss} after {step} steps")
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, self.loss)


class Classifier(LightningModule):
    """Single-label classification of images (N, C, H, W) with labels (N,).

    Logs every so many steps `train/loss`, `train/top1` and `learning_rate`; per epoch `train_loss`,
    `train_top1`, `learning_rate` (of the last step), `val_loss`, `val_top1`, `val_top5`; of the test
    `test_loss`, `test_top1`, `test_top5`.

    Args:
        network: Images -> logits (N, num_classes). Its parameters are set anew from the seed.
        num_classes: Classes; with fewer than five, "top-5" is top-`num_classes`, which is 1.
        seed: The run's seed: initial values, and what the network draws in an epoch (dropout).
        weight_init: One of `torch.nn.init`'s, called as `weight_init(weight, generator=...)`.
        optimizer: Makes the optimizer of the parameters.
        scheduler: Makes the learning rate's schedule as `scheduler(optimizer, total_steps=...)`;
            it is stepped after every training step.
        channels_last: Whether images and weights lie in channels-last memory order.
        log_every_n_steps: Training steps between two that are logged.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        num_classes: int,
        seed: int,
        weight_init: Callable[..., Tensor],
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        channels_last: bool,
        log_every_n_steps: int,
    ) -> None:
        super().__init__()
        initialize(network, seed, weight_init)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.seed = seed
        self._log_every_n_steps = log_every_n_steps
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.loss = nn.CrossEntropyLoss()
        self.train_loss = MeanMetric()
        self.train_top1 = MulticlassAccuracy(num_classes, top_k=1, average="micro")
        accuracies = MetricCollection(
            {
                "top1": MulticlassAccuracy(num_classes, top_k=1, average="micro"),
                "top5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro"),
            }
        )
        self.val_accuracies = accuracies.clone(prefix="val_")
        self.test_accuracies = accuracies.clone(prefix="test_")

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.to(memory_format=self.memory_format))

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator: set it anew every epoch, so that an epoch draws
        # the same whether the run got there in one go or was interrupted on the way.
        torch.manual_seed(derive_seed(self.seed, "network", self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = self.loss(logits, labels)
        if not torch.isfinite(loss):
            raise TrainingDiverged(self.global_step, loss.item())
        self.train_loss.update(loss.detach(), weight=len(labels))
        self.train_top1.update(logits, labels)
        self._learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        # Straight to the logger: Lightning's own bookkeeping of values per step costs more than the
        # bookkeeping of an epoch does, and every step pays for it.
        if self.logger is not None and self.global_step % self._log_every_n_steps == 0:
            top1 = (logits.argmax(dim=1) == labels).float().mean()
            values = {"train/loss": loss.item(), "train/top1": top1.item()}
            values["learning_rate"] = self._learning_rate
            self.logger.log_metrics(values, step=self.global_step)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log_dict(
            {
                "train_loss": self.train_loss.compute(),
                "train_top1": self.train_top1.compute(),
                "learning_rate": self._learning_rate,
            }
        )
        self.train_loss.reset()
        self.train_top1.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("val", batch, self.val_accuracies)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("test", batch, self.test_accuracies)

    def _evaluate(self, part: str, batch: tuple[Tensor, Tensor], accuracies: MetricCollection) -> None:
        images, labels = batch
        logits = self(images)
        loss = self.loss(logits, labels)
        if not torch.isfinite(loss):  # the last training step may be the one that blew up
            raise TrainingDiverged(self.global_step, loss.item())
        self.log(f"{part}_loss", loss, on_epoch=True, batch_size=len(labels))
        accuracies.update(logits, labels)
        self.log_dict(accuracies, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self._optimizer(self.network.parameters())
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self._scheduler(optimizer, total_steps=total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
