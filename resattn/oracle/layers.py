"""The layers of the oracle, from the papers' definitions: functions of a state, a name and nodes.

Maps are (batch, channels, height, width). The name is that of the module whose parameters a layer
uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from resattn.oracle.kinks import Kinks
from resattn.oracle.moments import BatchParts, normalise, variance_of
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

CHANNELS, ROWS, COLS = 1, 2, 3
POSITIONS = (ROWS, COLS)


@dataclass
class State:
    """What a pass through a model reads and leaves.

    arrays: parameters and statistics, by canonical name. training: the mode.
    statistics: the running statistics after a pass in training.
    parameters: the nodes of the parameters that were read.
    magnitudes: for parameters that cancel or vanish, the greatest sum of the magnitudes of what
        their gradient adds up; set by `backward`.
    cancelling: parameters whose gradient is the rest that remains when nearly all of that cancels.
    vanishing: parameters whose gradient is exactly zero, since all of it cancels.
    shifted: the running means that such a vanishing bias is part of.
    kinks: of relus and maxima.
    parts: how the batch norms divide the batch; None if they do not.
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
    parts: BatchParts | None = None
    multiply_adds: int = 0

    def parameter(self, name: str) -> Node:
        """The same node every time, so that the slopes of a parameter that is used twice add up."""
        if name not in self.parameters:
            self.parameters[name] = entered(self.arrays[name])
        return self.parameters[name]

    def remember(self, name: str, magnitude: Array) -> None:
        self.magnitudes[name] = self.magnitudes.get(name, 0.0) + float(magnitude.max())


# Products


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
            concatenate([x, given(np.zeros((len(x.value), 1)))], 1),
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
            batch = normalise(x, eps, state.parts)
            new = 1 - decay
            mean = decay * mean + new * batch.mean
            variance = decay * variance + new * batch.variance
            state.statistics |= {running_mean: mean, running_var: variance}
            scaled = batch.values * weight
        else:
            centred = x - _by_channel(given(mean))
            spread = _by_channel(given(variance))
            scaled = centred * power(spread + eps, -0.5) * weight
    return scaled + bias


def apply_group_norm(state: State, name: str, x: Node, groups: int, eps: float) -> Node:
    """Wu & He 2018, equations 1, 2 and 7: over the positions and channels of each group."""
    weight, bias = (_by_channel(state.parameter(f"{name}.{leaf}")) for leaf in ("weight", "bias"))
    x = boundary(x)
    with widened():
        grouped = reshape(x, len(x.value), groups, -1)
        centred = grouped - average(grouped, 2)
        spread = variance_of(grouped, centred.value, 2)
        scaled = reshape(centred * power(spread + eps, -0.5), *x.shape) * weight
    return scaled + bias


def apply_layer_norm(state: State, name: str, x: Node, eps: float) -> Node:
    """Ba et al. 2016, equation 3, over the channels of each position."""
    weight, bias = (_by_channel(state.parameter(f"{name}.{leaf}")) for leaf in ("weight", "bias"))
    x = boundary(x)
    with widened():
        centred = x - average(x, CHANNELS)
        scaled = centred * power(variance_of(x, centred.value, CHANNELS) + eps, -0.5) * weight
    return scaled + bias


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
    e = exp(x - given(x.value.real.max(axis=last, keepdims=True)))
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
    if values.shape[-1] == 1 or not state.kinks.matter:
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
