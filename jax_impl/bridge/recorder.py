"""A model's stages, forward and backward, as NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl.bridge.native import to_canonical, to_native, training_mode
from weights.frameworks import FRAMEWORKS
from weights.outputs import blame_model
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

FRAMEWORK = FRAMEWORKS["jax"]


def trace(
    model: nnx.Module,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) for each.

    The model stays as it was.

    model: ours, or with `stages` any module. stages: {stage: path of the module that computes it}.
    x: (batch, channels, height, width); the model gets it channels last. cotangent: makes the
        gradient of the output from its canonical shape.
    training: sets the mode. A module of a user's own infers in the mode in which it is.
    last: the stage that is the model's own output.
    Raises ArgumentError for stages that do not exist or give no array, ModelError for a failure.
    """
    with training_mode(model, training) if stages is None or training else nullcontext():
        graph, state = nnx.split(model)
    _modules_by_stage(model, stages, last)  # raises its errors early
    images = _cast_like_parameters(to_native(model, x), state)
    recorders: list[Recorder] = []

    def run(
        zeros: Mapping[int, Any], images: Any
    ) -> tuple[Any, tuple[dict[int, Any], dict[str, Any], Any]]:
        """The output and all stages. A zero is added to each stage: its gradient is the stage's."""
        # A copy of the state, which this pass may change.
        merged = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
        modules = _modules_by_stage(merged, stages, last)
        names = {id(module): name for name, module in modules.items()}
        recorder = Recorder(names, last, stages is None, lambda n, value: value + zeros.get(n, 0))
        recorder.know(images)
        with (
            activate(recorder),
            watch_calls(type(module) for module in modules.values()),
            blame_model(model, x, stages is None),
        ):
            merged(images)
        check_recorded(recorder, stages)
        recorders.append(recorder)
        statistics = {name: leaf[...] for name, leaf in norm_statistics(FRAMEWORK, modules).items()}
        values = {recorder.numbers[name]: value for name, value in recorder.values.items()}
        return recorder.values[last], (values, statistics, recorder.received)

    output, (shapes, *_) = jax.eval_shape(lambda images: run({}, images), images)

    @jax.jit
    def differentiate(zeros: Mapping[int, Any], images: Any, slope: Any) -> tuple[Any, ...]:
        _, pullback, recorded = jax.vjp(run, zeros, images, has_aux=True)
        return pullback(slope), recorded

    zeros = {number: jnp.zeros(value.shape, value.dtype) for number, value in shapes.items()}
    slope = to_native(model, cotangent(_canonical_shape(output.shape)).astype(output.dtype))
    (slopes, first), (values, statistics, received) = differentiate(zeros, images, slope)
    return _recording(recorders[-1], x, values, slopes, first, statistics, received)


def _recording(
    recorder: Recorder,
    x: np.ndarray,
    values: Mapping[int, Any],
    slopes: Mapping[int, Any],
    first: Any,
    statistics: Mapping[str, Any],
    received: Any,
) -> Recording:
    """Values and slopes by the number of their stage -> by its name. first: the input's slope."""
    numbers, maps = recorder.numbers, recorder.maps
    return Recording(
        {"input": x} | {name: to_canonical(values[n], maps[name]) for name, n in numbers.items()},
        {"input": to_canonical(first)}
        | {
            name: to_canonical(slopes[n], maps[name])
            for name, n in numbers.items()
            if name not in recorder.inputs
        },
        {name: np.asarray(value) for name, value in statistics.items()},
        None if received is None else to_canonical(received),
        tuple(recorder.notes),
    )


def _modules_by_stage(
    model: nnx.Module, stages: Mapping[str, str] | None, last: str
) -> dict[str, nnx.Module]:
    """The modules that are stages. The model itself is "" unless another is the last stage."""
    if stages is None:
        nodes = nnx.iter_graph(model)
        return {
            stage_of(FRAMEWORK, path): node for path, node in nodes if isinstance(node, nnx.Module)
        }
    return find_modules(model, stages, last, _child, nnx.Module)


def _cast_like_parameters(images: Any, state: Any) -> Any:
    """Images in the dtype of the model's parameters."""
    leaves = jax.tree.leaves(state)
    floats = (leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))
    return images.astype(next(floats, images).dtype)


def _child(module: Any, name: str) -> Any:
    """The part of a module at one part of a path: an index or an attribute."""
    by_index = name.isdigit() and not hasattr(module, name)
    return module[int(name)] if by_index else getattr(module, name)


def _canonical_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1])
