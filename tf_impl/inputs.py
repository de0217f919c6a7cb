"""Checks of a model's inputs, with the messages of `weights.checks`."""

from __future__ import annotations

import math

import keras

from tf_impl import axes
from tf_impl.shapes import Maps, NewMaps
from weights.checks import check_format, check_input, check_map, check_statistics, check_sum

# A size of a graph is None where it is not known before the graph runs, and is not checked then.


def check_images(x: Maps, channels: int) -> None:
    """Raises ValueError unless x has the axes of maps, that many channels, no size of 0, and a
    dtype of `IMAGE_FORMATS`.
    """
    check_input(x.shape, "batch height width channels", channels)
    check_format(keras.backend.standardize_dtype(x.dtype))


def check_maps(
    x: Maps, kind: str, size: tuple[int, int] | None = None, least: tuple[int, int] = (1, 1)
) -> None:
    """Raises ValueError unless an attention module of that kind can use maps of the size of x.

    size: the only size it can use. least: how many (rows or columns, positions) it needs.
    """
    check_map(kind, x.shape[axes.ROWS], x.shape[axes.COLS], size=size, least=least)


def check_paths(main: NewMaps, shortcut: NewMaps) -> None:
    """Raises ValueError where main path and shortcut of a block end at different sizes."""
    rows, cols = axes.ROWS, axes.COLS
    sizes = (main.shape[rows], main.shape[cols]), (shortcut.shape[rows], shortcut.shape[cols])
    check_sum(*sizes)


def check_batch(x: Maps) -> None:
    """Raises ValueError when a batch norm in training gets fewer than two values per channel."""
    sizes = x.shape[axes.BATCH], x.shape[axes.ROWS], x.shape[axes.COLS]
    if None not in sizes:
        check_statistics(math.prod(sizes))
