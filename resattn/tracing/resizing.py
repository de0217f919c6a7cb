"""Ways to resize an image and to cut it out, right and wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import ceil

import numpy as np

from resattn.oracle.node import Array
from weights.checks import Pair
from weights.preprocessing import INTERPOLATIONS, Preprocessing
from weights.resize import (
    KERNELS,
    Taps,
    centre,
    cubic,
    resample,
    resized_size,
    rows_first,
    sum_taps,
    taps,
)


@dataclass(frozen=True)
class Resizing:
    """How an image is resized and cut out. The defaults are right.

    size, crop, crop_mode, interpolation: as in `Preprocessing`, and also crop_mode "first" (the
        image is cut to the proportions of size, then resized) and interpolation "area" (OpenCV's).
    antialias: whether the kernel widens where the image shrinks.
    grid: where position i of the result is in the image: "half pixels" (i + 1/2) * scale - 1/2,
        "edges" i * scale, "corners" i * (length - 1) / (resized - 1).
    rounding: to bytes, after "each" axis, "once" or "never".
    slope: of the cubic kernel; -0.75 (PyTorch, OpenCV) repeats the edge, -0.5 leaves out
        pixels outside of the image.
    swapped: whether the axes are resized in the other order than Pillow's.
    start: of the crop: "centre", "down" (the centre rounded down) or "corner".
    """

    size: Pair
    crop: float
    crop_mode: str
    interpolation: str
    antialias: bool = True
    grid: str = "half pixels"
    rounding: str = "each"
    slope: float = -0.5
    swapped: bool = False
    start: str = "centre"

    @property
    def is_pillow(self) -> bool:
        """Whether it resizes as Pillow does, to the last bit."""
        plain = self.antialias and self.grid == "half pixels" and self.rounding == "each"
        return plain and self.interpolation in INTERPOLATIONS

    def target(self, size: Pair) -> Pair:
        """The size to which an image of a size is resized, before the crop."""
        return resized_size(Preprocessing(self.size, self.crop, self.crop_mode), size)


def resizing_of(preprocessing: Preprocessing) -> Resizing:
    """The right one."""
    p = preprocessing
    return Resizing(p.size, p.crop, p.crop_mode, p.interpolation)


def resize_image(image: Array, how: Resizing, sample: bool = False) -> Array:
    """Bytes (height, width, 3) -> what they become, as float64 (height, width, 3).

    sample: compute some rows and columns alone: those that `choose_sample` names.
    """
    if how.crop_mode == "first":
        image = cut_to_proportions(image, how.size)
        how = replace(how, crop=1.0, crop_mode="squash")
    size = image.shape[0], image.shape[1]
    target = how.target(size)
    along = []
    for length, new, kept in zip(size, target, how.size, strict=True):
        chosen = choose_sample(kept) if sample else np.arange(kept)
        found = find_taps(how, length, new)
        at = {"centre": centre(new, kept), "down": (new - kept) // 2, "corner": 0}[how.start]
        along.append(Taps(found.positions[:, at + chosen], found.weights[:, at + chosen]))
    order = [0, 1] if rows_first(size, target) != how.swapped else [1, 0]
    for axis in (0, 1):  # what no tap needs is left out
        needed, positions = np.unique(along[axis].positions, return_inverse=True)
        along[axis] = Taps(positions.reshape(along[axis].positions.shape), along[axis].weights)
        image = image.take(needed, axis)
    x = image.astype(np.int32 if how.is_pillow else np.float64)
    for axis in order:
        if how.is_pillow:
            x = resample(x, along[axis], axis)
        else:
            x = sum_taps(x, along[axis], axis)
            x = round_levels(x) if how.rounding == "each" else x
    x = round_levels(x) if how.rounding == "once" else x
    return x.astype(np.float64)


def round_levels(x: Array) -> Array:
    rounded: Array = np.clip(np.rint(x), 0, 255)
    return rounded


def choose_sample(count: int, bands: int = 4, width: int = 4) -> Array:
    """Positions in a few bands, among them the first and the last."""
    if count <= bands * width:
        return np.arange(count)
    starts = np.linspace(0, count - width, bands).astype(int)
    return np.unique(starts[:, None] + np.arange(width))


def cut_to_proportions(image: Array, size: Pair) -> Array:
    """The largest part around the centre that has the proportions of a size, as in Keras'
    `smart_resize`.
    """
    height, width = image.shape[:2]
    rows = min(height, int(width * size[0] / size[1]))
    cols = min(width, int(height * size[1] / size[0]))
    top, left = (height - rows) // 2, (width - cols) // 2
    return image[top : top + rows, left : left + cols]


def find_taps(how: Resizing, length: int, resized: int) -> Taps:
    """The taps of an axis: whole numbers where they are Pillow's, else float64."""
    if how.is_pillow:
        return taps(how.interpolation, length, resized)
    return _find_float_taps(how.interpolation, how.antialias, how.grid, how.slope, length, resized)


@cache
def _find_float_taps(
    interpolation: str, antialias: bool, grid: str, slope: float, length: int, resized: int
) -> Taps:
    scale = length / resized
    ideal = np.arange(resized)
    if length == resized:
        return Taps(ideal[None], np.ones((1, resized)))
    if interpolation == "area":
        return _average_areas(length, resized)
    centres = {
        "half pixels": (ideal + 0.5) * scale - 0.5,
        "edges": ideal * scale,
        "corners": ideal * (length - 1) / max(resized - 1, 1),
    }[grid]
    if interpolation == "nearest":
        exact = {"half pixels": centres + 0.5, "edges": centres, "corners": centres + 0.5}[grid]
        nearest = np.clip(np.floor(exact), 0, length - 1).astype(int)
        return Taps(nearest[None], np.ones((1, resized)))
    kernel, reach = KERNELS[interpolation]
    widening = max(scale, 1.0) if antialias else 1.0
    support = ceil(reach * widening)
    positions = np.floor(centres).astype(int) + np.arange(-support, support + 2)[:, None]
    distances = (positions - centres) / widening
    weights = cubic(distances, slope) if interpolation == "bicubic" else kernel(distances)
    if antialias or slope == -0.5:
        weights = np.where((positions >= 0) & (positions < length), weights, 0.0)
        weights = weights / weights.sum(axis=0)
    return Taps(np.clip(positions, 0, length - 1), weights)


def _average_areas(length: int, resized: int) -> Taps:
    """Each pixel counts by how much of it the new pixel covers."""
    edges = np.arange(resized + 1) * (length / resized)
    positions = np.floor(edges[:-1]).astype(int) + np.arange(ceil(length / resized) + 1)[:, None]
    covered = np.minimum(edges[1:], positions + 1) - np.maximum(edges[:-1], positions)
    weights = np.maximum(covered, 0.0)
    return Taps(np.clip(positions, 0, length - 1), weights / weights.sum(axis=0))
