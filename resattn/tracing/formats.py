"""The number formats that a model may round to, and rounding to them."""

import numpy as np

from resattn.oracle.node import Array

# How many bits of a float32's mantissa a format drops, and whether it rounds to the nearest number
# (ties to even) or towards zero.
DROPPED_BITS = {"TF32": (13, True), "TF32, truncated": (13, False), "bfloat16": (16, True)}
PRODUCT_FORMATS = (*DROPPED_BITS, "float16")
# Formats of outputs, with the unit in the last place relative to the number.
RESOLUTION = {"bfloat16": 2.0**-7, "float16": 2.0**-10}


def round_to(x: Array, number_format: str | None) -> Array:
    """Each value of x rounded to the number format; with None, x itself."""
    if number_format is None:
        return x
    if number_format in ("float16", "float32"):
        return x.astype(number_format).astype(x.dtype)
    dropped, nearest = DROPPED_BITS[number_format]
    bits = x.astype(np.float32).view(np.uint32)
    if nearest:
        last = bits >> np.uint32(dropped) & np.uint32(1)
        bits = bits + np.uint32((1 << dropped - 1) - 1) + last
    bits &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return bits.view(np.float32).astype(np.result_type(x, np.float32))


def round_to_integers(x: Array, axes: tuple[int, ...] | None = None) -> Array:
    """Each value rounded to one of 255 multiples of a scale, as int8 quantisation does.

    axes: over which one scale is taken; None for the whole array.
    """
    scale = np.abs(x).max(axis=axes, keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1)
    rounded: Array = np.round(x / scale) * scale
    return rounded
