"""Convolutions of the oracle, as matrix products: what a kernel sees are columns of a matrix.

Maps are (batch, channels, height, width). The rest: `resattn.oracle.layers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from resattn.oracle.layers import State
from resattn.oracle.node import Array, Node, accumulated
from weights.checks import Pair


@dataclass(frozen=True)
class Windows:
    """Where a kernel of a size looks. groups: of channels that it keeps apart."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: int = 1
    groups: int = 1

    def places(self, size: Pair) -> Pair:
        """How many windows a map of that size (height, width) has along each axis."""
        sides = zip(size, self.kernel, self.stride, self.padding, strict=True)
        rows, cols = ((n + 2 * p - self.dilation * (k - 1) - 1) // s + 1 for n, k, s, p in sides)
        return rows, cols

    @property
    def is_pointwise(self) -> bool:
        """Whether it looks at one pixel at a time, of those on the map."""
        return prod(self.kernel) == 1 and self.padding == (0, 0)

    def columns(self, x: Array) -> Array:
        """What the kernel sees: (groups, values under the kernel, windows of all images)."""
        batch, channels, height, width = x.shape
        step, leap = self.stride
        by_channel = x.swapaxes(0, 1)
        if self.is_pointwise:  # no windows, and of one image at stride 1 no copy
            return by_channel[:, :, ::step, ::leap].reshape(
                self.groups, channels // self.groups, -1
            )
        padded = self._pad(by_channel.shape, x.dtype)
        self._inside(padded, (height, width))[...] = by_channel
        rows, cols = self.places((height, width))
        seen = np.empty((channels, prod(self.kernel), batch, rows, cols), x.dtype)
        for number, part in enumerate(self._views(padded, (rows, cols))):
            seen[:, number] = part
        return seen.reshape(self.groups, channels // self.groups * prod(self.kernel), -1)

    def scatter(self, columns: Array, shape: tuple[int, ...]) -> Array:
        """Adds columns up where they came from, on a map of that shape: the transpose of
        `columns`.
        """
        batch, channels, height, width = shape
        rows, cols = self.places((height, width))
        if self.is_pointwise and self.stride == (1, 1):
            return columns.reshape(channels, batch, height, width).swapaxes(0, 1)
        padded = self._pad((channels, batch, height, width), columns.dtype)
        parts = columns.reshape(channels, prod(self.kernel), batch, rows, cols)
        for number, part in enumerate(self._views(padded, (rows, cols))):
            part += parts[:, number]
        return self._inside(padded, (height, width)).swapaxes(0, 1)

    def _pad(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Zeros in the shape of a map with its padding."""
        (top, left), (*kept, height, width) = self.padding, shape
        return np.zeros((*kept, height + 2 * top, width + 2 * left), dtype)

    def _inside(self, padded: Array, size: Pair) -> Array:
        """A padded map without its padding."""
        (top, left), (height, width) = self.padding, size
        return padded[:, :, top : top + height, left : left + width]

    def _views(self, padded: Array, places: Pair) -> Iterator[Array]:
        """For each place in a window, what all windows have there."""
        (step, leap), (rows, cols) = self.stride, places
        for u in range(0, self.dilation * self.kernel[0], self.dilation):
            for v in range(0, self.dilation * self.kernel[1], self.dilation):
                yield padded[:, :, u : u + step * rows : step, v : v + leap * cols : leap]


# The squares of the terms that a convolution or its gradients add up, for their rounding errors: as
# if the squares of the two factors were independent of each other. Kernels are (groups, out, values
# under the kernel), slopes (groups, out, windows).


def _squares_forward(windows: Windows, x: Array, kernel: Array) -> Array:
    grouped = x.reshape(len(x), windows.groups, -1, *x.shape[2:])
    energy = windows.columns(np.einsum("bgchw,bgchw->bghw", grouped, grouped))
    squares: Array = energy.sum(axis=1)[:, None] * np.square(kernel).mean(axis=2)[..., None]
    return squares


def _squares_to_weight(slopes: Array, columns: Array) -> Array:
    energy = np.einsum("gon,gon->go", slopes, slopes)
    mean = np.einsum("gkn,gkn->gk", columns, columns) / columns.shape[2]
    squares: Array = energy[..., None] * mean[:, None]
    return squares


def _squares_to_input(
    windows: Windows, slopes: Array, kernel: Array, shape: tuple[int, ...]
) -> Array:
    batch, channels, height, width = shape
    groups, each = windows.groups, channels // windows.groups
    energy = np.einsum("gon,gon->gn", slopes, slopes)[:, None]
    energy = np.broadcast_to(energy, (groups, prod(windows.kernel), energy.shape[2]))
    spread = windows.scatter(energy, (batch, groups, height, width))
    factors = np.square(kernel).reshape(groups, -1, each, prod(windows.kernel)).mean(axis=(1, 3))
    squares: Array = np.repeat(spread, each, axis=1) * factors.reshape(1, -1, 1, 1)
    return squares


def conv2d(
    state: State,
    name: str,
    x: Node,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Node:
    """y[b, o, r, c] = bias[o] + sum over i, u, v of x[b, i, r stride + u dilation - padding, ...]
    w[o, i, u, v].

    Cross-correlation with zeros outside of x, as every deep learning library's convolution
    (Goodfellow et al. 2016, 9.1). groups: output channels see only the inputs of their group.
    """
    weight = state.parameter(f"{name}.weight")
    windows = Windows((weight.shape[2], weight.shape[3]), stride, padding, dilation, groups)
    rows, cols = windows.places((x.shape[2], x.shape[3]))
    kernel = weight.value.reshape(groups, len(weight.value) // groups, -1)
    y = kernel @ windows.columns(x.value)
    y = accumulated(y, lambda: _squares_forward(windows, x.value, kernel), kernel.shape[2])
    y = y.reshape(-1, len(x.value), rows, cols).swapaxes(0, 1)
    state.multiply_adds += y.size * kernel.shape[2]

    def by_group(slope: Array) -> Array:
        """(groups, out, windows)"""
        return slope.swapaxes(0, 1).reshape(groups, kernel.shape[1], -1)

    def to_input(slope: Array) -> Array:
        slopes = by_group(slope)
        spread = windows.scatter(kernel.swapaxes(1, 2) @ slopes, x.shape)
        terms = kernel.shape[1] * prod(windows.kernel)
        return accumulated(
            spread, lambda: _squares_to_input(windows, slopes, kernel, x.shape), terms
        )

    def to_weight(slope: Array) -> Array:
        columns = windows.columns(x.value)  # again: kept, they would be most of the memory
        slopes = by_group(slope)
        if f"{name}.weight" in state.cancelling:
            state.remember(f"{name}.weight", np.abs(slopes * columns).sum(axis=2))
        summed = slopes @ columns.swapaxes(1, 2)
        summed = accumulated(summed, lambda: _squares_to_weight(slopes, columns), slopes.shape[2])
        return summed.reshape(weight.shape)

    def to_bias(slope: Array) -> Array:
        if f"{name}.bias" in state.vanishing:
            state.remember(f"{name}.bias", np.abs(slope).sum(axis=(0, 2, 3)))
        summed: Array = slope.sum(axis=(0, 2, 3))
        terms = slope.size // slope.shape[1]
        return accumulated(summed, lambda: np.square(slope).sum(axis=(0, 2, 3)), terms)

    sources = [(x, to_input), (weight, to_weight)]
    if f"{name}.bias" in state.arrays:
        bias = state.parameter(f"{name}.bias")
        y = y + bias.value[:, None, None]
        sources.append((bias, to_bias))
    return Node(np.ascontiguousarray(y), *sources)
