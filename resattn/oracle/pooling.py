"""Poolings of the oracle, and what pads and drops pixels.

Maps are (batch, channels, height, width). The rest: `resattn.oracle.layers`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resattn.oracle.layers import COLS, POSITIONS, ROWS, State, greatest_index
from resattn.oracle.node import Array, Node, accumulated, take
from weights.checks import Pair

BINOMIAL = (1, 2, 1)  # a 3x3 filter is the product of two of them, over 16


def pad_zeros(x: Node, before: Pair, after: Pair) -> Node:
    """Zeros around a map."""
    (top, left), (bottom, right) = before, after
    y = np.pad(x.value, ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, _, rows, cols = x.shape

    def pull(slope: Array) -> Array:
        return slope[:, :, top : top + rows, left : left + cols]

    return Node(y, (x, pull), moved=True)


def max_pool(
    state: State,
    x: Node,
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    after: Pair | None = None,
) -> Node:
    """The greatest of each window, with -inf around the image; the slope goes to the first
    greatest. after: the padding at the end, where it differs.
    """
    (top, left), (step, leap) = padding, stride
    bottom, right = padding if after is None else after
    margins = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(x.value, margins, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=POSITIONS)
    windows = windows[:, :, ::step, ::leap]
    flat = windows.reshape(*windows.shape[:4], kernel[0] * kernel[1])
    first = greatest_index(state, flat.real)
    y = np.take_along_axis(flat, first, axis=-1)[..., 0]

    def pull(slope: Array) -> Array:
        spread = np.zeros(padded.shape, slope.dtype)
        batch, channel, row, col = np.indices(y.shape)
        down, right = np.divmod(first[..., 0], kernel[1])
        np.add.at(spread, (batch, channel, step * row + down, leap * col + right), slope)
        return spread[:, :, top : top + x.shape[2], left : left + x.shape[3]]

    return Node(y, (x, pull), moved=True)


def average_pool(x: Node, kernel: Pair, stride: Pair, after: Pair) -> Node:
    """The mean of each window; of windows over the edge, the mean of the pixels that are there.

    after: by how many rows and columns the last windows reach over the edge.
    """
    _, _, rows, cols = x.shape
    inside = np.ones((1, 1, rows, cols))
    filled = [_slices(each, kernel, stride, after) for each in (x.value, inside)]
    total, count = (np.sum(list(parts), axis=0) for parts in filled)

    def squares() -> Array:
        summed: Array = np.sum(list(_slices(np.square(x.value), kernel, stride, after)), axis=0)
        return summed

    y = accumulated(total, squares, kernel[0] * kernel[1]) / count

    def pull(slope: Array) -> Array:
        spread = np.zeros((*x.shape[:2], rows + after[0], cols + after[1]), slope.dtype)
        for part in _views(spread, kernel, stride):
            part += slope / count
        return spread[:, :, :rows, :cols]

    return Node(y, (x, pull))


def blur_pool(x: Node, stride: Pair) -> Node:
    """A 3x3 binomial filter at every stride-th pixel, the image reflected at its edges without
    repeating them (Zhang 2019, section 3.2).
    """
    for axis in (ROWS, COLS):
        size = x.shape[axis]
        x = take(x, [1, *range(size), size - 2], axis)
    weights = np.outer(BINOMIAL, BINOMIAL).ravel() / sum(BINOMIAL) ** 2
    kernel = (3, 3)
    parts = list(_views(x.value, kernel, stride))
    y = np.sum([weight * part for weight, part in zip(weights, parts, strict=True)], axis=0)

    def squares() -> Array:
        terms = [np.square(weight * part) for weight, part in zip(weights, parts, strict=True)]
        summed: Array = np.sum(terms, axis=0)
        return summed

    def pull(slope: Array) -> Array:
        spread = np.zeros(x.shape, slope.dtype)
        for weight, part in zip(weights, _views(spread, kernel, stride), strict=True):
            part += weight * slope
        return spread

    return Node(accumulated(y, squares, len(parts)), (x, pull))


def subsample(x: Node, stride: Pair, before: int, after: int) -> Node:
    """Every stride-th pixel, and channels of zeros before and after (He et al. 2015, section 4.2,
    option A).
    """
    step, leap = stride
    kept = x.value[:, :, ::step, ::leap]
    y = np.pad(kept, ((0, 0), (before, after), (0, 0), (0, 0)))

    def pull(slope: Array) -> Array:
        spread = np.zeros(x.shape, slope.dtype)
        spread[:, :, ::step, ::leap] = slope[:, before : before + x.shape[1]]
        return spread

    return Node(y, (x, pull), moved=True)


def _slices(x: Array, kernel: Pair, stride: Pair, after: Pair) -> Iterator[Array]:
    padded = np.pad(x, ((0, 0), (0, 0), (0, after[0]), (0, after[1])))
    return _views(padded, kernel, stride)


def _views(x: Array, kernel: Pair, stride: Pair) -> Iterator[Array]:
    """For each place in a window, what all windows have there."""
    (rows, cols), (step, leap) = kernel, stride
    height = (x.shape[2] - rows) // step + 1
    width = (x.shape[3] - cols) // leap + 1
    for u in range(rows):
        for v in range(cols):
            yield x[:, :, u : u + step * height : step, v : v + leap * width : leap]
