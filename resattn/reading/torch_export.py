"""The graph of torch.export: a list of nodes, each a call of one ATen operator or method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resattn.reading.form import (
    FixedArray,
    Held,
    ImageValues,
    Operand,
    constant,
    held_or_unknown,
)
from resattn.reading.machine import Machine
from resattn.reading.tables import Table, elementwise, same
from resattn.reading.windows import REFLECTED, Window, pooling, symmetric


def read_export(
    machine: Machine, exported: Any, owners: Mapping[str, str], image: ImageValues
) -> ImageValues:
    """The output of an exported program.

    owners: the canonical names of parameters, by the names that the program has for them. Inputs
    that are in none of the program's tables are the image.
    """
    values: dict[Any, Any] = {}

    def operand(argument: Any) -> Any:
        if type(argument).__name__ == "Node":
            return values[argument]
        if isinstance(argument, (list, tuple)):
            return type(argument)(map(operand, argument))
        return argument

    own_names = _own_names(exported.graph_signature)
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            own = own_names.get(node.name)
            values[node] = image if own is None else _input(node, own, owners, exported.constants)
        elif node.op == "output":
            output: ImageValues = operand(node.args[0])[-1]  # the new statistics come before it
            return output
        else:
            name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
            values[node] = PRIMITIVES[name](machine, node, *operand(node.args))
            machine.note_axes(values[node])
    raise AssertionError("a graph has an output")


def _own_names(signature: Any) -> dict[str, str]:
    """What the program calls each input that is no argument, by the name of its placeholder."""
    return {
        **signature.inputs_to_lifted_tensor_constants,
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
    }


def _input(node: Any, own: str, owners: Mapping[str, str], constants: Mapping[str, Any]) -> Operand:
    if own in constants and own not in owners:
        return constant(constants[own].detach().numpy())
    return held_or_unknown(owners.get(own), _shape(node))


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _each(value: Any, count: int) -> tuple[int, ...]:
    """One number for each dim, from one for all or one for each."""
    numbers: tuple[int, ...] = (value,) if isinstance(value, int) else tuple(value)
    return numbers * count if len(numbers) == 1 else numbers


# Layers


def _convolution(
    m: Machine,
    node: Any,
    x: ImageValues,
    kernel: Held,
    bias: Held | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Operand:
    if isinstance(kernel, FixedArray):
        return _filter(m, x, kernel, stride, padding)
    outputs, _, *size = kernel.shape
    stride, padding, dilation = (_each(one, len(size)) for one in (stride, padding, dilation))
    window = Window(range(2, 2 + len(size)), size, stride, symmetric(padding), dilation)
    y = m.convolution(x, kernel, window, outputs, 1, groups)
    if bias is None:
        return y
    return m.elementwise("sum", y, m.reshape(bias, (outputs, *(1 for _ in size))))


def _filter(m: Machine, x: ImageValues, kernel: FixedArray, stride: Any, padding: Any) -> Operand:
    """A convolution with numbers that are no parameter, the same for every channel."""
    (rows, cols), value = kernel.shape[2:], kernel.value
    first = None if value is None or not np.all(value == value[:1]) else value[0, 0]
    stride, padding = (_each(one, 2) for one in (stride, padding))
    window = pooling((2, 3), (rows, cols), stride, symmetric(padding))
    return m.filter(x, FixedArray(first, (rows, cols)), window)


def _group_norm(
    m: Machine,
    node: Any,
    x: ImageValues,
    groups: int,
    weight: Held,
    bias: Held,
    eps: float,
    *_: Any,
) -> Operand:
    return m.norm(x, "group_norm", Held(weight.names | bias.names), eps, groups)


def _batch_norm(m: Machine, node: Any, x: ImageValues, *rest: Any) -> Operand:
    *held, _training, _momentum, eps, _cudnn = rest
    names = frozenset[str]().union(*(one.names for one in held if one is not None))
    return m.norm(x, "batch_norm", Held(names), eps)


def _layer_norm(
    m: Machine, node: Any, x: ImageValues, shape: Any, weight: Held, bias: Held, eps: float, *_: Any
) -> Operand:
    return m.norm(x, "layer_norm", Held(weight.names | bias.names), eps)


def _linear(
    m: Machine, node: Any, x: ImageValues, weight: Held, bias: Held | None = None
) -> Operand:
    y = m.matrix_product(x, m.transpose(weight, (1, 0)), _shape(node))
    return y if bias is None else m.elementwise("sum", y, bias)


def _maximum_pooling(
    m: Machine, node: Any, x: ImageValues, size: Any, stride: Any, padding: Any = 0, *rest: Any
) -> Operand:
    size, stride, padding = (_each(one, 2) for one in (size, stride, padding))
    sides = symmetric(padding)
    if rest[1:2] == (True,):
        sides = _reach_over(x, node, size, stride, padding)
    return m.pool(x, "max_pool", pooling((2, 3), size, stride, sides))


def _reach_over(
    x: ImageValues, node: Any, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding of a pooling whose last window may reach over the edge (ceil_mode)."""
    sides = []
    for place, margin in enumerate(padding):
        count = _shape(node)[2 + place]
        reach = (count - 1) * stride[place] + size[place]
        sides.append((margin, max(reach - x.shape[2 + place] - margin, margin)))
    return sides


def _average_pooling(
    m: Machine,
    node: Any,
    x: ImageValues,
    size: Any,
    stride: Any,
    padding: Any,
    ceil: bool = False,
    of_all: bool = True,
) -> Operand:
    """of_all: whether the average is that of all pixels, those of the padding included."""
    size, stride, padding = (_each(one, 2) for one in (size, stride, padding))
    sides = _reach_over(x, node, size, stride, padding) if ceil else symmetric(padding)
    kind = "window average" if of_all or not any(map(any, sides)) else "average_around"
    return m.pool(x, kind, pooling((2, 3), size, stride, sides))


# Moves


def _reshape(m: Machine, node: Any, x: Operand, *_: Any) -> Operand:
    return m.reshape(x, _shape(node))


def _broadcast(m: Machine, node: Any, x: Operand, *_: Any) -> Operand:
    return m.broadcast(x, _shape(node))


def _transpose(m: Machine, node: Any, x: Operand, first: int = -1, second: int = -2) -> Operand:
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return m.transpose(x, order)


def _pad(
    m: Machine, node: Any, x: Operand, sides: Any, mode: str = "constant", value: Any = None
) -> Operand:
    """sides: before and after, of the last dim first."""
    margins = [(0, 0)] * len(x.shape)
    for number in range(len(sides) // 2):
        margins[-1 - number] = (sides[2 * number], sides[2 * number + 1])
    fills = {"circular": "around", "reflect": REFLECTED}
    return m.pad(x, margins, fills.get(mode, float(value or 0)))


def _index(m: Machine, node: Any, x: Operand, positions: Sequence[Any]) -> Operand:
    (dim,) = (dim for dim, position in enumerate(positions) if position is not None)
    return m.gather(x, positions[dim], dim)


def _select(m: Machine, node: Any, x: Operand, dim: int, position: int) -> Operand:
    return m.reshape(m.narrow(x, dim, position, 1), _shape(node))


def _slice(
    m: Machine, node: Any, x: Operand, dim: int = 0, start: Any = 0, end: Any = None, step: int = 1
) -> Operand:
    starts, strides = [0] * len(x.shape), [1] * len(x.shape)
    starts[dim], strides[dim] = (start or 0) % x.shape[dim], step
    return m.cut(x, starts, _shape(node), strides)


def _concatenate(m: Machine, node: Any, parts: Sequence[Operand], dim: int = 0) -> Operand:
    return m.concatenate(parts, dim % len(parts[0].shape))


def _stack(m: Machine, node: Any, parts: Sequence[Operand], dim: int = 0) -> Operand:
    return m.stack(parts, dim % len(_shape(node)))


# Reductions and the place of the greatest


def _reduce(kind: str) -> Any:
    def reduce(m: Machine, node: Any, x: Operand, dims: Any, keep: bool = False) -> Operand:
        return m.reduce(x, kind, [dim % len(x.shape) for dim in dims], keep)

    return reduce


def _maximum(m: Machine, node: Any, x: Operand, dim: int, keep: bool = False) -> Any:
    """Values and positions; nothing takes the latter."""
    return m.reduce(x, "maximum", [dim % len(x.shape)], keep), None


def _argmax(m: Machine, node: Any, x: ImageValues, dim: int, keep: bool = False) -> Operand:
    return m.find_greatest(x, dim % len(x.shape), keep)


PRIMITIVES: Table = {
    "conv2d": _convolution,
    "conv1d": _convolution,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "max_pool2d": _maximum_pooling,
    "avg_pool2d": _average_pooling,
    "softmax": lambda m, node, x, dim, *_: m.softmax(x),
    "matmul": lambda m, node, x, y: m.matrix_product(x, y, _shape(node)),
    "mean": _reduce("average"),
    "amax": _reduce("maximum"),
    "sum": _reduce("total"),
    "max": _maximum,
    "argmax": _argmax,
    "gather": lambda m, node, x, dim, where: m.gather(x, where, dim),
    "take_along_dim": lambda m, node, x, where, dim: m.gather(x, where, dim),
    "index_select": lambda m, node, x, dim, where: m.gather(x, where, dim % len(x.shape)),
    "index": _index,
    "select": _select,
    "narrow": lambda m, node, x, dim, start, size: m.narrow(x, dim, start, size),
    "slice": _slice,
    "cat": _concatenate,
    "stack": _stack,
    "getitem": lambda m, node, x, at: x[at],
    "pad": _pad,
    "permute": lambda m, node, x, order: m.transpose(x, order),
    "expand": _broadcast,
    "arange": lambda m, node, *range_: constant(np.arange(*range_)),
    "ones_like": lambda m, node, x: constant(np.ones(_shape(node))),
    "_assert_tensor_metadata": lambda m, node, *_: None,
    "promote_types": lambda m, node, *_: None,
    **dict.fromkeys(("transpose", "mT", "swapaxes"), _transpose),
    **dict.fromkeys(("to", "alias", "clone", "detach", "detach_", "lift_fresh_copy"), same),
    "dropout": lambda m, node, x, *_: x,  # in evaluation
    **dict.fromkeys(
        ("reshape", "view", "flatten", "ravel", "unsqueeze", "squeeze", "contiguous"), _reshape
    ),
    **elementwise(
        {
            "add": "sum",
            "sub": "difference",
            "mul": "product",
            "div": "quotient",
            "floor_divide": "whole quotient",
            "remainder": "remainder",
            "relu": "relu",
            "relu6": "relu6",
            "sigmoid": "sigmoid",
            "hardsigmoid": "hard_sigmoid",
            "hardswish": "hard_swish",
            "tanh": "tanh",
            "exp": "exp",
            "sqrt": "root",
            "square": "square",
            "maximum": "greater",
            "minimum": "lesser",
            "where": "choice",
            "lt": "is less",
            "gt": "is greater",
            "eq": "is equal",
            "ne": "is unequal",
        }
    ),
}
