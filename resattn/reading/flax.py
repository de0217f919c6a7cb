"""Flax NNX models: their graph is the jaxpr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from resattn.reading.admission import take_output
from resattn.reading.form import CHANNELS_LAST, ImageValues, Operand, held_or_unknown
from resattn.reading.jaxpr import read_jaxpr, scope_name
from resattn.reading.machine import Machine
from resattn.reading.outcome import join_failed
from resattn.reading.sources import Failed, locate_error
from resattn.reading.watching import Watcher
from weights.live import part
from weights.stages import activate, watch_calls


def read_flax(
    machine: Machine,
    model: Any,
    shape: tuple[int, ...],
    training: bool,
    names: Mapping[str, str],
) -> tuple[ImageValues, Failed | None]:
    """The output of a Flax model in a mode, and why it failed.

    shape: (batch, height, width, channels). names: of parameters, by the model's own names.
    """
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    with part("jax", "bridge.native").training_mode(model, training):
        graph, state = nnx.split(_with_own_convolutions(nnx.clone(model)))
    flat = nnx.to_flat_state(state)
    floats = (leaf[...].dtype for _, leaf in flat if leaf[...].dtype.kind == "f")
    x = jax.ShapeDtypeStruct(shape, next(floats, "float32"))
    failures: list[Failed] = []

    def run(state: Any, x: Any) -> Any:
        merged = nnx.merge(graph, state)
        modules = part("jax", "bridge.foreign").foreign_modules(merged)
        paths = {id(module): path for path, module in modules.items()}
        watcher = Watcher(paths, lambda path, kind: jax.named_scope(scope_name(path, kind)))
        try:
            with activate(watcher), watch_calls({type(each) for each in modules.values()}):
                return merged(x)
        except Exception as error:
            if machine.strict:
                raise
            failed, operands = locate_error(error, lambda each: isinstance(each, jax.core.Tracer))
            if not operands:
                raise
            failures.append(failed)
            return operands

    with filtering_off():
        jaxpr = jax.make_jaxpr(run)(state, x)
    given = [*_held(flat, names), machine.image(shape, CHANNELS_LAST)]
    found = read_jaxpr(machine, jaxpr, given)
    if failures:
        return join_failed(machine, failures[0], found), failures[0]
    return take_output(found), None


@contextmanager
def filtering_off() -> Iterator[None]:
    """Within it, JAX's errors keep all frames: among them are the arguments of what failed."""
    config = import_module("jax").config
    before = config.jax_traceback_filtering
    config.update("jax_traceback_filtering", "off")
    try:
        yield
    finally:
        config.update("jax_traceback_filtering", before)


def _with_own_convolutions(model: Any) -> Any:
    """The model with XLA's own convolution, where ours would compute a small map by patches."""
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    convolve = import_module("jax_impl.layers").convolve
    for _, node in nnx.iter_graph(model):
        if getattr(node, "conv_general_dilated", None) is convolve:
            node.conv_general_dilated = jax.lax.conv_general_dilated
    return model


def _held(flat: Any, names: Mapping[str, str]) -> list[Operand]:
    """The arrays of a model in the order of its state."""
    shapes = {".".join(map(str, path)): leaf[...].shape for path, leaf in flat}
    return [held_or_unknown(names.get(path), shape) for path, shape in shapes.items()]
