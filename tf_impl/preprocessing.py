"""From the bytes of images to the input of a network, bit for bit as in `weights.resize`."""

from __future__ import annotations

from typing import Any

from keras import ops

from tf_impl import axes
from tf_impl.shapes import Maps
from weights.preprocessing import Preprocessing
from weights.resize import FRACTION_BITS, Taps, check_one_size, plan


def preprocess(images: Any, preprocessing: Preprocessing) -> Maps:
    """The input of a network. In a graph the size of the images must be known.

    images: bytes (batch, height, width, 3), RGB, or a list of (height, width, 3) of one size, as
        arrays or tensors of the backend.
    -> float32 maps with the size and channels of `preprocessing`.
    Raises ArgumentError for images that are not such bytes, or not of one size.
    """
    check_one_size(images)
    listed = isinstance(images, (list, tuple))
    x = ops.stack([ops.convert_to_tensor(image) for image in images]) if listed else images
    x = ops.convert_to_tensor(x)
    steps = plan(preprocessing, x.shape, x.dtype)
    x = ops.cast(x, "int32")
    for axis, along in steps.passes:
        x = _resample(x, along, {"row": axes.ROWS, "col": axes.COLS}[axis])
    x = ops.take(x, steps.order, axes.CHANNELS)
    return ops.take(steps.table, x + ops.convert_to_tensor(steps.offsets))


def _resample(x: Any, along: Taps, axis: int) -> Any:
    """Sums the taps one by one: products of integer matrices depend on backend and device."""
    total = ops.full((), 1 << (FRACTION_BITS - 1), "int32")
    for position, weight in zip(along.positions, along.weights, strict=True):
        shape = (-1,) + (1,) * (len(x.shape) - axis - 1)
        factor = ops.convert_to_tensor(weight.reshape(shape))
        total = ops.take(x, position, axis) * factor + total  # a symbol must be on the left
    return ops.clip(ops.right_shift(total, FRACTION_BITS), 0, 255)
