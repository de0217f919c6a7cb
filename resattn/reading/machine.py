"""The machine that all graphs are read into.

A reader gives it one computation after the other, as in a small NumPy: it takes operands, records a
primitive if something is computed, and returns the operand to go on with. What only moves values
records nothing and moves the names of the axes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from resattn.reading.fixed import (
    compute_fixed,
    concatenate_fixed,
    move_fixed,
    pad_fixed,
    take_fixed,
)
from resattn.reading.form import (
    Axis,
    FixedArray,
    Held,
    ImageValues,
    Margin,
    Operand,
    Origin,
    Place,
    Primitive,
    as_operand,
    axes_of,
    axis_of,
    disagree,
    first_of,
    flatten,
    is_named,
    label_of,
    merge_held,
    names_of,
    regroup,
    size_of,
)
from resattn.reading.functions import FUNCTIONS, is_never_negative, skip_identity
from resattn.reading.windows import BLUR_FILTER, Window, average_by, pool_array, wrap_around


class Machine:
    """Records primitives.

    strict: whether what no table knows raises an error. Otherwise it is an unknown operation.
    name: of the drawn operation that is read at the moment. origin: where the computation that is
    read at the moment comes from.
    """

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict
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
        producers = tuple(self._settle(x).producer for x in inputs)
        return self._record(op, producers, held, function, settings)

    def _record(
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

    def interpret(
        self,
        table: Mapping[str, Callable[..., Any]],
        name: str,
        primitive: Any,
        operands: Sequence[Any],
        shapes: Sequence[Sequence[int]],
    ) -> Any:
        """What a framework's primitive gives.

        table, name: what it means, by its name. primitive: as the framework holds it. shapes: of
        its outputs; more than one make a list.
        Unless strict, a primitive that the table does not know, or not in this form, is unknown:
        nobody can say in advance what a model of a user's own consists of.
        """
        if self.strict:
            results = table[name](self, primitive, *operands)
        else:
            try:
                results = table[name](self, primitive, *operands)
            except Exception:
                found = [self.leave_unknown(name, operands, shape) for shape in shapes]
                results = found if len(found) != 1 else found[0]
        self.note_axes(results)
        return results

    def leave_unknown(
        self, name: str, operands: Sequence[Any], shape: Sequence[int], op: str = "unknown"
    ) -> Operand:
        """What is computed by a primitive of that name, which no table knows."""
        given = [x for x in flatten(operands) if isinstance(x, Operand)]
        values = [x for x in given if isinstance(x, ImageValues)]
        held = merge_held([x for x in given if isinstance(x, Held)])
        if not values:
            if held is None:
                return FixedArray(None, tuple(shape))
            functions = held.functions | {(each, name) for each in held.names}
            return replace(held, shape=tuple(shape), functions=functions)
        first = next((x for x in values if x.shape == tuple(shape)), values[0])
        sizes = list(first.shape) if len(first.shape) == len(shape) else [0] * len(shape)
        axes = tuple(
            first.axes[dim] if sizes[dim] == size else axis_of("", size)
            for dim, size in enumerate(shape)
        )
        producer = self.compute(op, values, held, primitive=name)
        return ImageValues(producer, axes)

    def note_axes(self, results: Any) -> None:
        """Takes note of the axes of what a computation gave: an operand, or a list of them."""
        for x in results if isinstance(results, (list, tuple)) else (results,):
            if isinstance(x, ImageValues) and not x.producer.axes:
                x.producer.axes = x.axes

    def _settle(self, x: ImageValues) -> ImageValues:
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
        producer = self._record("padding or thinning out", (x.producer,), settings=settings)
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
            return replace(x, axes=regroup(x.axes, shape))
        old = [dim for dim, size in enumerate(x.shape) if size > 1]
        new = [dim for dim, size in enumerate(shape) if size > 1]
        if [x.shape[dim] for dim in old] != [shape[dim] for dim in new]:
            return self.reshape(self._settle(x), shape)
        dims = dict(zip(old, new, strict=True))
        axes: list[Axis] = [()] * len(shape)
        for dim in old:
            axes[dims[dim]] = x.axes[dim]
        return x.rearrange(axes, dims)

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
                x = self._part(self._settle(x), dim, start, size)
        return x

    def _part(self, x: ImageValues, dim: int, start: int, size: int) -> ImageValues:
        names = label_of(x.axes[dim]).split("+")  # of what was concatenated
        name = names[0] if start == 0 else names[-1]
        producer = self.compute(
            "part", [x], start=start, size=size, whole=x.shape[dim], axis=x.axes[dim]
        )
        return ImageValues(producer, _with_axis(x.axes, dim, axis_of(name, size)))

    def concatenate(self, parts: Sequence[Operand], dim: int) -> Operand:
        values = [part for part in parts if isinstance(part, ImageValues)]
        if not values:
            return concatenate_fixed(parts, dim)
        assert len(values) == len(parts), "values of the image beside others"
        wrapped = wrap_around(values, dim)
        if wrapped is not None:
            return wrapped
        values = [self._settle(x) for x in values]
        name = "+".join(label_of(x.axes[dim]) for x in values).strip("+") or "parts"
        others = [[names_of(a) for at, a in enumerate(x.axes) if at != dim] for x in values]
        crossed = any(names != others[0] for names in others)
        axis = axis_of(name, sum(x.shape[dim] for x in values))
        producer = self.compute("concatenate", values, crossed=crossed)
        return ImageValues(producer, _with_axis(values[0].axes, dim, axis))

    def gather(self, x: Operand, where: Operand, dim: int | None = None) -> Operand:
        """The values at the place of the greatest, or at constant positions along an axis."""
        if isinstance(x, FixedArray):
            return take_fixed(x, where, dim)
        if isinstance(where, Place):
            assert isinstance(x, ImageValues)
            assert x.producer is where.producer, "values are gathered by another's places"
            dims = [at for at, axis in enumerate(x.axes) if axis and axis == where.axis]
            return self.reduce(x, "maximum", dims)
        assert dim is not None
        assert isinstance(where, FixedArray)
        assert where.value is not None
        return self._gather_at(x, where.value.reshape(-1), dim)

    def _gather_at(self, x: Operand, positions: np.ndarray, dim: int) -> Operand:
        size, count = x.shape[dim], len(positions)
        if count == 1:
            return self.narrow(x, dim, int(positions[0]), 1)
        if np.array_equal(positions, np.arange(size)):
            return x
        assert isinstance(x, ImageValues)
        stretched = np.array_equal(positions, np.arange(count) * size // count)
        axis = axis_of(label_of(x.axes[dim]) if stretched else "", count)
        if stretched and x.producer.op == "nearest":
            x = replace(x, producer=x.producer.inputs[0])
        producer = self.compute("nearest" if stretched else "rearrangement", [x])
        return ImageValues(producer, _with_axis(x.axes, dim, axis))

    def narrow(self, x: Operand, dim: int, start: int, size: int) -> Operand:
        """A part of one axis."""
        starts, sizes = [0] * len(x.shape), list(x.shape)
        starts[dim], sizes[dim] = start, size
        return self.cut(x, starts, sizes)

    def stack(self, parts: Sequence[Operand], dim: int) -> Operand:
        wide = [self.reshape(x, (*x.shape[:dim], 1, *x.shape[dim:])) for x in parts]
        return self.concatenate(wide, dim)

    # Computations

    def elementwise(self, name: str, *operands: Operand | float) -> Operand:
        """One of FUNCTIONS, value by value; shapes are broadcast as in NumPy."""
        given = [as_operand(operand) for operand in operands]
        values = [x for x in given if isinstance(x, ImageValues)]
        try:
            shape = np.broadcast_shapes(*(x.shape for x in given))
        except ValueError:  # only in a drawing: nothing else says whether it can be executed
            producer = self.compute(name, values, function=FUNCTIONS[name], crossed=True)
            return ImageValues(producer, values[0].axes)
        place = first_of(given, Place)
        if place is not None:
            return replace(place, shape=shape)
        if not values:
            return compute_fixed(name, given, shape)
        return self._average(name, given) or self._elementwise(name, given, values, shape)

    def _elementwise(
        self, name: str, given: list[Operand], values: list[ImageValues], shape: tuple[int, ...]
    ) -> ImageValues:
        held = merge_held([x for x in given if isinstance(x, Held)])
        numbers = [x.number for x in given if isinstance(x, FixedArray)]
        if name == "greater" and -np.inf in numbers:
            return values[0]
        axes, crossed = self._join_axes(values, shape)
        if None in numbers:
            return ImageValues(self.compute(f"{name} with fixed numbers", values, held), axes)
        settings: dict[str, Any] = {"crossed": True} if crossed else {}
        if held:
            fixed = {number for number in numbers if number is not None}
            held = replace(held, numbers=held.numbers | fixed)
            return ImageValues(self.compute(name, values, held, **settings), axes)
        function = _with_numbers(FUNCTIONS[name], given)
        return ImageValues(self.compute(name, values, function=function, **settings), axes)

    def _join_axes(
        self, values: Sequence[ImageValues], shape: tuple[int, ...]
    ) -> tuple[tuple[Axis, ...], bool]:
        """The axes of a function of these values, and whether the values disagree on them."""
        wide = [self.broadcast(self._settle(x), shape) for x in values]
        columns = list(zip(*(x.axes for x in wide if isinstance(x, ImageValues)), strict=True))
        found = tuple(next(filter(is_named, axes), axes[0]) for axes in columns)
        return found, any(map(disagree, columns))

    def _average(self, name: str, given: Sequence[Operand]) -> ImageValues | None:
        """The average that a sum is if it is divided by the number of its terms."""
        x, by = first_of(given, ImageValues), first_of(given, FixedArray)
        if len(given) != 2 or x is None or by is None or name not in ("product", "quotient"):
            return None
        if name == "quotient" and given[0] is not x:
            return None
        total = x.producer
        if total.op == "total" and by.number is not None:
            count = prod(size_of(axis) for axis in total.settings["axes"])
            if np.isclose(by.number, count if name == "quotient" else 1 / count, rtol=1e-6):
                terms = replace(x, producer=total.inputs[0])
                return self._reduce(terms, "average", total.settings["axes"], x.axes)
        kind = average_by(total, by) if name == "quotient" else None
        if kind is None:
            return None
        return replace(x, producer=self._record(kind, total.inputs, settings=total.settings))

    def reduce(self, x: Operand, kind: str, dims: Sequence[int], keep: bool = True) -> Operand:
        """The "average", "maximum" or "total" over axes. keep: the reduced axes, with size 1."""
        left = [dim for dim in range(len(x.shape)) if keep or dim not in dims]
        if not isinstance(x, ImageValues):
            shape = tuple(1 if dim in dims else x.shape[dim] for dim in left)
            return FixedArray(None, shape) if isinstance(x, FixedArray) else replace(x, shape=shape)
        x = self._settle(x)
        over = tuple(x.axes[dim] for dim in dims if x.axes[dim])
        return self._reduce(x, kind, over, tuple(() if d in dims else x.axes[d] for d in left))

    def _reduce(
        self, x: ImageValues, kind: str, over: tuple[Axis, ...], left: tuple[Axis, ...]
    ) -> ImageValues:
        inputs = x.producer.inputs
        if not over:
            return replace(x, axes=left)
        of_parts = any(axis[0][0] == "parts" for axis in over)
        if kind == "maximum" and of_parts and x.producer.op == "concatenate":
            return ImageValues(self._record("greater", inputs, function=np.maximum), left)
        if x.producer.op == kind:  # over one axis and then over another is over both
            over = (*x.producer.settings["axes"], *over)
            x = replace(x, producer=inputs[0])
        return ImageValues(self.compute(kind, [x], axes=over), left)

    def find_greatest(self, x: ImageValues, dim: int, keep: bool) -> Place:
        x = self._settle(x)
        shape = [1 if at == dim else size for at, size in enumerate(x.shape) if keep or at != dim]
        return Place(skip_identity(x.producer), x.axes[dim], tuple(shape))

    def softmax(self, x: ImageValues) -> ImageValues:
        return replace(x, producer=self.compute("softmax", [x]))

    def norm(
        self,
        x: ImageValues,
        kind: str,
        held: Held,
        eps: float,
        groups: int | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> ImageValues:
        """A "batch_norm", "group_norm" or "layer_norm" that is one primitive.

        roles: the names of its parameters, as in `CommonStep`, where the primitive says them.
        """
        numbers = frozenset([eps] if groups is None else [eps, float(groups)])
        settings: dict[str, Any] = {"eps": eps, "roles": roles or {}}
        settings |= {} if groups is None else {"groups": groups}
        producer = self.compute(kind, [x], replace(held, numbers=numbers), **settings)
        return replace(x, producer=producer)

    def matrix_product(self, x: Operand, y: Operand, shape: Sequence[int]) -> ImageValues:
        """Over the last axis of x and the last but one of y; the axes before these are shared."""
        assert isinstance(x, ImageValues)
        if isinstance(y, Held):
            producer = self.compute("matrix_product", [x], y)
            return ImageValues(producer, (*x.axes[:-1], axis_of("channels", shape[-1])))
        assert isinstance(y, ImageValues)
        crossed = disagree([x.axes[-1], y.axes[-2]])
        producer = self.compute("matrix_product", [x, y], crossed=crossed)
        return ImageValues(producer, (*x.axes[:-1], y.axes[-1]))

    # Windows

    def convolution(
        self,
        x: ImageValues,
        kernel: Held,
        window: Window,
        outputs: int,
        feature: int,
        groups: int = 1,
    ) -> ImageValues:
        """outputs: how many channels it computes. feature: the dim of x that is the channels."""
        along = [label_of(x.axes[dim]) for dim in window.dims if x.axes[dim]]
        window = replace(window.absorb(x), along=along)
        axes = window.slide(x.axes)
        axes[feature] = axis_of("channels", outputs)
        depthwise = groups == x.shape[feature] == outputs and groups > 1
        op = "depthwise convolution" if depthwise else "convolution"
        settings = {"window": window, "groups": groups}
        producer = self._record(op, (x.producer,), kernel, settings=settings)
        return ImageValues(producer, tuple(axes))

    def filter(self, x: ImageValues, kernel: FixedArray, window: Window) -> ImageValues:
        """Each channel by the same fixed kernel."""
        along = [label_of(x.axes[dim]) for dim in window.dims if x.axes[dim]]
        window = replace(window.absorb(x), along=along)
        value = kernel.value
        same = value is not None and np.allclose(np.squeeze(value[..., :, :]), BLUR_FILTER)
        op = "binomial filter" if same else "filter with fixed numbers"
        producer = self._record(op, (x.producer,), settings={"window": window})
        return ImageValues(producer, tuple(window.slide(x.axes)))

    def pool(self, x: Operand, kind: str, window: Window) -> Operand:
        """kind: "max_pool", "window total", "window average" or "average_around".

        The last is the average of those pixels of a window that are in the image.
        """
        if not isinstance(x, ImageValues):
            assert isinstance(x, FixedArray)
            assert x.value is not None
            found = pool_array(x.value, kind, window)
            return FixedArray(found, found.shape)
        window = window.absorb(x)
        if kind == "max_pool":
            # Padding with -inf is no padding to a maximum; padding with 0 is, but after a relu.
            zeros = "" if is_never_negative(x.producer) else "zeros"
            fill = {"-inf": "", "0": zeros}.get(window.fill, window.fill)
            window = replace(window, fill=fill)
        if kind == "average_around" and not any(map(any, window.padding)):
            kind = "window average"  # every pixel is in the image
        settings = {"window": window, "shape": tuple(map(size_of, x.axes))}
        producer = self._record(kind, (x.producer,), settings=settings)
        return ImageValues(producer, tuple(window.slide(x.axes)))


def _describe_margin(margin: Margin | None) -> str:
    if margin is None:
        return ""
    before, after, fill = margin
    return f"{int(before)} + {int(after)} of {fill}, "


def _with_axis(axes: tuple[Axis, ...], dim: int, axis: Axis) -> tuple[Axis, ...]:
    return (*axes[:dim], axis, *axes[dim + 1 :])


def _with_numbers(function: Callable[..., Any], operands: list[Operand]) -> Callable[..., Any]:
    """A function of the values alone, with the numbers among the operands put in."""
    slots = [operand.number if isinstance(operand, FixedArray) else None for operand in operands]

    def applied(*arrays: Any) -> Any:
        rest = iter(arrays)
        return function(*(next(rest) if slot is None else slot for slot in slots))

    return applied
