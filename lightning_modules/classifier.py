"""The LightningModule: trains and evaluates any network on any dataset.

The dataset's task gives loss and metrics (tasks.py), the recipe the other arguments. The paper's recipe is in
section 4.3.
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
"""Training steps between checks that losses are finite, which wait for the GPU. Ours."""


class TrainingDiverged(RuntimeError):
    """The loss is not finite after `step` optimizer steps."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"the loss is {loss} after {step} steps")
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, self.loss)


class MeanLoss(Metric):
    """Mean loss per image over all processes; not finite if any loss is not.

    torchmetrics' `MeanMetric` checks every value, which waits for the GPU.
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
    """Classifies images (N, C, H, W).

    Every `log_every_n_steps` it logs `train/loss`, `learning_rate` and the task's batch metrics; every epoch
    `train_loss`, `val_loss`, `learning_rate` (of the last step) and the task's metrics (`train_top1`, ...);
    after the test `test_loss` and `test_top1`, ...

    A training step waits for the device only to log. Losses are checked every `FINITE_EVERY` steps, when
    logged and before validation; the first that is not finite ends training.

    Args:
        network: Images -> logits (N, num_classes), initialized.
        task: Loss and metrics; takes the data module's `class_weights`, if any.
        seed: The run's, for dropout and `mix`.
        loss: Training loss of logits and labels; None: the task's. Evaluation uses the task's, so that arms
            are comparable.
        mix: Mixes images and labels of a training batch, e.g. `torchvision.transforms.v2.MixUp`; None: off.
            Metrics use the label of the larger share.
        optimizer: Makes the optimizer of the parameters.
        scheduler: See `make_scheduler`.
        scheduler_interval: "step" or "epoch"; None: "epoch" if the schedule needs the validation loss.
        channels_last: Memory order of images and weights.
        compile_with: Backend of torch.compile for training; None: off. Evaluation is not compiled,
            because each batch size would compile anew.
        log_every_n_steps: Training steps between log entries.
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
        # The function, not the module, whose weights would get other names.
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
            self.add_module(f"{part}_loss", loss)  # moves with the network
        self._unread: list[tuple[int, Tensor]] = []  # steps and losses, which may still be computed

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this text 50 times per step; nn.Module's checks would cost 0.3 % of a small step.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)  # not in Lightning's types
        weights = getattr(data, "class_weights", None)
        if weights is not None:
            self.task.set_class_weights(weights)

    def forward(self, images: Tensor) -> Tensor:
        network = self._compiled if self.training and self._compiled is not None else self.network
        logits: Tensor = network(self._as_taken(images).to(memory_format=self.memory_format))
        return logits

    def _as_taken(self, images: Tensor) -> Tensor:
        """Images as float32, if bytes."""
        return scaled(images).to(self.dtype) if images.dtype == torch.uint8 else images

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator. Seed it per epoch, so that a resumed run draws the same,
        # and per process, because each has other images.
        process = self.trainer.global_rank
        purpose = (self.current_epoch, *([process] if process else []))
        torch.manual_seed(derive_seed(self.seed, "network", *purpose))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        try:
            return self._training_step(batch, batch_index)
        except Exception:
            self._require_finite()  # an earlier infinite loss may be the cause
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
        # Directly to the logger: Lightning's bookkeeping of logged values slows down every step.
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
            for logger in self.loggers:  # only in the first process
                logger.log_metrics(values, step=step)
        return loss

    def _require_finite(self) -> None:
        """Wait for the losses; raise TrainingDiverged for the first that is not finite."""
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
        # All processes have the same value; without `sync_dist` Lightning warns.
        self.log_dict(values, sync_dist=True, reduce_fx="max")
        for metric in metrics.values():
            metric.reset()
        # Lightning would do this only after writing the epoch's checkpoint.
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
        self._require_finite()
        self._not_finite = torch.zeros((), device=self.device)
        self._without_images = torch.ones((), device=self.device)
        agree_on_buffers(self.network)

    def on_validation_epoch_end(self) -> None:
        # Not per step, because processes may have different numbers of batches.
        loss = mean_over_processes(self._not_finite)
        if not torch.isfinite(loss):  # the last training step may have diverged
            raise TrainingDiverged(self.global_step, loss.item())
        # Metrics of several processes cannot be combined if one has none.
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
