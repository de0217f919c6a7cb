"""Models that are not ours <-> NumPy, by their own names and in their own axis orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from tf_impl.bridge.native import to_numpy
from weights.checks import Pair, pair_of
from weights.dialects import keras_applications
from weights.errors import ArgumentError, ModelError, WeightsError
from weights.stored import StoredArray, as_stored


def foreign_arrays(model: keras.layers.Layer) -> dict[str, np.ndarray]:
    """The parameters and statistics of any model, by its own names: "conv1_conv/kernel"."""
    return {name: to_numpy(leaf) for name, leaf in _leaves(model).items()}


def foreign_modules(model: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The layers of any model by their paths in it; the model itself is "".

    A path consists of attributes and indices; in a functional or sequential model of layers' names.
    """
    found = {"": model}
    by_name = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    parts = {layer.name: layer for layer in model.layers} if by_name else _attributes(model)
    for name, part in parts.items():
        for inner, layer in foreign_modules(part).items():
            found.setdefault(f"{name}.{inner}".rstrip("."), layer)
    return found


def foreign_variables(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """The parameters and statistics of any model by the path of the innermost layer and their own
    name: "conv1.kernel".
    """
    owners = {
        id(variable): (f"{path}.{variable.name}".lstrip("."), variable)
        for path, layer in foreign_modules(model).items()  # inner layers come after outer ones
        for variable in layer.weights
    }
    return dict(owners.values())


def foreign_strides(model: keras.layers.Layer) -> dict[str, tuple[Pair, Pair]]:
    """The stride and the dilation of each 2-d convolution, by its own name."""
    return {
        layer.name: (_pair(layer.strides), _pair(layer.dilation_rate))
        for layer in _layers(model)
        if isinstance(layer, keras.layers.Conv2D)
    }


def assign_foreign(
    model: keras.layers.Layer, arrays: Mapping[str, np.ndarray | StoredArray]
) -> None:
    """Loads arrays into any model by its own names, strictly."""
    leaves = _leaves(model)
    missing = [f"{name}: missing" for name in set(leaves) - set(arrays)]
    strange = [f"{name}: unexpected" for name in set(arrays) - set(leaves)]
    if missing or strange:
        raise WeightsError("the arrays do not fit the model:", missing + strange)
    for name, leaf in leaves.items():
        leaf.assign(as_stored(arrays[name]).get())


def write_foreign(path: Path, arrays: Mapping[str, StoredArray]) -> None:
    """Lets Keras write a network of keras.applications, by its names, as `.weights.h5` or into a
    folder as the parts of a `.keras` file.

    Such files know layers by their order in a model, so the model is made for it.
    Raises ArgumentError for other networks, and for dtypes other than float32, which
    keras.applications has.
    """
    layers = {name.split("/")[0] for name in arrays}
    known = {name: make() for name, make in keras_applications.DIALECT.architectures.items()}
    kernels = [name for name in arrays if name == "conv1_conv/kernel"]
    model = None
    for name, config in known.items():
        theirs = {each.split("/")[0] for each in keras_applications.DIALECT.names(config)}
        if kernels and layers | {"predictions"} == theirs:
            channels, classes = arrays["conv1_conv/kernel"].shape[2], arrays.get("predictions/bias")
            size, top = (None, {}) if classes is None else (224, {"classes": classes.shape[0]})
            model = getattr(keras.applications, name)(
                include_top=bool(top), weights=None, input_shape=(size, size, channels), **top
            )
    if model is None:
        raise ArgumentError(
            f"dialect: Keras' own files know layers by their order in a model, and only those "
            f"of {', '.join(known)} of keras.applications are known; write a .safetensors or .npz "
            "file, and load it into a live model with weights.load_into"
        )
    others = sorted({each.dtype.name for each in arrays.values()} - {"float32"})
    if others:
        raise ArgumentError(
            f"dialect: keras.applications loads float32, got arrays in {', '.join(others)}; "
            "write a .safetensors or .npz file"
        )
    assign_foreign(model, arrays)
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path, zipped=False)


def _leaves(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """By the name of the innermost layer. Raises ModelError for two of one name."""
    found: dict[str, keras.Variable] = {}
    for layer in _layers(model):
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            if name in found:
                raise ModelError(
                    f"the model has two variables called {name}; name its layers apart"
                )
            found[name] = variable
    return found


def _attributes(layer: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The layers that a layer holds, each once, by attribute and index."""
    found: dict[int, tuple[str, keras.layers.Layer]] = {}
    modules = getattr(layer, "_modules", {})  # of layers on PyTorch, which are its modules
    for name, value in {**vars(layer), **modules}.items():
        if name.startswith("_"):
            continue
        items = enumerate(value) if isinstance(value, (list, tuple)) else [("", value)]
        for index, item in items:
            if isinstance(item, keras.layers.Layer):
                found.setdefault(id(item), (f"{name}.{index}".rstrip("."), item))
    return dict(found.values())


def _layers(model: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    inner = getattr(model, "layers", None)
    if not inner:
        yield model
        return
    for layer in inner:
        yield from _layers(layer)


def _pair(values: int | Sequence[int]) -> Pair:
    return pair_of("strides", tuple(values) if isinstance(values, Sequence) else values)
