"""The oracle's arithmetic: plain NumPy with gradients, and the layers that block, network and
attention modules share.

A `Node` is a value that knows what it was made of and how slopes go back there; `backward` takes
them back. Nothing here comes from a framework. Arrays are (batch, channels, height, width),
float64, or complex128 where a test differentiates with complex steps (hence no abs, max or conj on
the way of the data).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from weights.checks import Pair
from weights.inputs import check_statistics
from weights.stages import numbered

Array = np.ndarray
CHANNELS, ROWS, COLS = 1, 2, 3
POSITIONS = (ROWS, COLS)
_order: Iterator[int] = count()
_formats: list[np.dtype] = []


@contextmanager
def rounded_to(dtype: str) -> Iterator[None]:
    """Within it, every value and every slope on the way is rounded to a lower dtype: it shows what
    rounding can do.
    """
    _formats.append(np.dtype(dtype))
    try:
        yield
    finally:
        _formats.pop()


def _held(value: Array) -> Array:
    return value.astype(_formats[-1]).astype(np.float64) if _formats else value


class Node:
    """A value. sources: what it was made of, each with the function from its slope to theirs.
    slope: after `backward`.
    """

    def __init__(self, value: Array, *sources: tuple[Node, Callable[[Array], Array]]):
        self.value = _held(value)
        self.sources = sources
        self.slope: Array | None = None
        self.order = next(_order)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __add__(self, other: Node | float) -> Node:
        other = _node(other)
        return Node(
            self.value + other.value,
            (self, lambda slope: _summed(slope, self.shape)),
            (other, lambda slope: _summed(slope, other.shape)),
        )

    def __mul__(self, other: Node | float) -> Node:
        other = _node(other)
        return Node(
            self.value * other.value,
            (self, lambda slope: _summed(slope * other.value, self.shape)),
            (other, lambda slope: _summed(slope * self.value, other.shape)),
        )

    def __sub__(self, other: Node | float) -> Node:
        return self + _node(other) * -1.0

    def __truediv__(self, other: Node | float) -> Node:
        return self * power(_node(other), -1)

    __radd__, __rmul__ = __add__, __mul__


def _node(value: Node | float) -> Node:
    return value if isinstance(value, Node) else Node(np.asarray(value, np.float64))


def _summed(slope: Array, shape: tuple[int, ...]) -> Array:
    """What flows back through a broadcast from `shape`."""
    slope = slope.sum(axis=tuple(range(slope.ndim - len(shape))))
    return slope.sum(
        axis=tuple(axis for axis, size in enumerate(shape) if size == 1), keepdims=True
    )


def backward(y: Node, slope: Array) -> None:
    """Sets the `slope` of every node that y was made of: the gradient of sum(y * slope)."""
    y.slope = slope
    waiting, known = [(-y.order, y)], {y.order}
    while waiting:
        node = heapq.heappop(waiting)[
            1
        ]  # the youngest: everything made of it has handed its slope back
        for source, pull in node.sources:
            part = _held(pull(node.slope))
            source.slope = part if source.slope is None else source.slope + part
            if source.order not in known:
                known.add(source.order)
                heapq.heappush(waiting, (-source.order, source))


@dataclass(frozen=True)
class Stage:
    """A step of a pass. name: as the traced models call it. module: whose parameters it uses; kind:
    what it computes.

    computed: its output. output: what the pass went on with: the same, unless it was altered.
        inputs: what it was given.
    settings: what its definition needs besides, such as the stride.
    """

    name: str
    module: str
    kind: str
    computed: Node
    output: Node
    inputs: tuple[Node, ...]
    settings: Mapping[str, Any]


@dataclass
class State:
    """What a pass through the model reads and leaves behind.

    arrays: parameters and statistics. training: the mode. decay, eps: of the block's batch norms.
    stages: what was computed, step by step, by name. altered: for some of them, what to go on with
        instead, made from the stage.
    statistics: the running statistics after the pass. parameters: the nodes of those parameters
        that were read.
    magnitudes: for convolutions' parameters, the greatest sum of the magnitudes of what a gradient
        adds up; by `backward`.
    cancelling: parameters whose gradient is what is left when nearly all of that cancels;
        vanishing: when all of it does.
    shifted: the running means that such a vanishing bias is part of.
    margin: how near any relu came to its kink or any maximum to a tie, relative to the tensor's
        greatest magnitude.
    multiply_adds: of convolutions, linear layers and matrix products, so far.
    """

    arrays: Mapping[str, Array]
    training: bool
    decay: float
    eps: float
    statistics: dict[str, Array] = field(default_factory=dict)
    parameters: dict[str, Node] = field(default_factory=dict)
    magnitudes: dict[str, float] = field(default_factory=dict)
    cancelling: set[str] = field(default_factory=set)
    vanishing: set[str] = field(default_factory=set)
    shifted: set[str] = field(default_factory=set)
    margin: float = np.inf
    multiply_adds: int = 0
    stages: dict[str, Stage] = field(default_factory=dict)
    altered: Mapping[str, Callable[[Stage], Array]] = field(default_factory=dict)

    def stage(self, name: str, kind: str, computed: Node, *inputs: Node, **settings: Any) -> Node:
        """Remembers a step, and gives its output or what stands in its place. A second step of a
        name is "name 2".
        """
        made = Stage(numbered(name, self.stages), name, kind, computed, computed, inputs, settings)
        if made.name in self.altered:
            made = replace(made, output=Node(self.altered[made.name](made)))
        self.stages[made.name] = made
        return made.output

    def parameter(self, name: str) -> Node:
        """The same node every time, so that the slopes of a parameter that is used twice add up."""
        return self.parameters.setdefault(name, Node(self.arrays[name]))

    def near(self, distance: Array, x: Array) -> None:
        if distance.size:
            self.margin = min(self.margin, float(distance.min() / (np.abs(x).max() or 1)))

    def remember(self, name: str, magnitude: Array) -> None:
        self.magnitudes[name] = self.magnitudes.get(name, 0.0) + float(magnitude.max())


# Arithmetic


def power(x: Node, exponent: float) -> Node:
    return Node(x.value**exponent, (x, lambda slope: slope * exponent * x.value ** (exponent - 1)))


def exp(x: Node) -> Node:
    y = np.exp(x.value)
    return Node(y, (x, lambda slope: slope * y))


def total(x: Node, *axes: int) -> Node:
    """The sum over axes, which stay with size 1."""
    return Node(
        x.value.sum(axis=axes, keepdims=True), (x, lambda slope: np.broadcast_to(slope, x.shape))
    )


def average(x: Node, *axes: int) -> Node:
    """The mean over axes, which stay with size 1."""
    return total(x, *axes) * (1 / np.prod([x.shape[axis] for axis in axes]))


def maximum(state: State, x: Node, *axes: int) -> Node:
    """The greatest over axes, which stay with size 1; the slope goes to the first greatest."""
    kept = [axis for axis in range(x.value.ndim) if axis not in axes]
    last = transpose(x, *kept, *axes)
    flat = reshape(last, *(x.shape[axis] for axis in kept), -1)
    first = flat.value.real.argmax(axis=-1)[..., None]
    if flat.shape[-1] > 1:
        second, greatest = np.moveaxis(np.sort(flat.value.real, axis=-1)[..., -2:], -1, 0)
        state.near(greatest - second, x.value)

    def pull(slope: Array) -> Array:
        spread = np.zeros(flat.shape, slope.dtype)
        np.put_along_axis(spread, first, slope[..., None], axis=-1)
        return spread

    y = Node(np.take_along_axis(flat.value, first, axis=-1)[..., 0], (flat, pull))
    return reshape(y, *(1 if axis in axes else size for axis, size in enumerate(x.shape)))


def reshape(x: Node, *shape: int) -> Node:
    return Node(x.value.reshape(shape), (x, lambda slope: slope.reshape(x.shape)))


def transpose(x: Node, *axes: int) -> Node:
    return Node(x.value.transpose(axes), (x, lambda slope: slope.transpose(np.argsort(axes))))


def concatenate(parts: Sequence[Node], axis: int) -> Node:
    ends = np.cumsum([part.shape[axis] for part in parts])
    sources = [
        (
            part,
            lambda slope, end=end, size=part.shape[axis]: np.take(
                slope, range(end - size, end), axis
            ),
        )
        for part, end in zip(parts, ends, strict=True)
    ]
    return Node(np.concatenate([part.value for part in parts], axis), *sources)


def take(x: Node, index: Sequence[int], axis: int) -> Node:
    """x[index] along an axis; an entry may be taken more than once."""

    def pull(slope: Array) -> Array:
        spread = np.zeros(x.shape, slope.dtype)
        np.add.at(spread, (slice(None),) * axis + (np.asarray(index),), slope)
        return spread

    return Node(np.take(x.value, index, axis), (x, pull))


def einsum(state: State, subscripts: str, a: Node, b: Node) -> Node:
    """A product of two arrays summed over indices that stand in one of the two and not behind the
    arrow.
    """
    first, second, out = subscripts.replace("->", ",").split(",")
    sizes = {**dict(zip(first, a.shape, strict=True)), **dict(zip(second, b.shape, strict=True))}
    state.multiply_adds += int(np.prod([float(size) for size in sizes.values()]))
    return Node(
        np.einsum(subscripts, a.value, b.value, optimize=True),
        (a, lambda slope: np.einsum(f"{out},{second}->{first}", slope, b.value, optimize=True)),
        (b, lambda slope: np.einsum(f"{out},{first}->{second}", slope, a.value, optimize=True)),
    )


# Layers


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
    (Goodfellow et al. 2016, 9.1).
    groups: 1, or as many as channels: each by itself (depthwise).
    """
    weight = state.parameter(f"{name}.weight")
    rows, cols = weight.shape[2:]
    padded = np.pad(x.value, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    reach = (dilation * (rows - 1) + 1, dilation * (cols - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], ::dilation, ::dilation]
    forward, inward = (
        ("bircuv,oiuv->borc", "borc,oi->birc")
        if groups == 1
        else ("borcuv,oiuv->borc", "borc,oi->borc")
    )
    y = np.einsum(forward, windows, weight.value, optimize=groups == 1)
    state.multiply_adds += y.size * weight.value[0].size

    def to_input(slope: Array) -> Array:
        spread = np.zeros(padded.shape, np.result_type(slope, weight.value))
        height, width = slope.shape[2:]
        for u in range(rows):
            for v in range(cols):
                top, left = u * dilation, v * dilation
                here = np.s_[
                    :,
                    :,
                    top : top + stride[0] * height : stride[0],
                    left : left + stride[1] * width : stride[1],
                ]
                spread[here] += np.einsum(
                    inward, slope, weight.value[:, :, u, v], optimize=groups == 1
                )
        bottom, right = padded.shape[2] - padding[0], padded.shape[3] - padding[1]
        return spread[:, :, padding[0] : bottom, padding[1] : right]

    def to_weight(slope: Array) -> Array:
        if weight.value[0].size == 1:
            magnitude = np.abs(slope * windows[..., 0, 0]).sum(axis=(0, 2, 3))
            state.remember(f"{name}.weight", magnitude)
        if groups == 1:
            return np.einsum("borc,bircuv->oiuv", slope, windows, optimize=True)
        return np.einsum("borc,borcuv->ouv", slope, windows)[:, None]

    sources = [(x, to_input), (weight, to_weight)]
    if f"{name}.bias" in state.arrays:
        bias = state.parameter(f"{name}.bias")
        y = y + bias.value[:, None, None]

        def to_bias(slope: Array) -> Array:
            state.remember(f"{name}.bias", np.abs(slope).sum(axis=(0, 2, 3)))
            return slope.sum(axis=(0, 2, 3))

        sources.append((bias, to_bias))
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return state.stage(name, "convolution", Node(y, *sources), x, **settings)


def batch_norm(
    state: State, name: str, x: Node, eps: float | None = None, decay: float | None = None
) -> Node:
    """Ioffe & Szegedy 2015, algorithm 1; running statistics as in algorithm 2, with the unbiased
    variance.
    """
    eps, decay = state.eps if eps is None else eps, state.decay if decay is None else decay
    weight, bias = (
        reshape(state.parameter(f"{name}.{leaf}"), 1, -1, 1, 1) for leaf in ("weight", "bias")
    )
    running_mean, running_var = (
        state.arrays[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var")
    )
    axes = (0, *POSITIONS)
    if state.training:
        n = x.shape[0] * x.shape[2] * x.shape[3]
        check_statistics(n)
        mean = average(x, *axes)
        centred = x - mean
        variance = average(centred * centred, *axes)
        new = 1 - decay
        state.statistics[f"{name}.running_mean"] = decay * running_mean + new * mean.value.ravel()
        state.statistics[f"{name}.running_var"] = (
            decay * running_var + new * variance.value.ravel() * n / (n - 1)
        )
    else:
        state.statistics[f"{name}.running_mean"], state.statistics[f"{name}.running_var"] = (
            running_mean,
            running_var,
        )
        centred = x - Node(running_mean.reshape(1, -1, 1, 1))
        variance = Node(running_var.reshape(1, -1, 1, 1))
    y = centred * power(variance + eps, -0.5) * weight + bias
    return state.stage(name, "batch norm", y, x, eps=eps, decay=decay, training=state.training)


def normalized_conv(
    state: State,
    conv: str,
    bn: str,
    x: Node,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: int = 1,
    groups: int = 1,
    eps: float | None = None,
    decay: float | None = None,
) -> Node:
    """A convolution and the batch norm behind it.

    In training the batch norm takes the mean away, so a bias in front of it changes nothing and its
    gradient is exactly zero; and it divides by the deviation, so where a kernel is one single
    weight that weight changes nothing but what eps does. What a framework returns there is rounding
    noise, to be judged by the sum of the magnitudes that cancel.
    """
    if state.training:
        if state.arrays[f"{conv}.weight"][0].size == 1:
            state.cancelling.add(f"{conv}.weight")
        if f"{conv}.bias" in state.arrays:
            state.vanishing.add(f"{conv}.bias")
            state.shifted.add(f"{bn}.running_mean")
    y = conv2d(state, conv, x, stride, padding, dilation, groups)
    return batch_norm(state, bn, y, eps, decay)


def layer_norm(state: State, name: str, x: Node, eps: float) -> Node:
    """Ba et al. 2016, equation 3, over the channels of each position."""
    weight, bias = (
        reshape(state.parameter(f"{name}.{leaf}"), 1, -1, 1, 1) for leaf in ("weight", "bias")
    )
    centred = x - average(x, CHANNELS)
    y = centred * power(average(centred * centred, CHANNELS) + eps, -0.5) * weight + bias
    return state.stage(name, "layer norm", y, x, eps=eps)


def relu(state: State, x: Node) -> Node:
    """max(x, 0); its slope at 0 is taken as 0."""
    positive = x.value.real > 0
    state.near(np.abs(x.value.real[x.value.real != 0]), x.value)
    return Node(np.where(positive, x.value, 0), (x, lambda slope: np.where(positive, slope, 0)))


def sigmoid(x: Node) -> Node:
    """1 / (1 + exp(-x))."""
    return power(exp(x * -1.0) + 1.0, -1)


def hard_sigmoid(state: State, x: Node) -> Node:
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    above, below = x.value.real > -3, x.value.real < 3
    state.near(np.minimum(np.abs(x.value.real + 3), np.abs(x.value.real - 3)), x.value)
    y = np.where(above & below, (x.value + 3) / 6, np.where(above, 1.0, 0.0))
    return Node(y, (x, lambda slope: np.where(above & below, slope / 6, 0)))


def softmax(x: Node) -> Node:
    """exp(x) / sum of exp(x) over the last axis. The greatest is taken away first: that changes
    nothing but overflows.
    """
    last = x.value.ndim - 1
    e = exp(x - Node(x.value.real.max(axis=last, keepdims=True)))
    return e / total(e, last)


def global_average(x: Node) -> Node:
    """The mean over positions, kept as a 1x1 image."""
    return average(x, *POSITIONS)


def max_pool(state: State, x: Node, size: int, stride: int, padding: int) -> Node:
    """The greatest of each window, with -inf around the image; the slope goes to the first
    greatest.
    """
    margins = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(x.value, margins, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=POSITIONS)[
        :, :, ::stride, ::stride
    ]
    flat = windows.reshape(*windows.shape[:4], size * size)
    first = flat.real.argmax(axis=-1)[..., None]
    y = np.take_along_axis(flat, first, axis=-1)[..., 0]
    second, greatest = np.moveaxis(np.sort(flat.real, axis=-1)[..., -2:], -1, 0)
    # Behind a relu, windows of zeros alone are ties that do not matter: the relu lets no slope
    # through there.
    state.near((greatest - second)[greatest != 0], x.value)

    def pull(slope: Array) -> Array:
        spread = np.zeros(padded.shape, slope.dtype)
        batch, channel, row, col = np.indices(y.shape)
        row, col = stride * row + first[..., 0] // size, stride * col + first[..., 0] % size
        np.add.at(spread, (batch, channel, row, col), slope)
        return spread[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]

    return Node(y, (x, pull))


def linear(state: State, name: str, x: Node) -> Node:
    """x w^T + b."""
    y = einsum(state, "bi,oi->bo", x, state.parameter(f"{name}.weight")) + state.parameter(
        f"{name}.bias"
    )
    return state.stage(name, "linear", y, x)
