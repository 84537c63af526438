"""Counting one network at many widths: as `experiments.sizes.network_cost` does, in a twentieth of the time.

A width is found by counting at some fifteen of them, and a study of 84 arms asks for 84. Most of a network is
layers of few shapes (24 of Xception's 34 separable convolutions are equal), and neighbouring widths share
nearly all of them. So each part is made once per shape, without values and memory, and stands in the network
wherever it is wanted; parameters are then counted as often as a part stands there. That is not the
network's number where a network shares parts by itself: whoever uses a quick count compares it with
`experiments.sizes.network_cost` where it matters (`experiments.sizes.width`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from hydra.utils import get_object
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from experiments.sizes.network_cost import without_memory

PLAIN = (int, float, str, bool, type(None))
"""What arguments of parts are that are told from each other by value."""

OF_THE_SAME_SHAPE = (functional.batch_norm, functional.relu, functional.elu)
"""What gives a tensor of its first argument's shape; on tensors without memory it takes most of the time."""


class QuickCount:
    """Parameters of a network at a width, or multiply-adds of its convolutions and linear layers.

    Args:
        model: Its node of a resolved configuration.
        image: Channels and size of the image that multiply-adds are counted for; None counts parameters.
    """

    def __init__(self, model: Mapping[str, Any], image: tuple[int, int] | None) -> None:
        self._image = image
        self._multiply_adds = 0
        arguments = {key: self._prepared(value) for key, value in model.items() if key != "_target_"}
        self._network = Part(get_object(model["_target_"]), arguments, self._watch)

    def __call__(self, width: float) -> int:
        with without_memory(), _WithoutValues():
            network = self._network.made(width=width)
        if self._image is None:
            return _parameters(network)
        channels, size = self._image
        self._multiply_adds = 0
        with torch.no_grad(), _WithoutValues():
            network.eval()(torch.empty(1, channels, size, size, device="meta"))
        return self._multiply_adds

    def _prepared(self, node: Any) -> Any:
        """What Hydra makes of a node, with parts that are made once per shape."""
        if isinstance(node, list):
            return [self._prepared(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        arguments = {
            str(key): self._prepared(value)
            for key, value in node.items()
            if key not in ("_target_", "_partial_")
        }
        if "_target_" not in node:
            return arguments
        part = Part(get_object(node["_target_"]), arguments, self._watch)
        return part if node.get("_partial_") else part()

    def _watch(self, made: Any) -> None:
        """Have the layers of a new part counted wherever they are called."""
        if self._image is None or not isinstance(made, nn.Module):
            return
        for module in made.modules():
            if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and not module._forward_hooks:
                module.register_forward_hook(self._count)

    def _count(self, layer: nn.Module, _: Any, features: Tensor) -> None:
        assert isinstance(layer.weight, Tensor)
        channels = features.shape[-1 if isinstance(layer, nn.Linear) else 1]
        self._multiply_adds += layer.weight.numel() * (features.numel() // channels)


class Part:
    """Makes a part of a network, once per arguments.

    Args:
        target: What makes it.
        arguments: Those that the configuration sets.
        watch: Is told of what is made.
    """

    def __init__(
        self, target: Callable[..., Any], arguments: Mapping[str, Any], watch: Callable[[Any], None]
    ) -> None:
        self._target = target
        self._arguments = dict(arguments)
        self._watch = watch
        self._made: dict[Any, Any] = {}

    def __call__(self, *positional: Any, **named: Any) -> Any:
        values = (*positional, *named.values())
        if not all(isinstance(value, (*PLAIN, Part)) for value in values):
            return self.made(*positional, **named)  # a function that a part is made with: no two are the same
        key = (values, tuple(map(type, values)), tuple(named))
        if key not in self._made:
            self._made[key] = self.made(*positional, **named)
        return self._made[key]

    def made(self, *positional: Any, **named: Any) -> Any:
        """A new one."""
        made = self._target(*positional, **self._arguments | named)
        self._watch(made)
        return made


class _WithoutValues(TorchFunctionMode):
    """What gives values and no shape is left out: initial values, BN and the commonest activations."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in OF_THE_SAME_SHAPE:
            return args[0]
        return func(*args, **kwargs or {})


def _parameters(network: nn.Module) -> int:
    """Trainable ones, of each part as often as it stands there."""
    return sum(
        parameter.numel()
        for _, module in network.named_modules(remove_duplicate=False)
        for parameter in module._parameters.values()
        if parameter is not None and parameter.requires_grad
    )
