"""What a live model of anybody's computes, read from the graph that its framework executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from resattn.reading.form import label_of, size_of
from resattn.reading.steps import CommonStep


@dataclass(frozen=True)
class Failure:
    """Why a model could not be run to its end.

    message: of the framework's error. operation: what failed, "sum" and so on; "" if not known.
    shapes: of the values that it was to join, each canonical without the batch, (channels, rows,
    cols). file, line: of the model's own code.
    """

    message: str
    operation: str
    shapes: tuple[tuple[int, ...], ...]
    file: str
    line: int


@dataclass(frozen=True)
class Reading:
    """The operations of a live model in evaluation, in the common form and in order.

    framework: "torch", "jax" or "tf". title: the name of the model's class. size: (height, width)
    of the images that it was read for.
    steps: the first is the image, the last gives the output. Where the model failed, the last has
    the op "unknown" and takes the values that nothing else took.
    arrays: copies of the parameters and buffers by the model's own names, canonical: kernels are
    (out, in, rows, cols), those of a linear layer (out, in).
    failure: None if the model runs.
    decays: the part of its running statistics that a batch norm keeps in a step of training, by the
    path of its module. No operation in evaluation shows it.
    """

    framework: str
    title: str
    size: tuple[int, int]
    steps: tuple[CommonStep, ...] = field(repr=False)
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    failure: Failure | None = None
    decays: Mapping[str, float] = field(default_factory=dict, repr=False)

    @property
    def in_channels(self) -> int:
        """How many channels the images have."""
        named = {label_of(axis): size_of(axis) for axis in self.steps[0].axes if axis}
        return named.get("channels", 1)
