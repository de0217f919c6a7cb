"""What each ATen operator means: the table of torch.export's graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from resattn.reading.contraction import contract
from resattn.reading.form import FixedArray, Held, ImageValues, Operand, constant, merge_held
from resattn.reading.machine import Machine
from resattn.reading.tables import Table, elementwise, same
from resattn.reading.windows import REFLECTED, Window, pooling, symmetric

# Arguments that some operators take by name alone.
KEYWORDS = {
    "gelu": ("approximate",),
    "clamp": ("min", "max"),
    "clip": ("min", "max"),
    **dict.fromkeys(("var", "std"), ("correction", "keepdim")),
    **dict.fromkeys(("add", "sub", "subtract"), ("alpha",)),
}


def shapes_of_outputs(node: Any) -> list[tuple[int, ...]]:
    """Of the outputs of a node."""
    value = node.meta.get("val")
    outputs = value if isinstance(value, (list, tuple)) else [value]
    return [tuple(map(int, getattr(each, "shape", ()))) for each in outputs]


def shape_of_output(node: Any) -> tuple[int, ...]:
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
    stride, dilation = (_each(one, len(size)) for one in (stride, dilation))
    sides = _padding(padding, size, dilation)
    window = Window(range(2, 2 + len(size)), size, stride, sides, dilation)
    y = m.convolution(x, kernel, window, outputs, 1, groups)
    if bias is None:
        return y
    return m.elementwise("sum", y, m.reshape(bias, (outputs, *(1 for _ in size))))


def _padding(
    padding: Any, size: Sequence[int], dilation: Sequence[int]
) -> Sequence[tuple[int, int]]:
    """Before and after each axis. padding: numbers, or "same" or "valid"."""
    if not isinstance(padding, str):
        return symmetric(_each(padding, len(size)))
    total = [(side - 1) * apart for side, apart in zip(size, dilation, strict=True)]
    return [(all_ // 2, all_ - all_ // 2) if padding == "same" else (0, 0) for all_ in total]


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
    held, roles = _gather_roles(weight=weight, bias=bias)
    return m.norm(x, "group_norm", held, eps, groups, roles)


def _instance_norm(
    m: Machine, node: Any, x: ImageValues, weight: Any, bias: Any, mean: Any, *rest: Any
) -> Operand:
    """A group norm with a group for each channel."""
    variance, _of_input, _momentum, eps, _cudnn = rest
    if mean is None:
        return _group_norm(m, node, x, x.shape[1], weight, bias, eps)
    return _batch_norm(m, node, x, weight, bias, mean, variance, False, 0.0, eps, False)


def _prelu(m: Machine, node: Any, x: ImageValues, weight: Held) -> Operand:
    held, roles = _gather_roles(weight=weight)
    return replace(x, producer=m.compute("prelu", [x], held, roles=roles))


def _gather_roles(**held: Held | None) -> tuple[Held, dict[str, str]]:
    """Several in one, and their names by role."""
    given = {role: one for role, one in held.items() if isinstance(one, Held)}
    roles = {role: next(iter(one.names)) for role, one in given.items() if len(one.names) == 1}
    return merge_held([*given.values()]) or Held(frozenset()), roles


def _batch_norm(m: Machine, node: Any, x: Operand, *rest: Any) -> Operand:
    weight, bias, mean, variance, training, _momentum, eps, _cudnn = rest
    if isinstance(x, Held):  # a kernel that is standardised
        functions = {(name, "batch_norm") for name in x.names}
        return replace(x, functions=x.functions | functions)
    assert isinstance(x, ImageValues)
    assert not training or mean is None, "it normalises by the statistics of the batch"
    held, roles = _gather_roles(weight=weight, bias=bias, mean=mean, variance=variance)
    return m.norm(x, "batch_norm", held, eps, roles=roles)


def _layer_norm(
    m: Machine, node: Any, x: ImageValues, shape: Any, weight: Held, bias: Held, eps: float, *_: Any
) -> Operand:
    held, roles = _gather_roles(weight=weight, bias=bias)
    return m.norm(x, "layer_norm", held, eps, roles=roles)


def _linear(
    m: Machine, node: Any, x: ImageValues, weight: Held, bias: Held | None = None
) -> Operand:
    y = m.matrix_product(x, m.transpose(weight, (1, 0)), shape_of_output(node))
    return y if bias is None else m.elementwise("sum", y, bias)


def _cast(m: Machine, node: Any, x: Operand, *_: Any) -> Operand:
    whole = not node.meta["val"].is_floating_point()
    assert not (whole and isinstance(x, ImageValues)), "it drops the fractions"
    return x


def _drop(m: Machine, node: Any, x: Operand, rate: float, training: bool) -> Operand:
    """Dropout, which drops nothing in evaluation; F.dropout(x) does by default."""
    assert not training or not rate, "it drops values in evaluation"
    return x


def _maximum_pooling(
    m: Machine, node: Any, x: ImageValues, size: Any, stride: Any = (), padding: Any = 0, *rest: Any
) -> Operand:
    stride = stride or size
    size, stride, padding = (_each(one, 2) for one in (size, stride, padding))
    assert set(_each(rest[0] if rest else 1, 2)) == {1}, "a dilated window"
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
        count = shape_of_output(node)[2 + place]
        reach = (count - 1) * stride[place] + size[place]
        sides.append((margin, max(reach - x.shape[2 + place] - margin, margin)))
    return sides


def _average_pooling(
    m: Machine,
    node: Any,
    x: ImageValues,
    size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil: bool = False,
    of_all: bool = True,
) -> Operand:
    """of_all: whether the average is that of all pixels, those of the padding included."""
    stride = stride or size
    size, stride, padding = (_each(one, 2) for one in (size, stride, padding))
    sides = _reach_over(x, node, size, stride, padding) if ceil else symmetric(padding)
    kind = "window average" if of_all or not any(map(any, sides)) else "average_around"
    return m.pool(x, kind, pooling((2, 3), size, stride, sides))


# Moves


def _reshape(m: Machine, node: Any, x: Operand, *_: Any) -> Operand:
    return m.reshape(x, shape_of_output(node))


def _broadcast(m: Machine, node: Any, x: Operand, *_: Any) -> Operand:
    return m.broadcast(x, shape_of_output(node))


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
    fills = {"circular": "around", "reflect": REFLECTED, "replicate": "the edge repeated"}
    return m.pad(x, margins, float(value or 0) if mode == "constant" else fills[mode])


def _index(m: Machine, node: Any, x: Operand, positions: Sequence[Any]) -> Operand:
    (dim,) = (dim for dim, position in enumerate(positions) if position is not None)
    return m.gather(x, positions[dim], dim)


def _select(m: Machine, node: Any, x: Operand, dim: int, position: int) -> Operand:
    return m.reshape(m.narrow(x, dim, position, 1), shape_of_output(node))


def _slice(
    m: Machine, node: Any, x: Operand, dim: int = 0, start: Any = 0, end: Any = None, step: int = 1
) -> Operand:
    starts, strides = [0] * len(x.shape), [1] * len(x.shape)
    starts[dim], strides[dim] = (start or 0) % x.shape[dim], step
    return m.cut(x, starts, shape_of_output(node), strides)


def _resize_nearest(m: Machine, node: Any, x: ImageValues, *_: Any) -> Operand:
    """PyTorch's "nearest" takes the pixel floor(i * size / new size)."""
    for dim in range(2, len(x.shape)):
        if shape_of_output(node)[dim] != x.shape[dim]:
            x = m.resize_nearest(x, dim, shape_of_output(node)[dim])
    return x


def _repeat_each(m: Machine, node: Any, x: Operand, count: Any, dim: int | None = None) -> Operand:
    """Each entry of an axis several times."""
    assert isinstance(count, int)
    assert dim is not None
    at = dim % len(x.shape)
    wide = (*x.shape[: at + 1], count, *x.shape[at + 1 :])
    x = m.reshape(x, (*x.shape[: at + 1], 1, *x.shape[at + 1 :]))
    return m.reshape(m.broadcast(x, wide), shape_of_output(node))


def _move_axes(m: Machine, node: Any, x: Operand, source: Any, target: Any) -> Operand:
    sources, targets = (
        [one % len(x.shape) for one in ([dims] if isinstance(dims, int) else dims)]
        for dims in (source, target)
    )
    order = [dim for dim in range(len(x.shape)) if dim not in sources]
    for to, dim in sorted(zip(targets, sources, strict=True)):
        order.insert(to, dim)
    return m.transpose(x, order)


def _einsum(m: Machine, node: Any, equation: str, given: Sequence[Operand], *_: Any) -> Operand:
    return contract(m, equation, *given)


def _concatenate(m: Machine, node: Any, parts: Sequence[Operand], dim: int = 0) -> Operand:
    return m.concatenate(parts, dim % len(parts[0].shape))


def _stack(m: Machine, node: Any, parts: Sequence[Operand], dim: int = 0) -> Operand:
    return m.stack(parts, dim % len(shape_of_output(node)))


def _split(m: Machine, node: Any, x: Operand, dim: int) -> list[Operand]:
    """Parts of an axis, as large as the graph says."""
    dim, start, parts = dim % len(x.shape), 0, []
    for shape in shapes_of_outputs(node):
        parts.append(m.narrow(x, dim, start, shape[dim]))
        start += shape[dim]
    return parts


def _added(name: str) -> Any:
    """A sum or difference whose second term may have a factor."""

    def add(m: Machine, node: Any, x: Operand, y: Operand, factor: float | None) -> Operand:
        y = y if factor in (None, 1) else m.elementwise("product", y, factor)
        return m.elementwise(name, x, y)

    return add


def _clamp(m: Machine, x: Operand, low: float | None, high: float | None) -> Operand:
    x = x if low is None else m.elementwise("greater", x, low)
    return x if high is None else m.elementwise("lesser", x, high)


# Reductions and the place of the greatest


def _adaptive(kind: str) -> Any:
    """A pooling to one pixel; or to parts of one size."""

    def pool(m: Machine, node: Any, x: ImageValues, size: Any) -> Operand:
        sides = _each(size, 2)
        if sides == (1, 1):
            return m.reduce(x, kind, (2, 3))
        assert all(side % new == 0 for side, new in zip(x.shape[2:], sides, strict=True))
        reach = [side // new for side, new in zip(x.shape[2:], sides, strict=True)]
        window = pooling((2, 3), reach, reach, symmetric((0, 0)))
        return m.pool(x, "window average" if kind == "average" else "max_pool", window)

    return pool


def _reduce(kind: str) -> Any:
    def reduce(m: Machine, node: Any, x: Operand, dims: Any = (), keep: bool = False) -> Operand:
        """dims: () and None are all of them."""
        rank = len(x.shape)
        chosen = (dims,) if isinstance(dims, int) else dims or range(rank)
        return m.reduce(x, kind, [dim % rank for dim in chosen], keep)

    return reduce


def _variance(
    m: Machine, node: Any, x: Operand, dims: Any = None, less: Any = 1, keep: Any = None, *rest: Any
) -> Operand:
    """less: what is taken from the number of terms; True is 1. rest: `less` and `keep`, where an
    overload has them by name.
    """
    less, keep = (rest if rest else (less, keep)) if rest[:1] != (None,) else (less, keep)
    rank = len(x.shape)
    chosen = [dim % rank for dim in ((dims,) if isinstance(dims, int) else dims or range(rank))]
    count = prod(x.shape[dim] for dim in chosen)
    centred = m.elementwise("difference", x, m.reduce(x, "average", chosen))
    found = m.reduce(m.elementwise("square", centred), "average", chosen, bool(keep))
    rest_of = 0 if less is None else int(less)
    return found if rest_of == 0 else m.elementwise("product", found, count / (count - rest_of))


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
    "instance_norm": _instance_norm,
    "prelu": _prelu,
    "einsum": _einsum,
    "repeat_interleave": _repeat_each,
    "flip": lambda m, node, x, dims: m.reverse(x, [dim % len(x.shape) for dim in dims]),
    **dict.fromkeys(("movedim", "moveaxis"), _move_axes),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), _resize_nearest),
    "max_pool2d": _maximum_pooling,
    "avg_pool2d": _average_pooling,
    "softmax": lambda m, node, x, dim, *_: m.softmax(x),
    **dict.fromkeys(
        ("matmul", "bmm", "mm"), lambda m, node, x, y: m.matrix_product(x, y, shape_of_output(node))
    ),
    "mean": _reduce("average"),
    "amax": _reduce("maximum"),
    "sum": _reduce("total"),
    "var": _variance,
    "std": lambda m, node, *given: m.elementwise("root", _variance(m, node, *given)),
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
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _broadcast),
    "arange": lambda m, node, *range_: constant(np.arange(*range_)),
    "ones_like": lambda m, node, x: constant(np.ones(shape_of_output(node))),
    **dict.fromkeys(
        ("zeros", "zeros_like", "new_zeros"),
        lambda m, node, *_: constant(np.zeros(shape_of_output(node))),
    ),
    "_assert_tensor_metadata": lambda m, node, *_: None,
    "promote_types": lambda m, node, *_: None,
    **dict.fromkeys(("transpose", "mT", "swapaxes"), _transpose),
    **dict.fromkeys(("alias", "clone", "detach", "lift_fresh_copy"), same),
    **dict.fromkeys(("to", "type_as"), _cast),
    **dict.fromkeys(
        ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), _drop
    ),
    "adaptive_avg_pool2d": _adaptive("average"),
    "adaptive_max_pool2d": lambda m, node, x, size: [_adaptive("maximum")(m, node, x, size), None],
    "chunk": lambda m, node, x, count, dim=0: _split(m, node, x, dim),
    **dict.fromkeys(
        ("split", "split_with_sizes"),
        lambda m, node, x, size, dim=0: _split(m, node, x, dim),
    ),
    "rsub": lambda m, node, x, y, *_: m.elementwise("difference", y, x),
    **dict.fromkeys(("reshape", "view", "flatten", "ravel", "unsqueeze", "squeeze"), _reshape),
    **dict.fromkeys(("contiguous", "unflatten", "view_as"), _reshape),
    "add": _added("sum"),
    **dict.fromkeys(("sub", "subtract"), _added("difference")),
    "gelu": lambda m, node, x, approximate: m.elementwise(
        "gelu_tanh" if approximate == "tanh" else "gelu", x
    ),
    "leaky_relu": lambda m, node, x, slope=0.01: m.elementwise(
        "choice", m.elementwise("is greater", x, 0.0), x, m.elementwise("product", x, slope)
    ),
    "elu": lambda m, node, x, alpha=1, *_: m.elementwise(
        "choice",
        m.elementwise("is greater", x, 0.0),
        x,
        m.elementwise("product", m.elementwise("expm1", x), alpha),
    ),
    "hardtanh": lambda m, node, x, low=-1.0, high=1.0: m.elementwise(
        "lesser", m.elementwise("greater", x, low), high
    ),
    **dict.fromkeys(
        ("clamp", "clip"), lambda m, node, x, low=None, high=None, *_: _clamp(m, x, low, high)
    ),
    "clamp_min": lambda m, node, x, low: _clamp(m, x, low, None),
    "clamp_max": lambda m, node, x, high: _clamp(m, x, None, high),
    **elementwise(
        {
            **dict.fromkeys(("mul", "multiply"), "product"),
            **dict.fromkeys(("div", "divide", "true_divide"), "quotient"),
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
            "silu": "silu",
            "softplus": "softplus",
            "mish": "mish",
            "selu": "selu",
            "floor": "floor",
            "sign": "sign",
            "log": "log",
            "abs": "absolute",
            **dict.fromkeys(("neg", "negative"), "negative"),
            "pow": "power",
            "rsqrt": "reciprocal root",
            "reciprocal": "reciprocal",
            "erf": "erf",
            "lt": "is less",
            "ge": "is greater or equal",
            "le": "is less or equal",
            "gt": "is greater",
            "eq": "is equal",
            "ne": "is unequal",
        }
    ),
}
