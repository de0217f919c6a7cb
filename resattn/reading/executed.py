"""The graph that a framework executes and the graph that is drawn (`weights.graph`), brought to one
form and compared.

`resattn.reading.extraction` reads what a framework executes, primitive by primitive, into a `Machine`;
`drawn` reads the operations of `weights.graph` into another one. From there on both are treated
alike, by these rules:

1.  What moves values about (transposition, reshaping, broadcasting, a cast) is no operation.
    Instead every axis keeps the name that it has in the image, whatever the layout and wherever it
    is moved: so an average is "over rows, cols", a convolution "along channels, cols", and what is
    added, multiplied or summed over must agree about its axes.
2.  What is computed from parameters and numbers alone is a parameter. What combines values with
    parameters of a module is that module, under its canonical name. Neighbours with different
    parameters of one module are one operation (a convolution and its bias; a batch norm's
    difference, scale and offset), and so is their sum (relative positions); it is told with its
    settings and the parameters that were used. Padding belongs to what it is for.
3.  A function of one value, however many primitives it takes, is known by its values: relu,
    sigmoid, hard sigmoid, hard swish, square; a x + b, where neighbours are one, is known by its
    numbers. So "divide by √w" is 1/√w x.
4.  What a framework spells out is what it spells: a sum divided by the number of its terms is an
    average, the value at the place of the greatest is a maximum, exp(x - greatest) divided by its
    sum is a softmax; over one axis and then another is over both.
5.  A sum of several is the sum of the first two, and so on; when those are added up is left open.
    The inputs of sums, of products and of the greater of two have no order; all others have
    (concatenation, matrix products, quotients).

An operation is equal to another if their kinds are and their inputs are, all the way from the
image. `difference` says the first in the order of execution that has no equal in the other graph,
or that comes in another place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod, sqrt
from typing import Any

import numpy as np

from weights import schema
from weights.config import Config
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.graph import Graph
from weights.operations import Operation

Atom = tuple[str, int]  # a name, "" for what is only a repetition, and a size above 1
Axis = tuple[Atom, ...]  # what an axis is made of; () is an axis of size 1
NAMES = ("batch", "channels", "rows", "cols")


@dataclass(eq=False)
class Primitive:
    """What a framework computes in one go, from values that depend on the image. number: its place
    in the order.

    op: what, as in this module. held: the parameters that take part. function: of NumPy arrays, for
    what is computed value by value. settings: what else there is to say of it. name: of the drawn
    operation that it is a part of.
    """

    number: int
    op: str
    inputs: tuple[Primitive, ...]
    held: Held | None = None
    function: Callable[..., Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Held:
    """Something computed from parameters (their canonical names) and numbers alone."""

    names: frozenset[str]
    numbers: frozenset[float] = frozenset()
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Constant:
    """An array that is the same for every image; None where it is not worth computing."""

    value: np.ndarray | None
    shape: tuple[int, ...] = ()

    @property
    def number(self) -> float | None:
        """The number that is everywhere in it, or None."""
        if self.value is None or not self.value.size:
            return None
        first = self.value.flat[0]
        return float(first) if np.all(self.value == first) else None


@dataclass(frozen=True)
class Place:
    """Where the greatest is: of whose values, and along which axis."""

    of: Primitive
    axis: Axis
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Values:
    """Values that depend on the image: by which primitive, and what their axes are.

    margins: (before, after, what with) of each axis that is padded. steps: of each of which every
    n-th is taken. apart: how far the pixels that a convolution will see lie apart.
    """

    of: Primitive
    axes: tuple[Axis, ...]
    margins: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    apart: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = [size_of(axis) for axis in self.axes]
        for at, (before, after, _) in self.margins.items():
            sizes[at] += before + after
        return tuple(-(-size // self.steps.get(at, 1)) for at, size in enumerate(sizes))


Value = Values | Held | Constant | Place


def size_of(axis: Axis) -> int:
    return prod(size for _, size in axis)


def axis_of(name: str, size: int) -> Axis:
    return ((name, size),) if size > 1 else ()


def names_of(axis: Axis) -> tuple[str, ...]:
    """The names in it, a name that was split once."""
    names = [name for name, _ in axis]
    return tuple(
        name for at, name in enumerate(names) if name and (at == 0 or names[at - 1] != name)
    )


def regrouped(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """The same atoms in axes of other sizes; an atom is split where need be."""
    atoms = [atom for axis in axes for atom in axis]
    found = []
    for size in shape:
        group: list[Atom] = []
        while size > 1:
            name, length = atoms.pop(0)
            if size % length:  # a part of it is enough
                atoms.insert(0, (name, length // size))
                length = size
            group.append((name, length))
            size //= length
        found.append(tuple(group))
    return tuple(found)


# --- Functions of values, one by one


def _quotient(x: Any, y: Any) -> Any:
    """Of whole numbers, as XLA divides them: cut off."""
    whole = all(np.issubdtype(np.asarray(one).dtype, np.integer) for one in (x, y))
    return np.trunc(x / y).astype(int) if whole else x / y


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": lambda x, y: x * y,
    "quotient": _quotient,
    "whole quotient": lambda x, y: x // y,
    "remainder": np.fmod,
    "greater": np.maximum,
    "lesser": np.minimum,
    "exp": np.exp,
    "tanh": np.tanh,
    "root": np.sqrt,
    "square": np.square,
    "negative": np.negative,
    "sign": np.sign,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "choice": np.where,  # condition, where true, where false
    "is greater": lambda x, y: x > y,
    "is less": lambda x, y: x < y,
    "is equal": lambda x, y: x == y,
    "is unequal": lambda x, y: x != y,
    "and": np.logical_and,
    "bits": lambda x: np.float32(x).view(np.int32),
    "bitwise and": lambda x, y: np.int64(x) & np.int64(y),
    "bits shifted": lambda x, y: np.int64(x) >> np.int64(y),
    "bits shifted, without sign": lambda x, y: np.uint32(np.int64(x) & 0xFFFFFFFF) >> np.uint32(y),
}
KNOWN = ("relu", "sigmoid", "hard sigmoid", "hard swish", "square")
PROBES = np.array([-7.3, -3.2, -2.1, -0.6, 0.4, 1.7, 2.9, 3.9, 8.2])
UNORDERED = ("sum", "product", "greater")


class Machine:
    """Takes down what is computed, primitive by primitive, and gives values to go on with."""

    def __init__(self) -> None:
        self.primitives: list[Primitive] = []
        self.name = ""  # of what is drawn and put in now

    def _new(
        self, op: str, inputs: Sequence[Values], held: Held | None = None, **settings: Any
    ) -> Primitive:
        return self._primitive(op, [self._settled(value).of for value in inputs], held, **settings)

    def _primitive(
        self,
        op: str,
        inputs: Sequence[Primitive],
        held: Held | None = None,
        function: Callable[..., Any] | None = None,
        **settings: Any,
    ) -> Primitive:
        found = Primitive(
            len(self.primitives), op, tuple(inputs), held, function, settings, self.name
        )
        self.primitives.append(found)
        return found

    def _settled(self, x: Values) -> Values:
        """What is padded or thinned out for nothing that knows of it is an operation of its own."""
        if not x.margins and not x.steps:
            return x
        of = self._primitive("padding or thinning out", [x.of])
        return Values(of, tuple(axis_of("", size) for size in x.shape))

    def image(self, shape: Sequence[int], names: Sequence[str]) -> Values:
        return Values(
            self._new("image", ()),
            tuple(axis_of(name, size) for name, size in zip(names, shape, strict=True)),
        )

    # What moves values about

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        if isinstance(x, Values):
            place = {old: new for new, old in enumerate(order)}
            return replace(
                x,
                axes=tuple(x.axes[old] for old in order),
                margins={place[at]: margin for at, margin in x.margins.items()},
                steps={place[at]: step for at, step in x.steps.items()},
            )
        return self._moved(
            x, lambda array: np.transpose(array, order), [x.shape[old] for old in order]
        )

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if isinstance(x, Values):
            if x.margins or x.steps:  # only axes of size 1 may come or go
                kept = [at for at, size in enumerate(x.shape) if size > 1]
                new = [at for at, size in enumerate(shape) if size > 1]
                if [x.shape[at] for at in kept] != [shape[at] for at in new]:
                    return self.reshape(self._settled(x), shape)
                place = dict(zip(kept, new, strict=True))
                axes: list[Axis] = [()] * len(shape)
                for old, at in place.items():
                    axes[at] = x.axes[old]
                margins = {place[at]: margin for at, margin in x.margins.items()}
                return replace(
                    x,
                    axes=tuple(axes),
                    margins=margins,
                    steps={place[at]: step for at, step in x.steps.items()},
                )
            return replace(x, axes=regrouped(x.axes, shape))
        return self._moved(x, lambda array: np.reshape(array, shape), shape)

    def broadcast(
        self, x: Value, shape: Sequence[int], places: Sequence[int] | None = None
    ) -> Value:
        """places: where each axis comes to lie, by default to the right."""
        places = range(len(shape) - len(x.shape), len(shape)) if places is None else places
        between = [1] * len(shape)
        for at, size in zip(places, x.shape, strict=True):
            between[at] = size
        x = self.reshape(x, between)
        if isinstance(x, Values):
            wide = zip(x.axes, x.shape, shape, strict=True)
            return replace(
                x,
                axes=tuple(
                    axis_of("", new) if old == 1 != new else axis for axis, old, new in wide
                ),
            )
        return self._moved(x, lambda array: np.broadcast_to(array, shape), shape)

    def _moved(
        self, x: Value, move: Callable[[np.ndarray], np.ndarray], shape: Sequence[int]
    ) -> Value:
        shape = tuple(shape)
        if isinstance(x, Constant):
            return Constant(None if x.value is None else move(x.value), shape)
        return replace(x, shape=shape)

    def cut(
        self,
        x: Value,
        starts: Sequence[int],
        sizes: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> Value:
        """A part of each axis: `sizes` of it from `starts`, every n-th."""
        steps = [1] * len(sizes) if steps is None else steps
        if not isinstance(x, Values):
            ranges = zip(starts, sizes, steps, strict=True)
            key = tuple(
                slice(start, start + (size - 1) * step + 1, step) for start, size, step in ranges
            )
            return self._moved(x, lambda array: array[key], sizes)
        for at, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True)):
            if step > 1:
                assert (start, size) == (0, -(-x.shape[at] // step))
                x = replace(x, steps={**x.steps, at: step})
            elif size != x.shape[at]:
                x = self._part(self._settled(x), at, start, size)
        return x

    def _part(self, x: Values, at: int, start: int, size: int) -> Values:
        names = "/".join(names_of(x.axes[at])).split("+")  # of what was concatenated
        name = names[0] if start == 0 else names[-1]
        of = self._new("part", [x], start=start, size=size, whole=x.shape[at], axis=x.axes[at])
        return Values(of, (*x.axes[:at], axis_of(name, size), *x.axes[at + 1 :]))

    def pad(self, x: Value, margins: Sequence[tuple[int, int]], fill: float | str) -> Value:
        wide = {at: (*margin, _fill(fill)) for at, margin in enumerate(margins) if any(margin)}
        if isinstance(x, Values):
            assert not set(wide) & set(x.margins)
            return replace(x, margins={**x.margins, **wide})
        shape = tuple(size + sum(margin) for size, margin in zip(x.shape, margins, strict=True))
        known = isinstance(x, Constant) and x.value is not None and fill == 0
        return Constant(np.pad(x.value, margins) if known else None, shape)

    def concatenate(self, parts: Sequence[Value], at: int) -> Value:
        if not any(isinstance(part, Values) for part in parts):
            if any(isinstance(part, (Place, Held)) for part in parts):
                shape = list(parts[0].shape)
                shape[at] = sum(part.shape[at] for part in parts)
                return replace(
                    next(part for part in parts if isinstance(part, (Place, Held))),
                    shape=tuple(shape),
                )
            arrays = [part.value for part in parts]
            value = None if any(array is None for array in arrays) else np.concatenate(arrays, at)
            return Constant(value, value.shape)
        around = self._wrapped(parts, at)
        if around is not None:
            return around
        parts = [self._settled(part) for part in parts]
        size = sum(part.shape[at] for part in parts)
        name = "+".join("/".join(names_of(part.axes[at])) for part in parts).strip("+")
        others = [names_of(axis) for place, axis in enumerate(parts[0].axes) if place != at]
        crossed = any(
            [names_of(a) for place, a in enumerate(part.axes) if place != at] != others
            for part in parts
        )
        of = self._new("concatenate", parts, crossed=crossed)
        return Values(
            of, (*parts[0].axes[:at], axis_of(name or "parts", size), *parts[0].axes[at + 1 :])
        )

    def _wrapped(self, parts: Sequence[Value], at: int) -> Values | None:
        """Values with their own end before them and their own beginning behind them: padded all
        around.
        """
        of_parts = [part for part in parts if part.of.op == "part"]
        wholes = [part for part in parts if part.of.op != "part"]
        if (
            len(wholes) != 1
            or not of_parts
            or any(part.of.inputs != (wholes[0].of,) for part in of_parts)
        ):
            return None
        whole = wholes[0]
        place = list(parts).index(whole)
        size = size_of(whole.axes[at])
        before = sum(part.of.settings["size"] for part in parts[:place])
        after = sum(part.of.settings["size"] for part in parts[place + 1 :])
        starts = (
            [part.of.settings["start"] for part in parts[:place]],
            [p.of.settings["start"] for p in parts[place + 1 :]],
        )
        if starts[0] not in ([], [size - before]) or starts[1] not in ([], [0]):
            return None
        had = whole.margins.get(at, (0, 0, "around"))
        if had[2] != "around":
            return None
        return replace(
            whole, margins={**whole.margins, at: (had[0] + before, had[1] + after, "around")}
        )

    def gather(self, x: Value, where: Value, at: int | None = None) -> Value:
        """The values at the place of the greatest, or at fixed places along an axis."""
        if isinstance(x, Constant):
            taken = x.value is not None and isinstance(where, Constant)
            return Constant(np.take(x.value, where.value, at) if taken else None, where.shape)
        if isinstance(where, Place):
            assert x.of is where.of, "values are gathered by another's places"
            return self.reduce(
                x,
                "maximum",
                [place for place, axis in enumerate(x.axes) if axis and axis == where.axis],
            )
        places = where.value.reshape(-1)
        size = x.shape[at]
        if len(places) == 1:
            starts = [int(places[0]) if axis == at else 0 for axis in range(len(x.shape))]
            return self.cut(
                x, starts, [1 if axis == at else length for axis, length in enumerate(x.shape)]
            )
        if np.array_equal(places, np.arange(size)):
            return x
        stretched = np.array_equal(places, np.arange(len(places)) * size // len(places))
        old = x.axes[at]
        new = axis_of("/".join(names_of(old)) if stretched else "", len(places))
        if stretched and x.of.op == "stretch":
            x = replace(x, of=x.of.inputs[0])
        of = self._new("stretch" if stretched else "rearrangement", [x])
        return Values(of, (*x.axes[:at], new, *x.axes[at + 1 :]))

    # What computes

    def elementwise(self, name: str, *values: Value) -> Value:
        """One of FUNCTIONS, value by value; shapes are broadcast as in NumPy."""
        function = FUNCTIONS[name]
        given = [value for value in values if isinstance(value, Values)]
        try:
            shape = np.broadcast_shapes(*(value.shape for value in values))
        except ValueError:  # in a drawing, of which nothing else says that it can be executed
            return Values(self._new(name, given, function=function, crossed=True), given[0].axes)
        if not given:
            return self._without_values(function, values, shape)
        if any(isinstance(value, Place) for value in values):
            return replace(next(value for value in values if isinstance(value, Place)), shape=shape)
        held = together([value for value in values if isinstance(value, Held)])
        numbers = [value for value in values if isinstance(value, Constant)]
        if held is None and len(given) == 1 and name in ("product", "quotient"):
            for constant in numbers:
                found = self._averaged(name, values, given[0], constant)
                if found is not None:
                    return found
        if name == "greater" and any(constant.number == -np.inf for constant in numbers):
            return given[0]
        if any(constant.number is None for constant in numbers):
            of = self._new(f"{name} with fixed numbers", given, held)
            return Values(of, self._axes(given, shape)[0])
        slots = [
            None if isinstance(v, Values) else v.number if isinstance(v, Constant) else np.nan
            for v in values
        ]

        def applied(*arrays: Any) -> Any:
            rest = iter(arrays)
            return function(*(next(rest) if slot is None else slot for slot in slots))

        axes, crossed = self._axes(given, shape)
        settings = {"crossed": True} if crossed else {}
        if held and numbers:
            held = replace(held, numbers=held.numbers | {constant.number for constant in numbers})
        return Values(
            self._new(name, given, held, function=None if held else applied, **settings), axes
        )

    def _without_values(
        self, function: Callable[..., Any], values: Sequence[Value], shape: tuple[int, ...]
    ) -> Value:
        place = next((value for value in values if isinstance(value, Place)), None)
        if place is not None:
            return replace(place, shape=shape)
        held = together([value for value in values if isinstance(value, Held)])
        constants = [value for value in values if isinstance(value, Constant)]
        if held is not None:
            numbers = {constant.number for constant in constants if constant.number is not None}
            return replace(held, numbers=held.numbers | numbers, shape=shape)
        known = all(constant.value is not None for constant in constants)
        return Constant(
            np.asarray(function(*(c.value for c in constants))) if known else None, shape
        )

    def _averaged(
        self, name: str, values: Sequence[Value], x: Values, by: Constant
    ) -> Values | None:
        """What a sum is when it is divided by the number of its terms, or by the numbers of pixels
        in its windows.
        """
        if name == "quotient" and values[0] is not x:
            return None
        number = by.number
        if x.of.op == "total" and number is not None:
            count = prod(size_of(axis) for axis in x.of.settings["axes"])
            if np.isclose(number, count if name == "quotient" else 1 / count, rtol=1e-6):
                return self._reduced(
                    replace(x, of=x.of.inputs[0]), "average", x.of.settings["axes"], x.axes
                )
            return None
        if (
            name == "quotient"
            and x.of.op == "window total"
            and number == prod(x.of.settings["kernel"])
        ):
            return replace(x, of=self._primitive("window average", x.of.inputs, **x.of.settings))
        if name == "quotient" and x.of.op in ("window total", "window average") and _counts(x, by):
            return replace(x, of=self._primitive("average around", x.of.inputs, **x.of.settings))
        return None

    def _axes(
        self, given: Sequence[Values], shape: tuple[int, ...]
    ) -> tuple[tuple[Axis, ...], bool]:
        """The axes of what is computed value by value, and whether the inputs disagree about
        them.
        """
        wide = [self.broadcast(self._settled(x), shape) for x in given]
        found, crossed = [], False
        for axes in zip(*(x.axes for x in wide), strict=True):
            named = [axis for axis in axes if axis and all(name for name, _ in axis)]
            crossed |= _disagree(*axes)
            found.append(named[0] if named else axes[0])
        return tuple(found), crossed

    def reduce(self, x: Value, kind: str, places: Sequence[int], keep: bool = True) -> Value:
        """The "average", "maximum" or "total" over axes."""
        if not isinstance(x, Values):
            shape = tuple(
                1 if at in places else size
                for at, size in enumerate(x.shape)
                if keep or at not in places
            )
            return replace(x, shape=shape) if not isinstance(x, Constant) else Constant(None, shape)
        x = self._settled(x)
        over = tuple(x.axes[at] for at in places if x.axes[at])
        left = tuple(
            () if at in places else axis
            for at, axis in enumerate(x.axes)
            if keep or at not in places
        )
        return self._reduced(x, kind, over, left)

    def _reduced(
        self, x: Values, kind: str, over: tuple[Axis, ...], left: tuple[Axis, ...]
    ) -> Values:
        if not over:
            return replace(x, axes=left)
        if (
            kind == "maximum"
            and any(axis[0][0] == "parts" for axis in over)
            and x.of.op == "concatenate"
        ):
            return Values(self._primitive("greater", x.of.inputs, function=np.maximum), left)
        if x.of.op == kind:  # over one axis, then over another
            over = (*x.of.settings["axes"], *over)
            x = replace(x, of=x.of.inputs[0])
        return Values(self._new(kind, [x], axes=over), left)

    def place_of_greatest(self, x: Values, at: int, keep: bool) -> Place:
        x = self._settled(x)
        shape = tuple(
            1 if place == at else size for place, size in enumerate(x.shape) if keep or place != at
        )
        return Place(_unchanged(x.of), x.axes[at], shape)

    def softmax(self, x: Values) -> Values:
        return replace(x, of=self._new("softmax", [x]))

    def matrix_product(self, x: Value, y: Value, shape: Sequence[int]) -> Value:
        """Over the last axis of x and the last but one of y; axes in front of these belong
        together.
        """
        if isinstance(x, Values) and isinstance(y, Values):
            crossed = _disagree(x.axes[-1], y.axes[-2])
            return Values(
                self._new("matrix product", [x, y], crossed=crossed), (*x.axes[:-1], y.axes[-1])
            )
        return Values(
            self._new("matrix product", [x], y), (*x.axes[:-1], axis_of("channels", shape[-1]))
        )

    def convolution(
        self,
        x: Values,
        kernel: Held,
        size: Sequence[int],
        outputs: int,
        feature: int,
        spatial: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        groups: int = 1,
    ) -> Values:
        """size: of the kernel. feature, spatial: which axes of x are the channels and which it
        moves along.
        """
        window = self._window(x, spatial, size, stride, padding, x.apart or dilation)
        inputs = x.shape[feature]
        axes = list(self._behind(x, spatial, window))
        axes[feature] = axis_of("channels", outputs)
        along = tuple("/".join(names_of(x.axes[at])) for at in spatial if x.axes[at])
        whole = replace(x, margins={}, steps={}, apart=())
        depthwise = groups == inputs == outputs and groups > 1
        of = self._new(
            "depthwise convolution" if depthwise else "convolution",
            [whole],
            kernel,
            along=along,
            **window,
        )
        return Values(of, tuple(axes))

    def pool(
        self,
        x: Value,
        kind: str,
        size: Sequence[int],
        spatial: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
    ) -> Value:
        """kind: "maximum pooling", "window total", "window average" or "average around" (of those
        pixels that are there).
        """
        if not isinstance(x, Values):
            margins = [
                padding[list(spatial).index(at)] if at in spatial else (0, 0)
                for at in range(len(x.shape))
            ]
            found = pooled(self.pad(x, margins, 0).value, kind, spatial, size, stride)
            return Constant(found, found.shape)
        window = self._window(x, spatial, size, stride, padding, [1] * len(size))
        window |= {"spatial": tuple(spatial), "shape": tuple(size_of(axis) for axis in x.axes)}
        if kind == "maximum pooling":
            window["fill"] = {"-inf": "", "0": "zeros"}.get(window["fill"], window["fill"])
        of = self._new(kind, [replace(x, margins={}, steps={})], **window)
        return Values(of, self._behind(x, spatial, window))

    def _window(
        self,
        x: Values,
        spatial: Sequence[int],
        size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
    ) -> dict[str, Any]:
        """What moves over the pixels, and the margins that were put around them for it."""
        assert {*x.margins, *x.steps} <= {*spatial}
        margins, strides = [], []
        for at, step, (before, after) in zip(spatial, stride, padding, strict=True):
            had = x.margins.get(at, (0, 0, ""))
            margins.append((before + had[0], after + had[1]))
            strides.append(step * x.steps.get(at, 1))
        fills = {x.margins[at][2] for at in spatial if at in x.margins}
        return {
            "kernel": tuple(size),
            "stride": tuple(strides),
            "padding": tuple(margins),
            "dilation": tuple(dilation),
            "fill": "".join(sorted(fills)),
        }

    def _behind(
        self, x: Values, spatial: Sequence[int], window: dict[str, Any]
    ) -> tuple[Axis, ...]:
        axes = list(x.axes)
        sides = zip(
            spatial,
            *(window[name] for name in ("kernel", "stride", "padding", "dilation")),
            strict=True,
        )
        for at, kernel, step, margin, apart in sides:
            size = (size_of(x.axes[at]) + sum(margin) - apart * (kernel - 1) - 1) // step + 1
            if size != size_of(x.axes[at]):
                axes[at] = axis_of("/".join(names_of(x.axes[at])), size)
        return tuple(axes)

    def norm(self, x: Values, kind: str, held: Held, eps: float) -> Values:
        return replace(x, of=self._new(kind, [x], replace(held, numbers=frozenset([eps]))))


def pooled(
    x: np.ndarray, kind: str, spatial: Sequence[int], size: Sequence[int], stride: Sequence[int]
) -> np.ndarray:
    """The totals or averages of an array over windows."""
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(size), tuple(spatial))
    steps = [
        slice(None, None, stride[list(spatial).index(at)] if at in spatial else 1)
        for at in range(x.ndim)
    ]
    reduced = {"window total": np.sum, "window average": np.mean}[kind]
    return reduced(windows[tuple(steps)], axis=tuple(range(-len(size), 0)))


def _counts(x: Values, by: Constant) -> bool:
    """Whether numbers are those (or, of an average, the parts) of the pixels that are there in the
    windows of x.
    """
    window = x.of.settings
    margins = [(0, 0)] * len(window["shape"])
    for at, margin in zip(window["spatial"], window["padding"], strict=True):
        margins[at] = margin
    ones = np.pad(np.ones(window["shape"]), margins)
    expected = _varying(
        pooled(ones, x.of.op, window["spatial"], window["kernel"], window["stride"])
    )
    found = None if by.value is None else _varying(by.value)
    return found is not None and found.shape == expected.shape and np.allclose(found, expected)


def _varying(array: np.ndarray) -> np.ndarray:
    """An array without the axes along which it does not change: rows and columns, in every
    layout.
    """
    for at in reversed(range(array.ndim)):
        if np.all(array == array.take([0], at)):
            array = array.take(0, at)
    return array


def _disagree(*axes: Axis) -> bool:
    """Whether axes that are to be the same have different names."""
    named = [axis for axis in axes if axis and all(name for name, _ in axis)]
    return len({names_of(axis) for axis in named}) > 1


def _fill(fill: float | str) -> str:
    return fill if isinstance(fill, str) else "0" if fill == 0 else f"{fill:g}"


def together(held: Sequence[Held]) -> Held | None:
    if not held:
        return None
    names = frozenset().union(*(one.names for one in held))
    return Held(names, frozenset().union(*(one.numbers for one in held)), held[0].shape)


def _unchanged(of: Primitive) -> Primitive:
    """What a primitive hands on unchanged: TensorFlow's argmax is given x with -0 made a little
    less than 0.
    """
    source = source_of(of)
    if (
        source is not of
        and source is not None
        and np.allclose(evaluated(of, source, PROBES), PROBES)
    ):
        return source
    return of


# --- From primitives to operations


@dataclass(eq=False)
class Step:
    """An operation in the common form. kind: what it computes, in words; what is equal has the
    same.

    number: its place in the order. name: of the drawn operation, "" in what is executed. module:
    whose parameters (held) it has, "" if none, and what these do there. identity: the same for what
    is equal all the way from the image.
    """

    kind: str
    inputs: tuple[Step, ...]
    number: int
    name: str = ""
    module: str = ""
    what: str = ""
    held: Held | None = None
    identity: int = 0

    def __post_init__(self) -> None:
        inputs = [step.identity for step in self.inputs]
        self.identity = hash(
            (self.kind, tuple(sorted(inputs) if self.kind in UNORDERED else inputs))
        )

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name not in ("", self.module, self.kind) else ""
        inputs = " and ".join(step.module or step.kind for step in self.inputs)
        return f"{self.kind}{name}" + (f" of {inputs}" if inputs else "")


def source_of(of: Primitive) -> Primitive | None:
    """The one value of which this is a function, value by value; itself if it is computed
    otherwise; None if of several.
    """
    if of.function is None:
        return of
    sources = {source_of(given) or given for given in of.inputs}
    return sources.pop() if len(sources) == 1 else None


def evaluated(of: Primitive, source: Primitive, x: np.ndarray) -> np.ndarray:
    """What becomes of x in the place of `source`."""
    if of is source:
        return x
    assert of.function is not None
    with np.errstate(all="ignore"):
        return of.function(*(evaluated(given, source, x) for given in of.inputs))


def cuts(of: Primitive, source: Primitive) -> list[Primitive]:
    """The primitives from `source` to `of` through which every way leads, in order."""
    inside: list[Primitive] = []

    def collect(one: Primitive) -> None:
        if one is not source and one not in inside:
            inside.append(one)
            for given in one.inputs:
                collect(given)

    def leads(one: Primitive, without: Primitive) -> bool:
        return one is not without and (
            one is source or any(leads(given, without) for given in one.inputs)
        )

    collect(of)
    return sorted(
        (one for one in inside if one is of or not leads(of, one)), key=lambda one: one.number
    )


def piece(of: Primitive, source: Primitive) -> str | None:
    """Which of KNOWN a function is, or "a x + b"; None if it is none of these."""
    y = np.asarray(evaluated(of, source, PROBES), float)
    for name in KNOWN:
        if np.allclose(y, FUNCTIONS[name](PROBES), rtol=1e-5, atol=1e-6):
            return name
    a, b = np.polyfit(PROBES, y, 1) if np.isfinite(y).all() else (0, 0)
    return "a x + b" if np.allclose(y, a * PROBES + b, rtol=1e-5, atol=1e-7) else None


class Reading:
    """The operations that a machine took down, in the common form. modules: the module of each
    parameter, by its name.
    """

    def __init__(self, machine: Machine, output: Values, modules: dict[str, str]):
        self.machine = machine
        self.modules = modules
        self.known: dict[Primitive, Step] = {}
        self.steps: dict[int, Step] = {}
        self.parts: dict[tuple[Primitive, int], set[int]] = {}
        self.live: set[Primitive] = set()
        self._reach(output.of)
        for of in self.live:
            if of.op == "part":
                self.parts.setdefault((of.inputs[0], of.settings["whole"]), set()).add(
                    of.settings["start"]
                )
        last = self.step(output.of)
        self.order = sorted(self._under(last, {}).values(), key=lambda step: step.number)

    def _reach(self, of: Primitive) -> None:
        if of not in self.live:
            self.live.add(of)
            for given in of.inputs:
                self._reach(given)

    def _under(self, step: Step, found: dict[int, Step]) -> dict[int, Step]:
        if id(step) not in found:
            found[id(step)] = step
            for given in step.inputs:
                self._under(given, found)
        return found

    def step(self, of: Primitive) -> Step:
        if of not in self.known:
            self.known[of] = self._step(of)
        return self.known[of]

    def _step(self, of: Primitive) -> Step:
        if of.held is not None:
            return self._module(of)
        if of.function is not None:
            source = source_of(of)
            return self._several(of) if source is None else self._chain(of, source)
        inputs = tuple(map(self.step, of.inputs))
        if of.op == "rearrangement" and inputs[0].module:
            return self._grown(inputs[0], of)
        return Step(self._told(of), inputs, of.number, of.name)

    def _told(self, of: Primitive) -> str:
        """A primitive without parameters in words."""
        settings = of.settings
        crossed = " (of axes that do not belong together)" if settings.get("crossed") else ""
        if of.op == "part":
            starts = sorted(self.parts[of.inputs[0], settings["whole"]])
            return f"part {starts.index(settings['start']) + 1} of {len(starts)}"
        if "axes" in settings:
            return f"{of.op} over {', '.join(sorted('/'.join(names_of(axis)) for axis in settings['axes']))}"
        return f"{of.op}{window_told(settings)}{crossed}"

    # Functions of one value

    def _chain(self, of: Primitive, source: Primitive) -> Step:
        way = [source, *cuts(of, source)]
        step, at, a, b = self.step(source), 0, 1.0, 0.0
        while at < len(way) - 1:
            to, known = next(
                (
                    (to, known)
                    for to in range(at + 1, len(way))
                    if (known := piece(way[to], way[at])) in KNOWN
                ),
                (at + 1, None),
            )
            if known is None and piece(way[to], way[at]) == "a x + b":
                low, high = evaluated(way[to], way[at], np.array([0.0, 1.0]))
                a, b = a * (high - low), b * (high - low) + low
            else:
                step = self._linear(step, a, b, way[at])
                step, a, b = (
                    Step(known or f"{way[to].op} (unknown)", (step,), way[to].number, way[to].name),
                    1.0,
                    0.0,
                )
            at = to
        return self._linear(step, a, b, of)

    def _linear(self, step: Step, a: float, b: float, of: Primitive) -> Step:
        if np.isclose(a, 1, rtol=1e-6) and abs(b) < 1e-12:
            return step
        slope = "x" if np.isclose(a, 1, rtol=1e-6) else f"{a:.5g} x"
        return Step(slope + (f" + {b:.5g}" if abs(b) > 1e-12 else ""), (step,), of.number, of.name)

    # Functions of several values

    def _several(self, of: Primitive) -> Step:
        for found in (self._softmax(of), self._standardised(of)):
            if found is not None:
                return found
        if of.op not in FUNCTIONS or of.op in ("choice", "is greater"):
            return self._greater(of)
        inputs = tuple(map(self.step, of.inputs))
        if of.op == "sum" and inputs[0].module and self._together(inputs):
            return self._grown(inputs[0], of, inputs[1:])
        return Step(self._told(of), inputs, of.number, of.name)

    def _together(self, steps: Sequence[Step]) -> bool:
        """Whether these are one operation of one module: with different parameters of it, from the
        same.
        """
        held = [name for step in steps for name in (step.held.names if step.held else ())]
        same = (
            len({step.module for step in steps}) == 1 and len({step.inputs for step in steps}) == 1
        )
        return same and len(set(held)) == len(held)

    def _greater(self, of: Primitive) -> Step:
        """Chosen by which is greater: of two values the greater."""
        if of.op == "choice" and of.inputs[0].op == "is greater":
            asked, chosen = of.inputs[0].inputs, of.inputs[1:]
            if len(asked) == 2 and asked == chosen:
                return Step("greater", tuple(map(self.step, chosen)), of.number, of.name)
        return Step(f"{of.op} (unknown)", tuple(map(self.step, of.inputs)), of.number)

    def _softmax(self, of: Primitive) -> Step | None:
        if of.op != "quotient" or of.inputs[0].op != "exp" or of.inputs[1].op != "total":
            return None
        exps, total = of.inputs
        centred = exps.inputs[0]
        if (
            total.inputs != (exps,)
            or centred.op != "difference"
            or centred.inputs[1].op != "maximum"
        ):
            return None
        x, greatest = centred.inputs
        if greatest.inputs != (x,) or greatest.settings["axes"] != total.settings["axes"]:
            return None
        return Step("softmax", (self.step(x),), of.number)

    def _standardised(self, of: Primitive) -> Step | None:
        """x without its mean, divided by the root of its variance and a small number: of a layer
        norm.
        """
        if of.op != "quotient":
            return None
        found = standardised(*of.inputs)
        return (
            None
            if found is None
            else Step(f"standardised, eps {found[1]:.3g}", (self.step(found[0]),), of.number)
        )

    # Modules

    def _module(self, of: Primitive) -> Step:
        assert of.held is not None
        owners = {self.modules[name] for name in of.held.names}
        module = owners.pop() if len(owners) == 1 else " and ".join(sorted(owners))
        inputs = tuple(map(self.step, of.inputs))
        if (
            len(inputs) == 1
            and inputs[0].module == module
            and not of.held.names & inputs[0].held.names
        ):
            return self._grown(inputs[0], of)
        what = KINDS.get(of.op, of.op if of.op in MODULE_OPS else "batch norm")
        held = of.held
        if len(inputs) == 1 and inputs[0].kind.startswith("standardised"):
            eps = float(inputs[0].kind.split()[-1])
            inputs, what, held = (
                inputs[0].inputs,
                "layer norm",
                replace(held, numbers=held.numbers | {eps}),
            )
        crossed = " (of axes that do not belong together)" if of.settings.get("crossed") else ""
        return self._named(module, f"{what}{window_told(of.settings)}{crossed}", inputs, of, held)

    def _named(
        self, module: str, what: str, inputs: tuple[Step, ...], of: Primitive, held: Held
    ) -> Step:
        leaves = ", ".join(sorted(name.rsplit(".", 1)[-1] for name in held.names))
        numbers = "".join(f", {number:.3g}" for number in sorted(held.numbers))
        return Step(
            f"{module}: {what} with {leaves}{numbers}",
            inputs,
            of.number,
            of.name,
            module,
            what,
            held,
        )

    def _grown(self, step: Step, of: Primitive, others: Sequence[Step] = ()) -> Step:
        """A module's operation with more of that module in it."""
        inputs = list(step.inputs)
        inputs += [given for other in others for given in other.inputs if given not in inputs]
        held = together(
            [
                one
                for one in (step.held, *(other.held for other in others), of.held)
                if one is not None
            ]
        )
        assert held is not None
        return self._named(step.module, step.what, tuple(inputs), of, held)


KINDS = {"matrix product": "linear"}
MODULE_OPS = ("convolution", "depthwise convolution", "batch norm", "layer norm")


def standardised(centred: Primitive, divisor: Primitive) -> tuple[Primitive, float] | None:
    """x and eps if these are x - mean and sqrt(variance + eps); else None."""
    variance = source_of(divisor)
    if (
        variance is None
        or variance.op != "average"
        or centred.op != "difference"
        or centred.inputs[1].op != "average"
    ):
        return None
    x, mean = centred.inputs
    squares = variance.inputs[0]
    if (
        mean.inputs != (x,)
        or {*mean.settings["axes"]} != {*variance.settings["axes"]}
        or squares.function is None
    ):
        return None
    if set(squares.inputs) != {centred} or not np.allclose(
        squares.function(*[PROBES] * len(squares.inputs)), PROBES**2
    ):
        return None
    at = np.array([0.0, 1.0, 4.0])
    eps = float(evaluated(divisor, variance, at)[0] ** 2)
    return (x, eps) if np.allclose(evaluated(divisor, variance, at), np.sqrt(at + eps)) else None


def window_told(settings: dict[str, Any]) -> str:
    """Kernel, stride, padding and dilation in words."""
    if "kernel" not in settings:
        return ""
    told = [" " + "x".join(map(str, settings["kernel"]))]
    if set(settings["stride"]) != {1}:
        told.append("stride " + "x".join(map(str, settings["stride"])))
    if any(map(any, settings["padding"])):
        sides = [
            str(before) if before == after else f"{before}+{after}"
            for before, after in settings["padding"]
        ]
        told.append(
            "padding "
            + "x".join(sides)
            + (" all around" if settings.get("fill") == "around" else "")
        )
    if settings.get("fill") not in (None, "", "0", "around"):
        told.append(f"padded with {settings['fill']}")
    if set(settings["dilation"]) != {1}:
        told.append("dilation " + "x".join(map(str, settings["dilation"])))
    if settings.get("along"):
        told.append("along " + ", ".join(settings["along"]))
    return ", ".join(told)


def reading(machine: Machine, output: Values, config: Config) -> list[Step]:
    """The operations that a machine took down, in the common form and in the order of execution."""
    return Reading(machine, output, {p.name: p.module for p in schema(config)}).order


# --- What is drawn


def drawn(graph: Graph) -> list[Step]:
    """The operations of a drawn graph, in the common form."""
    machine = Machine()
    values: dict[str, Values] = {}
    held: dict[str, Held] = {}
    for parameter in schema(graph.config):
        had = held.get(parameter.module, Held(frozenset()))
        held[parameter.module] = Held(had.names | {parameter.name})
    for operation in graph:
        machine.name = operation.name
        values[operation.name] = _put(
            machine, graph, operation, [values[name] for name in operation.inputs], held
        )
    return reading(machine, values[graph.output], graph.config)


def _put(
    machine: Machine, graph: Graph, operation: Operation, given: list[Values], held: dict[str, Held]
) -> Values:
    """One operation of a drawn graph, put into the machine."""
    kind, settings, shape = (
        operation.kind,
        operation.settings,
        [extent.size for extent in operation.shape],
    )
    x: Any = given[0] if given else None
    if kind == "input":
        return machine.image((2, *shape), NAMES)
    if kind in ("global average", "average", "maximum"):
        axes = settings.get("axes", (1, 2))
        return machine.reduce(x, kind.removeprefix("global "), [axis + 1 for axis in axes])
    if operation.module:
        return _put_module(machine, operation, x, held[operation.module])
    if kind == "maximum pooling":
        padding = [(side, side) for side in settings["padding"]]
        return machine.pool(x, kind, settings["kernel"], (2, 3), settings["stride"], padding)
    if kind == "average around":
        reach = settings["extent"]
        window = (2 * reach - 1,) * 2
        return machine.pool(x, kind, window, (2, 3), (reach,) * 2, [(reach - 1,) * 2] * 2)
    if kind == "concatenate":
        if settings["axis"] == 1:  # columns are turned into rows
            given = [v if v.shape[3] == 1 else machine.transpose(v, (0, 1, 3, 2)) for v in given]
        return machine.concatenate(given, settings["axis"] + 1)
    if kind == "swap axes":
        return machine.transpose(x, (0, *_order(graph, operation)))
    if kind in ("part", "first part", "second part"):
        return _put_part(machine, graph, operation, x)
    if kind == "stretch":
        for at in (2, 3):
            places = np.arange(shape[at - 1]) * x.shape[at] // shape[at - 1]
            x = machine.gather(x, Constant(places, places.shape), at)
        return x
    if kind == "softmax":
        return machine.softmax(x)
    if kind == "matrix product":
        of = machine._new(kind, given)
        names = NAMES[1:] if len(shape) == 3 else ("",) * len(shape)
        return Values(
            of,
            tuple(
                axis_of(name, size)
                for name, size in zip(("batch", *names), (2, *shape), strict=True)
            ),
        )
    return _put_function(machine, graph, operation, given)


def _put_module(machine: Machine, operation: Operation, x: Values, held: Held) -> Values:
    kind, settings = operation.kind, operation.settings
    if kind in ("convolution", "depthwise convolution"):
        padding = [(side, side) for side in settings["padding"]]
        outputs = operation.shape[0].size
        groups = x.shape[1] if kind.startswith("depthwise") else 1
        dilation = (settings["dilation"],) * 2
        stride = settings["stride"]
        return machine.convolution(
            x, held, settings["kernel"], outputs, 1, (2, 3), stride, padding, dilation, groups
        )
    if kind == "1-d convolution":
        turned = machine.transpose(x, (0, 2, 3, 1))
        (size,) = settings["kernel"]
        flat = machine.reshape(turned, (x.shape[0], 1, x.shape[1]))
        fill = "around" if settings["padding"] == "circular" else 0.0
        wide = machine.pad(flat, ((0, 0), (0, 0), (size // 2, size // 2)), fill)
        y = machine.convolution(wide, held, (size,), 1, 1, (2,), (1,), ((0, 0),), (1,))
        return replace(x, of=y.of)
    if kind in ("batch norm", "layer norm"):
        return machine.norm(x, kind, held, settings["eps"])
    # "linear" and "relative positions": products with a matrix of parameters
    return Values(
        machine._new("matrix product", [x], held),
        (axis_of("batch", 2), *(axis_of("", e.size) for e in operation.shape)),
    )


def _order(graph: Graph, operation: Operation) -> list[int]:
    """How axes are swapped, by their formulas."""
    before = [extent.formula for extent in graph[operation.inputs[0]].shape]
    return [before.index(extent.formula) + 1 for extent in operation.shape]


def _put_part(machine: Machine, graph: Graph, operation: Operation, x: Values) -> Values:
    """The parts of a value lie one behind the other as they are drawn."""
    siblings = [
        other for other in graph if other.inputs == operation.inputs and other.kind.endswith("part")
    ]
    at = siblings.index(operation)
    of = machine._new("part", [x], start=at, size=1, whole=len(siblings), axis=())
    shape = [extent.size for extent in operation.shape]
    names = NAMES[1:] if operation.kind != "part" else ("", "", "")
    return Values(
        of,
        (
            axis_of("batch", 2),
            *(axis_of(name, size) for name, size in zip(names, shape, strict=True)),
        ),
    )


def _put_function(
    machine: Machine, graph: Graph, operation: Operation, given: list[Values]
) -> Values:
    """What is computed value by value."""
    kind, first = operation.kind, given[0]
    shape = tuple(extent.size for extent in operation.shape)

    def with_number(name: str, x: Values, number: float) -> Values:
        return machine.elementwise(name, x, Constant(np.array(number)))

    if kind in ("sum", "product", "greater", "difference", "quotient"):
        found = first
        for other in given[1:]:
            found = machine.elementwise(kind, found, other)
        return found
    if kind in KNOWN:
        return machine.elementwise(kind, first)
    if kind.startswith("divide by "):
        by = kind.removeprefix("divide by ")
        return with_number(
            "quotient", first, sqrt(float(by[1:])) if by.startswith("√") else float(by)
        )
    if kind.startswith("add "):
        return with_number("sum", first, {"1": 1.0, "1/2": 0.5}[kind.removeprefix("add ")])
    if kind == "4 (x + λ)":
        return with_number(
            "product", with_number("sum", first, operation.settings["e_lambda"]), 4.0
        )
    if kind == "times n / (n - 1)":
        averaged = graph[graph[operation.inputs[0]].inputs[0]].shape
        count = averaged[1].size * averaged[2].size
        return with_number("product", first, count / (count - 1))
    raise ArgumentError(
        f"{operation.name}: the comparison does not know operations of the kind {kind!r} ({shape})"
    )


# --- The comparison


def difference(framework: str, found: Sequence[Step], expected: Sequence[Step]) -> str | None:
    """How what is executed (`found`) differs from what is drawn (`expected`): the first difference
    in words, or None.
    """
    label = FRAMEWORKS[framework].label if framework in FRAMEWORKS else framework
    drawn_only, executed_only = without_equal(expected, found), without_equal(found, expected)
    if drawn_only or executed_only:
        told = [f"drawn is {drawn_only[0]}"] if drawn_only else ["nothing like it is drawn"]
        told += (
            [f"executed is {executed_only[0]}"]
            if executed_only
            else ["nothing like it is executed"]
        )
        return f"{label} does not execute what is drawn: {'; '.join(told)}"
    for place, (one, other) in enumerate(zip(in_place(found), in_place(expected), strict=True)):
        if one.identity != other.identity:
            return f"{label} executes in another order than is drawn: operation {place} drawn is {other}, executed {one}"
    return None


def in_place(steps: Sequence[Step]) -> list[Step]:
    """Those whose place in the order counts: all but sums that are a part of a longer sum."""
    users: dict[int, list[Step]] = {}
    for step in steps:
        for given in step.inputs:
            users.setdefault(id(given), []).append(step)
    return [
        step
        for step in steps
        if step.kind != "sum" or [user.kind for user in users.get(id(step), [])] != ["sum"]
    ]


def without_equal(steps: Sequence[Step], others: Sequence[Step]) -> list[Step]:
    left = Counter(step.identity for step in others)
    found = []
    for step in steps:
        left[step.identity] -= 1
        if left[step.identity] < 0:
            found.append(step)
    return found
