"""The LightningModule: how a network is trained and measured. One for every network and dataset.

Loss and metrics are the task's, which comes with the data (tasks.py). The paper's training is in section
4.3; what stands in a recipe arrives here as arguments.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from lightning_modules.data.images import scaled
from lightning_modules.processes import agree_on_buffers, mean_over_processes, several
from lightning_modules.schedules import interval_of, make_scheduler
from lightning_modules.seeding import derive_seed, draws_of
from lightning_modules.tasks import Task

FINITE_EVERY = 100
"""Training steps between two looks at whether the loss is finite, which make a GPU wait. Ours."""


class TrainingDiverged(RuntimeError):
    """The loss is not finite. `step` counts optimizer steps that were completed before."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"the loss is {loss} after {step} steps")
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, self.loss)


class MeanLoss(Metric):
    """The mean of losses, each weighted by its images, over all processes; not a number where one is none.

    torchmetrics' own `MeanMetric` asks whether a value is a number, for which the CPU waits for the device.
    """

    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        self.total += loss.to(self.total) * images
        self.images += images

    def compute(self) -> Tensor:
        return self.total / self.images


class Classifier(LightningModule):
    """Classification of images (N, C, H, W) with the labels of a task.

    Logs every so many steps `train/loss`, `learning_rate` and what the task shows of a batch; per epoch
    `train_loss`, `learning_rate` (of the last step), `val_loss`; of the test `test_loss`; and the
    task's metrics with the same prefixes, e.g. `train_top1`, `val_top1`, `val_top5`, `test_top1`.

    A training step reads nothing back from the device unless it is logged: on a GPU steps are queued while
    the ones before them run. Losses stay on the device and are read every `FINITE_EVERY` steps, at a logged
    step and before validation; the first that is not finite ends training.

    Args:
        network: Images -> logits (N, num_classes), with its initial values.
        task: Loss and metrics. It gets the data module's `class_weights` where there are any.
        seed: The run's seed: what the network draws in an epoch (dropout), and how batches are mixed.
        loss: What training makes small, of logits and labels; None: the task's. Validation and test measure
            the task's, so that arms of different losses are measured alike.
        mix: Mixes images and labels of a training batch, as `torchvision.transforms.v2.MixUp` does; None: no.
            Its draws depend on seed, epoch and batch alone. The metrics see the label of the larger share.
        optimizer: Makes the optimizer of the parameters.
        scheduler: Makes the learning rate's schedule: see `make_scheduler`.
        scheduler_interval: What the schedule is stepped after, "step" or "epoch"; None: a step, or an epoch
            where it looks at the validation loss.
        channels_last: Whether images and weights lie in channels-last memory order.
        compile_with: Backend of torch.compile for training steps; None: they are not compiled. Nor is
            evaluation: each of its batch sizes would be compiled anew.
        log_every_n_steps: Training steps between two that are logged.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        task: Task,
        seed: int,
        loss: nn.Module | None,
        mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        scheduler_interval: str | None,
        channels_last: bool,
        compile_with: str | None,
        log_every_n_steps: int,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        # The function, not the module: that would be another one, whose weights have other names.
        self._compiled = torch.compile(network.forward, backend=compile_with) if compile_with else None
        self.seed = seed
        self._log_every_n_steps = log_every_n_steps
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._scheduler_interval = scheduler_interval
        self._logged_step = -1
        self.task = task
        self.loss = task.loss if loss is None else loss
        self._mix = mix
        self.losses = {part: MeanLoss() for part in task.metrics}
        for part, loss in self.losses.items():
            self.add_module(f"{part}_loss", loss)  # so that it moves with the network
        self._unread: list[tuple[int, Tensor]] = []  # steps and their losses, maybe still being computed

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this text 50 times a step. A module looks at much before it keeps a value, which is
        # three thousandths of a step of the small network.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)  # Lightning declares it nowhere
        weights = getattr(data, "class_weights", None)
        if weights is not None:
            self.task.set_class_weights(weights)

    def forward(self, images: Tensor) -> Tensor:
        network = self._compiled if self.training and self._compiled is not None else self.network
        logits: Tensor = network(self._as_taken(images).to(memory_format=self.memory_format))
        return logits

    def _as_taken(self, images: Tensor) -> Tensor:
        """Images as the network takes them: bytes are scaled here, on the device."""
        return scaled(images).to(self.dtype) if images.dtype == torch.uint8 else images

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator: set it anew every epoch, so that an epoch draws
        # the same whether the run got there in one go or was interrupted on the way.
        # Of several processes each has other images, so it draws for itself.
        process = self.trainer.global_rank
        purpose = (self.current_epoch, *([process] if process else []))
        torch.manual_seed(derive_seed(self.seed, "network", *purpose))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        try:
            return self._training_step(batch, batch_index)
        except Exception:
            self._require_finite()  # where the loss was none before, that is why
            raise

    def _training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        if self._mix is not None:
            own, images = labels, self._as_taken(images)
            with draws_of(self.seed, "mix", self.current_epoch, batch_index):
                images, mixed = self._mix(images, labels)
            labels = mixed.argmax(dim=1) if own.ndim == 1 else (mixed >= 0.5).to(own.dtype)
        logits = self(images)
        loss = self.loss(logits, labels if self._mix is None else mixed)
        global_loss = mean_over_processes(loss.detach())
        step = self.global_step
        self._unread.append((step, global_loss))
        # Straight to the logger: Lightning's own bookkeeping of values per step costs more than the
        # bookkeeping of an epoch does, and every step pays for it.
        due = step % self._log_every_n_steps == 0 and step != self._logged_step
        due = due and bool(self.loggers or several())
        if due or batch_index % FINITE_EVERY == FINITE_EVERY - 1:
            self._require_finite()
        self.losses["train"].update(loss.detach(), len(labels))
        self.task.update("train", logits, labels)
        self._learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        if due:
            self._logged_step = step  # a step may have several batches
            values = {"train/loss": global_loss.item()}
            for name, value in self.task.of_batch(logits, labels).items():
                values[f"train/{name}"] = mean_over_processes(value).item()
            values["learning_rate"] = self._learning_rate
            for logger in self.loggers:  # the first process's alone
                logger.log_metrics(values, step=step)
        return loss

    def _require_finite(self) -> None:
        """Wait for the device, and end training where a loss was not finite."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        steps, losses = zip(*unread, strict=True)
        for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True):
            if not math.isfinite(loss):
                raise TrainingDiverged(step, loss)

    def on_train_epoch_end(self) -> None:
        metrics = {"loss": self.losses["train"], **self.task.metrics["train"]}
        values = {f"train_{name}": metric.compute() for name, metric in metrics.items()}
        values["learning_rate"] = self._learning_rate
        # Equal in all processes already, so the largest is the value; without `sync_dist` Lightning warns.
        self.log_dict(values, sync_dist=True, reduce_fx="max")
        for metric in metrics.values():
            metric.reset()
        # Here, and not by Lightning, which would do it behind the checkpoint of this epoch.
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == "epoch":
                if isinstance(config.scheduler, ReduceLROnPlateau):
                    config.scheduler.step(self.trainer.callback_metrics["val_loss"].item())
                else:
                    config.scheduler.step()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self.trainer.lr_scheduler_configs[0].interval == "step":
            scheduler.step()

    def on_validation_epoch_start(self) -> None:
        self._require_finite()  # of the steps before
        self._not_finite = torch.zeros((), device=self.device)
        self._without_images = torch.ones((), device=self.device)
        agree_on_buffers(self.network)

    def on_validation_epoch_end(self) -> None:
        # Here and not in a step, because processes may have different numbers of batches.
        loss = mean_over_processes(self._not_finite)
        if not torch.isfinite(loss):  # the last training step may be the one that blew up
            raise TrainingDiverged(self.global_step, loss.item())
        # A process that measured nothing would not take part when the metrics are put together.
        if without := mean_over_processes(self._without_images).item():
            raise ValueError(f"{without:.0%} of the processes had no image to evaluate; each must have one")

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        return self._evaluate("test", batch)

    def _evaluate(self, part: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = self.task.loss(logits, labels)
        self._without_images.zero_()
        self._not_finite = torch.where(loss.isfinite(), self._not_finite, loss)
        self.losses[part].update(loss, len(labels))
        self.log(f"{part}_loss", self.losses[part], on_epoch=True)
        self.task.update(part, logits, labels)
        for name, metric in self.task.metrics[part].items():
            self.log(f"{part}_{name}", metric, on_epoch=True)
        return logits

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self._optimizer(self.network.parameters())
        steps, epochs = int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs or 1
        by_epoch = self._scheduler_interval == "epoch"
        batches = self.trainer.num_training_batches if by_epoch else self.trainer.accumulate_grad_batches
        scheduler = make_scheduler(
            self._scheduler, optimizer, total_steps=epochs if by_epoch else steps, batches=int(batches)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": interval_of(scheduler, self._scheduler_interval),
                "monitor": "val_loss",
            },
        }
