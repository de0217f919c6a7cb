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
    reduce_fixed,
    take_fixed,
)
from resattn.reading.form import (
    Axis,
    FixedArray,
    Held,
    ImageValues,
    Operand,
    Place,
    as_operand,
    axis_of,
    describe_kernel,
    disagree,
    first_of,
    flatten,
    guess_axes,
    is_named,
    label_of,
    merge_held,
    size_of,
)
from resattn.reading.functions import FUNCTIONS, is_never_negative, skip_identity
from resattn.reading.moves import Mover
from resattn.reading.windows import BLUR_FILTER, Window, average_by, pool_array

CONVOLUTIONS = ("convolution", "depthwise convolution")
# What a pooling is if its window is as large as the image.
WHOLES = {"window average": "average", "max_pool": "maximum", "window total": "total"}


class Machine(Mover):
    """Records what is computed.

    strict: whether what no table knows raises an error. Otherwise it is an unknown operation.
    """

    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict

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
        axes = guess_axes([x.axes for x in values], shape)
        producer = self.compute(op, values, held, primitive=name)
        return ImageValues(producer, axes)

    # Computations

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
        return self.gather_at(x, where.value.reshape(-1), dim)

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
        wide = [self.broadcast(self.settle(x), shape) for x in values]
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
        return replace(x, producer=self.record(kind, total.inputs, settings=total.settings))

    def reduce(self, x: Operand, kind: str, dims: Sequence[int], keep: bool = True) -> Operand:
        """The "average", "maximum" or "total" over axes. keep: the reduced axes, with size 1."""
        left = [dim for dim in range(len(x.shape)) if keep or dim not in dims]
        if not isinstance(x, ImageValues):
            shape = tuple(1 if dim in dims else x.shape[dim] for dim in left)
            return reduce_fixed(x, kind, dims, shape)
        x = self.settle(x)
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
            return ImageValues(self.record("greater", inputs, function=np.maximum), left)
        if x.producer.op == kind:  # over one axis and then over another is over both
            over = (*x.producer.settings["axes"], *over)
            x = replace(x, producer=inputs[0])
        return ImageValues(self.compute(kind, [x], axes=over), left)

    def find_greatest(self, x: ImageValues, dim: int, keep: bool) -> Place:
        x = self.settle(x)
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
        op = CONVOLUTIONS[depthwise]
        settings = {"window": window, "groups": groups} | describe_kernel(kernel)
        producer = self.record(op, (x.producer,), kernel, settings=settings)
        return ImageValues(producer, tuple(axes))

    def join_groups(self, parts: Sequence[Operand], dim: int) -> ImageValues | None:
        """The convolution in groups that convolutions of the parts of an axis are together; None if
        they are none.
        """
        values = [part for part in parts if isinstance(part, ImageValues)]
        found = [x.producer for x in values]
        if len(values) != len(parts) or any(each.op not in CONVOLUTIONS for each in found):
            return None
        inputs = [each.inputs[0] for each in found]
        same = [(each.held and each.held.names, each.settings["window"]) for each in found]
        if any(each.op != "part" for each in inputs) or any(one != same[0] for one in same):
            return None
        (first, *_), (whole, *others) = inputs, {each.inputs for each in inputs}
        starts = [each.settings["start"] for each in inputs]
        size = first.settings["size"]
        if others or starts != [size * at for at in range(len(parts))]:
            return None
        groups, outputs = len(parts), sum(x.shape[dim] for x in values)
        if first.settings["whole"] != size * groups:
            return None
        depthwise = size == 1 and outputs == groups
        settings = {**found[0].settings, "groups": groups}
        producer = self.record(CONVOLUTIONS[depthwise], whole, found[0].held, settings=settings)
        axis = axis_of("channels", outputs)
        axes = (*values[0].axes[:dim], axis, *values[0].axes[dim + 1 :])
        return ImageValues(producer, axes)

    def filter(self, x: ImageValues, kernel: FixedArray, window: Window) -> ImageValues:
        """Each channel by the same fixed kernel, (rows, cols)."""
        along = [label_of(x.axes[dim]) for dim in window.dims if x.axes[dim]]
        window = replace(window.absorb(x), along=along)
        value = kernel.value
        same = value is not None and np.allclose(np.squeeze(value[..., :, :]), BLUR_FILTER)
        op = "binomial filter" if same else "filter with fixed numbers"
        producer = self.record(op, (x.producer,), settings={"window": window})
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
        if kind in WHOLES and window.covers(x.axes):
            return self.reduce(replace(x, margins={}, strides={}), WHOLES[kind], window.dims)
        if kind == "max_pool":
            # Padding with -inf is no padding to a maximum; padding with 0 is, but after a relu.
            zeros = "" if is_never_negative(x.producer) else "zeros"
            fill = {"-inf": "", "0": zeros}.get(window.fill, window.fill)
            window = replace(window, fill=fill)
        if kind == "average_around" and not any(map(any, window.padding)):
            kind = "window average"  # every pixel is in the image
        settings = {"window": window, "shape": tuple(map(size_of, x.axes))}
        producer = self.record(kind, (x.producer,), settings=settings)
        return ImageValues(producer, tuple(window.slide(x.axes)))


def _with_numbers(function: Callable[..., Any], operands: list[Operand]) -> Callable[..., Any]:
    """A function of the values alone, with the numbers among the operands put in."""
    slots = [operand.number if isinstance(operand, FixedArray) else None for operand in operands]

    def applied(*arrays: Any) -> Any:
        rest = iter(arrays)
        return function(*(next(rest) if slot is None else slot for slot in slots))

    return applied
