"""Where a recognised part ends in a live model, so that what the model computes after it is left
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from resattn.recognition.recognition import Recognition
from weights.config import BlockConfig, Config
from weights.errors import ModelError
from weights.live import owner, part


@dataclass(frozen=True)
class Ending:
    """stages: those of the recognition, with the last one where a module computes it. bare: paths
    of Keras layers that must compute without their own activation, such as the softmax of a
    classifier.
    """

    stages: Mapping[str, str]
    bare: tuple[str, ...] = ()


def last_stage(config: Config) -> str:
    """The stage whose output is that of the model."""
    return "output" if isinstance(config, BlockConfig) else "classifier"


def find_ending(found: Recognition, model: Any) -> Ending:
    """Where the part that was recognised ends in the live model.

    Raises ModelError where the model was not recognised, and where it computes something after the
    part that cannot be left out.
    """
    if found.config is None:
        raise ModelError("; ".join(found.describe()))
    last = last_stage(found.config)
    if last in found.stages or not found.after:
        return Ending(found.stages)
    path = found.parameters.get(f"{last}.weight", "").rpartition(".")[0]
    framework = owner(model)
    layer = part(framework, "bridge.foreign").foreign_modules(model).get(path)
    if framework != "tf" or not hasattr(layer, "activation"):
        raise ModelError(
            f"{found.reading.title}: its {last} is the output of no module, so what the model "
            "computes after it cannot be left out; give it a module of its own, or name one with "
            "only (--only)"
        )
    return Ending({**found.stages, last: path}, (path,))


@contextmanager
def leave_out_activations(model: Any, bare: tuple[str, ...]) -> Iterator[None]:
    """Within it, these layers of a Keras model compute without their own activation."""
    with ExitStack() as stack:
        for path in bare:
            layer = part("tf", "bridge.foreign").foreign_modules(model)[path]
            stack.callback(setattr, layer, "activation", layer.activation)
            layer.activation = import_module("keras").activations.linear
        yield
