"""The graph of a tf.function: a list of operations, each of one type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from resattn.reading.contraction import contract
from resattn.reading.form import (
    FixedArray,
    Held,
    ImageValues,
    Operand,
    Origin,
    Place,
    constant,
    held_or_unknown,
)
from resattn.reading.machine import Machine
from resattn.reading.sources import find_own_place
from resattn.reading.tables import Table, elementwise, same
from resattn.reading.windows import REFLECTED, Window, pooling, same_for_all, symmetric
from weights.operations import same_padding

_UNPADDED = symmetric((0, 0))


def read_tf_graph(
    machine: Machine,
    graph: Any,
    names: Mapping[int, str],
    image: ImageValues,
    spans: Sequence[tuple[int, int, str, str]] = (),
) -> list[ImageValues]:
    """The outputs of a function of the image.

    names: of parameters, by the ids of their handles. spans: the operations that each module added,
    from the first to the one after the last, with the module's path and class; inner modules first.
    """
    values: dict[str, Any] = {graph.inputs[0].name: image}
    for outside, inside in graph.captures:
        name = names.get(id(outside))
        values[inside.name] = FixedArray(None) if name is None else Held(frozenset([name]))
    return _read(machine, graph, values, lambda number, each: _origin(number, each, spans))


def _read(
    machine: Machine,
    graph: Any,
    values: dict[str, Any],
    origin: Callable[[int, Any], Origin],
) -> list[Any]:
    """The outputs of a graph. values: of its inputs, by name. origin: of the operation of a number,
    counted from 0.
    """
    for number, operation in enumerate(graph.get_operations()):
        if operation.type == "Placeholder" or not operation.outputs:
            continue
        machine.origin = place = origin(number, operation)
        inputs = [values[given.name] for given in operation.inputs]
        inner = _inner(graph, operation)
        if inner is not None:
            given = dict(zip((each.name for each in inner.inputs), inputs, strict=True))
            results = _read(machine, inner, given, lambda *_, place=place: place)
        else:
            shapes = [tuple(each.shape) for each in operation.outputs]
            result = machine.interpret(PRIMITIVES, operation.type, operation, inputs, shapes)
            results = result if isinstance(result, list) else [result]
        for output, value in zip(operation.outputs, results, strict=False):
            values[output.name] = value
    return [values[output.name] for output in graph.outputs]


def _inner(graph: Any, operation: Any) -> Any:
    """The graph of the function that an operation calls, or None."""
    if operation.type not in ("PartitionedCall", "StatefulPartitionedCall"):
        return None
    name = operation.get_attr("f").name
    while graph is not None:
        found = graph._get_function(name)
        if found is not None:
            return found.graph
        graph = getattr(graph, "outer_graph", None)
    return None


def _origin(number: int, operation: Any, spans: Sequence[tuple[int, int, str, str]]) -> Origin:
    inside = ((path, kind) for first, end, path, kind in spans if first <= number < end)
    path, kind = next(inside, ("", ""))
    frames = [(frame.filename, frame.lineno) for frame in reversed(operation.traceback or [])]
    return Origin(path, kind, *find_own_place(frames))


def _out(o: Any) -> tuple[int, ...]:
    return tuple(o.outputs[0].shape)


def _assert_plain(o: Any, *paddings: bytes) -> None:
    """Other layouts and paddings do not occur in our models."""
    assert o.get_attr("data_format") == b"NHWC"
    assert o.get_attr("padding") in paddings


# Constants and parameters


def _constant(m: Machine, o: Any, *_: Any) -> FixedArray:
    value = import_module("tensorflow").get_static_value(o.outputs[0])
    return FixedArray(None, _out(o)) if value is None else constant(value)


def _read_variable(m: Machine, o: Any, x: Operand) -> Operand:
    return held_or_unknown(next(iter(x.names)) if isinstance(x, Held) else None, _out(o))


# Layers


def _convolution(m: Machine, o: Any, x: ImageValues, kernel: Held) -> Operand:
    _assert_plain(o, b"VALID", b"SAME")
    if isinstance(kernel, FixedArray):
        return _filter(m, o, x, kernel)
    *size, inputs, outputs = kernel.shape
    strides, dilations = list(o.get_attr("strides"))[1:3], list(o.get_attr("dilations"))[1:3]
    padding = _padding(o, x, size, strides, dilations)
    window = Window((1, 2), size, strides, padding, dilations)
    if o.type == "DepthwiseConv2dNative":
        return m.convolution(x, kernel, window, inputs * outputs, 3, inputs, (2, 3, 0, 1))
    if not _is_1d(o):
        return m.convolution(x, kernel, window, outputs, 3, x.shape[3] // inputs, (3, 2, 0, 1))
    flat: Any = m.reshape(x, (x.shape[0], *x.shape[2:]))
    window = Window((1,), size[1:], strides[1:], _UNPADDED[1:], dilations[1:])
    y = m.convolution(flat, kernel, window, outputs, 2, order=(3, 2, 0, 1))
    return m.reshape(y, (y.shape[0], 1, *y.shape[1:]))


def _filter(m: Machine, o: Any, x: ImageValues, kernel: FixedArray) -> Operand:
    """A convolution with numbers that are no parameter, the same for every channel."""
    assert o.type == "DepthwiseConv2dNative"
    strides = list(o.get_attr("strides"))[1:3]
    padding = _padding(o, x, kernel.shape[:2], strides, (1, 1))
    window = pooling((1, 2), kernel.shape[:2], strides, padding)
    return m.filter(x, same_for_all(kernel, (0, 1)), window)


def _padding(
    o: Any, x: Operand, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Sequence[tuple[int, int]]:
    """Before and after the rows and the columns."""
    if o.get_attr("padding") == b"VALID":
        return _UNPADDED
    sides = zip(x.shape[1:3], size, strides, dilations, strict=True)
    return [
        same_padding(side, (kernel - 1) * apart + 1, step) for side, kernel, step, apart in sides
    ]


def _is_1d(o: Any) -> bool:
    """Whether a 2-d convolution is a 1-d one: for these TensorFlow expands image and kernel."""
    return all(given.op.type == "ExpandDims" for given in o.inputs)


def _space_to_batch(m: Machine, o: Any, x: ImageValues, block: FixedArray, padding: Any) -> Operand:
    """TensorFlow dilates a convolution by taking its pixels apart before it."""
    assert block.value is not None
    return replace(x, dilation=tuple(map(int, block.value)))


def _batch_norm(
    m: Machine, o: Any, x: ImageValues, weight: Held, bias: Held, mean: Held, variance: Held
) -> list[Any]:
    """In evaluation; nothing takes the other outputs."""
    assert not o.get_attr("is_training")
    given = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    roles = {role: next(iter(one.names)) for role, one in given.items()}
    held = Held(frozenset(roles.values()))
    return [m.norm(x, "batch_norm", held, o.get_attr("epsilon"), roles=roles)]


def _matrix_product(m: Machine, o: Any, x: Any, y: Any) -> Operand:
    transposed = ("transpose_a", "transpose_b") if o.type == "MatMul" else ("adj_x", "adj_y")
    assert not any(map(o.get_attr, transposed))
    return m.matrix_product(x, y, _out(o))


def _pool(kind: str) -> Callable[..., Operand]:
    def pool(m: Machine, o: Any, x: Operand) -> Operand:
        _assert_plain(o, b"VALID", b"SAME")
        size, stride = list(o.get_attr("ksize"))[1:3], list(o.get_attr("strides"))[1:3]
        padding = _padding(o, x, size, stride, (1, 1))
        padded = kind == "window average" and any(map(any, padding))
        chosen = "average_around" if padded else kind  # its padding never counts
        return m.pool(x, chosen, pooling((1, 2), size, stride, padding))

    return pool


# Reductions


def _reduce(kind: str) -> Callable[..., Operand]:
    def reduce(m: Machine, o: Any, x: Operand, axes: FixedArray) -> Operand:
        dims = [int(axis) % len(x.shape) for axis in np.ravel(_value(axes))]
        return m.reduce(x, kind, dims, o.get_attr("keep_dims"))

    return reduce


def _argmax(m: Machine, o: Any, x: ImageValues, axis: FixedArray) -> Operand:
    return m.find_greatest(x, _dim(axis, x), keep=False)


def _value(x: FixedArray) -> np.ndarray:
    assert x.value is not None
    return x.value


def _dim(axis: FixedArray, x: Operand) -> int:
    return int(_value(axis)) % len(x.shape)


# Moves


def _reshape(m: Machine, o: Any, x: Operand, *_: Any) -> Operand:
    return m.reshape(x, _out(o))


def _pad(
    m: Machine, o: Any, x: Operand, margins: FixedArray, fill: FixedArray | None = None
) -> Operand:
    number = 0.0 if fill is None else fill.number
    assert number is not None
    return m.pad(x, [(int(before), int(after)) for before, after in _value(margins)], number)


def _reflect(m: Machine, o: Any, x: Operand, margins: FixedArray) -> Operand:
    assert o.get_attr("mode") == b"REFLECT"
    return m.pad(x, [(int(before), int(after)) for before, after in _value(margins)], REFLECTED)


def _repeat(m: Machine, o: Any, x: Operand, counts: FixedArray) -> Operand:
    """Only axes of size 1, which is broadcasting."""
    assert all(size in (1, new) for size, new in zip(x.shape, _out(o), strict=True))
    return m.broadcast(x, _out(o))


def _resize_nearest(m: Machine, o: Any, x: ImageValues, *_: Any) -> Operand:
    half = o.get_attr("half_pixel_centers") and not o.get_attr("align_corners")
    whole = all(new % size == 0 for size, new in zip(x.shape, _out(o), strict=True))
    assert half or whole
    for dim in (1, 2):
        x = m.resize_nearest(x, dim, _out(o)[dim])
    return x


def _gather(m: Machine, o: Any, x: Operand, where: Operand, axis: FixedArray) -> Operand:
    return m.gather(x, where) if isinstance(where, Place) else m.gather(x, where, _dim(axis, x))


def _concatenate(m: Machine, o: Any, *operands: Any) -> Operand:
    *parts, axis = operands
    dim = _dim(axis, parts[0])
    return m.join_groups(parts, dim) or m.concatenate(parts, dim)


def _split(m: Machine, o: Any, axis: FixedArray, x: Operand) -> list[Operand]:
    dim, start, parts = _dim(axis, x), 0, []
    for output in o.outputs:
        size = int(output.shape[dim])
        parts.append(m.narrow(x, dim, start, size))
        start += size
    return parts


def _stack(m: Machine, o: Any, *parts: Operand) -> Operand:
    if not any(isinstance(part, ImageValues) for part in parts):
        return _constant(m, o)
    return m.stack(parts, o.get_attr("axis") % len(_out(o)))


def _slice(
    m: Machine, o: Any, x: Operand, begin: FixedArray, end: FixedArray, stride: FixedArray
) -> Operand:
    if isinstance(x, Held):
        return replace(x, shape=_out(o))
    keys = _slices(o, len(x.shape), _value(begin), _value(end), _value(stride))
    spans = [_span(key, size) for key, size in zip(keys, x.shape, strict=True)]
    starts, sizes, strides = zip(*spans, strict=True)
    return m.reshape(m.cut(x, starts, sizes, strides), _out(o))


def _slices(o: Any, rank: int, begin: Any, end: Any, stride: Any) -> list[slice]:
    """A slice for each dim, as the masks of StridedSlice describe them."""

    def masked(name: str, at: int) -> bool:
        return bool(o.get_attr(f"{name}_mask") >> at & 1)

    positions = [at for at in range(len(begin)) if not masked("new_axis", at)]
    spelled = sum(1 for at in positions if not masked("ellipsis", at))
    found: list[slice] = []
    for at in positions:
        if masked("ellipsis", at):
            found += [slice(None)] * (rank - spelled)
            continue
        low = None if masked("begin", at) else int(begin[at])
        high = None if masked("end", at) else int(end[at])
        if masked("shrink_axis", at):
            low, high = int(begin[at]), int(begin[at]) + 1 or None
        found.append(slice(low, high, int(stride[at])))
    return found + [slice(None)] * (rank - len(found))


def _span(key: slice, size: int) -> tuple[int, int, int]:
    """Start, size and stride of a slice."""
    start, stop, stride = key.indices(size)
    return start, len(range(start, stop, stride)), stride


def _transpose(m: Machine, o: Any, x: Operand, order: FixedArray) -> Operand:
    return m.transpose(x, [int(dim) for dim in _value(order)])


def _range(m: Machine, o: Any, start: FixedArray, stop: FixedArray, step: FixedArray) -> FixedArray:
    return constant(np.arange(*(_value(limit).item() for limit in (start, stop, step))))


def _cast(m: Machine, o: Any, x: Operand) -> Operand:
    whole = isinstance(x, ImageValues) and not o.get_attr("DstT").is_floating
    assert not (whole and o.get_attr("SrcT").is_floating), "it drops the fractions"
    return x


PRIMITIVES: Table = {
    "ReadVariableOp": _read_variable,
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "SpaceToBatchND": _space_to_batch,
    "BatchToSpaceND": same,
    "MatMul": _matrix_product,
    "BatchMatMulV2": _matrix_product,
    "Einsum": lambda m, o, x, y: contract(m, o.get_attr("equation").decode(), x, y),
    "MaxPool": _pool("max_pool"),
    "AvgPool": _pool("window average"),
    "Softmax": lambda m, o, x: m.softmax(x),
    "Sum": _reduce("total"),
    "Max": _reduce("maximum"),
    "Mean": _reduce("average"),
    "FusedBatchNormV3": _batch_norm,
    "LeakyRelu": lambda m, o, x: m.elementwise(
        "choice",
        m.elementwise("is greater", x, 0.0),
        x,
        m.elementwise("product", x, o.get_attr("alpha")),
    ),
    "ArgMax": _argmax,
    "Pad": _pad,
    "PadV2": _pad,
    "MirrorPad": _reflect,
    "Tile": _repeat,
    "ResizeNearestNeighbor": _resize_nearest,
    "ReverseV2": lambda m, o, x, dims: m.reverse(x, [int(dim) for dim in _value(dims)]),
    "StridedSlice": _slice,
    "GatherV2": _gather,
    "ConcatV2": _concatenate,
    "Pack": _stack,
    "Split": _split,
    "SplitV": lambda m, o, x, sizes, axis: _split(m, o, axis, x),
    "Unpack": lambda m, o, x: [
        m.reshape(part, _out(o))
        for part in (m.narrow(x, o.get_attr("axis"), at, 1) for at in range(len(o.outputs)))
    ],
    "Transpose": _transpose,
    "BroadcastTo": lambda m, o, x, shape: m.broadcast(x, _out(o)),
    "Range": _range,
    **dict.fromkeys(("Const", "Shape", "Fill", "OnesLike"), _constant),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), _reshape),
    **dict.fromkeys(("Identity", "IdentityN", "StopGradient"), same),
    "Cast": _cast,
    **elementwise(
        {
            "AddV2": "sum",
            "BiasAdd": "sum",
            "Sub": "difference",
            "Mul": "product",
            "RealDiv": "quotient",
            "FloorDiv": "whole quotient",
            "FloorMod": "remainder",
            "Maximum": "greater",
            "Minimum": "lesser",
            "Exp": "exp",
            "Tanh": "tanh",
            "Sqrt": "root",
            "Rsqrt": "reciprocal root",
            "Log": "log",
            "Log1p": "log1p",
            "Expm1": "expm1",
            "Pow": "power",
            "Abs": "absolute",
            "Erf": "erf",
            "Erfc": "erfc",
            "Elu": "elu",
            "Selu": "selu",
            "SquaredDifference": "squared difference",
            "Floor": "floor",
            "Sign": "sign",
            "Softplus": "softplus",
            "Reciprocal": "reciprocal",
            "Square": "square",
            "Neg": "negative",
            "Relu": "relu",
            "Relu6": "relu6",
            "Sigmoid": "sigmoid",
            "SelectV2": "choice",
            "Greater": "is greater",
            "Less": "is less",
            "GreaterEqual": "is greater or equal",
            "LessEqual": "is less or equal",
            "Equal": "is equal",
            "LogicalAnd": "and",
            "Bitcast": "bits",
            "BitwiseAnd": "bitwise and",
        }
    ),
}
