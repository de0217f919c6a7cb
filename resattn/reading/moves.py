"""The moves of the machine: what moves values moves the names of their axes, and records nothing.

What no convolution or pooling takes up, such as a part of an axis, is recorded all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from resattn.reading.fixed import concatenate_fixed, move_fixed, pad_fixed
from resattn.reading.form import (
    Axis,
    Held,
    ImageValues,
    Margin,
    Operand,
    Origin,
    Primitive,
    axes_of,
    axis_of,
    label_of,
    names_of,
    regroup,
    size_of,
)
from resattn.reading.windows import REFLECTED, padding_around, reflect_around, wrap_around


class Mover:
    """Moves operands, and records primitives.

    name: of the drawn operation that is read at the moment. origin: where the computation that is
    read at the moment comes from.
    """

    def __init__(self) -> None:
        self.primitives: list[Primitive] = []
        self.name = ""
        self.origin = Origin()

    def compute(
        self,
        op: str,
        inputs: Sequence[ImageValues],
        held: Held | None = None,
        function: Callable[..., Any] | None = None,
        **settings: Any,
    ) -> Primitive:
        """A primitive of these values."""
        producers = tuple(self.settle(x).producer for x in inputs)
        return self.record(op, producers, held, function, settings)

    def record(
        self,
        op: str,
        inputs: tuple[Primitive, ...],
        held: Held | None = None,
        function: Callable[..., Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Primitive:
        number = len(self.primitives)
        found = Primitive(
            number, op, inputs, held, function, settings or {}, self.name, self.origin
        )
        self.primitives.append(found)
        return found

    def note_axes(self, results: Any) -> None:
        """Takes note of the axes of what a computation gave: an operand, or a list of them."""
        for x in results if isinstance(results, (list, tuple)) else (results,):
            if isinstance(x, ImageValues) and not x.producer.axes:
                x.producer.axes = x.axes

    def settle(self, x: ImageValues) -> ImageValues:
        """Records margins and strides that no convolution or pooling takes as an operation."""
        if not x.margins and not x.strides:
            return x
        moves = [
            f"{label_of(axis) or 'one'}: {_describe_margin(x.margins.get(dim))}every "
            f"{x.strides.get(dim, 1)}"
            for dim, axis in enumerate(x.axes)
            if dim in x.margins or dim in x.strides
        ]
        names = [label_of(axis) for axis in x.axes]
        settings = {
            "moves": "; ".join(sorted(moves)),
            "margins": {names[dim]: margin for dim, margin in x.margins.items()},
            "strides": {names[dim]: stride for dim, stride in x.strides.items()},
        }
        producer = self.record("padding or thinning out", (x.producer,), settings=settings)
        return ImageValues(producer, tuple(axis_of("", size) for size in x.shape))

    def image(self, shape: Sequence[int], names: Sequence[str]) -> ImageValues:
        found = ImageValues(self.compute("image", ()), axes_of(names, shape))
        self.note_axes(found)
        return found

    # Moves: they record nothing

    def transpose(self, x: Operand, order: Sequence[int]) -> Operand:
        if not isinstance(x, ImageValues):
            shape = [x.shape[old] for old in order]
            return move_fixed(x, lambda array: np.transpose(array, order), shape)
        dims = {old: new for new, old in enumerate(order)}
        return x.rearrange((x.axes[old] for old in order), dims)

    def reshape(self, x: Operand, shape: Sequence[int]) -> Operand:
        if not isinstance(x, ImageValues):
            return move_fixed(x, lambda array: np.reshape(array, shape), shape)
        if not x.margins and not x.strides:
            return self._merge_repeated(replace(x, axes=regroup(x.axes, shape)))
        old = [dim for dim, size in enumerate(x.shape) if size > 1]
        new = [dim for dim, size in enumerate(shape) if size > 1]
        if [x.shape[dim] for dim in old] != [shape[dim] for dim in new]:
            return self.reshape(self.settle(x), shape)
        dims = dict(zip(old, new, strict=True))
        axes: list[Axis] = [()] * len(shape)
        for dim in old:
            axes[dims[dim]] = x.axes[dim]
        return x.rearrange(axes, dims)

    def _merge_repeated(self, x: ImageValues) -> ImageValues:
        """Rows or columns of which each is repeated are resized by the nearest."""
        for dim, axis in enumerate(x.axes):
            if [name for name, _ in axis] in (["rows", ""], ["cols", ""]):
                x = self.resize_nearest(x, dim, size_of(axis))
        return x

    def resize_nearest(self, x: ImageValues, dim: int, size: int) -> ImageValues:
        """An axis of another size, each entry of it the nearest one. Over one axis and then over
        another is over both.
        """
        x = self.settle(x)
        axis = axis_of(label_of(x.axes[dim]), size)
        producer = x.producer.inputs[0] if x.producer.op == "nearest" else x.producer
        found = self.record("nearest", (producer,))
        return ImageValues(found, _with_axis(x.axes, dim, axis))

    def broadcast(
        self, x: Operand, shape: Sequence[int], dims: Sequence[int] | None = None
    ) -> Operand:
        """dims: the position of each axis of x in the shape, by default the last ones."""
        dims = range(len(shape) - len(x.shape), len(shape)) if dims is None else dims
        sizes = [1] * len(shape)
        for dim, size in zip(dims, x.shape, strict=True):
            sizes[dim] = size
        x = self.reshape(x, sizes)
        if not isinstance(x, ImageValues):
            return move_fixed(x, lambda array: np.broadcast_to(array, shape), shape)
        sides = zip(x.axes, x.shape, shape, strict=True)
        axes = (axis_of("", new) if old == 1 != new else axis for axis, old, new in sides)
        return replace(x, axes=tuple(axes))

    def pad(self, x: Operand, margins: Sequence[tuple[int, int]], fill: float | str) -> Operand:
        """margins: before and after, of every dim. fill: a number, or "around" for circular."""
        if not isinstance(x, ImageValues):
            return pad_fixed(x, margins, fill)
        word = fill if isinstance(fill, str) else "0" if fill == 0 else f"{fill:g}"
        new = {dim: (*margin, word) for dim, margin in enumerate(margins) if any(margin)}
        assert not set(new) & set(x.margins)
        return replace(x, margins={**x.margins, **new})

    def cut(
        self,
        x: Operand,
        starts: Sequence[int],
        sizes: Sequence[int],
        strides: Sequence[int] | None = None,
    ) -> Operand:
        """`sizes` entries of each axis from `starts`, every n-th."""
        strides = [1] * len(sizes) if strides is None else strides
        sides = list(zip(starts, sizes, strides, strict=True))
        if not isinstance(x, ImageValues):
            key = tuple(slice(low, low + (size - 1) * step + 1, step) for low, size, step in sides)
            return move_fixed(x, lambda array: array[key], sizes)
        for dim, (start, size, stride) in enumerate(sides):
            if stride > 1:
                assert (start, size) == (0, -(-x.shape[dim] // stride))
                x = replace(x, strides={**x.strides, dim: stride})
            elif size != x.shape[dim]:
                x = self._part(x, dim, start, size)
        return x

    def _part(self, x: ImageValues, dim: int, start: int, size: int) -> ImageValues:
        """What lies inside of a reflected edge is a part of what is reflected. Other axes stay
        padded.
        """
        before, _, fill = x.margins.get(dim, (0, 0, REFLECTED))
        inside = before <= start and start + size <= before + size_of(x.axes[dim])
        margins = {at: margin for at, margin in x.margins.items() if at != dim}
        if inside and not x.strides and fill == REFLECTED:
            x, start = replace(x, margins={}), start - before
        else:
            x, margins = self.settle(x), {}
        names = label_of(x.axes[dim]).split("+")  # of what was concatenated
        name = names[0] if start == 0 else names[-1]
        producer = self.compute(
            "part", [x], start=start, size=size, whole=x.shape[dim], axis=x.axes[dim]
        )
        return ImageValues(producer, _with_axis(x.axes, dim, axis_of(name, size)), margins)

    def reverse(self, x: Operand, dims: Sequence[int]) -> Operand:
        """The entries of some axes from the last to the first."""
        if not isinstance(x, ImageValues):
            return move_fixed(x, lambda array: np.flip(array, tuple(dims)), x.shape)
        axes = [x.axes[dim] for dim in dims if x.shape[dim] > 1]
        if not axes:
            return x
        if set(dims) & {*x.margins, *x.strides}:
            x = self.settle(x)
        margins = x.margins
        producer = self.compute("reversal", [replace(x, margins={}, strides={})], axes=axes)
        return replace(x, producer=producer, margins=margins)

    def concatenate(self, parts: Sequence[Operand], dim: int) -> Operand:
        values = [part for part in parts if isinstance(part, ImageValues)]
        if not values:
            return concatenate_fixed(parts, dim)
        if len(values) == 1 < len(parts):
            return self.pad(*padding_around(parts, dim))
        assert len(values) == len(parts), "values of the image beside others"
        wrapped = wrap_around(values, dim) or reflect_around(values, dim)
        if wrapped is not None:
            return wrapped
        values = [self.settle(x) for x in values]
        name = "+".join(label_of(x.axes[dim]) for x in values).strip("+") or "parts"
        others = [[names_of(a) for at, a in enumerate(x.axes) if at != dim] for x in values]
        crossed = any(names != others[0] for names in others)
        axis = axis_of(name, sum(x.shape[dim] for x in values))
        producer = self.compute("concatenate", values, crossed=crossed)
        return ImageValues(producer, _with_axis(values[0].axes, dim, axis))

    def gather_at(self, x: Operand, positions: np.ndarray, dim: int) -> Operand:
        size, count = x.shape[dim], len(positions)
        if count == 1:
            return self.narrow(x, dim, int(positions[0]), 1)
        if np.array_equal(positions, np.arange(size)):
            return x
        assert isinstance(x, ImageValues)
        if np.array_equal(positions, np.arange(count) * size // count):
            return self.resize_nearest(x, dim, count)
        if np.array_equal(positions, np.arange(size)[::-1]):
            return self.reverse(x, [dim])
        producer = self.compute("rearrangement", [x])
        return ImageValues(producer, _with_axis(x.axes, dim, axis_of("", count)))

    def narrow(self, x: Operand, dim: int, start: int, size: int) -> Operand:
        """A part of one axis."""
        starts, sizes = [0] * len(x.shape), list(x.shape)
        starts[dim], sizes[dim] = start, size
        return self.cut(x, starts, sizes)

    def stack(self, parts: Sequence[Operand], dim: int) -> Operand:
        wide = [self.reshape(x, (*x.shape[:dim], 1, *x.shape[dim:])) for x in parts]
        return self.concatenate(wide, dim)


def _describe_margin(margin: Margin | None) -> str:
    if margin is None:
        return ""
    before, after, fill = margin
    return f"{int(before)} + {int(after)} of {fill}, "


def _with_axis(axes: tuple[Axis, ...], dim: int, axis: Axis) -> tuple[Axis, ...]:
    return (*axes[:dim], axis, *axes[dim + 1 :])
