"""Reads Keras' weights files without Keras: every layer's arrays, in order.

Three layouts (https://github.com/keras-team/keras, `keras/src/legacy/saving/legacy_h5_format.py` and
`keras/src/saving/saving_lib.py`): HDF5 of Keras 1 and 2, whose attribute `layer_names` gives the order, at
the root (`save_weights`) or below `model_weights` (`model.save`); `.weights.h5` of Keras 3, which numbers the
layers of each class; `.keras`, a zip archive with such a file. A nested network is a layer. Configuration,
code and linked files are not read.
"""

import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

KERAS_3_CLASSES = re.compile(r"(conv2d|separable_conv2d|batch_normalization|dense)(?:_(\d+))?")
"""Keras 3's name of a layer's group: class and number."""


class KerasLayer(NamedTuple):
    """A layer's name and its arrays."""

    name: str
    arrays: list[np.ndarray]


class KerasLayers(NamedTuple):
    """The layers with arrays, in the file's order within each kind.

    In a nested network, trained layers may precede frozen ones.

    Attributes:
        convolutions: `[kernel]`, (height, width, C_in, C_out).
        separable: `[depthwise, pointwise]`, (height, width, C_in, 1) and (1, 1, C_in, C_out).
        norms: `[scale, shift, mean, variance]`, each (C,).
        dense: `[kernel, bias]`, (C_in, C_out) and (C_out,).
    """

    convolutions: list[KerasLayer]
    separable: list[KerasLayer]
    norms: list[KerasLayer]
    dense: list[KerasLayer]


def read_keras(content: bytes) -> KerasLayers | None:
    """Read the content of an HDF5 file of Keras; None if there is no layer, or one of an unknown kind.

    Raises:
        ImportError: h5py is not installed.
        Exception: The file is damaged; from h5py.
    """
    import h5py

    layers = KerasLayers([], [], [], [])
    # Since Keras 1, the order of arrays within a layer is the same in every layout.
    kinds = {(4,): layers.convolutions, (4, 4): layers.separable, (1, 1, 1, 1): layers.norms}
    kinds[2, 1] = layers.dense
    with h5py.File(io.BytesIO(content), "r") as file:
        root = file.get("model_weights", file)
        read = _layers_of_keras_1 if "layer_names" in root.attrs else _layers_of_keras_3
        for layer in read(root):
            if (kind := kinds.get(tuple(array.ndim for array in layer.arrays))) is None:
                return None
            kind.append(layer)
    return layers if any(layers) else None


def _layers_of_keras_1(root: Any) -> Iterator[KerasLayer]:
    for layer in _texts(root.attrs["layer_names"]):
        group = root[layer]
        within: dict[str, list[np.ndarray]] = {}
        for name in _texts(group.attrs["weight_names"]):
            # `block1_conv1/kernel:0`; a name without a slash is not of a nested network.
            own = name.rpartition("/")[0].rpartition("/")[2] or layer
            within.setdefault(own, []).append(_array(group, name))
        yield from (KerasLayer(name, arrays) for name, arrays in within.items())


def _layers_of_keras_3(root: Any) -> Iterator[KerasLayer]:
    """Numbered by class, in the network's order: `conv2d`, `conv2d_1`, ..."""
    name = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in root), None)
    layers = {} if name is None else root[name]
    found = []
    for layer in layers:
        yield from _layers_of_keras_3(layers[layer])  # a nested network
        arrays = layers[layer].get("vars", {})
        if len(arrays):
            numbered = KERAS_3_CLASSES.fullmatch(layer)
            kind, number = numbered.groups() if numbered else (layer, None)
            order = (numbered is None, kind, int(number or 0))
            found.append((order, layer, [_array(arrays, name) for name in sorted(arrays, key=int)]))
    for (unknown, *_), layer, arrays in sorted(found, key=lambda item: item[0]):
        yield KerasLayer(layer, [] if unknown else arrays)


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _array(group: Any, name: str) -> np.ndarray:
    dataset = group[name]
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} is in another file")
    return np.asarray(dataset, dtype=np.float32)
