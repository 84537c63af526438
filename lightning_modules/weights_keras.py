"""Keras' weights files without Keras: every layer's arrays, in the order of the network's layers.

Three layouts (https://github.com/keras-team/keras, `keras/src/legacy/saving/legacy_h5_format.py` and
`keras/src/saving/saving_lib.py`): HDF5 of Keras 1 and 2, whose attribute `layer_names` gives the order, at
the root (`save_weights`) or below `model_weights` (`model.save`); `.weights.h5` of Keras 3, which numbers
the layers of each class; `.keras`, a zip archive with such a file in it. A network within another, as in
`Sequential([Xception(include_top=False), ...])`, is a layer of it. Nothing else of a file is read:
no configuration, no code, no other file (a link to one finds nothing, because the file is read from memory).
"""

import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

KERAS_3_CLASSES = re.compile(r"(conv2d|separable_conv2d|batch_normalization|dense)(?:_(\d+))?")
"""How Keras 3 names a layer's group, by class and number, whatever the layer's own name is."""


class KerasLayer(NamedTuple):
    """A layer's name and its arrays."""

    name: str
    arrays: list[np.ndarray]


class KerasLayers(NamedTuple):
    """The layers that have arrays, in the file's order within each kind.

    The order is the network's, except that a network within another may have its trained layers before its
    frozen ones.

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
    """Read the content of an HDF5 file of Keras.

    Returns:
        None where a layer is of no kind that `KerasLayers` has, or where there is none.

    Raises:
        ImportError: h5py is not installed.
        Exception: Whatever h5py raises where the file is damaged.
    """
    import h5py

    layers = KerasLayers([], [], [], [])
    # Every layout's order of arrays within a layer is the same, since Keras 1, whatever they are called.
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
            # `block1_conv1/kernel:0`; a name without a slash is no network's within.
            own = name.rpartition("/")[0].rpartition("/")[2] or layer
            within.setdefault(own, []).append(_array(group, name))
        yield from (KerasLayer(name, arrays) for name, arrays in within.items())


def _layers_of_keras_3(root: Any) -> Iterator[KerasLayer]:
    """Numbered by class, in the network's order: `conv2d`, `conv2d_1`, ..."""
    name = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in root), None)
    layers = {} if name is None else root[name]
    found = []
    for layer in layers:
        yield from _layers_of_keras_3(layers[layer])  # a network within
        arrays = layers[layer].get("vars", {})
        if len(arrays):
            numbered = KERAS_3_CLASSES.fullmatch(layer)
            kind, number = numbered.groups() if numbered else (layer, None)
            place = (numbered is None, kind, int(number or 0))
            found.append((place, layer, [_array(arrays, name) for name in sorted(arrays, key=int)]))
    for (unknown, *_), layer, arrays in sorted(found, key=lambda item: item[0]):
        yield KerasLayer(layer, [] if unknown else arrays)


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _array(group: Any, name: str) -> np.ndarray:
    dataset = group[name]
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} lies in another file")
    return np.asarray(dataset, dtype=np.float32)
