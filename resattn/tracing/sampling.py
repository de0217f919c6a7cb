"""Recorded stages of which only a sample is known: statistics of each image, and some values.

If two tensors differ by at most d everywhere, then their means, standard deviations, root mean
squares, minima and maxima differ by at most d, too, and so do the values at any positions. So a
sample is judged by the limit of the whole tensor. The minimum and the maximum are part of it, so
the greatest magnitude of a sample is that of the tensor.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from resattn.oracle.node import Array
from weights import Difference, difference
from weights.stages import Recording

STATISTICS = ("mean", "standard deviation", "root mean square", "minimum", "maximum")
# Values of a sample in all images, and at least in each image. Files hold the values without their
# positions, so to change this or `draw_positions` takes another RECORDING_VERSION.
VALUES, LEAST = 128, 8


@dataclass(frozen=True)
class Sample:
    """What is known of a stage's output or gradient.

    shape: of the whole, the images first. positions: of the values in each image, as if it were
    flat. held: (batch, statistics and positions), what the model gave.
    """

    shape: tuple[int, ...]
    positions: Array
    held: Array

    @classmethod
    def of(cls, values: Array, name: str) -> Self:
        """The sample of an array. name: of the stage, which decides the positions."""
        found = cls(values.shape, draw_positions(values.shape, name), np.empty(0))
        return replace(found, held=found.observe(values))

    def observe(self, values: Array) -> Array:
        """The same of another array: (batch, statistics and positions). An array of another shape
        comes back as it is.
        """
        if values.shape[1:] != self.shape[1:]:
            return values
        flat = values.reshape(len(values), -1).astype(np.float64)
        with np.errstate(all="ignore"):
            figures = (
                flat.mean(1), flat.std(1), np.sqrt(np.square(flat).mean(1)), flat.min(1),
                flat.max(1),
            )  # fmt: skip
        observed = np.concatenate([np.stack(figures, 1), flat[:, self.positions]], 1)
        return observed.astype(np.result_type(values, np.float32))

    def locate(self, image: int, column: int, axes: str) -> tuple[tuple[int, ...], str]:
        """The place of one of the held numbers in the whole, and the names of its axes."""
        if column < len(STATISTICS):
            return (image,), f"batch, {STATISTICS[column]}"
        place = np.unravel_index(self.positions[column - len(STATISTICS)], self.shape[1:])
        return (image, *map(int, place)), axes


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether an array is no larger than its sample would be, and so is kept whole."""
    if len(shape) < 2 or 0 in shape:
        return True
    return math.prod(shape[1:]) <= _count(shape[0]) + len(STATISTICS)


def _count(batch: int) -> int:
    return max(LEAST, VALUES // batch)


def draw_positions(shape: tuple[int, ...], name: str) -> Array:
    """Positions in each image of a stage, the same wherever it is recorded.

    Half of those in a map are at its border, where mistakes in padding are. RandomState, since
    NumPy promises that its numbers never change.
    """
    inner, count = shape[1:], _count(shape[0])
    rng = np.random.RandomState(zlib.crc32(f"{name} {inner}".encode()))
    flat = rng.randint(0, math.prod(inner), count)
    if len(inner) == 3:
        half, rows, cols = count // 2, inner[1], inner[2]
        channel, row, col = np.unravel_index(flat[:half], inner)
        side = np.arange(half) % 4
        row = np.where(side == 0, 0, np.where(side == 1, rows - 1, row))
        col = np.where(side == 2, 0, np.where(side == 3, cols - 1, col))
        flat[:half] = np.ravel_multi_index((channel, row, col), inner)
    return np.unique(flat)


@dataclass(frozen=True)
class SampledRecording(Recording):
    """A recording that holds some stages whole and of the others a sample.

    sampled_values, sampled_slopes: as values and slopes. order: all stages, in the order of
    execution.
    """

    sampled_values: Mapping[str, Sample] = field(default_factory=dict)
    sampled_slopes: Mapping[str, Sample] = field(default_factory=dict)
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """A model that was recorded before, by mode ("eval", "train")."""

    modes: Mapping[str, Recording]


def list_recorded(recording: Recording, kind: str) -> dict[str, Array | Sample]:
    """What a recording holds of a kind ("values", "slopes", "statistics"), by stage, in the order
    of execution.
    """
    whole: Mapping[str, Array] = getattr(recording, kind)
    if not isinstance(recording, SampledRecording) or kind == "statistics":
        return dict(whole)
    held = {**whole, **getattr(recording, f"sampled_{kind}")}
    return {stage: held[stage] for stage in recording.order if stage in held}


def list_samples(recording: Recording) -> Mapping[str, Sample]:
    """The outputs of which only a sample is known."""
    return recording.sampled_values if isinstance(recording, SampledRecording) else {}


def compare_recorded(
    actual: Array | Sample, expected: Array | Sample, *, axes: str, **options: Any
) -> Difference:
    """The greatest difference of two versions of a stage: as far as both are known.

    options: those of `weights.difference`.
    """
    sample = actual if isinstance(actual, Sample) else expected
    if not isinstance(sample, Sample):
        assert isinstance(actual, np.ndarray)
        assert isinstance(expected, np.ndarray)
        return difference(actual, expected, axes=axes, **options)
    one, other = (
        each.held if isinstance(each, Sample) else sample.observe(each)
        for each in (actual, expected)
    )
    found = difference(one, other, axes=axes, **options)
    image, column = found.index
    index, names = sample.locate(image, column, axes)
    return replace(found, index=index, axes=names)
