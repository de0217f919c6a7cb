"""Orders of axes that are taken for each other. x is (batch, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from resattn.oracle.node import Array


def _read_last_as_first(x: Array) -> Array:
    """Values in the order (batch, height, width, channels), in the shape of x."""
    return np.moveaxis(x, 1, -1).reshape(x.shape)


def _read_first_as_last(x: Array) -> Array:
    """Values of x read as (batch, height, width, channels), with the channels moved to the
    front.
    """
    batch, channels, *sizes = x.shape
    return np.moveaxis(x.reshape(batch, *sizes, channels), -1, 1)


def _turn(x: Array) -> Array:
    return x.swapaxes(2, 3)


def _move_channels_last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


INPUT_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "last as first": _read_last_as_first,
    "first as last": _read_first_as_last,
    "turned": _turn,
    "upside down": lambda x: x[:, :, ::-1],
    "mirrored": lambda x: x[:, :, :, ::-1],
}
OUTPUT_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "last as first": _read_last_as_first,
    "last": _move_channels_last,
    "turned": _turn,
}
