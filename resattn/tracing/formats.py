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
    """x in float64, each value rounded to the number format; with None, x itself."""
    if number_format is None:
        return x
    if number_format in ("float16", "float32"):
        return x.astype(number_format).astype(np.float64)
    dropped, nearest = DROPPED_BITS[number_format]
    bits = x.astype(np.float32).view(np.uint32)
    if nearest:
        last = bits >> np.uint32(dropped) & np.uint32(1)
        bits = bits + np.uint32((1 << dropped - 1) - 1) + last
    bits &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return bits.view(np.float32).astype(np.float64)
