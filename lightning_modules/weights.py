"""Loads weights trained elsewhere, to evaluate them or to train from them.

====================================  ==================================  ==========  ===========
weights of                            file                                BN epsilon  max pools
====================================  ==================================  ==========  ===========
Xception, the author's Keras network  `.h5`, `.weights.h5`, `.keras`      1e-3        "same"
Xception, timm's `legacy_xception`    safetensors, PyTorch                1e-5        symmetric
torchvision's `inception_v3`          safetensors, PyTorch                1e-3        none padded
a run of ours, any network            `checkpoint.ckpt`                   the run's   the run's
any network, by its own names         safetensors, PyTorch                as it is    as they are
====================================  ==================================  ==========  ===========

PyTorch files may have the weights under a key (`STATES`), with a prefix (`PREFIXES`) and in the form of older
ports: two-dimensional pointwise weights, a classifier called `last_linear`.

A network matches its source only with the source's constants, which `inspect_weights` finds and the run's
configuration copies. All weights expect pixels x / 127.5 - 1, as keras.applications'
`preprocess_input(mode="tf")` and timm's mean and standard deviation of 0.5. So do torchvision's, whose
`transform_input=True` reverts ImageNet's mean and deviation: ((x/255 - m) / s) * (s / 0.5) + (m - 0.5) / 0.5
= x / 127.5 - 1.

Nothing in a file is executed: PyTorch files are read with `weights_only`, and only numbers and names of
`POOLS` reach the configuration.
"""

import argparse
import hashlib
import io
import math
import os
import pickle
import re
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from lightning_modules.networks.inception_v3 import torchvision_name
from lightning_modules.weights_keras import KerasLayer, KerasLayers, read_keras

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK"
PICKLE = b"\x80"

NO_OUTCOME = r"num_classes|in_channels|dropout|(.*\.)?(intermediate_)?norm\.momentum|norm_momentum"
"""Keys of a network that do not affect evaluation, or that the weights show."""

POOLS: Mapping[str, Mapping[str, Any]] = {
    "same": {"_target_": "lightning_modules.networks.blocks.SameMaxPool2d", "_partial_": True},
    "symmetric": {
        "_target_": "torch.nn.MaxPool2d",
        "_partial_": True,
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
    },
}
"""The max pools that weights can require."""

STATES = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
"""Keys of the weights in training scripts' checkpoints; the average first, as in timm."""

PREFIXES = ("", "module.", "_orig_mod.", "model.", "network.")
"""Prefixes that wrappers add to names."""

SAVE_INSTEAD = "save only the weights: torch.save(network.state_dict(), FILE)"


class WeightsError(ValueError):
    """An unusable weights file: one line that starts with `weights=PATH`."""

    def __init__(self, message: str) -> None:
        # Names in a file may have escape codes.
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


class _Unusable(ValueError):
    """Why a file cannot be used, without its path."""


@dataclass(frozen=True)
class Source:
    """What a network needs to match its weights' source.

    Attributes:
        sha256: Of the file's content.
        follows: Values to set, by dotted key of the network.
        requires: Values needed for evaluation, by dotted key.
    """

    sha256: str
    follows: Mapping[str, Any]
    requires: Mapping[str, Any]


@dataclass(frozen=True)
class Weights:
    """The content of a weights file; see `Source`.

    Attributes:
        named: Values under our names, from the names of a network.
    """

    sha256: str
    named: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    follows: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)


def inspect_weights(path: object) -> Source:
    """What a weights file says about its network; WeightsError as `read_weights`."""
    try:
        state = _existing(path).stat()
    except OSError as error:
        raise WeightsError(f"weights={path}: cannot be read ({error.strerror})") from error
    return _inspect(str(path), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)  # for the runs of a sweep
def _inspect(path: str, *_: int) -> Source:
    weights = read_weights(path)
    return Source(weights.sha256, weights.follows, weights.requires)


def load_weights(network: nn.Module, path: str, sha256: str, *, new_head: bool = False) -> None:
    """Set every parameter and running statistic of a network in place, except the head if `new_head`.

    Raises:
        WeightsError: As `read_weights` and `fit_weights`, or the file's hash is not `sha256`.
    """
    weights = read_weights(path)
    if weights.sha256 != sha256:
        raise WeightsError(f"weights={path}: the file has changed; its SHA-256 was {sha256}")
    network.load_state_dict(fit_weights(network, weights, path, new_head=new_head), strict=False)


def fit_weights(
    network: nn.Module, weights: Weights, path: str, *, new_head: bool = False
) -> dict[str, Tensor]:
    """The weights by the names of a network (which may be on the device "meta"), in its shapes.

    `new_head` leaves out the last linear layer and fully connected layers before it.

    Raises:
        WeightsError: The network, its width, classes or channels differ.
    """
    own = _without_counters(network.state_dict())
    values = _without_counters(weights.named(own))
    first = next(name for name, value in own.items() if value.ndim > 1)
    last = [name for name, value in own.items() if value.ndim == 2][-1]
    module = last.rpartition(".")[0]
    head = "head." if module.startswith("head.") else f"{module}."
    if new_head:
        own, values = _without_head(own, head), _without_head(values, head)
    elif values.keys() == _without_head(own, head).keys():
        raise WeightsError(f"weights={path}: has no {last}; new_head=true starts a new head from the seed")
    _require_names(network, weights, path, own, values)
    _require_shapes(path, own, values, first, module)
    channels = values[first].shape[1]
    if channels != own[first].shape[1]:
        raise WeightsError(f"weights={path}: needs dataset.channels={channels}, not {own[first].shape[1]}")
    if not new_head and (classes := values[last].shape[0]) != own[last].shape[0]:
        raise WeightsError(
            f"weights={path}: has {classes} classes, but dataset.num_classes={own[last].shape[0]}; "
            "new_head=true starts a new head from the seed",
        )
    return values


def _require_names(
    network: nn.Module,
    weights: Weights,
    path: str,
    own: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
) -> None:
    if different := [*sorted(own.keys() - values.keys()), *sorted(values.keys() - own.keys())]:
        side = "without" if different[0] in own else "with"
        more = f" and {len(different) - 1} more differences" if len(different) > 1 else ""
        source = str(weights.requires.get("_target_", "")).rpartition(".")[2]
        named = f"{source}, " if source not in ("", type(network).__name__) else ""
        raise WeightsError(
            f"weights={path}: of {named}another network than {type(network).__name__} as configured: "
            f"{side} {different[0]}{more}",
        )


def _require_shapes(
    path: str, own: Mapping[str, Tensor], values: Mapping[str, Tensor], first: str, module: str
) -> None:
    """Require floating-point numbers in the network's shapes, except for classes and channels.

    `first` is the name of the first layer's weight, `module` that of the last layer.
    """
    for name in own:
        value = values[name]
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            raise WeightsError(f"weights={path}: {name} is not plain floating-point numbers; {SAVE_INSTEAD}")
        shape = list(own[name].shape)
        if name == first and value.ndim == len(shape):
            shape[1] = value.shape[1]
        if name.rpartition(".")[0] == module and value.ndim == len(shape):
            shape[0] = value.shape[0]
        if value.shape != torch.Size(shape):
            raise WeightsError(
                f"weights={path}: another width: {name} is {_by(value.shape)} in the file and "
                f"{_by(own[name].shape)} in the network; set model.width",
            )


def read_weights(path: str) -> Weights:
    """Read a weights file whole.

    Raises:
        WeightsError: The file does not exist, is damaged, has no weights, or those of an unknown network.
    """
    try:
        content = _existing(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"weights={path}: cannot be read ({error.strerror})") from error
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        tensors = _decode(content)
        weights = None if tensors is NOT_WEIGHTS else _recognize(tensors, sha256)
    except ImportError as error:
        raise WeightsError(
            f"weights={path}: needs {error.name}: pip install 'xception-ablations[weights]'"
        ) from error
    except _Unusable as error:
        raise WeightsError(f"weights={path}: {error}") from error
    except Exception as error:  # from several libraries
        first = textwrap.shorten(next(iter(str(error).splitlines()), ""), 120, placeholder=" ...")
        why = f"{type(error).__name__}: {first}" if first else type(error).__name__
        reason = f"damaged, or more than weights ({why})"
        if isinstance(error, pickle.UnpicklingError):  # its text suggests executing the file
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = (
                f"holds {found[1] if found else 'more than weights'}, which could run code; {SAVE_INSTEAD}"
            )
        raise WeightsError(f"weights={path}: {reason}") from error
    if tensors is NOT_WEIGHTS:
        raise WeightsError(
            f"weights={path}: not a weights file; must be Keras (.h5, .weights.h5, .keras), safetensors, "
            "PyTorch, or the checkpoint.ckpt of a run",
        )
    if weights is None:
        raise WeightsError(
            f"weights={path}: unknown network; known are Xception of Keras and timm "
            "(legacy_xception), Inception V3 of torchvision, the checkpoint.ckpt of a run, and any network's "
            "state_dict",
        )
    return weights


# From bytes to tensors

NOT_WEIGHTS = object()


def _existing(path: object) -> Path:
    if not isinstance(path, str) or not path:
        raise WeightsError(f"weights={path}: expected a path; write ./1 for a file named like a number")
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise WeightsError(f"weights={path}: {'is a folder' if file.is_dir() else 'no such file'}")
    return file


def _decode(content: bytes) -> Any:
    """`KerasLayers`, or the content of a PyTorch file; None for another Keras network."""
    if content.startswith(HDF5):
        return read_keras(content)
    if content.startswith(ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"wrong checksum of {damaged}")
            if "model.weights.h5" in archive.namelist():
                return read_keras(archive.read("model.weights.h5"))
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise _Unusable(f"holds TorchScript, which is code; {SAVE_INSTEAD}")
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                return NOT_WEIGHTS
    if content.startswith((ZIP, PICKLE)):
        # timm's checkpoints have a Namespace, which only holds values. Old pickles warn.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if content[8:9] == b"{":  # after the header's length
        import safetensors.torch

        return safetensors.torch.load(content)
    return NOT_WEIGHTS


# From a source's names to ours


def _recognize(found: Any, sha256: str) -> Weights | None:
    if isinstance(found, KerasLayers):
        if (values := _from_keras(found)) is None:
            return None
        follows = {"norm.eps": 1e-3, "pool": POOLS["same"]}  # as in the author's code
        return Weights(sha256, lambda _: values, follows, XCEPTION_IS)
    if not isinstance(found, Mapping):
        return None
    states = [state for state in (*map(found.get, STATES), found) if _holds_tensors(state)]
    if not states:
        return None
    if "pytorch-lightning_version" in found and (weights := _from_checkpoint(found, states[0], sha256)):
        return weights
    if (state := _below_prefix(states[0], "block1.rep.0.conv1.weight")) is not None:
        names = {_timm_name(name): name for name in _xception_names()}
        renamed = {
            names.get(name, name): value[..., None, None] if _is_flat_pointwise(name, value) else value
            for name, value in state.items()
        }
        follows = {"norm.eps": 1e-5, "pool": POOLS["symmetric"]}  # PyTorch's default
        return Weights(sha256, lambda _: renamed, follows, XCEPTION_IS)
    if (state := _below_prefix(states[0], "Mixed_5b.branch1x1.conv.weight")) is not None:
        of_torchvision = state
        return Weights(
            sha256, lambda own: _from_torchvision(of_torchvision, own), {"norm.eps": 1e-3}, INCEPTION_V3_IS
        )
    return Weights(sha256, lambda own: _below_any_prefix(states[0], own))


def _holds_tensors(state: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(state, Mapping)
        and len(state) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    )


def _below_prefix(state: Mapping[str, Tensor], known: str) -> dict[str, Tensor] | None:
    """The values of the one module with a value of this name, without a wrapper's prefix; None if none."""
    prefixes = [name.removesuffix(known) for name in state if f".{name}".endswith(f".{known}")]
    if not prefixes:
        return None
    if len(prefixes) > 1:
        raise _Unusable(f"has the network {len(prefixes)} times ({', '.join(prefixes)}); {SAVE_INSTEAD}")
    (prefix,) = prefixes
    below = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    # The classifier's name in older ports.
    return {re.sub(r"^last_linear\.", "fc.", name): value for name, value in below.items()}


def _below_any_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of a network with known names, without a wrapper's prefix."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    return max(map(below, PREFIXES), key=lambda values: len(values.keys() & own.keys()))


def _is_flat_pointwise(name: str, value: Tensor) -> bool:
    """Whether a 1x1 convolution's weight is (C_out, C_in), as in older ports."""
    return value.ndim == 2 and name.endswith(".pointwise.weight")


XCEPTION_IS = {
    "_target_": "lightning_modules.networks.xception.Xception",
    "width": 1,
    "middle_modules": 8,
    "stem_stride": 2,
    "separable._target_": "lightning_modules.networks.separable.SeparableConvNorm",
    "separable.operation_order._target_": "lightning_modules.networks.separable.depthwise_first",
    "separable.intermediate_norm._target_": "torch.nn.Identity",
    "separable.intermediate_activation._target_": "torch.nn.Identity",
    "residual._target_": "lightning_modules.networks.blocks.LinearShortcut",
    "norm._target_": "torch.nn.BatchNorm2d",
}
"""Settings of the published Xception that its values do not show."""

INCEPTION_V3_IS = {
    "_target_": "lightning_modules.networks.inception_v3.InceptionV3",
    "width": 1,
    "pool_branch_channels": [32, 64, 64],
    "last_double_7x7_channels": 192,
    "stem_stride": 2,
    "padding": 0,
    "convolution._target_": "lightning_modules.networks.inception_v3.ConvNormReLU",
    "average_pool._target_": "torch.nn.AvgPool2d",
    "average_pool.count_include_pad": True,
    "last_reduction_pool._target_": "torch.nn.MaxPool2d",
    "norm._target_": "torch.nn.BatchNorm2d",
}
"""Settings of torchvision's Inception V3 that its values do not show."""


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
    flat = flattened(model)
    for key, value in flat.items():
        if not all(isinstance(item, PLAIN) for item in (value if isinstance(value, list) else [value])):
            raise _Unusable(f"damaged: {key} of its network is a {type(value).__name__}")
    follows: dict[str, Any] = {}
    if (eps := flat.get("norm.eps")) is not None:
        if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < math.inf:
            raise _Unusable(f"damaged: norm.eps of its network is {shown(eps)}")
        follows["norm.eps"] = eps
    if (pool := model.get("pool")) in POOLS.values():  # an unknown one is only compared
        follows["pool"] = next(known for known in POOLS.values() if known == pool)
    requires = {
        key: value for key, value in flat.items() if not re.fullmatch(NO_OUTCOME, key) and key not in follows
    }
    if "pool" in follows:
        requires = {key: value for key, value in requires.items() if not key.startswith("pool.")}
    return Weights(sha256, lambda _: values, follows, requires)


def _from_torchvision(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without the auxiliary tower, as in table 1."""
    try:
        names = {torchvision_name(name): name for name in own}
    except ValueError:  # not for Inception V3
        names = {}
    return {
        names.get(name, name): value for name, value in state.items() if not name.startswith("AuxLogits.")
    }


XCEPTION_SHORTCUTS = ("entry_flow.0", "entry_flow.1", "entry_flow.2", "exit_flow.module")
"""Modules with a projection shortcut."""


def _xception_layers() -> Iterator[tuple[str, str]]:
    """Layer and kind in Keras' order: by distance from the output.

    A projection's norm comes after those of the two separable convolutions next to it.
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
    """Xception's values by our names; without a head if the file has none or another one."""
    expected = list(_xception_layers())
    convolutions = _placed([layer for layer, kind in expected if kind == "conv"], layers.convolutions)
    separable = _placed([layer for layer, kind in expected if kind == "separable"], layers.separable)
    norms = _placed([layer for layer, _ in expected], layers.norms, "_bn")
    if convolutions is None or separable is None or norms is None:
        return None

    def tensor(array: Any, *order: int) -> Tensor:
        return torch.from_numpy(array).permute(order).contiguous()

    values = {}
    for layer, (kernel,) in convolutions.items():
        values[f"{layer}.conv.weight"] = tensor(kernel, 3, 2, 0, 1)
    for layer, (depthwise, pointwise) in separable.items():
        values[f"{layer}.depthwise.weight"] = tensor(depthwise, 2, 3, 0, 1)
        values[f"{layer}.pointwise.weight"] = tensor(pointwise, 3, 2, 0, 1)
    for layer, arrays in norms.items():
        for name, array in zip(NORM_VALUES, arrays, strict=True):
            values[f"{layer}.norm.{name}"] = tensor(array, 0)
    if len(layers.dense) == 1:
        kernel, bias = layers.dense[0].arrays
        values |= {"head.logits.weight": tensor(kernel, 1, 0), "head.logits.bias": tensor(bias, 0)}
    return values


def _placed(
    expected: Sequence[str], found: Sequence[KerasLayer], suffix: str = ""
) -> dict[str, list[Any]] | None:
    """Keras' arrays by our layers of one kind; None if these are not Xception's layers.

    By name if Keras' Xception named them, because in a nested network trained layers precede frozen ones; by
    order if all names are automatic. The projections' names always are.
    """
    named = {f"{name}{suffix}": layer for layer in expected if (name := _keras_name(layer)) is not None}
    if not any(layer.name in named for layer in found):
        placed = list(zip(expected, found, strict=False))
    else:
        automatic = sorted((layer for layer in found if layer.name not in named), key=_automatic_number)
        rest = [layer for layer in expected if layer not in named.values()]
        placed = [(named[layer.name], layer) for layer in found if layer.name in named]
        placed += zip(rest, automatic, strict=False)
    if not len(expected) == len(found) == len(dict(placed)):
        return None
    return {ours: layer.arrays for ours, layer in placed}


def _automatic_number(layer: KerasLayer) -> int:
    """3 for `conv2d_3`; 0 for `conv2d`, the first."""
    number = layer.name.rpartition("_")[2]
    return int(number) if number.isdigit() else 0


def _keras_name(layer: str) -> str | None:
    """The name of a convolution in Keras' Xception; None for a projection, whose name varies."""
    flow, module, *_ = layer.split(".")
    if ".shortcut." in layer:
        return None
    first = {"stem": 1, "entry_flow": 2, "middle_flow": 5, "exit_flow": 14}[flow]
    block = 13 if module == "module" else first + (int(module) if module.isdigit() else 0)
    return f"block{block}_{'conv' if flow == 'stem' else 'sepconv'}{layer[-1]}"


def _timm_name(name: str) -> str:
    """The name in timm's `legacy_xception` of our parameter or running statistic."""
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
    # In the body, ReLU, convolution and norm alternate; the first block has no first ReLU.
    index = 3 * (int(rest[1][-1]) - 1) + (0 if block == 1 else 1)
    if part == "norm":
        return f"block{block}.rep.{index + 1}.{value}"
    return f"block{block}.rep.{index}.{inner[part]}{value}"


# Small helpers


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without BN's count of batches, which Keras lacks and nothing here uses."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _without_head(state: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(head)}


PLAIN = (str, int, float, type(None))


def flattened(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= (
            flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return flat


def shown(value: object) -> str:
    """A value of a file for a message: short and without escape codes."""
    return textwrap.shorten("".join(filter(str.isprintable, str(value))), 80, placeholder=" ...")


def _by(shape: torch.Size) -> str:
    return "x".join(map(str, shape))
