"""From the bytes of images to the input of a network, bit for bit as in `weights.resize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jax_impl import axes
from jax_impl.shapes import Maps
from weights.preprocessing import Preprocessing
from weights.resize import FRACTION_BITS, Taps, check_one_size, plan


def preprocess(images: Array | np.ndarray | Sequence[Any], preprocessing: Preprocessing) -> Maps:
    """The input of a network. It can be compiled with jax.jit, for which preprocessing is static.

    images: bytes (batch, height, width, 3), RGB, or a list of (height, width, 3) of one size.
    -> float32 maps with the size and channels of `preprocessing`.
    Raises ArgumentError for images that are not such bytes, or not of one size.
    """
    check_one_size(images)
    listed = isinstance(images, (list, tuple))
    x = jnp.stack([jnp.asarray(image) for image in images]) if listed else images
    x = jnp.asarray(x)
    steps = plan(preprocessing, x.shape, x.dtype)
    x = x.astype(jnp.int32)
    for axis, along in steps.passes:
        x = _resample(x, along, {"row": axes.ROWS, "col": axes.COLS}[axis])
    x = jnp.take(x, steps.order, axes.CHANNELS)
    return jnp.take(jnp.asarray(steps.table), x + steps.offsets)


def _resample(x: Array, along: Taps, axis: int) -> Array:
    """Sums the taps one by one, as all three do."""
    total = jnp.full((), 1 << (FRACTION_BITS - 1), jnp.int32)
    for position, weight in zip(along.positions, along.weights, strict=True):
        shape = (-1,) + (1,) * (x.ndim - axis - 1)
        total = total + jnp.take(x, position, axis) * weight.reshape(shape)
    return jnp.clip(total >> FRACTION_BITS, 0, 255)
