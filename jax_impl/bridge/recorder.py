"""What a model computes, stage by stage, forward and backward, as NumPy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl.bridge.adapter import _images, _mode
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

LAYOUT = FRAMEWORKS["jax"]


def trace(
    model: nnx.Module,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) with respect to it. The
    model is left as it was.

    model: ours, or with `stages` any module: {stage: path of the module whose output it is}. x:
    (batch, channels, height, width), handed to the model channels last. cotangent: makes the slopes
    of the output from its shape, channels second.
    last: the stage that the model's own output is.
    Raises ValueError for a path that does not exist.
    """
    with _mode(model, training):
        graph, state = nnx.split(model)
    _named(model, stages, last)  # for its errors
    images = _as_held(state, _images(state, x))
    seen: list[Recorder] = []

    def run(
        added: Mapping[int, Any], images: Any
    ) -> tuple[Any, tuple[dict[int, Any], dict[str, Any], Any]]:
        """The output, and all stages, to each of which something (zeros) is added: its slope is the
        stage's.
        """
        merged = nnx.merge(
            graph, jax.tree.map(lambda leaf: leaf, state)
        )  # copies, that this pass may change
        modules = _named(merged, stages, last)
        recorder = Recorder(
            {id(module): name for name, module in modules.items()},
            last,
            every=stages is None,
            tap=lambda number, value: value + added.get(number, 0),
        )
        recorder.know(images)
        ours = [module for name, module in sys.modules.items() if name.startswith("jax_impl.")]
        with (
            functions_recorded(recorder, ours),
            calls_recorded(recorder, [type(module) for module in modules.values()]),
        ):
            merged(images)
        check_recorded(recorder, last, stages)
        seen.append(recorder)
        statistics = {name: leaf[...] for name, leaf in norm_statistics(LAYOUT, modules).items()}
        values = {recorder.numbers[name]: value for name, value in recorder.values.items()}
        return recorder.values[last], (values, statistics, recorder.received)

    output, (shapes, *_) = jax.eval_shape(lambda images: run({}, images), images)

    @jax.jit
    def both(added: Mapping[int, Any], images: Any, slope: Any) -> tuple[Any, ...]:
        _, pullback, kept = jax.vjp(run, added, images, has_aux=True)
        return pullback(slope), kept

    zeros = {number: jnp.zeros(value.shape, value.dtype) for number, value in shapes.items()}
    slope = _images(state, cotangent(_canonical_shape(output.shape)).astype(output.dtype))
    (slopes, first), (values, statistics, received) = both(zeros, images, slope)
    recorder = seen[-1]
    return Recording(
        {
            "input": x,
            **{
                name: _canonical(values[n], recorder.maps[name])
                for name, n in recorder.numbers.items()
            },
        },
        {
            "input": _canonical(first),
            **{
                n: _canonical(slopes[k], recorder.maps[n])
                for n, k in recorder.numbers.items()
                if n not in recorder.given
            },
        },
        {name: np.asarray(value) for name, value in statistics.items()},
        None if received is None else _canonical(received),
    )


def _named(model: nnx.Module, stages: Mapping[str, str] | None, last: str) -> dict[str, nnx.Module]:
    """The modules that are stages; the model itself is "" unless another is the last stage."""
    if stages is None:
        nodes = nnx.iter_graph(model)
        return {
            stage_of(LAYOUT, path): node for path, node in nodes if isinstance(node, nnx.Module)
        }
    return mapped(model, stages, last, _part, nnx.Module)


def _as_held(state: Any, images: Any) -> Any:
    """Images in the dtype of the model's parameters."""
    held = next(
        (leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)),
        images,
    )
    return images.astype(held.dtype)


def _part(module: Any, name: str) -> Any:
    return (
        module[int(name)] if name.isdigit() and not hasattr(module, name) else getattr(module, name)
    )


def _canonical(array: Any, is_map: bool = True) -> np.ndarray:
    array = np.asarray(array)
    return np.moveaxis(array, -1, 1) if is_map and array.ndim in (3, 4) else array


def _canonical_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1])
