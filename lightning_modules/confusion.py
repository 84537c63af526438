"""The confusion matrix of the test, for loggers that show it."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from lightning_modules.loggers import TolerantLogger

MOST_CLASSES = 100
"""More would be unreadable; ImageNet's has a million cells."""


class ConfusionMatrix(Callback):
    """Counts test images by true and predicted class, (C, C), over all processes; single labels only."""

    def __init__(self, num_classes: int) -> None:
        self._counts = MulticlassConfusionMatrix(num_classes)

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._counts = self._counts.to(module.device)
        self._counts.reset()

    def on_test_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: tuple[Tensor, Tensor], *_: Any
    ) -> None:
        if batch[1].ndim == 1:
            self._counts.update(outputs.detach(), batch[1])

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self._counts.update_called:
            return
        counts = self._counts.compute().cpu().numpy()
        for logger in trainer.loggers:
            if isinstance(logger, TolerantLogger):
                logger.log_confusion_matrix(counts)
