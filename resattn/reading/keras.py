"""Keras models: their graph is that of the backend that Keras runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from resattn.reading.admission import take_output
from resattn.reading.flax import filtering_off
from resattn.reading.form import CHANNELS_LAST, ImageValues, held_or_unknown
from resattn.reading.jaxpr import read_jaxpr, scope_name
from resattn.reading.machine import Machine
from resattn.reading.outcome import join_failed
from resattn.reading.sources import Failed, locate_error
from resattn.reading.tf_graph import read_tf_graph
from resattn.reading.torch_export import read_export
from resattn.reading.watching import Watcher
from weights.live import adapter, part
from weights.stages import activate, watch_calls


@dataclass
class _Subject:
    """A Keras model that is read.

    shape: (batch, height, width, channels). names: of parameters, by the model's own names.
    """

    machine: Machine
    model: Any
    shape: tuple[int, ...]
    training: bool
    names: Mapping[str, str]
    failed: Failed | None = None

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The variables by the names of the parameters."""
        found = part("tf", "bridge.foreign").foreign_variables(self.model)
        return {self.names[own]: variable for own, variable in found.items() if own in self.names}

    @cached_property
    def modules(self) -> dict[str, Any]:
        found: dict[str, Any] = part("tf", "bridge.foreign").foreign_modules(self.model)
        return found

    def run(
        self,
        x: Any,
        is_value: Callable[[Any], bool],
        context: Callable[[str, type], AbstractContextManager[Any]] = lambda path, kind: (
            nullcontext()
        ),
    ) -> Any:
        """The output for x; or, where the model fails, the values that were to be joined."""
        paths = {id(layer): path for path, layer in self.modules.items()}
        keras = import_module("keras")
        try:
            with activate(Watcher(paths, context)), watch_calls([keras.layers.Layer]):
                return self.model(x, training=self.training)
        except Exception as error:
            if self.machine.strict:
                raise
            failed, operands = locate_error(error, is_value)
            if not operands:
                raise
            self.failed = failed
            return operands


def read_keras(
    machine: Machine,
    model: Any,
    shape: tuple[int, ...],
    training: bool,
    names: Mapping[str, str],
) -> tuple[ImageValues, Failed | None]:
    """The output of a Keras model in a mode, and why it failed.

    shape: (batch, height, width, channels). names: of parameters, by the model's own names.
    """
    subject = _Subject(machine, model, shape, training, names)
    with _unfiltered():
        found = BACKENDS[adapter("tf").BACKEND](subject)
    if subject.failed is not None:
        return join_failed(machine, subject.failed, found), subject.failed
    return take_output(found), None


@contextmanager
def _unfiltered() -> Iterator[None]:
    """Within it, Keras' errors keep all frames: among them are the arguments of what failed."""
    config = import_module("keras").config
    filtering = config.is_traceback_filtering_enabled()
    config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtering:
            config.enable_traceback_filtering()


def _read_tensorflow(subject: _Subject) -> list[Any]:
    tf = import_module("tensorflow")
    spans: list[tuple[int, int, str, str]] = []

    @contextmanager
    def count(path: str, kind: type) -> Iterator[None]:
        graph = tf.compat.v1.get_default_graph()
        first = len(graph.get_operations())
        try:
            yield
        finally:
            spans.append((first, len(graph.get_operations()), path, kind.__name__))

    function = tf.function(lambda x: subject.run(x, tf.is_tensor, count), autograph=False)
    dtype = subject.model.compute_dtype
    graph = function.get_concrete_function(tf.TensorSpec(subject.shape, dtype)).graph
    names = {id(variable.value.handle): name for name, variable in subject.variables.items()}
    image = subject.machine.image(subject.shape, CHANNELS_LAST)
    return list(read_tf_graph(subject.machine, graph, names, image, spans))


def _read_jax(subject: _Subject) -> list[Any]:
    jax, keras = import_module("jax"), import_module("keras")
    live = subject.variables

    def run(arrays: list[Any], x: Any) -> Any:
        mapping = list(zip(live.values(), arrays, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return subject.run(
                x,
                lambda value: isinstance(value, jax.core.Tracer),
                lambda path, kind: jax.named_scope(scope_name(path, kind)),
            )

    arrays = [variable.value for variable in live.values()]
    with filtering_off():
        jaxpr = jax.make_jaxpr(run)(arrays, jax.ShapeDtypeStruct(subject.shape, "float32"))
    held = [held_or_unknown(name, variable.shape) for name, variable in live.items()]
    image = subject.machine.image(subject.shape, CHANNELS_LAST)
    return list(read_jaxpr(subject.machine, jaxpr, [*held, image]))


def _read_torch(subject: _Subject) -> list[Any]:
    torch = import_module("torch")
    # torch.export takes Keras' parameters for constants; we know them by their addresses.
    names = {variable.value.data_ptr(): name for name, variable in subject.variables.items()}

    class Wrapper(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = subject.model

        def forward(self, x: Any) -> Any:
            return subject.run(x, torch.is_tensor)

    with torch.no_grad():
        exported = torch.export.export(Wrapper(), (torch.zeros(subject.shape),), strict=False)
    addresses = {own: array.data_ptr() for own, array in exported.constants.items()}
    owners = {own: names[at] for own, at in addresses.items() if at in names}
    paths = {id(layer): path for path, layer in subject.modules.items()}
    own_paths = {own: paths.get(id(each), own) for own, each in subject.model.named_modules()}
    image = subject.machine.image(subject.shape, CHANNELS_LAST)
    return read_export(subject.machine, exported, owners, image, "model", own_paths)


BACKENDS = {"tensorflow": _read_tensorflow, "jax": _read_jax, "torch": _read_torch}
