"""Flax NNX models: their graph is the jaxpr."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resattn.reading.form import BATCH, CHANNELS_LAST, ImageValues, Operand, held_or_unknown
from resattn.reading.jaxpr import read_jaxpr
from resattn.reading.machine import Machine
from weights import schema
from weights.frameworks import framework_named
from weights.live import adapter


def read_flax(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> ImageValues:
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    shape = (BATCH, *size, model.config.in_channels)
    adapter("jax").set_training(model, training)
    try:
        graph, state = nnx.split(_with_own_convolutions(nnx.clone(model)))
    finally:
        adapter("jax").set_training(model, False)
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(
        state, jax.ShapeDtypeStruct(shape, "float32")
    )
    given = [*_held(model, nnx.to_flat_state(state)), machine.image(shape, CHANNELS_LAST)]
    output, *_ = read_jaxpr(machine, jaxpr, given)
    assert isinstance(output, ImageValues)
    return output


def _with_own_convolutions(model: Any) -> Any:
    """The model with XLA's own convolution, where ours would compute a small map by patches."""
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    convolve = import_module("jax_impl.layers").convolve
    for _, node in nnx.iter_graph(model):
        if getattr(node, "conv_general_dilated", None) is convolve:
            node.conv_general_dilated = jax.lax.conv_general_dilated
    return model


def _held(model: Any, state: Any) -> list[Operand]:
    """The arrays of a model in the order of its state."""
    own = framework_named("jax")
    names = {own.path(parameter): parameter.name for parameter in schema(model.config)}
    flat = {".".join(map(str, path)): leaf[...].shape for path, leaf in state}
    return [held_or_unknown(names.get(path), shape) for path, shape in flat.items()]
