"""The oracle's arithmetic: plain NumPy with gradients.

A `Node` is a value that knows what it was made of and how slopes go back there; `backward` takes
them back. Nothing here comes from a framework. Arrays are float64, or complex128 where a test
differentiates with complex steps (hence no abs, max or conj on the way of the data).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

Array = np.ndarray
_order: Iterator[int] = count()
_formats: list[np.dtype] = []
_noises: list[Noise] = []

# Libraries add long sums in blocks of some hundred terms, and then the sums of the blocks.
SUM_BLOCK = 128


@contextmanager
def rounded_to(dtype: str) -> Iterator[None]:
    """Within it, every value and every slope is rounded to a lower dtype after each operation."""
    _formats.append(np.dtype(dtype))
    try:
        yield
    finally:
        _formats.pop()


@dataclass(frozen=True)
class Noise:
    """Random errors as large as the rounding errors of a number format.

    rng: of the errors. unit: the greatest relative error of one rounding. sum_unit: that of the
    additions within a sum. tiny: the greatest absolute error of a number near 0. greatest: numbers
    beyond it overflow to infinity. rounds_inputs: whether images and parameters are rounded, too.
    """

    rng: np.random.Generator
    unit: float
    sum_unit: float
    tiny: float
    greatest: float
    rounds_inputs: bool = False

    def value(self, value: Array) -> Array:
        """The value with the error of one rounding, uniform in its interval."""
        size: Array = np.abs(value)
        if not size.max(initial=0) <= self.greatest:
            value = np.where(size > self.greatest, value * np.inf, value)
        size *= self.unit
        size += self.tiny * (value != 0)
        size *= self._uniform(value.shape)
        size += value
        return size

    def _uniform(self, shape: tuple[int, ...]) -> Array:
        """Random numbers between -1 and 1."""
        numbers: Array = self.rng.random(shape, dtype=np.float32)
        numbers *= 2
        numbers -= 1
        return numbers

    def sum(self, value: Array, squares: Array | float, terms: int) -> Array:
        """A sum with the errors of adding its terms one after the other, in blocks.

        squares: the sum of the squares of the terms. Each addition rounds a partial sum. The
        squares of the partial sums are expected to be those of a random walk to the known sum:
        after j of k terms, (j/k)^2 sum^2 + (j/k) (1 - j/k) squares; and so for the sums of blocks.
        """
        block = min(SUM_BLOCK, terms)
        blocks = terms / block
        size: Array = np.square(value)  # of the known sum: coherent
        size *= (block / blocks + blocks) / 3
        size += squares * (block / 6 + block / 3 * (1 - 1 / blocks) + blocks / 6)
        size = np.sqrt(size)
        size *= self.sum_unit
        size *= self._uniform(value.shape)
        size += value
        return size


@contextmanager
def disturbed(noise: Noise) -> Iterator[None]:
    """Within it, the result of every operation gets a random error, in value and slope: Monte Carlo
    arithmetic (Parker 1997, "Monte Carlo Arithmetic", section 3).
    """
    _noises.append(noise)
    try:
        yield
    finally:
        _noises.pop()


@contextmanager
def widened() -> Iterator[None]:
    """Within it, a disturbed pass rounds results as it rounds sums: frameworks compute norms in
    float32, whatever the format of their inputs and outputs.
    """
    if not _noises:
        yield
        return
    noise = _noises[-1]
    float32 = np.finfo(np.float32)
    greatest = max(noise.greatest, float(float32.max))
    tiny = min(noise.tiny, float(float32.tiny))
    with disturbed(replace(noise, unit=noise.sum_unit, greatest=greatest, tiny=tiny)):
        yield


def boundary(x: Node) -> Node:
    """The same value, whose slope is rounded: where a framework goes back to a lower format."""
    node = given(x.value)
    node.sources = ((x, lambda slope: slope),)
    node.moved = False
    return node


def is_disturbed() -> bool:
    """Whether results get random errors at the moment."""
    return bool(_noises)


def accumulated(value: Array, squares: Callable[[], Array | float], terms: int) -> Array:
    """A sum; in a disturbed pass with the errors of its additions. The rest: `Noise.sum`."""
    return _noises[-1].sum(value, squares(), terms) if _noises and terms > 1 else value


def _held(value: Array) -> Array:
    if _noises:
        return _noises[-1].value(value)
    return value.astype(_formats[-1]).astype(np.float64) if _formats else value


class Node:
    """A value. sources: what it was made of, each with the function from its slope to theirs.
    slope: after `backward`. moved: whether the operation only moved or copied values, without
    rounding.
    """

    def __init__(
        self,
        value: Array,
        *sources: tuple[Node, Callable[[Array], Array]],
        moved: bool = False,
    ):
        self.value = value if moved else _held(value)
        self.moved = moved
        self.noise = _noises[-1] if _noises else None
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


def given(value: Array) -> Node:
    """A value that was given and not computed: without rounding error."""
    return Node(value, moved=True)


def entered(value: Array) -> Node:
    """An image or a parameter: rounded where the computation has a lower format than they have."""
    noise = _noises[-1] if _noises else None
    return given(noise.value(value) if noise and noise.rounds_inputs else value)


def _node(value: Node | float) -> Node:
    return value if isinstance(value, Node) else given(np.asarray(value, np.float64))


def _summed(slope: Array, shape: tuple[int, ...]) -> Array:
    """What flows back through a broadcast from `shape`."""
    if slope.shape == shape:
        return slope
    missing = slope.ndim - len(shape)
    full = (1,) * missing + shape
    repeated = tuple(axis for axis, size in enumerate(full) if size < slope.shape[axis])
    summed = slope.sum(axis=repeated, keepdims=True)
    terms = slope.size // max(summed.size, 1)
    summed = accumulated(summed, lambda: np.square(slope).sum(axis=repeated, keepdims=True), terms)
    return summed.reshape(shape)


def backward(y: Node, slope: Array) -> None:
    """Sets the `slope` of every node that y was made of: the gradient of sum(y * slope)."""
    y.slope = slope
    waiting, known = [(-y.order, y)], {y.order}
    while waiting:
        _, node = heapq.heappop(waiting)  # the youngest: all that was made of it has been visited
        assert node.slope is not None
        for source, pull in node.sources:
            part = pull(node.slope)
            if not node.moved:
                part = _held(part) if node.noise is None else node.noise.value(part)
            source.slope = part if source.slope is None else source.slope + part
            if source.order not in known:
                known.add(source.order)
                heapq.heappush(waiting, (-source.order, source))


def power(x: Node, exponent: float) -> Node:
    return Node(x.value**exponent, (x, lambda slope: slope * exponent * x.value ** (exponent - 1)))


def exp(x: Node) -> Node:
    y = np.exp(x.value)
    return Node(y, (x, lambda slope: slope * y))


def total(x: Node, *axes: int) -> Node:
    """The sum over axes, which stay with size 1."""
    y = x.value.sum(axis=axes, keepdims=True)
    terms = x.value.size // max(y.size, 1)
    y = accumulated(y, lambda: np.square(x.value).sum(axis=axes, keepdims=True), terms)
    return Node(y, (x, lambda slope: np.broadcast_to(slope, x.shape)))


def average(x: Node, *axes: int) -> Node:
    """The mean over axes, which stay with size 1."""
    return total(x, *axes) * (1 / np.prod([x.shape[axis] for axis in axes]))


def reshape(x: Node, *shape: int) -> Node:
    return Node(x.value.reshape(shape), (x, lambda slope: slope.reshape(x.shape)), moved=True)


def transpose(x: Node, *axes: int) -> Node:
    back = np.argsort(axes)
    return Node(x.value.transpose(axes), (x, lambda slope: slope.transpose(back)), moved=True)


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
    return Node(np.concatenate([part.value for part in parts], axis), *sources, moved=True)


def take(x: Node, index: Sequence[int] | Array, axis: int) -> Node:
    """x[index] along an axis; an entry may be taken more than once."""

    def pull(slope: Array) -> Array:
        spread = np.zeros(x.shape, slope.dtype)
        places = (*(slice(None),) * axis, np.asarray(index))
        np.add.at(spread, places, slope)  # type: ignore[arg-type]  # slices are right, too
        return spread

    return Node(np.take(x.value, index, axis), (x, pull), moved=True)
