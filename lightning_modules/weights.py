"""Weights of another origin for a network of ours, to evaluate it or to start its training from them.

====================================  ==================================  ==========  ===========
of                                    file                                BN epsilon  max pools
====================================  ==================================  ==========  ===========
Xception, the author's Keras network  `.h5`, `.weights.h5`, `.keras`      1e-3        "same"
Xception, timm's `legacy_xception`    safetensors, PyTorch                1e-5        symmetric
torchvision's `inception_v3`          safetensors, PyTorch                1e-3        none padded
a run of ours, any network            `checkpoint.ckpt`                   the run's   the run's
====================================  ==================================  ==========  ===========

A network computes what its source computes only with the source's constants: `inspect_weights` says which,
and the configuration of a run takes them over. All of them expect the pixels that our data modules give,
x / 127.5 - 1, in [-1, 1]: keras.applications' `preprocess_input(mode="tf")` is that, timm's mean and
standard deviation of 0.5 come to it, and torchvision's published weights have `transform_input=True`, which
takes ImageNet's mean and deviation back out: ((x/255 - m) / s) * (s / 0.5) + (m - 0.5) / 0.5 = x / 127.5 - 1.

Files are data here: nothing in them is executed, PyTorch's are read with `weights_only`.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.networks.inception_v3 import torchvision_name
from lightning_modules.weights_keras import KerasLayers, read_keras

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK"
PICKLE = b"\x80"

NO_OUTCOME = r"num_classes|in_channels|dropout|(.*\.)?(intermediate_)?norm\.momentum|norm_momentum"
"""Keys of a network's configuration that change nothing where it is evaluated, or that its weights show."""

FOLLOWED = ("norm.eps", "pool")
"""Keys of a network's configuration that follow the source of its weights."""


class WeightsError(ValueError):
    """A weights file that cannot be used: one line that begins with `weights=PATH`."""


@dataclass(frozen=True)
class Source:
    """What a network must be to compute what its weights' source computes.

    Attributes:
        sha256: Of the file's content.
        follows: Configuration keys of the network, dotted, that are set to these values.
        requires: The same, of a network that is evaluated as it is: they have to have these values.
    """

    sha256: str
    follows: Mapping[str, Any]
    requires: Mapping[str, Any]


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    Attributes:
        sha256: Of the file's content.
        follows, requires: As in `Source`.
        named: Values under our names, given the names that a network has.
    """

    sha256: str
    named: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    follows: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)


def inspect_weights(path: object) -> Source:
    """What a weights file says of the network that it is for.

    Raises:
        WeightsError: No such file, none of weights, a damaged one, or of no network that is known here.
    """
    try:
        state = _existing(path).stat()
    except OSError as error:
        raise WeightsError(f"weights={path}: cannot be read ({error.strerror})") from error
    return _inspect(str(path), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)  # the runs of a sweep share their file
def _inspect(path: str, *_: int) -> Source:
    weights = read_weights(path)
    return Source(weights.sha256, weights.follows, weights.requires)


def load_weights(network: nn.Module, path: str, sha256: str) -> None:
    """Set every parameter and every running statistic of a network in place.

    Raises:
        WeightsError: As `read_weights` and `fit_weights`, or the file is not the one of that hash any more.
    """
    weights = read_weights(path)
    if weights.sha256 != sha256:
        raise WeightsError(f"weights={path}: has changed; its SHA-256 was {sha256}")
    network.load_state_dict(fit_weights(network, weights, path), strict=False)


def fit_weights(network: nn.Module, weights: Weights, path: str) -> dict[str, Tensor]:
    """The weights by the names of a network, all of them in its shapes.

    Args:
        network: May be on the device "meta".
        weights: As `read_weights` gives them.
        path: As the user named the file.

    Raises:
        WeightsError: They are another network's, or of another width, number of classes or channels.
    """
    own = _without_counters(network.state_dict())
    values = _without_counters(weights.named(own))
    if different := [*sorted(own.keys() - values.keys()), *sorted(values.keys() - own.keys())]:
        side = "without" if different[0] in own else "with"
        more = f" and {len(different) - 1} more differences" if len(different) > 1 else ""
        raise WeightsError(
            f"weights={path}: of another network than {type(network).__name__} as configured: "
            f"{side} {different[0]}{more}"
        )
    first = next(name for name, value in own.items() if value.ndim > 1)
    last = [name for name, value in own.items() if value.ndim == 2][-1]

    def expected(name: str) -> torch.Size:
        """The shape, but for what the data decides."""
        shape = list(own[name].shape)
        if name == first and values[name].ndim == len(shape):
            shape[1] = values[name].shape[1]
        if name.rpartition(".")[0] == last.rpartition(".")[0] and values[name].ndim == len(shape):
            shape[0] = values[name].shape[0]
        return torch.Size(shape)

    for name, value in own.items():
        if values[name].shape != expected(name):
            raise WeightsError(
                f"weights={path}: of another width: {name} is {_by(values[name].shape)} there and "
                f"{_by(value.shape)} in the network as configured (model.width)"
            )
    channels, classes = values[first].shape[1], values[last].shape[0]
    if channels != own[first].shape[1]:
        raise WeightsError(
            f"weights={path}: for images of {channels} channels, but dataset.channels={own[first].shape[1]}"
        )
    if classes != own[last].shape[0]:
        raise WeightsError(
            f"weights={path}: of {classes} classes, but dataset.num_classes={own[last].shape[0]}"
        )
    return values


def read_weights(path: str) -> Weights:
    """Read a weights file whole.

    Raises:
        WeightsError: No such file, none of weights, a damaged one, or of no network that is known here.
    """
    try:
        content = _existing(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"weights={path}: cannot be read ({error.strerror})") from error
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        tensors = _decode(content)
    except ImportError as error:
        raise WeightsError(f'weights={path}: needs {error.name}; pip install -e ".[weights]"') from error
    except Exception as error:  # whatever the libraries raise
        first = next(iter(str(error).splitlines()), "")[:120]
        why = f"{type(error).__name__}: {first}" if first else type(error).__name__
        raise WeightsError(f"weights={path}: damaged, or more than weights ({why})") from error
    if tensors is NOT_WEIGHTS:
        raise WeightsError(
            f"weights={path}: no weights file; must be Keras' (.h5, .weights.h5, .keras), safetensors, "
            "PyTorch's, or the checkpoint.ckpt of a run"
        )
    weights = _recognize(tensors, sha256)
    if weights is None:
        raise WeightsError(
            f"weights={path}: of another network; known are Xception of Keras and of timm "
            "(legacy_xception), Inception V3 of torchvision, and the checkpoint.ckpt of a run"
        )
    return weights


# From bytes to tensors

NOT_WEIGHTS = object()


def _existing(path: object) -> Path:
    if not isinstance(path, str) or not path:
        raise WeightsError(f"weights={path}: must be a file; as a number it is written ./1")
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise WeightsError(f"weights={path}: {'is a folder' if file.is_dir() else 'no such file'}")
    return file


def _decode(content: bytes) -> Any:
    """`KerasLayers`, or what lies in a PyTorch file; None: of Keras, but another network."""
    if content.startswith(HDF5):
        return read_keras(content)
    if content.startswith(ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"wrong checksum of {damaged}")
            if "model.weights.h5" in archive.namelist():
                return read_keras(archive.read("model.weights.h5"))
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                return NOT_WEIGHTS
    if content.startswith((ZIP, PICKLE)):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if content[8:9] == b"{":  # behind the header's length
        import safetensors.torch

        return safetensors.torch.load(content)
    return NOT_WEIGHTS


# From a source's names to ours


def _recognize(found: Any, sha256: str) -> Weights | None:
    if isinstance(found, KerasLayers):
        if (values := _from_keras(found)) is None:
            return None
        follows = {
            "norm.eps": 1e-3,  # as the author's code has it
            "pool": {"_target_": "lightning_modules.networks.blocks.SameMaxPool2d", "_partial_": True},
        }
        return Weights(sha256, lambda _: values, follows, XCEPTION_IS)
    if not isinstance(found, Mapping):
        return None
    state: Mapping[str, Tensor] = found.get("state_dict", found)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        return None
    if "pytorch-lightning_version" in found:
        return _from_checkpoint(found, state, sha256)
    if "block1.rep.0.conv1.weight" in state:
        names = {_timm_name(name): name for name in _xception_names()}
        renamed = {names.get(name, name): value for name, value in state.items()}
        follows = {
            "norm.eps": 1e-5,  # PyTorch's default, which timm leaves
            "pool": {
                "_target_": "torch.nn.MaxPool2d",
                "_partial_": True,
                "kernel_size": 3,
                "stride": 2,
                "padding": 1,
            },
        }
        return Weights(sha256, lambda _: renamed, follows, XCEPTION_IS)
    if "Mixed_5b.branch1x1.conv.weight" in state:
        return Weights(sha256, lambda own: _from_torchvision(state, own), {"norm.eps": 1e-3}, INCEPTION_V3_IS)
    return None


XCEPTION_IS = {
    "stem_stride": 2,
    "separable.intermediate_norm._target_": "torch.nn.Identity",
    "separable.intermediate_activation._target_": "torch.nn.Identity",
}
"""What of the published Xception its values do not show."""

INCEPTION_V3_IS = {
    "stem_stride": 2,
    "padding": 0,
    "average_pool.count_include_pad": True,
    "last_reduction_pool._target_": "torch.nn.MaxPool2d",
}
"""What of torchvision's Inception V3 its values do not show."""


def _from_checkpoint(
    checkpoint: Mapping[str, Any], state: Mapping[str, Tensor], sha256: str
) -> Weights | None:
    values = {
        name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")
    }
    hyper_parameters = checkpoint.get("hyper_parameters")
    model = hyper_parameters.get("model") if isinstance(hyper_parameters, Mapping) else None
    if not values or not isinstance(model, Mapping):
        return None
    flat = dict(_flattened(model))
    follows = {key: _at(model, key) for key in FOLLOWED if _at(model, key) is not None}
    requires = {
        key: value
        for key, value in flat.items()
        if not re.fullmatch(NO_OUTCOME, key)
        and not any(f"{key}.".startswith(f"{other}.") for other in follows)
    }
    return Weights(sha256, lambda _: values, follows, requires)


def _from_torchvision(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without the auxiliary tower, which table 1's network has not either."""
    try:
        names = {torchvision_name(name): name for name in own}
    except ValueError:  # not for Inception V3
        names = {}
    return {
        names.get(name, name): value for name, value in state.items() if not name.startswith("AuxLogits.")
    }


XCEPTION_SHORTCUTS = ("entry_flow.0", "entry_flow.1", "entry_flow.2", "exit_flow.module")
"""The modules whose shortcut is a projection."""


def _xception_layers() -> Iterator[tuple[str, str]]:
    """Layer and kind of the paper's Xception as Keras orders its layers: by distance from the output.

    A projection's norm comes behind those of the two separable convolutions beside it.
    """
    yield from (("stem.conv1", "conv"), ("stem.conv2", "conv"))
    middle = [f"middle_flow.{number}" for number in range(8)]
    for module in (*XCEPTION_SHORTCUTS[:3], *middle, XCEPTION_SHORTCUTS[3]):
        for number in range(1, 4 if module in middle else 3):
            yield f"{module}.body.separable{number}", "separable"
        if module in XCEPTION_SHORTCUTS:
            yield f"{module}.shortcut.projection", "conv"
    yield from (("exit_flow.separable1", "separable"), ("exit_flow.separable2", "separable"))


NORM_VALUES = ("weight", "bias", "running_mean", "running_var")
"""Keras' order: scale, shift, mean, variance."""


def _xception_names() -> Iterator[str]:
    """Every parameter and running statistic of the paper's Xception."""
    for layer, kind in _xception_layers():
        yield from (
            [f"{layer}.conv.weight"]
            if kind == "conv"
            else [
                f"{layer}.depthwise.weight",
                f"{layer}.pointwise.weight",
            ]
        )
        yield from (f"{layer}.norm.{value}" for value in NORM_VALUES)
    yield from ("head.logits.weight", "head.logits.bias")


def _from_keras(layers: KerasLayers) -> dict[str, Tensor] | None:
    """Xception's values by our names, mapped by order and kind, because names may be automatic."""
    expected = list(_xception_layers())
    convolutions = [layer for layer, kind in expected if kind == "conv"]
    separable = [layer for layer, kind in expected if kind == "separable"]
    counts = (len(convolutions), len(separable), len(expected), 1)
    if tuple(map(len, layers)) != counts:
        return None

    def tensor(array: Any, *order: int) -> Tensor:
        return torch.from_numpy(array).permute(order).contiguous()

    values = {}
    for layer, (kernel,) in zip(convolutions, layers.convolutions, strict=True):
        values[f"{layer}.conv.weight"] = tensor(kernel, 3, 2, 0, 1)
    for layer, (depthwise, pointwise) in zip(separable, layers.separable, strict=True):
        values[f"{layer}.depthwise.weight"] = tensor(depthwise, 2, 3, 0, 1)
        values[f"{layer}.pointwise.weight"] = tensor(pointwise, 3, 2, 0, 1)
    for (layer, _), arrays in zip(expected, layers.norms, strict=True):
        for name, array in zip(NORM_VALUES, arrays, strict=True):
            values[f"{layer}.norm.{name}"] = tensor(array, 0)
    ((kernel, bias),) = layers.dense
    return values | {"head.logits.weight": tensor(kernel, 1, 0), "head.logits.bias": tensor(bias, 0)}


def _timm_name(name: str) -> str:
    """The name in timm's `legacy_xception` of a parameter or running statistic of ours."""
    layer, _, value = name.rpartition(".")
    layer, _, part = layer.rpartition(".")
    if layer == "head":
        return f"fc.{value}"
    if layer.startswith("stem."):
        return f"{'bn' if part == 'norm' else 'conv'}{layer[-1]}.{value}"
    inner = {"depthwise": "conv1.", "pointwise": "pointwise."}
    flow, module, *rest = layer.split(".")
    if flow == "exit_flow" and not rest:  # separable1, separable2
        number = int(module[-1]) + 2
        return f"bn{number}.{value}" if part == "norm" else f"conv{number}.{inner[part]}{value}"
    first = {"entry_flow": 1, "middle_flow": 4, "exit_flow": 12}[flow]
    block = first + (int(module) if module.isdigit() else 0)
    if rest[0] == "shortcut":
        return f"block{block}.{'skipbn' if part == 'norm' else 'skip'}.{value}"
    # In the body a ReLU, the convolution and its norm follow each other; the first block has no first ReLU.
    place = 3 * (int(rest[1][-1]) - 1) + (0 if block == 1 else 1)
    if part == "norm":
        return f"block{block}.rep.{place + 1}.{value}"
    return f"block{block}.rep.{place}.{inner[part]}{value}"


# Small helpers


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without BN's count of batches, which nothing here uses and Keras does not have."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _flattened(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _at(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _by(shape: torch.Size) -> str:
    return "x".join(map(str, shape))
