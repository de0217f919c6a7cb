"""The drawn graph (`weights.graph`) in the common form.

Only this file knows the kinds and settings of its operations: the tables at its end say what each
kind is in the words of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from resattn.reading.form import BATCH, CHANNELS_FIRST, Held, ImageValues, axes_of, constant
from resattn.reading.machine import Machine
from resattn.reading.steps import CommonStep, normalize
from resattn.reading.windows import BLUR_FILTER, REFLECTED, Window, pooling, symmetric
from weights import schema
from weights.graph import Graph
from weights.operations import AXES, ELEMENTWISE, ROWS, Operation

SPATIAL = (2, 3)  # the dims of rows and cols
NAMES = CHANNELS_FIRST[1:]  # of the axes of an operation, which leave out the batch
UNNAMED = ("", "", "")

OperationReader = Callable[..., Any]  # of the drawing, the operation and the values that it takes


def read_drawing(graph: Graph) -> list[CommonStep]:
    """The operations of a drawn graph, in the common form and in the order of execution."""
    parameters = schema(graph.config)
    names: dict[str, list[str]] = {}
    for parameter in parameters:
        names.setdefault(parameter.module, []).append(parameter.name)
    held = {module: Held(frozenset(of_module)) for module, of_module in names.items()}
    drawing = _Drawing(Machine(), graph, held)
    values: dict[str, ImageValues] = {}
    for operation in graph:
        drawing.machine.name = operation.name
        given = [values[name] for name in operation.inputs]
        values[operation.name] = _reader(operation)(drawing, operation, *given)
        drawing.machine.note_axes(values[operation.name])
    return normalize(values[graph.output], {p.name: p.module for p in parameters})


@dataclass(frozen=True)
class _Drawing:
    """A drawn graph, the machine that it is read into, and the parameters of each module."""

    machine: Machine
    graph: Graph
    held: Mapping[str, Held]


def _sizes(operation: Operation) -> list[int]:
    return [extent.size for extent in operation.shape]


def _as_drawn(operation: Operation, producer: Any, names: tuple[str, ...]) -> ImageValues:
    """Values of the drawn shape."""
    return ImageValues(producer, axes_of(("batch", *names), (BATCH, *_sizes(operation))))


# What has parameters


def _read_convolution(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    stride, dilation = o.settings["stride"], (o.settings["dilation"],) * 2
    padding = symmetric(o.settings["padding"])
    window = Window(SPATIAL, o.settings["kernel"], stride, padding, dilation)
    return d.machine.convolution(
        x, d.held[o.module], window, o.shape[0].size, 1, o.settings["groups"]
    )


def _read_convolution_1d(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    """Along the channels of a map of one pixel."""
    (size,) = o.settings["kernel"]
    last = d.machine.transpose(x, (0, 2, 3, 1))
    flat = d.machine.reshape(last, (x.shape[0], 1, x.shape[1]))
    fill = "around" if o.settings["padding"] == "circular" else 0.0
    wide: Any = d.machine.pad(flat, ((0, 0), (0, 0), (size // 2, size // 2)), fill)
    window = Window((2,), (size,), (1,), ((0, 0),), (1,))
    y = d.machine.convolution(wide, d.held[o.module], window, outputs=1, feature=1)
    return replace(x, producer=y.producer)


def _norm(kind: str) -> OperationReader:
    return lambda d, o, x: d.machine.norm(x, kind, d.held[o.module], o.settings["eps"])


def _read_linear(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    producer = d.machine.compute("matrix_product", [x], d.held[o.module])
    return _as_drawn(o, producer, UNNAMED[: len(o.shape)])


# Reductions and poolings


def _reduction(kind: str) -> OperationReader:
    def read(d: _Drawing, o: Operation, x: ImageValues) -> Any:
        return d.machine.reduce(x, kind, [AXES.index(axis) + 1 for axis in o.settings["axes"]])

    return read


def _read_max_pool(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    before = o.settings["padding"]
    padding = list(zip(before, o.settings.get("after", before), strict=True))
    window = pooling(SPATIAL, o.settings["kernel"], o.settings["stride"], padding)
    return d.machine.pool(x, "max_pool", window)


def _read_average_pool(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    """The mean of the pixels that are there."""
    after = o.settings["after"]
    padding = [(0, side) for side in after]
    window = pooling(SPATIAL, o.settings["kernel"], o.settings["stride"], padding)
    return d.machine.pool(x, "average_around" if any(after) else "window average", window)


def _read_blur_pool(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    stride = o.settings["stride"]
    wide: Any = d.machine.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), REFLECTED)
    return d.machine.filter(
        wide, constant(BLUR_FILTER), pooling(SPATIAL, (3, 3), stride, symmetric((0, 0)))
    )


def _read_pad(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    sides = zip(o.settings["before"], o.settings["after"], strict=True)
    return d.machine.pad(x, ((0, 0), (0, 0), *sides), 0.0)


def _read_subsample(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    _, rows, cols = _sizes(o)
    kept: Any = d.machine.cut(
        x, (0, 0, 0, 0), (*x.shape[:2], rows, cols), (1, 1, *o.settings["stride"])
    )
    margin = (o.settings["before"], o.settings["after"])
    return d.machine.pad(kept, ((0, 0), margin, (0, 0), (0, 0)), 0.0)


def _read_average_around(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    reach = o.settings["extent"]
    padding = symmetric((reach - 1,) * 2)
    window = pooling(SPATIAL, (2 * reach - 1,) * 2, (reach,) * 2, padding)
    return d.machine.pool(x, "average_around", window)


# What moves values


def _read_concatenate(d: _Drawing, o: Operation, *given: ImageValues) -> Any:
    parts: list[Any] = list(given)
    axis = AXES.index(o.settings["axis"]) + 1
    if o.settings["axis"] == ROWS:  # columns are turned into rows
        parts = [x if x.shape[3] == 1 else d.machine.transpose(x, (0, 1, 3, 2)) for x in given]
    return d.machine.concatenate(parts, axis)


def _read_swap(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    first, second = (AXES.index(axis) + 1 for axis in o.settings["axes"])
    order = [0, 1, 2, 3]
    order[first], order[second] = second, first
    return d.machine.transpose(x, tuple(order))


def _read_slice(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    """One of the two parts that a concatenation is taken apart into."""
    return _part(d, o, x, int(o.settings["start"] > 0), 2, NAMES)


def _read_head_part(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    return _part(d, o, x, o.settings["part"], o.settings["parts"], UNNAMED)


def _part(
    d: _Drawing, o: Operation, x: ImageValues, part: int, parts: int, names: tuple[str, ...]
) -> Any:
    producer = d.machine.compute("part", [x], start=part, size=1, whole=parts, axis=())
    return _as_drawn(o, producer, names)


def _read_nearest(d: _Drawing, o: Operation, x: Any) -> Any:
    if all(x.shape[dim] == 1 for dim in SPATIAL):
        return d.machine.broadcast(x, (*x.shape[: SPATIAL[0]], *_sizes(o)[1:]))
    for dim, size in zip(SPATIAL, _sizes(o)[1:], strict=True):
        x = d.machine.gather(x, constant(np.arange(size) * x.shape[dim] // size), dim)
    return x


# The rest


def _read_softmax(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    return d.machine.softmax(x)


def _read_matrix_product(d: _Drawing, o: Operation, *given: ImageValues) -> Any:
    producer = d.machine.compute("matrix_product", given)
    return _as_drawn(o, producer, NAMES if len(o.shape) == 3 else UNNAMED[: len(o.shape)])


def _function(name: str) -> OperationReader:
    """A function of one value; or of two, which takes the first two, then that and the third, and
    so on.
    """

    def read(d: _Drawing, o: Operation, x: Any, *others: Any) -> Any:
        if not others:
            return d.machine.elementwise(name, x)
        return reduce(lambda x, y: d.machine.elementwise(name, x, y), others, x)

    return read


def _read_affine(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    scaled: Any = d.machine.elementwise("product", x, o.settings["factor"])
    offset = o.settings["offset"]
    return d.machine.elementwise("sum", scaled, offset) if offset else scaled


def _read_bessel(d: _Drawing, o: Operation, x: ImageValues) -> Any:
    count = o.settings["count"]
    return d.machine.elementwise("product", x, count / (count - 1))


MODULES: dict[str, OperationReader] = {
    "convolution": _read_convolution,
    "convolution_1d": _read_convolution_1d,
    "batch_norm": _norm("batch_norm"),
    "group_norm": lambda d, o, x: d.machine.norm(
        x, "group_norm", d.held[o.module], o.settings["eps"], o.settings["groups"]
    ),
    "layer_norm": _norm("layer_norm"),
    "linear": _read_linear,
    "relative_positions": _read_linear,
}
KINDS: dict[str, OperationReader] = {
    "input": lambda d, o: d.machine.image((BATCH, *_sizes(o)), CHANNELS_FIRST),
    "average": _reduction("average"),
    "maximum": _reduction("maximum"),
    "max_pool": _read_max_pool,
    "average_around": _read_average_around,
    "average_pool": _read_average_pool,
    "blur_pool": _read_blur_pool,
    "pad": _read_pad,
    "subsample": _read_subsample,
    "flatten": lambda d, o, x: d.machine.reshape(x, (BATCH, *_sizes(o))),
    "concatenate": _read_concatenate,
    "swap_axes": _read_swap,
    "slice": _read_slice,
    "head_part": _read_head_part,
    "nearest": _read_nearest,
    "softmax": _read_softmax,
    "matrix_product": _read_matrix_product,
    "affine": _read_affine,
    "bessel": _read_bessel,
    **{
        name: _function(name)
        for name in ("sum", "product", "greater", "difference", "quotient", *ELEMENTWISE)
    },
}


def _reader(operation: Operation) -> OperationReader:
    found = (MODULES if operation.module else KINDS).get(operation.kind)
    if found is None:
        raise ValueError(
            f"{operation.name}: the comparison does not know operations of the kind "
            f"{operation.kind!r} {'with' if operation.module else 'without'} parameters"
        )
    return found
