"""From the bytes of images to the input of a network, with whole numbers alone: the definition in
NumPy, and the plan that the three packages follow.

Resizing is Pillow's (`src/libImaging/Resample.c`, `Geometry.c`): one axis after the other, by
weights in fixed point, rounded to a byte after each. A byte has 256 values, so the normalisation is
a table. No framework can therefore round differently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, floor
from typing import Any

import numpy as np

from weights.checks import Pair
from weights.convert import reorder
from weights.errors import ArgumentError
from weights.preprocessing import Preprocessing

FRACTION_BITS = 22  # of a weight after the point: 32, less 8 of a byte and 2 of overshooting


def _bilinear(x: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1.0 - np.abs(x), 0.0)
    return weights


def _bicubic(x: np.ndarray) -> np.ndarray:
    return cubic(x, -0.5)


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The cubic kernel (Keys 1981) at distances x. a: its slope at 1; Pillow's is -0.5."""
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    within: np.ndarray = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return within


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where((x >= -3.0) & (x < 3.0), np.sinc(x) * np.sinc(x / 3), 0.0)


# The kernel of each interpolation, and the distance at which it ends.
KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


@dataclass(frozen=True)
class Taps:
    """What each position along an axis of the result is the sum of.

    positions, weights: (taps, positions of the result), int32. A weight of 1 is 1 << FRACTION_BITS.
    """

    positions: np.ndarray
    weights: np.ndarray

    def cut(self, start: int, count: int) -> "Taps":
        """The taps of `count` positions from `start` on."""
        kept = slice(start, start + count)
        return Taps(self.positions[:, kept], self.weights[:, kept])


@cache
def taps(interpolation: str, length: int, resized: int) -> Taps:
    """The taps that resize an axis from `length` to `resized` positions."""
    if length == resized:
        return Taps(np.arange(length, dtype=np.int32)[None], _ones(length))
    if interpolation == "nearest":
        return _nearest(length, resized)
    kernel, reach = KERNELS[interpolation]
    scale = length / resized
    widening = max(scale, 1.0)
    support = reach * widening
    centres = (np.arange(resized) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.int64), length)
    positions = first + np.arange(ceil(support) * 2 + 1)[:, None]
    weights = kernel((positions - centres + 0.5) * (1.0 / widening))
    weights = np.where(positions < ends, weights, 0.0)
    sums = np.add.accumulate(weights)[-1]  # in the order of Pillow
    weights = weights / np.where(sums == 0, 1.0, sums) * (1 << FRACTION_BITS)
    whole = (weights + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    used = whole.any(axis=1)
    return Taps(np.minimum(positions, length - 1).astype(np.int32)[used], whole[used])


def _ones(count: int) -> np.ndarray:
    return np.full((1, count), 1 << FRACTION_BITS, np.int32)


def _nearest(length: int, resized: int) -> Taps:
    step = length / resized  # Pillow adds the steps up, and so rounds at each
    at = np.add.accumulate(np.r_[step * 0.5, np.full(resized - 1, step)]).astype(np.int32)[None]
    return Taps(np.minimum(at, length - 1), np.where(at < length, _ones(resized), 0))


@dataclass(frozen=True)
class Plan:
    """How images of one size become a network's input: resize one axis after the other, put the
    channels in order, look each byte up.

    passes: an axis ("row" or "col") and its taps, in the order in which to resize.
    order: for each channel of the result, the channel of the image. offsets: where the channel of
    the result has its part of the table. table: float32, 256 values for each channel in turn.
    """

    passes: tuple[tuple[str, Taps], ...]
    order: np.ndarray
    offsets: np.ndarray
    table: np.ndarray


def plan(preprocessing: Preprocessing, shape: Sequence[Any], dtype: object) -> Plan:
    """The plan for images of a shape (batch, height, width, 3) and a dtype of any framework.

    Raises ArgumentError for another shape, or a dtype that is not uint8.
    """
    name = str(getattr(dtype, "name", dtype)).split(".")[-1]
    sized = len(shape) == 4 and all(isinstance(side, int) for side in shape[1:])
    if not sized or shape[3] != 3 or min(shape[1:3]) < 1 or name != "uint8":
        raise ArgumentError(
            "images: expected bytes (uint8) of shape (batch, height, width, 3), RGB, got "
            f"{name} of shape {tuple(shape)}"
        )
    return _plan(preprocessing, int(shape[1]), int(shape[2]))


@lru_cache(maxsize=64)
def _plan(preprocessing: Preprocessing, height: int, width: int) -> Plan:
    resized = resized_size(preprocessing, (height, width))
    passes = [
        (axis, taps(preprocessing.interpolation, length, new).cut(centre(new, kept), kept))
        for axis, length, new, kept in zip(
            ("row", "col"), (height, width), resized, preprocessing.size, strict=True
        )
    ]
    if not rows_first((height, width), resized):
        passes.reverse()
    order = np.array((0, 1, 2) if preprocessing.channels == "RGB" else (2, 1, 0), np.int32)
    offsets = 256 * np.arange(3, dtype=np.int32)
    return Plan(tuple(passes), order, offsets, normalisation_table(preprocessing))


def resized_size(preprocessing: Preprocessing, size: Pair) -> Pair:
    """The size to which an image of a size is resized, before the crop.

    timm's rounding (`timm.data.transforms_factory.transforms_imagenet_eval`), which for a square is
    torchvision's.
    """
    rows, cols = (floor(side / preprocessing.crop) for side in preprocessing.size)
    if preprocessing.crop_mode == "squash":
        return rows, cols
    height, width = size
    if rows == cols:
        least = min(height, width)
        longest = int(rows * max(height, width) / least)
        return (longest, rows) if width <= height else (rows, longest)
    ratio = min(height / rows, width / cols)
    return round(height / ratio), round(width / ratio)


def rows_first(size: Pair, resized: Pair) -> bool:
    """Whether Pillow resizes the height before the width.

    Since version 13 it does where the height shrinks by more than twice as many pixels as the width
    (Pillow #9549); before, it never did. The order changes some bytes by 1.
    """
    rows, cols = (length - new for length, new in zip(size, resized, strict=True))
    return rows > max(2 * cols, 0)


def centre(length: int, kept: int) -> int:
    """Where a crop of `kept` of `length` positions starts, with torchvision's rounding."""
    return round((length - kept) / 2.0)


def normalisation_table(preprocessing: Preprocessing) -> np.ndarray:
    """The values of all bytes, for each channel in turn: float32, rounded after each step."""
    scaled = (np.arange(256) * preprocessing.scale).astype(np.float32)
    mean, std = (np.array(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    return ((scaled - mean[:, None]) / std[:, None]).ravel()


def sum_taps(x: np.ndarray, along: Taps, axis: int) -> np.ndarray:
    """Resizes an axis without rounding, in the dtype of x and the weights."""
    shape = (-1,) + (1,) * (x.ndim - axis - 1)
    total: np.ndarray = np.zeros((), np.result_type(x, along.weights))
    for position, weight in zip(along.positions, along.weights, strict=True):
        total = total + x.take(position, axis) * weight.reshape(shape)
    return total


def resample(x: np.ndarray, along: Taps, axis: int) -> np.ndarray:
    """Resizes an axis of bytes held as int32."""
    total = sum_taps(x, along, axis) + (1 << (FRACTION_BITS - 1))
    rounded: np.ndarray = np.clip(total >> FRACTION_BITS, 0, 255)
    return rounded


def prepare_bytes(images: np.ndarray, steps: Plan) -> np.ndarray:
    """The bytes (batch, height, width, channel) that the table is for, as int32."""
    x = images.astype(np.int32)
    for axis, along in steps.passes:
        x = resample(x, along, {"row": 1, "col": 2}[axis])
    return x[..., steps.order]


def check_one_size(images: object) -> None:
    """Raises ArgumentError for a list of images that do not all have the same shape."""
    if isinstance(images, (list, tuple)):
        shapes = {tuple(getattr(image, "shape", ())) for image in images}
        if len(shapes) != 1:
            raise ArgumentError(
                "images: expected a list of images of one size, got "
                f"{', '.join(map(str, sorted(shapes))) or 'none'}; prepare those of each size by "
                "themselves"
            )


def preprocess(
    images: np.ndarray | Sequence[np.ndarray], preprocessing: Preprocessing
) -> np.ndarray:
    """The input of a network, in the canonical order of axes: the definition of all four.

    images: bytes (batch, height, width, 3), RGB, or a list of (height, width, 3) of one size.
    -> float32 (batch, 3, height, width), with the size and channels of `preprocessing`.
    Raises ArgumentError for images that are not such bytes, or not of one size.
    """
    check_one_size(images)
    x = np.asarray(images)
    steps = plan(preprocessing, x.shape, x.dtype)
    values: np.ndarray = steps.table[prepare_bytes(x, steps) + steps.offsets]
    return reorder(values, "batch row col channel", "batch channel row col")
