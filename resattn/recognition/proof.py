"""Whether a recognised model gives what its config says, by values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from resattn.checking.crosscheck import judge_output
from resattn.checking.problem import pose
from resattn.recognition.endings import find_ending, last_stage, leave_out_activations
from resattn.recognition.recognition import Recognition
from weights import Difference
from weights.errors import ArgumentError
from weights.live import owner, part
from weights.stages import Recording


def prove_recognition(
    found: Recognition, model: Any, seed: int = 0, inputs: np.ndarray | None = None
) -> Difference:
    """The greatest difference between a live model and the oracle of the config with its arrays.

    found: of the model. inputs: images (batch, channels, height, width); default: two random ones
    of the size that it was read for. The model computes in evaluation and is not changed.
    The difference is judged by what the rounding of the images' format explains; `ok` says whether
    both are the same. The oracle computes in NumPy, forward and backward, so small images are
    advisable for a large network.
    Raises ArgumentError for a model that was not recognised, and what `find_ending` raises.
    """
    config = found.config
    if config is None:
        raise ArgumentError(
            f"{found.reading.title}: was not recognised as one config, so there is nothing to prove"
        )
    last, ending = last_stage(config), find_ending(found, model)
    x = _draw_images(found, seed) if inputs is None else inputs
    with leave_out_activations(model, ending.bare):
        recording = _record(model, x, last, ending.stages)
    received = recording.received if found.before or found.module else None
    problem = pose(config, found.arrays, x if received is None else received, seed)
    expected = problem.expected["eval output"]["output"]
    output = np.reshape(recording.values[last], expected.shape)
    return judge_output(problem, output, found.reading.title)


def _draw_images(found: Recognition, seed: int) -> np.ndarray:
    """Random images of the size that the model was read for, in the format of its arrays."""
    axes = found.reading.steps[0].axes
    sizes = {name: size for axis in axes for name, size in axis}
    shape = (2, sizes.get("channels", 1), sizes.get("rows", 1), sizes.get("cols", 1))
    wide = all(array.dtype == np.float64 for array in found.arrays.values())
    images = np.random.default_rng([seed, 7]).normal(0.3, 1, shape)
    return images.astype(np.float64 if wide and found.arrays else np.float32)


def _record(model: Any, x: np.ndarray, last: str, stages: Mapping[str, str]) -> Recording:
    """What the model computes in evaluation."""
    framework = owner(model)
    in_mode = getattr(part(framework, "bridge.native"), "training_mode", None)  # none in Keras
    with nullcontext() if in_mode is None else in_mode(model, False):
        recording: Recording = part(framework, "bridge.recorder").trace(
            model, x, np.zeros, training=False, last=last, stages=stages
        )
    return recording
