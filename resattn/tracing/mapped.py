"""Models of a user's own in a trace: which of their modules computes which stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resattn.reading.models import read_model
from resattn.recognition.endings import find_ending
from resattn.recognition.recognition import Recognition, recognise_model
from resattn.tracing.sampling import Recorded
from weights import export
from weights.config import Config
from weights.errors import ArgumentError
from weights.language import current_language, say
from weights.stages import Recording


@dataclass(frozen=True)
class Mapped:
    """A model of your own that computes what one of our blocks or networks computes, or contains a
    part that does.

    model: any PyTorch module, Flax module or Keras layer. stages: for each stage that it has, the
    path of the module whose output it is: {"conv1": "layer1.0.conv1", "output": "layer1.0"}.
    Without "output" (of a network: "classifier") it is the output of the model. bare: paths of
    Keras layers that compute without their own activation, such as the softmax of a classifier,
    while they are compared. `resattn.map_model` finds all of this. A path consists of
    attributes and indices; in a functional Keras model also of layers' names. In evaluation it runs
    in the mode in which it is, as if you called it: a model left in training mode is a finding.
    """

    model: Any
    stages: Mapping[str, str]
    bare: tuple[str, ...] = ()


def map_model(model: Any, recognition: Recognition) -> Mapped:
    """A model of a user's own with the modules that its recognition found.

    recognition: as `resattn.recognise_model` gives it. Raises ModelError where the model is none of
    our blocks or networks, and where it computes something after its last stage that cannot be
    left out.
    """
    ending = find_ending(recognition, model)
    return Mapped(model, ending.stages, ending.bare)


def map_unmapped(
    models: Mapping[str, Any],
    inputs: np.ndarray,
    config: Config | None,
    arrays: Mapping[str, np.ndarray] | None,
) -> tuple[dict[str, Any], Config | None, Mapping[str, np.ndarray] | None, list[str]]:
    """The models of a trace with those recognised that are a user's own and not mapped.

    Also what all of them should be, if nobody says it: what the first model of ours is, or else the
    first that was recognised. And a line for each on what it was taken for. inputs: (batch,
    channels, height, width), as the models get them.
    """
    found, lines = dict(models), []
    ours = [model for model in models.values() if _is_ours(model)]
    if ours:
        config = ours[0].config if config is None else config
        arrays = export(ours[0]) if arrays is None else arrays
    for name, model in models.items():
        if isinstance(model, (Mapped, Recording, Recorded)) or _is_ours(model):
            continue
        if np.ndim(inputs) != 4:
            raise ArgumentError(
                say(
                    "inputs: expected (batch, channels, height, width), got the shape {shape}",
                    shape=np.shape(inputs),
                )
            )
        _, channels, *size = inputs.shape
        reading = read_model(model, (size[0], size[1]), channels)
        recognition = recognise_model(reading, config, arrays)
        found[name] = map_model(model, recognition)
        config = recognition.config if config is None else config
        arrays = recognition.arrays if arrays is None else arrays
        lines.append(f"{name}: {recognition.describe(current_language())[0]}")
    return found, config, arrays, lines


def _is_ours(model: Any) -> bool:
    return isinstance(getattr(model, "config", None), Config)
