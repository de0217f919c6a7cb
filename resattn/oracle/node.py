"""The oracle's arithmetic: plain NumPy with gradients.

A `Node` is a value that knows what it was made of and how slopes go back there; `backward` takes
them back. Nothing here comes from a framework. Arrays are float64, or complex128 where a test
differentiates with complex steps (hence no abs, max or conj on the way of the data).
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

Array = np.ndarray
_order: Iterator[int] = count()

# Libraries add long sums in blocks of some hundred terms, and then the sums of the blocks.
SUM_BLOCK = 128
# Errors are made for so many values at a time, which stay in a core's cache.
CACHED = 2**14


class _Settings(threading.local):
    """How operations are computed, in each thread by itself.

    dtype: to which results are rounded. noise: the errors that results get. slopes: whether values
    know what they were made of.
    """

    dtype: np.dtype | None = None
    noise: Noise | None = None
    slopes: bool = True


_settings = _Settings()


@contextmanager
def _set(**changed: Any) -> Iterator[None]:
    before = {name: getattr(_settings, name) for name in changed}
    try:
        for name, value in changed.items():
            setattr(_settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(_settings, name, value)


def rounded_to(dtype: str) -> AbstractContextManager[None]:
    """Within it, every value and every slope is rounded to a lower dtype after each operation."""
    return _set(dtype=np.dtype(dtype))


def without_slopes() -> AbstractContextManager[None]:
    """Within it, nodes are values alone: `backward` does not go beyond them, and what they were
    made of is not kept.
    """
    return _set(slopes=False)


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

        def disturb(value: Array) -> Array:
            size: Array = np.abs(value)
            if not size.max(initial=0) <= self.greatest:
                value = np.where(size > self.greatest, value * np.inf, value)
            size *= 2 * self.unit
            np.add(size, 2 * self.tiny, out=size, where=value != 0)
            size *= self._uniform(len(value))
            size += value
            return size

        return _by_parts(disturb, value)

    def _uniform(self, count: int) -> Array:
        """Random numbers between -1/2 and 1/2."""
        numbers: Array = self.rng.random(count, dtype=np.float32)
        numbers -= np.float32(0.5)
        return numbers

    def sum(self, value: Array, squares: Array | float, terms: int) -> Array:
        """A sum with the errors of adding its terms one after the other, in blocks.

        squares: the sum of the squares of the terms. Each addition rounds a partial sum. The
        squares of the partial sums are expected to be those of a random walk to the known sum:
        after j of k terms, (j/k)^2 sum^2 + (j/k) (1 - j/k) squares; and so for the sums of blocks.
        """
        block = min(SUM_BLOCK, terms)
        blocks = terms / block
        of_sum = (block / blocks + blocks) / 3  # coherent
        of_terms = block / 6 + block / 3 * (1 - 1 / blocks) + blocks / 6

        def disturb(value: Array, squares: Array) -> Array:
            size: Array = np.square(value)
            size *= of_sum
            size += squares * of_terms
            np.sqrt(size, out=size)
            size *= 2 * self.sum_unit
            size *= self._uniform(len(value))
            size += value
            return size

        return _by_parts(disturb, value, np.broadcast_to(squares, value.shape))


def _by_parts(function: Callable[..., Array], *arrays: Array) -> Array:
    """A function of the values of arrays of one shape, of `CACHED` values at a time."""
    flat = [array.reshape(-1) for array in arrays]
    if flat[0].size <= CACHED:
        return function(*flat).reshape(arrays[0].shape)
    result = np.empty_like(flat[0])
    for start in range(0, result.size, CACHED):
        part = slice(start, start + CACHED)
        result[part] = function(*(array[part] for array in flat))
    return result.reshape(arrays[0].shape)


def disturbed(noise: Noise) -> AbstractContextManager[None]:
    """Within it, the result of every operation gets a random error, in value and slope: Monte Carlo
    arithmetic (Parker 1997, "Monte Carlo Arithmetic", section 3).
    """
    return _set(noise=noise)


def widened() -> AbstractContextManager[None]:
    """Within it, a disturbed pass rounds results as it rounds sums: frameworks compute norms in
    float32, whatever the format of their inputs and outputs.
    """
    noise = _settings.noise
    if noise is None:
        return nullcontext()
    float32 = np.finfo(np.float32)
    greatest = max(noise.greatest, float(float32.max))
    tiny = min(noise.tiny, float(float32.tiny))
    return disturbed(replace(noise, unit=noise.sum_unit, greatest=greatest, tiny=tiny))


def boundary(x: Node) -> Node:
    """The same value, whose slope is rounded: where a framework goes back to a lower format."""
    node = Node(x.value, (x, lambda slope: slope), moved=True)
    node.moved = False
    return node


def is_disturbed() -> bool:
    """Whether results get random errors at the moment."""
    return _settings.noise is not None


def accumulated(value: Array, squares: Callable[[], Array | float], terms: int) -> Array:
    """A sum; in a disturbed pass with the errors of its additions. The rest: `Noise.sum`."""
    noise = _settings.noise
    return value if noise is None or terms <= 1 else noise.sum(value, squares(), terms)


def _held(value: Array) -> Array:
    if _settings.noise is not None:
        return _settings.noise.value(value)
    dtype = _settings.dtype
    return value if dtype is None else value.astype(dtype).astype(np.float64)


class Node:
    """A value. sources: what it was made of, each with the function from its slope to theirs.
    slope: after `backward`. moved: whether the operation only moved or copied values, without
    rounding. fixed: whether it was given, or made of nothing but what was: it has no slope.
    """

    def __init__(
        self,
        value: Array,
        *sources: tuple[Node, Callable[[Array], Array]],
        moved: bool = False,
    ):
        self.value = value if moved else _held(value)
        self.moved = moved
        self.noise = _settings.noise
        moving = tuple(each for each in sources if not each[0].fixed)
        self.fixed: bool = bool(sources) and not moving
        self.sources = moving if _settings.slopes else ()
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
    """A value that was given and not computed: without rounding error, and without a slope."""
    node = Node(value, moved=True)
    node.fixed = True
    return node


def entered(value: Array) -> Node:
    """An image or a parameter: rounded where the computation has a lower format than they have."""
    noise = _settings.noise
    return Node(noise.value(value) if noise and noise.rounds_inputs else value, moved=True)


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


def backward(y: Node, slope: Array, keep: bool = True) -> None:
    """Sets the `slope` of every node that y was made of: the gradient of sum(y * slope).

    keep: whether nodes that were made of others keep their slope and what they were made of. Else
    memory is free once it is not needed, and there is no second pass back.
    """
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
        if node.sources and not keep:
            node.slope, node.sources = None, ()


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
