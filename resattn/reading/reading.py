"""What a live model of anybody's computes, read from the graph that its framework executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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
    arrays: the parameters and buffers by the model's own names, canonical: kernels are (out, in,
    rows, cols), those of a linear layer (out, in).
    failure: None if the model runs.
    """

    framework: str
    title: str
    size: tuple[int, int]
    steps: tuple[CommonStep, ...]
    arrays: Mapping[str, np.ndarray]
    failure: Failure | None = None
