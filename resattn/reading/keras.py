"""Keras models: their graph is that of the backend that Keras runs on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resattn.reading.form import BATCH, CHANNELS_LAST, ImageValues, held_or_unknown
from resattn.reading.jaxpr import read_jaxpr
from resattn.reading.machine import Machine
from resattn.reading.tf_graph import read_tf_graph
from resattn.reading.torch_export import read_export
from weights.live import LiveModel, adapter


def read_keras(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> ImageValues:
    shape = (BATCH, *size, model.config.in_channels)
    return BACKENDS[adapter("tf").BACKEND](machine, model, shape, training)


def _read_tensorflow(
    machine: Machine, model: Any, shape: tuple[int, ...], training: bool
) -> ImageValues:
    tf = import_module("tensorflow")
    function = tf.function(lambda x: model(x, training=training), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec(shape, "float32")).graph
    names = {id(leaf.value.handle): name for name, leaf in LiveModel.of(model).leaves.items()}
    return read_tf_graph(machine, graph, names, machine.image(shape, CHANNELS_LAST))


def _read_jax(machine: Machine, model: Any, shape: tuple[int, ...], training: bool) -> ImageValues:
    jax, keras = import_module("jax"), import_module("keras")
    live = LiveModel.of(model).leaves

    def run(arrays: list[Any], x: Any) -> Any:
        mapping = list(zip(live.values(), arrays, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return model(x, training=training)

    arrays = [leaf.value for leaf in live.values()]
    jaxpr = jax.make_jaxpr(run)(arrays, jax.ShapeDtypeStruct(shape, "float32"))
    held = [held_or_unknown(name, leaf.shape) for name, leaf in live.items()]
    output, *_ = read_jaxpr(machine, jaxpr, [*held, machine.image(shape, CHANNELS_LAST)])
    assert isinstance(output, ImageValues)
    return output


def _read_torch(
    machine: Machine, model: Any, shape: tuple[int, ...], training: bool
) -> ImageValues:
    torch = import_module("torch")
    # torch.export takes Keras' parameters for constants; we know them by their addresses.
    names = {leaf.value.data_ptr(): name for name, leaf in LiveModel.of(model).leaves.items()}
    with torch.no_grad():
        exported = torch.export.export(model, (torch.zeros(shape),), {"training": training})
    addresses = {own: array.data_ptr() for own, array in exported.constants.items()}
    owners = {own: names[at] for own, at in addresses.items() if at in names}
    return read_export(machine, exported, owners, machine.image(shape, CHANNELS_LAST))


BACKENDS = {"tensorflow": _read_tensorflow, "jax": _read_jax, "torch": _read_torch}
