"""What a network costs: parameters, multiply-adds of one image and depth, counted without computing it."""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.flop_counter import FlopCounterMode

LAYERS = ("ConvolutionBackward", "AddmmBackward", "MmBackward")
"""Names of the gradient of a convolution and of a linear layer with and without bias; a number follows."""


MOST_TENSORS = 5000
"""Tensors of parameters; a thousand layers with BN have some 3,000. More take minutes to build and count."""


@dataclass(frozen=True)
class NetworkCost:
    """The size of a network.

    Attributes:
        parameters: Trainable parameters.
        multiply_adds: Of the convolutions and linear layers, for one image.
        depth: Convolutions and linear layers on the longest way from the image to the logits. A separable
            convolution is two, its depthwise and its pointwise one: 71 in Xception, with the logistic
            regression. VGG-16 has 16, ResNet-152 has 152.
    """

    parameters: int
    multiply_adds: int
    depth: int


@contextmanager
def without_memory() -> Iterator[None]:
    """Networks built here have shapes and no values; one that would take minutes even so is refused.

    Raises:
        ValueError: More than `MOST_TENSORS` tensors of parameters, in a network or in several together.
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
    """Bytes that a network takes at least, from its shapes: values, and what training adds to them.

    Training adds gradients, what the optimizer keeps per parameter, and an average where the recipe has one.

    Args:
        network: It may be without memory.
        config: The run's resolved configuration.
    """
    values = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if not config["train"]:
        return values
    probe = nn.Parameter(torch.zeros(1))
    probe.grad = torch.zeros(1)
    optimizer = instantiate(config["recipe"]["optimizer"])([probe])
    with suppress(Exception):  # one that needs more than gradients: as if it kept nothing
        optimizer.step()
    kept = optimizer.state[probe].values()
    states = sum(isinstance(state, torch.Tensor) and state.shape == probe.shape for state in kept)
    trained = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    return values * (1 if config["recipe"]["averaging"] is None else 2) + trained * (1 + states)


def activation_memory(network: nn.Module, config: Mapping[str, Any], batch_size: int) -> int:
    """Bytes that a training step keeps at least for its backward pass, whatever its convolutions add.

    Args:
        network: Without memory.
        config: The run's resolved configuration.
        batch_size: Images of a step in one process.
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
    """Trainable parameters of a network.

    Args:
        model: Its node of a resolved configuration.
    """
    with without_memory():
        return trainable_parameters(instantiate(model))


def trainable_parameters(network: nn.Module) -> int:
    """Those that training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_network(config: Mapping[str, Any]) -> NetworkCost:
    """Count the network of a resolved configuration on one image of its dataset.

    Raises:
        ValueError: The network cannot take images of that size.
    """
    asked = [config["model"], config["dataset"]["channels"], config["dataset"]["image_size"]]
    try:
        text = json.dumps(asked)
    except (TypeError, ValueError):  # a Python object, whose name can be another's later
        return _count(*asked)
    return _count_plain(text) if json.loads(text) == asked else _count(*asked)


@lru_cache(maxsize=128)
def _count_plain(asked: str) -> NetworkCost:
    """Count what JSON says: a process of a sweep trains an arm with several seeds."""
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
    """Multiply-adds of a network's convolutions and linear layers, for one image.

    Args:
        network: Without memory.
        target: How an error names it.
        channels: Of the image.
        image_size: Its height and width, in pixels.

    Raises:
        ValueError: The network cannot take images of that size.
    """
    with torch.no_grad():
        return _computed(network, target, channels, image_size)[0]


def _computed(network: nn.Module, target: str, channels: int, image_size: int) -> tuple[int, torch.Tensor]:
    """The multiply-adds of a network without memory for one image, and that image's logits."""
    # Its gradient goes all the way back, whatever is frozen: the depth is read from that way.
    image = torch.empty(1, channels, image_size, image_size, requires_grad=True, device="meta")
    try:
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
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


def _longest_way(end: Node | None) -> int:
    """Convolutions and linear layers on the longest way back from a node of the autograd graph.

    Without recursion: a way has several nodes per layer.
    """
    layers: dict[Node | None, int] = {None: 0}  # on the longest way that ends in a node, itself included
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
