"""The cost of a network: parameters, multiply-adds per image and depth, counted without computing."""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.flop_counter import FlopCounterMode

LAYERS = ("ConvolutionBackward", "AddmmBackward", "MmBackward")
"""Gradient nodes of a convolution and of a linear layer with and without bias; a number follows."""


MOST_TENSORS = 5000
"""Parameter tensors; a thousand layers with BN have about 3,000. More take minutes to build."""


@dataclass(frozen=True)
class NetworkCost:
    """The size of a network.

    Attributes:
        parameters: Trainable parameters.
        multiply_adds: Of convolutions and linear layers, per image.
        depth: Convolutions and linear layers on the longest path from image to logits. Separable
            convolutions count twice: Xception has 71. VGG-16 has 16, ResNet-18 has 18.
    """

    parameters: int
    multiply_adds: int
    depth: int


@contextmanager
def without_memory() -> Iterator[None]:
    """Build networks with shapes but no values.

    Raises:
        ValueError: There are more than `MOST_TENSORS` parameter tensors, in one network or several.
    """
    made = itertools.count(1)

    def count(*_: object) -> None:
        if next(made) > MOST_TENSORS:
            raise ValueError(f"more than {MOST_TENSORS} parameter tensors, the maximum; use fewer layers")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()


def training_memory(network: nn.Module, config: Mapping[str, Any]) -> int:
    """Lower bound of a network's memory in bytes, from its shapes.

    Training adds gradients, the optimizer's state per parameter, and the recipe's average. The network may be
    `without_memory`.
    """
    values = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if not config["train"]:
        return values
    probe = nn.Parameter(torch.zeros(1))
    probe.grad = torch.zeros(1)
    optimizer = instantiate(config["recipe"]["optimizer"])([probe])
    with suppress(Exception):  # one that needs more than gradients: as if it had no state
        optimizer.step()
    kept = optimizer.state[probe].values()
    states = sum(isinstance(state, torch.Tensor) and state.shape == probe.shape for state in kept)
    trained = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    return values * (1 if config["recipe"]["averaging"] is None else 2) + trained * (1 + states)


def activation_memory(network: nn.Module, config: Mapping[str, Any], batch_size: int) -> int:
    """Lower bound of the bytes that a training step keeps for its backward pass, in one process.

    The network is `without_memory`.
    """
    own = {tensor.untyped_storage()._cdata for tensor in network.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # several layers keep one tensor
        return tensor

    dataset = config["dataset"]
    size = (
        max(2, batch_size),
        dataset["channels"],
        dataset["image_size"],
        dataset["image_size"],
    )  # BN takes 2
    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor), torch.device("meta"):
        network.train()(torch.empty(size, device="meta"))
    total = sum(storage.nbytes() for storage in kept.values()) * batch_size // size[0]
    return total // 2 if "16" in config["recipe"]["precision"] else total


def count_parameters(model: Mapping[str, Any]) -> int:
    """Trainable parameters of a network, from its node of a resolved configuration."""
    with without_memory():
        return trainable_parameters(instantiate(model))


def trainable_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_network(config: Mapping[str, Any]) -> NetworkCost:
    """Count the network of a resolved configuration on an image of its dataset.

    Raises:
        ValueError: The network does not accept images of that size.
    """
    asked = [config["model"], config["dataset"]["channels"], config["dataset"]["image_size"]]
    try:
        text = json.dumps(asked)
    except (TypeError, ValueError):  # a Python object, whose name is not unique
        return _count(*asked)
    return _count_plain(text) if json.loads(text) == asked else _count(*asked)


@lru_cache(maxsize=128)
def _count_plain(asked: str) -> NetworkCost:
    """Cached, because a sweep's process trains several seeds of an arm."""
    return _count(*json.loads(asked))


def _count(model: Mapping[str, Any], channels: int, image_size: int) -> NetworkCost:
    with without_memory():
        network = instantiate(model)
    with torch.enable_grad():
        counted, logits = _computed(network, model["_target_"], channels, image_size)
    return NetworkCost(
        parameters=trainable_parameters(network),
        multiply_adds=counted,
        depth=_longest_way(logits.grad_fn),
    )


def multiply_adds(network: nn.Module, target: str, *, channels: int, image_size: int) -> int:
    """Multiply-adds per image, of the convolutions and linear layers of a network `without_memory`.

    Errors name it `target`.

    Raises:
        ValueError: The network does not accept images of that size.
    """
    with torch.no_grad():
        return _computed(network, target, channels, image_size)[0]


def _computed(network: nn.Module, target: str, channels: int, image_size: int) -> tuple[int, torch.Tensor]:
    """Multiply-adds and logits of a network without memory, for one image."""
    # The depth is read from its gradient, which passes frozen layers.
    image = torch.empty(1, channels, image_size, image_size, requires_grad=True, device="meta")
    try:
        with _without_batch_norm(network), FlopCounterMode(display=False) as counter, torch.device("meta"):
            logits = network.eval()(image)
    except RuntimeError as error:
        first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None and first.in_channels != channels:
            remedy = (
                "dataset.channels=3 repeats the one of a grey image" if channels == 1 else "model.in_channels"
            )
            raise ValueError(
                f"dataset.channels={channels}: model {target} takes {first.in_channels} channels; {remedy}"
            ) from error
        raise ValueError(
            f"dataset.image_size={image_size}: too small for model {target} ({error})"
        ) from error
    return counter.get_total_flops() // 2, logits


@contextmanager
def _without_batch_norm(network: nn.Module) -> Iterator[None]:
    """Let BN copy its input: it costs nothing here, and PyTorch spends half of the time on its shapes.

    A copy, because the layer after it may work in place. Images that BN refuses are still refused.
    """
    norms = [module for module in network.modules() if type(module) is nn.BatchNorm2d]

    def copied(norm: nn.BatchNorm2d, images: torch.Tensor) -> torch.Tensor:
        fits = images.ndim == 4 and images.shape[1] == norm.num_features
        return images.clone() if fits else nn.BatchNorm2d.forward(norm, images)

    for module in norms:
        vars(module)["forward"] = partial(copied, module)
    try:
        yield
    finally:
        for module in norms:
            del vars(module)["forward"]


def _longest_way(end: Node | None) -> int:
    """Convolutions and linear layers on the longest path back from a node of the autograd graph.

    Without recursion, because a path has several nodes per layer.
    """
    layers: dict[Node | None, int] = {None: 0}  # on the longest path ending in a node, including it
    waiting = [end]
    while waiting:
        node = waiting[-1]
        if node in layers:
            waiting.pop()
            continue
        assert node is not None
        before = [earlier for earlier, _ in node.next_functions]
        if unknown := [earlier for earlier in before if earlier not in layers]:
            waiting += unknown
            continue
        layers[node] = max((layers[earlier] for earlier in before), default=0)
        layers[node] += node.name().rstrip("0123456789") in LAYERS
    return layers[end]
