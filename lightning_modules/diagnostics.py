"""Diagnostics: measurements of a network's layers during training.

Paper: section 4.7 (arXiv:1610.02357) only conjectures why accuracies differ: "for deep feature spaces (e.g.
those found in Inception modules) the non-linearity is helpful, but for shallow ones (e.g. the 1-channel deep
feature spaces of depthwise separable convolutions) it becomes harmful, possibly due to a loss of
information". `DeadUnits` measures information lost in activations, `EffectiveRank` information left after the
spatial operation, `GradientNorm` the gradient in the first steps.

A diagnostic is a callback that only reads: it draws no random number and leaves mode, BN statistics and
gradients unchanged. Of several processes, the first measures its share of the images. Rows are part of the
checkpoint, so a resumed run keeps exactly the rows of its steps.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from lightning_modules.validation import require_integer, require_number

COLUMNS = ("diagnostic", "layer", "depth", "channels", "epoch", "step", "value")
"""`layer` is the module's name, with "#2" for its second call; `depth` its place in order of execution, from
1; `channels` its units; `epoch` counts from 1, 0 is before the first step; `step` is the number of optimizer
steps so far, or the measured step of a gradient, from 1."""

RELU_LIKE = (nn.ReLU, nn.ReLU6)
"""Activations with zero output and gradient for negative input."""

ACTIVATIONS = (
    *RELU_LIKE,
    *(nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softshrink),
    *(nn.Tanhshrink, nn.Softsign, nn.LogSigmoid, nn.Threshold),
)
"""Element-wise activations."""

Row = dict[str, Any]
"""A value per name in `COLUMNS`."""


class Diagnostic(Callback):
    """Measures a run's layers.

    Attributes:
        name: Key in the configuration and name in rows.
        of_training: Whether it needs training steps.
        rows: The measurements.
    """

    name: ClassVar[str]
    of_training: ClassVar[bool] = False

    def __init__(self) -> None:
        self.rows: list[Row] = []

    @abstractmethod
    def layers(self, network: nn.Module) -> dict[str, nn.Module]:
        """The measured modules, by name."""

    def require_layers(self, network: nn.Module) -> None:
        """Raise ValueError if the network has no module to measure."""
        if not self.layers(network):
            raise ValueError(
                f"diagnostics.{self.name}: {type(network).__name__} has no module to measure; leave it out"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


class FeatureDiagnostic(Diagnostic):
    """Measures features of the first validation images after every epoch, on the evaluated network.

    Args:
        images: Number of images, at most the process's share.

    Raises:
        ValueError: `images` is not a positive whole number.
    """

    before_training: ClassVar[bool] = False
    """Whether to measure before the first step too, in an extra pass."""

    def __init__(self, *, images: int) -> None:
        super().__init__()
        require_integer(f"diagnostics.{self.name}.images", images, 1)
        self._images = images
        self._left = 0  # images left in this pass
        self._in_batch = 0  # of these, in this batch
        self._parts: dict[str, list[Tensor]] = {}
        self._modules: dict[str, nn.Module] = {}
        self._calls: Counter[str] = Counter()
        self._handles: list[RemovableHandle] = []

    @abstractmethod
    def summary(self, module: nn.Module, features: Tensor) -> Tensor:
        """A small summary of a batch's features (N, C, ...), not a view."""

    @abstractmethod
    def value(self, module: nn.Module, parts: Sequence[Tensor]) -> tuple[float, int]:
        """The value and the number of channels, from the summaries of all batches."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.before_training and trainer.is_global_zero and trainer.global_step == 0:
            self.rows = []
            self._begin(module)
            self._pass_of_its_own(trainer, module)
            self._end(epoch=0, step=0)

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._begin(module)

    def on_validation_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, *_: Any
    ) -> None:
        self._begin_batch(batch)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._end_batch()

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            training = trainer.state.fn == "fit"  # else only evaluation
            self._end(epoch=trainer.current_epoch + 1 if training else 0, step=trainer.global_step)

    def _begin(self, module: LightningModule) -> None:
        self._parts, self._modules, self._left = {}, {}, self._images
        network = _network(module)
        self._handles = [
            layer.register_forward_hook(self._listener(name)) for name, layer in self.layers(network).items()
        ]

    def _begin_batch(self, batch: Any) -> None:
        self._calls.clear()
        self._in_batch = min(self._left, len(batch[0]))

    def _end_batch(self) -> None:
        self._left -= self._in_batch
        self._in_batch = 0
        if not self._left:
            self._stop_listening()

    def _end(self, *, epoch: int, step: int) -> None:
        self._stop_listening()
        for depth, (layer, parts) in enumerate(self._parts.items(), start=1):
            value, channels = self.value(self._modules[layer], parts)
            where = {"layer": layer, "depth": depth, "channels": channels, "epoch": epoch, "step": step}
            self.rows.append({"diagnostic": self.name, **where, "value": value})
        self._parts, self._modules = {}, {}

    def _stop_listening(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _listener(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def listen(module: nn.Module, _: Any, features: Tensor) -> None:
            if not self._in_batch:
                return
            self._calls[name] += 1
            call = self._calls[name]
            layer = name if call == 1 else f"{name}#{call}"
            self._modules[layer] = module
            # Now: the next layer may overwrite these features.
            with torch.no_grad():
                part = self.summary(module, features[: self._in_batch])
            self._parts.setdefault(layer, []).append(part)

        return listen

    def _pass_of_its_own(self, trainer: Trainer, module: LightningModule) -> None:
        """Compute the features as in training, without dropout.

        BN uses the batch's statistics: before the first step its running averages are meaningless.
        """
        data: Any = getattr(trainer, "datamodule", None)  # not in Lightning's types
        with _evaluating(_network(module)), torch.no_grad():
            for batch in data.val_dataloader():  # it has its own generator
                batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
                self._begin_batch(batch)
                with trainer.precision_plugin.val_step_context():
                    module(batch[0])
                self._end_batch()
                if not self._left:
                    break


class DeadUnits(FeatureDiagnostic):
    """Share of an activation's units (channels) that are dead, in [0, 1], after every epoch.

    A ReLU's unit is dead if its output is zero at every position of every image: it gets no gradient. Other
    activations are never exactly constant; a unit is dead if its output varies by at most `tolerance` of the
    layer's most varying unit (such as an ELU saturated at -1). The two measures differ, so do not compare
    ReLU with ELU. Both are upper bounds: other images may activate a unit.

    Source: Lu, Shin, Su and Karniadakis 2019, "Dying ReLU and Initialization" (arXiv:1903.06733); the
    measure on data is ours.

    Raises:
        ValueError: An argument is out of range.
    """

    name = "dead_units"

    def __init__(self, *, images: int, tolerance: float) -> None:
        super().__init__(images=images)
        require_number("diagnostics.dead_units.tolerance", tolerance, 0, 1)
        self._tolerance = tolerance

    def layers(self, network: nn.Module) -> dict[str, nn.Module]:
        return {name: module for name, module in network.named_modules() if isinstance(module, ACTIVATIONS)}

    def summary(self, module: nn.Module, features: Tensor) -> Tensor:
        """Largest and smallest output of each unit (2, C)."""
        others = [dim for dim in range(features.ndim) if dim != 1]
        return torch.stack([features.amax(others), features.amin(others)]).float()

    def value(self, module: nn.Module, parts: Sequence[Tensor]) -> tuple[float, int]:
        both = torch.stack(list(parts))
        highest, lowest = both[:, 0].amax(0), both[:, 1].amin(0)
        if isinstance(module, RELU_LIKE):
            dead = highest <= 0
        else:
            varies = highest - lowest
            dead = varies <= self._tolerance * varies.max()
        return dead.double().mean().item(), len(dead)


class EffectiveRank(FeatureDiagnostic):
    """Effective rank of the features after each spatial operation, before the first step and every epoch.

    `exp(-sum p log p)`, p the normalized eigenvalues of the channels' covariance over positions: the number
    of directions in which features vary, from 1 to the number of channels; 0 for constant features. To
    compare layers of different widths, divide it by the number of channels.

    A spatial operation is a module named `depthwise`, or another convolution with a kernel larger than 1x1.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality" (EUSIPCO).

    Args:
        images: As `FeatureDiagnostic`.
        positions: Number of positions, spread evenly over all images and their pixels; an upper bound of
            the rank.

    Raises:
        ValueError: An argument is not a positive whole number, or there are fewer positions than images.
    """

    name = "effective_rank"
    before_training = True

    def __init__(self, *, images: int, positions: int) -> None:
        super().__init__(images=images)
        require_integer("diagnostics.effective_rank.positions", positions, images)
        self._of_an_image = positions // images

    def layers(self, network: nn.Module) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {}
        for name, module in network.named_modules():
            inside = any(name.startswith(f"{outer}.") for outer in found)
            spatial = isinstance(module, _ConvNd) and max(module.kernel_size) > 1
            if not inside and (name.rpartition(".")[2] == "depthwise" or spatial):
                found[name] = module
        return found

    def summary(self, module: nn.Module, features: Tensor) -> Tensor:
        """Channels of some positions (P, C)."""
        number, _, height, width = features.shape
        pixels = height * width
        several = min(self._of_an_image, pixels)
        # Shifted by a pixel per image, to use all pixels equally.
        image = torch.arange(number, device=features.device)[:, None]
        start = torch.arange(several, device=features.device) * pixels // several
        pixel = (start + image) % pixels
        return features[image, :, pixel // width, pixel % width].reshape(number * several, -1).cpu()

    def value(self, module: nn.Module, parts: Sequence[Tensor]) -> tuple[float, int]:
        features = torch.cat(list(parts))
        return effective_rank(features), features.shape[1]


class GradientNorm(Diagnostic):
    """L2 norm of the gradient with respect to each convolution's and linear layer's weight.

    In the first training steps, over all processes, before clipping and weight decay. In mixed precision it
    is unscaled, and may be infinite in a step that the optimizer skips.

    It may explain figure 9: without residual connections, gradients near the image have passed all other
    layers.

    Raises:
        ValueError: `steps` is not a list of positive whole numbers.
    """

    name = "gradient_norm"
    of_training = True

    def __init__(self, *, steps: Sequence[int]) -> None:
        super().__init__()
        if isinstance(steps, str) or not isinstance(steps, Sequence) or not steps:
            raise ValueError(
                f"diagnostics.gradient_norm.steps={steps}: must be a list of whole numbers from 1"
            )
        for step in steps:
            require_integer("diagnostics.gradient_norm.steps", step, 1)
        self._steps = frozenset(steps)
        self._last = max(steps)
        self._order: list[str] = []  # of execution
        self._handles: list[RemovableHandle] = []

    def layers(self, network: nn.Module) -> dict[str, nn.Module]:
        return {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, _ConvNd | nn.Linear) and module.weight.requires_grad
        }

    @staticmethod
    def _weight(layer: nn.Module) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return layer.weight

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if self._is_due(trainer) and not self._order:
            self._handles = [
                layer.register_forward_hook(self._listener(name))
                for name, layer in self.layers(_network(module)).items()
            ]

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        if not self._is_due(trainer):
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        layers = self.layers(_network(module))
        weights = [self._weight(layers[name]) for name in self._order]
        norms = gradient_norms(weights)
        step = trainer.global_step + 1
        measured = zip(self._order, weights, norms, strict=True)
        for depth, (layer, weight, value) in enumerate(measured, start=1):
            where = {"layer": layer, "depth": depth, "channels": len(weight)}
            time = {"epoch": trainer.current_epoch + 1, "step": step}
            self.rows.append({"diagnostic": self.name, **where, **time, "value": value})

    def _is_due(self, trainer: Trainer) -> bool:
        return trainer.is_global_zero and trainer.global_step + 1 in self._steps

    def _listener(self, name: str) -> Callable[..., None]:
        def listen(*_: Any) -> None:
            if name not in self._order:
                self._order.append(name)

        return listen


def effective_rank(features: Tensor) -> float:
    """Entropy effective rank of the covariance of C channels at P positions (P, C), in float64.

    Returns:
        From 1 to min(P - 1, C); 0 if no channel varies; NaN if a feature is not finite.

    Source: Roy and Vetterli 2007; the singular values of a covariance are its eigenvalues.
    """
    features = features.double()
    if not features.isfinite().all():
        return float("nan")
    centred = features - features.mean(0)
    largest = centred.abs().max()
    if largest == 0:
        return 0.0
    centred = centred / largest  # so that squares neither underflow nor overflow
    eigenvalues = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    return torch.special.entr(eigenvalues / eigenvalues.sum()).sum().exp().item()


def gradient_norms(weights: Sequence[Tensor]) -> list[float]:
    """L2 norm of each weight's gradient, in float64; 0 without a gradient."""
    with torch.no_grad():
        norms = [
            torch.linalg.vector_norm(
                torch.zeros_like(weight) if weight.grad is None else weight.grad.double()
            )
            for weight in weights
        ]
        return torch.stack([norm.double() for norm in norms]).tolist() if norms else []


def require_diagnostics(diagnostics: Mapping[str, object]) -> None:
    """Raise ValueError unless each value is a diagnostic and its key the diagnostic's name."""
    for key, diagnostic in diagnostics.items():
        if not isinstance(diagnostic, Diagnostic):
            raise ValueError(f"diagnostics.{key}={type(diagnostic).__name__}: must be a diagnostic")
        if diagnostic.name != key:
            raise ValueError(
                f"diagnostics.{key}={type(diagnostic).__name__}: must be named {diagnostic.name}"
            )


def _network(module: LightningModule) -> nn.Module:
    assert isinstance(module.network, nn.Module)
    return module.network


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """No dropout, and BN with the batch's statistics without keeping them."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    handles = [
        module.register_forward_hook(_normalize_by_batch)
        for module in network.modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training


def _normalize_by_batch(norm: _BatchNorm, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    """BN's output without changing its running averages."""
    return nn.functional.batch_norm(
        inputs[0], None, None, norm.weight, norm.bias, training=True, eps=norm.eps
    )
