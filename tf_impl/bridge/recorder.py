"""A model's stages, forward and backward, as NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import keras
import numpy as np

from tf_impl.bridge.native import BACKEND, device_scope, to_canonical, to_native, to_numpy
from weights.frameworks import FRAMEWORKS
from weights.outputs import attempt_gradients, blame_model
from weights.stages import (
    Recorder,
    Recording,
    activate,
    check_recorded,
    find_modules,
    norm_statistics,
    stage_of,
    watch_calls,
)

FRAMEWORK = FRAMEWORKS["tf"]


def trace(
    model: keras.layers.Layer,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) for each.

    The model stays as it was.

    model: ours, or with `stages` any layer. stages: {stage: path of the layer that computes it}, a
        path of attributes, indices or, in a functional model, names of layers.
    x: (batch, channels, height, width); the model gets it channels last. cotangent: makes the
        gradient of the output from its canonical shape.
    training: sets the mode. A layer of a user's own infers as it does when called without one.
    last: the stage that is the model's own output.
    Raises ArgumentError for stages that do not exist or give no array, ModelError for a failure.
    """
    ours = stages is None
    layers = _layers_by_stage(model, stages, last)
    names = {id(layer): name for name, layer in layers.items()}

    def run(images: Any, tap: Callable[[int, Any], Any] = lambda number, value: value) -> Recorder:
        recorder = Recorder(names, last, every=ours, tap=tap)
        recorder.know(images)
        mode = {"training": training} if ours or training else {}
        with activate(recorder), watch_calls([keras.layers.Layer]), blame_model(model, x, ours):
            model(images, **mode)
        check_recorded(recorder, stages)
        return recorder

    def slope_of(output: Any) -> Any:
        shape = (output.shape[0], output.shape[-1], *output.shape[1:-1])
        return keras.ops.cast(to_native(model, cotangent(shape)), output.dtype)

    with device_scope(model), _restore_statistics(model), _without_strides_of_one_pixel(model):
        differentiate = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND]
        recorder, slopes, first = differentiate(model, run, to_native(model, x), slope_of, last)
        leaves = norm_statistics(FRAMEWORK, layers)
        statistics = {name: to_numpy(leaf).copy() for name, leaf in leaves.items()}
    by_name = zip(["input", *recorder.values], [first, *slopes], strict=True)
    return Recording(
        {"input": x}
        | {
            name: to_canonical(value, recorder.maps[name])
            for name, value in recorder.values.items()
        },
        {
            name: to_canonical(slope, recorder.maps.get(name, True))
            for name, slope in by_name
            if slope is not None and name not in recorder.inputs
        },
        statistics,
        None if recorder.received is None else to_canonical(recorder.received),
        tuple(recorder.notes),
    )


def _tensorflow(
    model: Any, run: Any, images: Any, slope_of: Any, last: str
) -> tuple[Recorder, Any, Any]:
    tf = import_module("tensorflow")
    with tf.GradientTape() as tape:
        tape.watch(images)
        recorder = run(images)
        output = recorder.values[last]
    sources = [images, *recorder.values.values()]
    first, *slopes = attempt_gradients(
        lambda: tape.gradient(output, sources, slope_of(output)),
        [None] * len(sources),
        None if recorder.every else recorder.notes,
    )
    return recorder, slopes, first


def _torch(
    model: Any, run: Any, images: Any, slope_of: Any, last: str
) -> tuple[Recorder, Any, Any]:
    torch = import_module("torch")
    images = images.requires_grad_()
    recorder = run(images)
    output = recorder.values[last]
    sources = [images, *recorder.values.values()]
    first, *slopes = attempt_gradients(
        lambda: torch.autograd.grad(output, sources, slope_of(output), allow_unused=True),
        [None] * len(sources),
        None if recorder.every else recorder.notes,
    )
    return recorder, slopes, first


def _jax(model: Any, run: Any, images: Any, slope_of: Any, last: str) -> tuple[Recorder, Any, Any]:
    """A zero is added to each stage: its gradient is the stage's."""
    jax = import_module("jax")
    variables = model.variables
    recorders: list[Recorder] = []

    def record(zeros: Mapping[int, Any], images: Any) -> tuple[Any, tuple[Any, ...]]:
        with keras.StatelessScope(
            state_mapping=[(variable, variable.value) for variable in variables]
        ) as scope:
            recorder = run(images, lambda number, value: value + zeros.get(number, 0))
        recorders.append(recorder)
        values = {recorder.numbers[name]: value for name, value in recorder.values.items()}
        return recorder.values[last], (
            values,
            recorder.received,
            [scope.get_current_value(variable) for variable in variables],
        )

    _, (shapes, *_) = jax.eval_shape(lambda images: record({}, images), images)
    zeros = {number: keras.ops.zeros(value.shape, value.dtype) for number, value in shapes.items()}
    output, pullback, (values, received, new_values) = jax.vjp(record, zeros, images, has_aux=True)
    for variable, value in zip(variables, new_values, strict=True):
        if value is not None:
            variable.assign(value)
    slopes, first = pullback(slope_of(output))
    recorder = recorders[-1]
    recorder.received = received
    recorder.values = {name: values[recorder.numbers[name]] for name in recorder.values}
    return recorder, [slopes[recorder.numbers[name]] for name in recorder.values], first


@contextmanager
def _restore_statistics(model: keras.layers.Layer) -> Iterator[None]:
    """Restores the running statistics on exit."""
    before = [(variable, to_numpy(variable).copy()) for variable in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


@contextmanager
def _without_strides_of_one_pixel(model: keras.layers.Layer) -> Iterator[None]:
    """Within it, 1x1 convolutions with a stride get only the pixels that they read.

    The gradient of such a convolution writes outside of its memory in TensorFlow 2.21 on CPU with
    oneDNN, and may end the process. Ours need no help.
    """

    def convolve(layer: Any) -> Callable[[Any, Any], Any]:
        rows, cols = layer.strides
        return lambda x, kernel: keras.ops.conv(
            x[:, ::rows, ::cols], kernel, 1, "valid", layer.data_format
        )

    with ExitStack() as stack:
        for layer in model._flatten_layers() if BACKEND == "tensorflow" else ():
            if (
                type(layer) is keras.layers.Conv2D
                and layer.kernel_size == (1, 1)
                and layer.strides != (1, 1)
                and layer.data_format == "channels_last"
            ):
                layer.convolution_op = convolve(layer)
                stack.callback(delattr, layer, "convolution_op")
        yield


def _layers_by_stage(model: Any, stages: Mapping[str, str] | None, last: str) -> dict[str, Any]:
    """The layers that are stages. The model itself is "" unless another is the last stage."""
    if stages is None:
        return {stage_of(FRAMEWORK, path): layer for path, layer in _layers(model, ())}
    return find_modules(model, stages, last, _child, keras.layers.Layer)


def _layers(
    layer: keras.layers.Layer, path: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], keras.layers.Layer]]:
    """A layer of ours and all layers in it, each with its path of attributes and indices."""
    yield path, layer
    modules = getattr(layer, "_modules", {})  # of layers on PyTorch, which are its modules
    for name, value in {**vars(layer), **modules}.items():
        if name.startswith("_"):
            continue
        items = enumerate(value) if isinstance(value, (list, tuple)) else [(None, value)]
        for index, item in items:
            if isinstance(item, keras.layers.Layer):
                yield from _layers(item, (*path, name) if index is None else (*path, name, index))


def _child(layer: Any, name: str) -> Any:
    """The part of a layer at one part of a path: an index, an attribute or a layer's name."""
    if name.isdigit():
        layers = layer if isinstance(layer, (list, tuple)) else layer.layers
        return layers[int(name)]
    if hasattr(layer, name):
        return getattr(layer, name)
    return layer.get_layer(name)
