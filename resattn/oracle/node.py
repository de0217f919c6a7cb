"""The oracle's arithmetic: plain NumPy with gradients.

A `Node` is a value that knows what it was made of and how slopes go back there; `backward` takes
them back. Nothing here comes from a framework. Arrays are float64, or complex128 where a test
differentiates with complex steps (hence no abs, max or conj on the way of the data).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import numpy as np

Array = np.ndarray
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
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1)
    summed: Array = slope.sum(axis=repeated, keepdims=True)
    return summed


def backward(y: Node, slope: Array) -> None:
    """Sets the `slope` of every node that y was made of: the gradient of sum(y * slope)."""
    y.slope = slope
    waiting, known = [(-y.order, y)], {y.order}
    while waiting:
        _, node = heapq.heappop(waiting)  # the youngest: all that was made of it has been visited
        assert node.slope is not None
        for source, pull in node.sources:
            part = _held(pull(node.slope))
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
    return Node(
        x.value.sum(axis=axes, keepdims=True), (x, lambda slope: np.broadcast_to(slope, x.shape))
    )


def average(x: Node, *axes: int) -> Node:
    """The mean over axes, which stay with size 1."""
    return total(x, *axes) * (1 / np.prod([x.shape[axis] for axis in axes]))


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


def take(x: Node, index: Sequence[int] | Array, axis: int) -> Node:
    """x[index] along an axis; an entry may be taken more than once."""

    def pull(slope: Array) -> Array:
        spread = np.zeros(x.shape, slope.dtype)
        places = (*(slice(None),) * axis, np.asarray(index))
        np.add.at(spread, places, slope)  # type: ignore[arg-type]  # slices are right, too
        return spread

    return Node(np.take(x.value, index, axis), (x, pull))
