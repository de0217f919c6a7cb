"""What a model computes, stage by stage, forward and backward, as NumPy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import keras
import numpy as np

from tf_impl.bridge.adapter import BACKEND, _device_of, _images, _numpy
from weights.frameworks import FRAMEWORKS
from weights.stages import (
    Recorder,
    Recording,
    calls_recorded,
    check_recorded,
    functions_recorded,
    mapped,
    norm_statistics,
    stage_of,
)

LAYOUT = FRAMEWORKS["tf"]


def trace(
    model: keras.layers.Layer,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) with respect to it. The
    model is left as it was.

    model: ours, or with `stages` any layer: {stage: path of the layer whose output it is}, by
    attributes, indices or, in a functional model, layers' names. x: (batch, channels, height,
    width), handed to the model channels last. cotangent: makes the slopes of the output from its
    shape, channels second. last: the stage that the model's own output is.
    Raises ValueError for a path that does not exist.
    """
    layers = _named(model, stages, last)
    names = {id(layer): name for name, layer in layers.items()}
    ours = [module for name, module in sys.modules.items() if name.startswith("tf_impl.")]

    def run(images: Any, tap: Callable[[int, Any], Any] = lambda number, value: value) -> Recorder:
        recorder = Recorder(names, last, every=stages is None, tap=tap)
        recorder.know(images)
        with functions_recorded(recorder, ours), calls_recorded(recorder, [keras.layers.Layer]):
            model(images, training=training)
        check_recorded(recorder, last, stages)
        return recorder

    def slope_of(output: Any) -> Any:
        return keras.ops.cast(
            _images(cotangent((output.shape[0], output.shape[-1], *output.shape[1:-1]))),
            output.dtype,
        )

    with keras.device(_device_of(model)), _restored(model):
        backend = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND]
        recorder, slopes, first = backend(model, run, _images(x), slope_of, last)
        statistics = {
            name: _numpy(leaf.value).copy()
            for name, leaf in norm_statistics(LAYOUT, layers).items()
        }
    return Recording(
        {
            "input": x,
            **{
                name: _canonical(value, recorder.maps[name])
                for name, value in recorder.values.items()
            },
        },
        {
            name: _canonical(slope, recorder.maps.get(name, True))
            for name, slope in zip(["input", *recorder.values], [first, *slopes], strict=True)
            if slope is not None and name not in recorder.given
        },
        statistics,
        None if recorder.received is None else _canonical(recorder.received),
    )


def _tensorflow(
    model: Any, run: Any, images: Any, slope_of: Any, last: str
) -> tuple[Recorder, Any, Any]:
    tf = import_module("tensorflow")
    with tf.GradientTape() as tape:
        tape.watch(images)
        recorder = run(images)
        output = recorder.values[last]
    first, *slopes = tape.gradient(output, [images, *recorder.values.values()], slope_of(output))
    return recorder, slopes, first


def _torch(
    model: Any, run: Any, images: Any, slope_of: Any, last: str
) -> tuple[Recorder, Any, Any]:
    torch = import_module("torch")
    images = images.requires_grad_()
    recorder = run(images)
    output = recorder.values[last]
    sources = [images, *recorder.values.values()]
    first, *slopes = torch.autograd.grad(output, sources, slope_of(output), allow_unused=True)
    return recorder, slopes, first


def _jax(model: Any, run: Any, images: Any, slope_of: Any, last: str) -> tuple[Recorder, Any, Any]:
    """To each stage zeros are added, whose slope is the stage's."""
    jax = import_module("jax")
    variables = model.variables
    seen: list[Recorder] = []

    def recorded(added: Mapping[int, Any], images: Any) -> tuple[Any, tuple[Any, ...]]:
        with keras.StatelessScope(
            state_mapping=[(variable, variable.value) for variable in variables]
        ) as scope:
            recorder = run(images, lambda number, value: value + added.get(number, 0))
        seen.append(recorder)
        values = {recorder.numbers[name]: value for name, value in recorder.values.items()}
        return recorder.values[last], (
            values,
            recorder.received,
            [scope.get_current_value(variable) for variable in variables],
        )

    _, (shapes, *_) = jax.eval_shape(lambda images: recorded({}, images), images)
    zeros = {number: keras.ops.zeros(value.shape, value.dtype) for number, value in shapes.items()}
    output, pullback, (values, received, moved) = jax.vjp(recorded, zeros, images, has_aux=True)
    for variable, value in zip(variables, moved, strict=True):
        if value is not None:
            variable.assign(value)
    slopes, first = pullback(slope_of(output))
    recorder = seen[-1]
    recorder.received = received
    recorder.values = {name: values[recorder.numbers[name]] for name in recorder.values}
    return recorder, [slopes[recorder.numbers[name]] for name in recorder.values], first


@contextmanager
def _restored(model: keras.layers.Layer) -> Iterator[None]:
    """Behind it, what a training pass moves is as it was before."""
    before = [
        (variable, _numpy(variable.value).copy()) for variable in model.non_trainable_variables
    ]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _named(model: Any, stages: Mapping[str, str] | None, last: str) -> dict[str, Any]:
    """The layers that are stages; the model itself is "" unless another is the last stage."""
    if stages is None:
        return {stage_of(LAYOUT, path): layer for path, layer in _layers(model, ())}
    return mapped(model, stages, last, _part, keras.layers.Layer)


def _layers(
    layer: keras.layers.Layer, path: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], keras.layers.Layer]]:
    """A layer of ours and all that it holds, with the attributes and indices that lead there."""
    yield path, layer
    for name, held in {
        **vars(layer),
        **getattr(layer, "_modules", {}),
    }.items():  # on PyTorch, they are its modules
        if name.startswith("_"):
            continue
        items = enumerate(held) if isinstance(held, (list, tuple)) else [(None, held)]
        for index, item in items:
            if isinstance(item, keras.layers.Layer):
                yield from _layers(item, (*path, name) if index is None else (*path, name, index))


def _part(layer: Any, name: str) -> Any:
    if name.isdigit():
        held = layer if isinstance(layer, (list, tuple)) else layer.layers
        return held[int(name)]
    if hasattr(layer, name):
        return getattr(layer, name)
    return layer.get_layer(name)


def _canonical(tensor: Any, is_map: bool = True) -> np.ndarray:
    array = _numpy(tensor)
    return np.moveaxis(array, -1, 1) if is_map and array.ndim in (3, 4) else array
