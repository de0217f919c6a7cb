"""The drawn graph (`weights.graph`) in the common form.

Only this file knows the kinds and settings of its operations: the tables at its end say what each
kind is in the words of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from math import sqrt
from typing import Any

import numpy as np

from resattn.reading.form import BATCH, CHANNELS_FIRST, Held, Values, axes_of, constant
from resattn.reading.machine import Machine
from resattn.reading.steps import Step, normalize
from resattn.reading.windows import Window, pooling, symmetric
from weights import schema
from weights.graph import Graph, Operation

SPATIAL = (2, 3)  # the dims of rows and cols
NAMES = CHANNELS_FIRST[1:]  # of the axes of an operation, which leave out the batch
UNNAMED = ("", "", "")

Reader = Callable[..., Any]  # of the drawing, the operation and the values that it takes


def read_drawing(graph: Graph) -> list[Step]:
    """The operations of a drawn graph, in the common form and in the order of execution."""
    parameters = schema(graph.config)
    names: dict[str, list[str]] = {}
    for parameter in parameters:
        names.setdefault(parameter.module, []).append(parameter.name)
    held = {module: Held(frozenset(of_module)) for module, of_module in names.items()}
    drawing = _Drawing(Machine(), graph, held)
    values: dict[str, Values] = {}
    for operation in graph:
        drawing.machine.name = operation.name
        given = [values[name] for name in operation.inputs]
        values[operation.name] = _reader(operation)(drawing, operation, *given)
    return normalize(values[graph.output], {p.name: p.module for p in parameters})


@dataclass(frozen=True)
class _Drawing:
    """A drawn graph, the machine that it is read into, and the parameters of each module."""

    machine: Machine
    graph: Graph
    held: Mapping[str, Held]


def _sizes(operation: Operation) -> list[int]:
    return [extent.size for extent in operation.shape]


def _as_drawn(operation: Operation, producer: Any, names: tuple[str, ...]) -> Values:
    """Values of the drawn shape."""
    return Values(producer, axes_of(("batch", *names), (BATCH, *_sizes(operation))))


# What has parameters


def _read_convolution(d: _Drawing, o: Operation, x: Values, groups: int = 1) -> Any:
    stride, dilation = o.settings["stride"], (o.settings["dilation"],) * 2
    padding = symmetric(o.settings["padding"])
    window = Window(SPATIAL, o.settings["kernel"], stride, padding, dilation)
    return d.machine.convolution(x, d.held[o.module], window, o.shape[0].size, 1, groups)


def _read_depthwise(d: _Drawing, o: Operation, x: Values) -> Any:
    return _read_convolution(d, o, x, groups=x.shape[1])


def _read_convolution_1d(d: _Drawing, o: Operation, x: Values) -> Any:
    """Along the channels of a map of one pixel."""
    (size,) = o.settings["kernel"]
    last = d.machine.transpose(x, (0, 2, 3, 1))
    flat = d.machine.reshape(last, (x.shape[0], 1, x.shape[1]))
    fill = "around" if o.settings["padding"] == "circular" else 0.0
    wide: Any = d.machine.pad(flat, ((0, 0), (0, 0), (size // 2, size // 2)), fill)
    window = Window((2,), (size,), (1,), ((0, 0),), (1,))
    y = d.machine.convolution(wide, d.held[o.module], window, outputs=1, feature=1)
    return replace(x, producer=y.producer)


def _norm(kind: str) -> Reader:
    return lambda d, o, x: d.machine.norm(x, kind, d.held[o.module], o.settings["eps"])


def _read_linear(d: _Drawing, o: Operation, x: Values) -> Any:
    producer = d.machine.compute("matrix product", [x], d.held[o.module])
    return _as_drawn(o, producer, UNNAMED[: len(o.shape)])


# Reductions and poolings


def _reduction(kind: str) -> Reader:
    def read(d: _Drawing, o: Operation, x: Values) -> Any:
        return d.machine.reduce(x, kind, [axis + 1 for axis in o.settings.get("axes", (1, 2))])

    return read


def _read_maximum_pooling(d: _Drawing, o: Operation, x: Values) -> Any:
    padding = symmetric(o.settings["padding"])
    window = pooling(SPATIAL, o.settings["kernel"], o.settings["stride"], padding)
    return d.machine.pool(x, "maximum pooling", window)


def _read_average_around(d: _Drawing, o: Operation, x: Values) -> Any:
    reach = o.settings["extent"]
    padding = symmetric((reach - 1,) * 2)
    window = pooling(SPATIAL, (2 * reach - 1,) * 2, (reach,) * 2, padding)
    return d.machine.pool(x, "average around", window)


# What moves values


def _read_concatenate(d: _Drawing, o: Operation, *given: Values) -> Any:
    parts: list[Any] = list(given)
    if o.settings["axis"] == 1:  # columns are turned into rows
        parts = [x if x.shape[3] == 1 else d.machine.transpose(x, (0, 1, 3, 2)) for x in given]
    return d.machine.concatenate(parts, o.settings["axis"] + 1)


def _read_swap(d: _Drawing, o: Operation, x: Values) -> Any:
    """The order of the axes follows from the formulas of their extents."""
    before = [extent.formula for extent in d.graph[o.inputs[0]].shape]
    order = [before.index(extent.formula) + 1 for extent in o.shape]
    return d.machine.transpose(x, (0, *order))


def _read_part(d: _Drawing, o: Operation, x: Values) -> Any:
    """The parts of a value are drawn in the order in which they lie in it."""
    parts = [one for one in d.graph if one.inputs == o.inputs and one.kind.endswith("part")]
    producer = d.machine.compute(
        "part", [x], start=parts.index(o), size=1, whole=len(parts), axis=()
    )
    return _as_drawn(o, producer, UNNAMED if o.kind == "part" else NAMES)


def _read_stretch(d: _Drawing, o: Operation, x: Any) -> Any:
    for dim, size in zip(SPATIAL, _sizes(o)[1:], strict=True):
        x = d.machine.gather(x, constant(np.arange(size) * x.shape[dim] // size), dim)
    return x


# The rest


def _read_softmax(d: _Drawing, o: Operation, x: Values) -> Any:
    return d.machine.softmax(x)


def _read_matrix_product(d: _Drawing, o: Operation, *given: Values) -> Any:
    producer = d.machine.compute("matrix product", given)
    return _as_drawn(o, producer, NAMES if len(o.shape) == 3 else UNNAMED[: len(o.shape)])


def _function(name: str) -> Reader:
    """A function of one value; or of two, which takes the first two, then that and the third, and
    so on.
    """

    def read(d: _Drawing, o: Operation, x: Any, *others: Any) -> Any:
        if not others:
            return d.machine.elementwise(name, x)
        return reduce(lambda x, y: d.machine.elementwise(name, x, y), others, x)

    return read


def _read_quotient_by(d: _Drawing, o: Operation, x: Values) -> Any:
    by = o.kind.removeprefix("divide by ")
    divisor = sqrt(float(by[1:])) if by.startswith("√") else float(by)
    return d.machine.elementwise("quotient", x, divisor)


def _read_sum_with(d: _Drawing, o: Operation, x: Values) -> Any:
    number = {"1": 1.0, "1/2": 0.5}[o.kind.removeprefix("add ")]
    return d.machine.elementwise("sum", x, number)


def _read_energy(d: _Drawing, o: Operation, x: Values) -> Any:
    total = d.machine.elementwise("sum", x, o.settings["e_lambda"])
    return d.machine.elementwise("product", total, 4.0)


def _read_variance(d: _Drawing, o: Operation, x: Values) -> Any:
    """n is the number of terms of the average that is the input."""
    _, rows, cols = _sizes(d.graph[d.graph[o.inputs[0]].inputs[0]])
    return d.machine.elementwise("product", x, rows * cols / (rows * cols - 1))


MODULES: dict[str, Reader] = {
    "convolution": _read_convolution,
    "depthwise convolution": _read_depthwise,
    "1-d convolution": _read_convolution_1d,
    "batch norm": _norm("batch norm"),
    "layer norm": _norm("layer norm"),
    "linear": _read_linear,
    "relative positions": _read_linear,
}
KINDS: dict[str, Reader] = {
    "input": lambda d, o: d.machine.image((BATCH, *_sizes(o)), CHANNELS_FIRST),
    "global average": _reduction("average"),
    "average": _reduction("average"),
    "maximum": _reduction("maximum"),
    "maximum pooling": _read_maximum_pooling,
    "average around": _read_average_around,
    "concatenate": _read_concatenate,
    "swap axes": _read_swap,
    "part": _read_part,
    "first part": _read_part,
    "second part": _read_part,
    "stretch": _read_stretch,
    "softmax": _read_softmax,
    "matrix product": _read_matrix_product,
    "sum": _function("sum"),
    "product": _function("product"),
    "greater": _function("greater"),
    "difference": _function("difference"),
    "quotient": _function("quotient"),
    "relu": _function("relu"),
    "sigmoid": _function("sigmoid"),
    "hard sigmoid": _function("hard sigmoid"),
    "hard swish": _function("hard swish"),
    "square": _function("square"),
    "4 (x + λ)": _read_energy,
    "times n / (n - 1)": _read_variance,
}
PREFIXES: dict[str, Reader] = {"divide by ": _read_quotient_by, "add ": _read_sum_with}


def _reader(operation: Operation) -> Reader:
    kind, table = operation.kind, MODULES if operation.module else KINDS
    prefixed = (read for prefix, read in PREFIXES.items() if kind.startswith(prefix))
    found = table.get(kind) or next(prefixed, None)
    if found is None:
        raise ValueError(
            f"{operation.name}: the comparison does not know operations of the kind {kind!r} "
            f"{'with' if operation.module else 'without'} parameters"
        )
    return found
