"""The graph that a live model executes, in the common form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resattn.reading.flax import read_flax
from resattn.reading.form import ImageValues
from resattn.reading.keras import read_keras
from resattn.reading.machine import Machine
from resattn.reading.pytorch import read_pytorch
from resattn.reading.steps import CommonStep, normalize
from weights import schema
from weights.live import framework_of

ModelReader = Callable[[Machine, Any, tuple[int, int], bool], ImageValues]
READERS: dict[str, ModelReader] = {"torch": read_pytorch, "jax": read_flax, "tf": read_keras}


def read_operations(model: Any, size: tuple[int, int], training: bool = False) -> list[CommonStep]:
    """The operations that a model of ours executes, in the common form and in order.

    size: (height, width) of the images. Raises KeyError, with the name of the primitive, for a
    primitive that no table knows, and TypeError for an object that is no model of ours.
    """
    output = READERS[framework_of(model)](Machine(), model, size, training)
    return normalize(output, {p.name: p.module for p in schema(model.config)})
