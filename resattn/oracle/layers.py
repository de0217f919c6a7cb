"""The layers of the oracle, from the papers' definitions: functions of a state, a name and nodes.

Maps are (batch, channels, height, width). The name is that of the module whose parameters a layer
uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from resattn.oracle.kinks import Kinks
from resattn.oracle.node import (
    Array,
    Node,
    accumulated,
    average,
    boundary,
    concatenate,
    entered,
    exp,
    given,
    is_disturbed,
    power,
    reshape,
    take,
    total,
    transpose,
    widened,
)
from weights.checks import Pair, check_statistics

CHANNELS, ROWS, COLS = 1, 2, 3
POSITIONS = (ROWS, COLS)


@dataclass
class State:
    """What a pass through a model reads and leaves.

    arrays: parameters and statistics, by canonical name. training: the mode.
    statistics: the running statistics after the pass. parameters: the nodes of the parameters that
        were read.
    magnitudes: for convolutions' parameters, the greatest sum of the magnitudes of what a gradient
        adds up; set by `backward`.
    cancelling: parameters whose gradient is the rest that remains when nearly all of that cancels.
    vanishing: parameters whose gradient is exactly zero, since all of it cancels.
    shifted: the running means that such a vanishing bias is part of.
    kinks: of relus and maxima.
    multiply_adds: of convolutions, linear layers and matrix products, so far.
    """

    arrays: Mapping[str, Array]
    training: bool
    statistics: dict[str, Array] = field(default_factory=dict)
    parameters: dict[str, Node] = field(default_factory=dict)
    magnitudes: dict[str, float] = field(default_factory=dict)
    cancelling: set[str] = field(default_factory=set)
    vanishing: set[str] = field(default_factory=set)
    shifted: set[str] = field(default_factory=set)
    kinks: Kinks = field(default_factory=Kinks)
    multiply_adds: int = 0

    def parameter(self, name: str) -> Node:
        """The same node every time, so that the slopes of a parameter that is used twice add up."""
        if name not in self.parameters:
            self.parameters[name] = entered(self.arrays[name])
        return self.parameters[name]

    def remember(self, name: str, magnitude: Array) -> None:
        self.magnitudes[name] = self.magnitudes.get(name, 0.0) + float(magnitude.max())


# Convolutions and products


@dataclass(frozen=True)
class Windows:
    """Where a kernel looks. rows, cols: of the kernel. groups: of channels that it keeps apart."""

    rows: int
    cols: int
    stride: Pair
    padding: Pair
    dilation: int
    groups: int

    def of(self, x: Array) -> tuple[Array, Pair]:
        """(batch, groups, places, values under the kernel), and the places as rows and cols."""
        if self.is_pointwise:  # no windows, and at stride 1 no copy
            x = x[:, :, :: self.stride[0], :: self.stride[1]]
            places = (x.shape[2], x.shape[3])
            return x.reshape(len(x), self.groups, -1, x[0, 0].size).swapaxes(2, 3), places
        top, left = self.padding
        padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
        reach = (self.dilation * (self.rows - 1) + 1, self.dilation * (self.cols - 1) + 1)
        views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
        apart = self.dilation
        views = views[:, :, :: self.stride[0], :: self.stride[1], ::apart, ::apart]
        batch, channels, height, width = views.shape[:4]
        each = channels // self.groups
        views = views.reshape(batch, self.groups, each, height, width, self.rows, self.cols)
        values = views.transpose(0, 1, 3, 4, 2, 5, 6)
        shape = (batch, self.groups, height * width, each * self.rows * self.cols)
        return values.reshape(shape), (height, width)

    @property
    def is_pointwise(self) -> bool:
        """Whether it looks at one pixel at a time, of those on the map."""
        return (self.rows, self.cols, *self.padding) == (1, 1, 0, 0)

    def scatter(self, values: Array, places: Pair, shape: tuple[int, ...]) -> Array:
        """Adds the values under the kernel up where they came from: the transpose of `of`."""
        batch, channels, height, width = shape
        if self.is_pointwise:
            kept = values.swapaxes(2, 3).reshape(batch, channels, *places)
            if self.stride == (1, 1):
                return kept
            spread = np.zeros(shape, values.dtype)
            spread[:, :, :: self.stride[0], :: self.stride[1]] = kept
            return spread
        (top, left), (step, leap) = self.padding, self.stride
        padded = np.zeros((batch, channels, height + 2 * top, width + 2 * left), values.dtype)
        split = (batch, self.groups, *places, channels // self.groups, self.rows, self.cols)
        apart = values.reshape(split).transpose(0, 1, 4, 2, 3, 5, 6)
        apart = apart.reshape(batch, channels, *places, self.rows, self.cols)
        for u in range(self.rows):
            for v in range(self.cols):
                row, col = u * self.dilation, v * self.dilation
                rows = slice(row, row + step * places[0], step)
                cols = slice(col, col + leap * places[1], leap)
                padded[:, :, rows, cols] += apart[..., u, v]
        return padded[:, :, top : top + height, left : left + width]

    def squares_to_input(
        self, slopes: Array, kernel: Array, places: Pair, shape: tuple[int, ...]
    ) -> Array:
        """slopes: (batch, groups, out, places); kernel: (groups, out, ...); shape: of the input."""
        energy = np.square(slopes).sum(2)[..., None]
        energy = np.broadcast_to(energy, (*energy.shape[:3], self.rows * self.cols))
        each = shape[1] // self.groups
        spread = self.scatter(energy, places, (shape[0], self.groups, *shape[2:]))
        split = np.square(kernel).reshape(self.groups, -1, each, self.rows * self.cols)
        factors = split.mean(axis=(1, 3)).reshape(1, -1, 1, 1)
        squares: Array = np.repeat(spread, each, axis=1) * factors
        return squares


# The squares of the terms that a convolution or its gradients add up, for their rounding errors: as
# if the squares of the two factors were independent of each other.


def _squares_of(values: Array, kernel: Array) -> Array:
    """Forward. values: (batch, groups, places, under the kernel); kernel: (groups, out, ...)."""
    squares: Array = np.square(values).sum(-1)[..., None] * np.square(kernel).mean(-1)[:, None]
    return squares


def _squares_to_weight(slopes: Array, values: Array) -> Array:
    """slopes: (batch, groups, out, places)."""
    energy = np.square(slopes).sum(axis=(0, 3))
    squares: Array = energy[..., None] * np.square(values).mean(axis=(0, 2))[:, None]
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
    _, _, rows, cols = weight.shape
    windows = Windows(rows, cols, stride, padding, dilation, groups)
    values, places = windows.of(x.value)
    kernel = weight.value.reshape(groups, weight.shape[0] // groups, -1)
    product = values @ kernel.swapaxes(1, 2)
    product = accumulated(product, lambda: _squares_of(values, kernel), kernel.shape[-1])
    y = _places_last(product, places)
    state.multiply_adds += y.size * weight.value[0].size

    def by_group(slope: Array) -> Array:
        """(batch, groups, out, places)"""
        return slope.reshape(len(slope), groups, kernel.shape[1], -1)

    def to_input(slope: Array) -> Array:
        slopes = by_group(slope)
        spread = windows.scatter(slopes.swapaxes(2, 3) @ kernel, places, x.shape)
        terms = kernel.shape[1] * rows * cols
        return accumulated(
            spread, lambda: windows.squares_to_input(slopes, kernel, places, x.shape), terms
        )

    def to_weight(slope: Array) -> Array:
        values, _ = windows.of(x.value)  # a second time: kept, they would be most of the memory
        if weight.value[0].size == 1:
            magnitude = np.abs(by_group(slope) * values.swapaxes(2, 3))
            state.remember(f"{name}.weight", magnitude.sum(axis=(0, 3)))
        slopes = by_group(slope)
        summed = _over_images(slopes, values)
        terms = len(slope) * places[0] * places[1]
        summed = accumulated(summed, lambda: _squares_to_weight(slopes, values), terms)
        return summed.reshape(weight.shape)

    def to_bias(slope: Array) -> Array:
        state.remember(f"{name}.bias", np.abs(slope).sum(axis=(0, 2, 3)))
        summed: Array = slope.sum(axis=(0, 2, 3))
        terms = slope.size // slope.shape[1]
        return accumulated(summed, lambda: np.square(slope).sum(axis=(0, 2, 3)), terms)

    sources = [(x, to_input), (weight, to_weight)]
    if f"{name}.bias" in state.arrays:
        bias = state.parameter(f"{name}.bias")
        y = y + bias.value[:, None, None]
        sources.append((bias, to_bias))
    return Node(y, *sources)


def _over_images(slopes: Array, values: Array) -> Array:
    """slopes: (batch, groups, out, places); values: (batch, groups, places, under the kernel)."""
    if slopes.shape[1] > 1 or slopes.shape[3] > 256:
        summed: Array = (slopes @ values).sum(axis=0)
        return summed
    # One product instead of one large kernel for each image.
    rows = slopes[:, 0].transpose(1, 0, 2).reshape(slopes.shape[2], -1)
    product: Array = rows @ values[:, 0].reshape(rows.shape[1], -1)
    return product[None]


def _places_last(y: Array, places: Pair) -> Array:
    """(batch, groups, places, out) -> (batch, channels, height, width)"""
    return y.swapaxes(2, 3).reshape(len(y), -1, *places)


def conv1d(state: State, name: str, x: Node, padding: str) -> Node:
    """x: (batch, length). Position c reads c - k // 2 to c + k // 2, with zeros outside of x or, if
    the padding is circular, around the end.
    """
    kernel = state.parameter(f"{name}.weight")
    length, size = x.shape[1], kernel.shape[2]
    reach = np.arange(length)[:, None] + np.arange(size) - size // 2
    if padding == "zero":
        outside = (reach < 0) | (reach >= length)
        x, reach = (
            concatenate([x, Node(np.zeros((len(x.value), 1)))], 1),
            np.where(outside, length, reach),
        )
    else:
        reach %= length
    windows = reshape(take(x, reach.ravel(), 1), -1, length, size)
    return einsum(state, "bcu,u->bc", windows, reshape(kernel, size))


def apply_linear(state: State, name: str, x: Node) -> Node:
    """x w^T + b."""
    weight, bias = state.parameter(f"{name}.weight"), state.parameter(f"{name}.bias")
    return einsum(state, "bi,oi->bo", x, weight) + bias


def einsum(state: State, subscripts: str, a: Node, b: Node) -> Node:
    """A product of two arrays, summed over indices that are in one of the two and not in the
    result.
    """
    first, second, out = subscripts.replace("->", ",").split(",")
    sizes = {**dict(zip(first, a.shape, strict=True)), **dict(zip(second, b.shape, strict=True))}
    state.multiply_adds += int(np.prod([float(size) for size in sizes.values()]))

    def product(letters: str, x: Array, y: Array) -> Array:
        summed: Array = np.einsum(letters, x, y, optimize=True)
        terms = int(
            np.prod([sizes[letter] for letter in set(letters[: letters.index("-")]) - {","}])
        )
        terms //= max(summed.size, 1)

        def squares() -> Array:
            of_terms: Array = np.einsum(letters, np.square(x), np.square(y), optimize=True)
            return of_terms

        return accumulated(summed, squares, terms)

    return Node(
        product(subscripts, a.value, b.value),
        (a, lambda slope: product(f"{out},{second}->{first}", slope, b.value)),
        (b, lambda slope: product(f"{out},{first}->{second}", slope, a.value)),
    )


# Normalization


def apply_batch_norm(state: State, name: str, x: Node, eps: float, decay: float) -> Node:
    """Ioffe & Szegedy 2015, algorithm 1; running statistics as in algorithm 2, with the unbiased
    variance.
    """
    weight, bias = (_by_channel(state.parameter(f"{name}.{leaf}")) for leaf in ("weight", "bias"))
    running_mean, running_var = f"{name}.running_mean", f"{name}.running_var"
    mean, variance = state.arrays[running_mean], state.arrays[running_var]
    x = boundary(x)
    with widened():
        if state.training:
            n = x.shape[0] * x.shape[2] * x.shape[3]
            check_statistics(n)
            of_batch = average(x, 0, *POSITIONS)
            centred = x - of_batch
            spread = _variance(x, centred.value, 0, *POSITIONS)
            new = 1 - decay
            mean = decay * mean + new * of_batch.value.ravel()
            variance = decay * variance + new * spread.value.ravel() * n / (n - 1)
        else:
            centred = x - _by_channel(given(mean))
            spread = _by_channel(given(variance))
        scaled = centred * power(spread + eps, -0.5) * weight
    state.statistics |= {running_mean: mean, running_var: variance}
    return scaled + bias


def apply_group_norm(state: State, name: str, x: Node, groups: int, eps: float) -> Node:
    """Wu & He 2018, equations 1, 2 and 7: over the positions and channels of each group."""
    weight, bias = (_by_channel(state.parameter(f"{name}.{leaf}")) for leaf in ("weight", "bias"))
    x = boundary(x)
    with widened():
        grouped = reshape(x, len(x.value), groups, -1)
        centred = grouped - average(grouped, 2)
        spread = _variance(grouped, centred.value, 2)
        scaled = reshape(centred * power(spread + eps, -0.5), *x.shape) * weight
    return scaled + bias


def apply_layer_norm(state: State, name: str, x: Node, eps: float) -> Node:
    """Ba et al. 2016, equation 3, over the channels of each position."""
    weight, bias = (_by_channel(state.parameter(f"{name}.{leaf}")) for leaf in ("weight", "bias"))
    x = boundary(x)
    with widened():
        centred = x - average(x, CHANNELS)
        scaled = centred * power(_variance(x, centred.value, CHANNELS) + eps, -0.5) * weight
    return scaled + bias


def _variance(x: Node, centred: Array, *axes: int) -> Node:
    """The average of the squares of x less its mean.

    Its slope to the mean is a sum of all centred values and so exactly 0. Frameworks leave it out,
    and so must we: what rounding leaves of that sum would count as error.
    """
    count = np.prod([x.shape[axis] for axis in axes])
    summed = np.square(centred).sum(axis=axes, keepdims=True)
    fourth = lambda: np.square(np.square(centred)).sum(axis=axes, keepdims=True)  # noqa: E731
    variance = accumulated(summed, fourth, int(count)) / count
    return Node(variance, (x, lambda slope: slope * (2 / count) * centred))


def _by_channel(x: Node) -> Node:
    return reshape(x, 1, -1, 1, 1)


# Activations


def relu(state: State, x: Node) -> Node:
    """max(x, 0); its slope at 0 is taken as 0."""
    positive = state.kinks.decide(x.value.real)
    y = np.where(positive, x.value, 0)
    return Node(y, (x, lambda slope: np.where(positive, slope, 0)), moved=True)


def sigmoid(x: Node) -> Node:
    """1 / (1 + exp(-x)), without overflow."""
    positive = x.value.real > 0
    e = np.exp(np.where(positive, -x.value, x.value))
    y: Array = np.where(positive, 1.0, e) / (1 + e)

    def steepness() -> Array:
        # Frameworks compute it of the rounded output, which may be 1.
        rounded = accumulated(y, lambda: np.square(y), 2)
        slope: Array = rounded * (1 - rounded) if is_disturbed() else e / np.square(1 + e)
        return slope

    return Node(y, (x, lambda slope: slope * steepness()))


def hard_sigmoid(state: State, x: Node) -> Node:
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    above = state.kinks.decide(x.value.real + 3)
    below = state.kinks.decide(3 - x.value.real)
    y = np.where(above & below, (x.value + 3) / 6, np.where(above, 1.0, 0.0))
    return Node(y, (x, lambda slope: np.where(above & below, slope / 6, 0)))


def softmax(x: Node) -> Node:
    """exp(x) / sum of exp(x) over the last axis.

    The greatest is taken away first: that changes nothing but overflows.
    """
    last = x.value.ndim - 1
    e = exp(x - Node(x.value.real.max(axis=last, keepdims=True)))
    return e / total(e, last)


# Pooling


def global_average(x: Node) -> Node:
    """The mean over positions, kept as a 1x1 image."""
    return average(x, *POSITIONS)


def average_around(x: Node, extent: int, axis: int) -> Node:
    """For every extent-th place along an axis, the mean of the places less than extent away that
    are there.
    """
    size = x.shape[axis]
    places = [
        range(max(0, at - extent + 1), min(size, at + extent)) for at in range(0, size, extent)
    ]
    return concatenate([average(take(x, list(near), axis), axis) for near in places], axis)


def maximum(state: State, x: Node, *axes: int) -> Node:
    """The greatest over axes, which stay with size 1; the slope goes to the first greatest."""
    kept = [axis for axis in range(x.value.ndim) if axis not in axes]
    last = transpose(x, *kept, *axes)
    flat = reshape(last, *(x.shape[axis] for axis in kept), -1)
    first = greatest_index(state, flat.value.real)

    def pull(slope: Array) -> Array:
        spread = np.zeros(flat.shape, slope.dtype)
        np.put_along_axis(spread, first, slope[..., None], axis=-1)
        return spread

    y = Node(np.take_along_axis(flat.value, first, axis=-1)[..., 0], (flat, pull), moved=True)
    return reshape(y, *(1 if axis in axes else size for axis, size in enumerate(x.shape)))


def greatest_index(state: State, values: Array) -> Array:
    """The place of the greatest along the last axis, which stays with size 1: the first of equals.

    Where noise could make the second the greatest, a coin decides.
    """
    first: Array = values.argmax(axis=-1)[..., None]
    if values.shape[-1] == 1:
        return first
    rest = values.copy()
    np.put_along_axis(rest, first, -np.inf, axis=-1)
    second = rest.argmax(axis=-1)[..., None]
    one, other = (np.take_along_axis(values, place, axis=-1) for place in (first, second))
    lead = np.where(np.isfinite(other), one - other, one)[..., 0]  # -inf: outside of the image
    # Equals of no error, such as zeros of a relu, are no kink: the first is taken.
    is_first = state.kinks.decide(lead) | (lead == 0)
    return np.where(is_first[..., None], first, second)


def greater(state: State, parts: Iterable[Node]) -> Node:
    """The greatest of several arrays of one shape, value by value."""
    held = list(parts)
    stacked = concatenate([reshape(part, 1, *part.shape) for part in held], 0)
    return reshape(maximum(state, stacked, 0), *held[0].shape)
