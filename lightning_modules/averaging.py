"""Polyak averaging: evaluates an average of the weights while training continues from the weights.

The paper: "Polyak averaging was used at inference time" for all models (section 4.3), without the decay. As
in TensorFlow's published training code of Inception V3, this is an exponential moving average of weights and
of BN's running statistics, which forgets faster in the first steps::

    average = d * average + (1 - d) * weights,  d = min(decay, (1 + steps) / (10 + steps))

It starts from the weights after the first step, TensorFlow's from the initial values; the difference vanishes
quickly, because d = 2/11 in the second step.

Lightning's `WeightAveraging` copies the average into the module only at the end of training, which a run
interrupted before its test never reaches, and averages the metrics too. Torch's `AveragedModel` counts steps
in a tensor, so every step would wait for the GPU.
"""

import itertools
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lightning_modules.validation import require_number


class PolyakAveraging(Callback):
    """Averages `module.network` after every training step; validation and test use the average.

    A checkpoint's `state_dict` holds the average; the weights are stored next to it.

    Raises:
        ValueError: `decay` is not in [0, 1).
    """

    def __init__(self, *, decay: float) -> None:
        require_number("recipe.averaging.decay", decay, 0, 1)
        self._decay = decay
        self._going_on: dict[str, Any] | None = None
        self._average: nn.Module | None = None
        self._steps = 0  # averaged

    @property
    def average(self) -> nn.Module:
        """The average; during evaluation, the training weights."""
        assert self._average is not None, "only while a run trains or tests"
        return self._average

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        # Not in `setup`: the network is not on its device yet.
        network = _network(module)
        self._average, self._steps = deepcopy(network), 0
        if self._going_on is not None:  # the network has loaded the average
            self._steps = self._going_on["steps"]
            network.load_state_dict(self._going_on["weights"])
            self._going_on = None

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._steps:  # a step may have several batches
            self._update(_network(module))

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._swap(module)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._swap(module)

    def on_test_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._swap(module)

    def on_test_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._swap(module)

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = self.average.state_dict()
        checkpoint["state_dict"] |= {f"network.{name}": value for name, value in state.items()}
        checkpoint["averaging"] = {"steps": self._steps, "weights": _network(module).state_dict()}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._going_on = checkpoint["averaging"]

    @torch.no_grad()
    def _update(self, network: nn.Module) -> None:
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._steps else 0.0
        pairs = list(zip(_state(self.average), _state(network), strict=True))
        for floating in (True, False):  # BN counts in whole numbers
            of_kind = [pair for pair in pairs if pair[0].is_floating_point() == floating]
            if of_kind:
                get_ema_multi_avg_fn(decay)(*map(list, zip(*of_kind, strict=True)), self._steps)
        self._steps += 1

    @torch.no_grad()
    def _swap(self, module: LightningModule) -> None:
        """Swap the values of network and average, including buffers."""
        for value, averaged in zip(_state(_network(module)), _state(self.average), strict=True):
            kept = value.clone()
            value.copy_(averaged)
            averaged.copy_(kept)


def _state(network: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())


def _network(module: LightningModule) -> nn.Module:
    assert isinstance(module.network, nn.Module)
    return module.network
