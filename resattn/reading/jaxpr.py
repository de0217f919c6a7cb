"""The jaxpr: JAX's list of equations, some of which hold a jaxpr themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
)
from resattn.reading.machine import Machine
from resattn.reading.sources import find_own_place
from resattn.reading.tables import Table, elementwise, same
from resattn.reading.windows import Window, pooling, same_for_all


def read_jaxpr(machine: Machine, closed: Any, given: Sequence[Operand]) -> list[Operand]:
    """The outputs of a closed jaxpr. given: its inputs."""
    return _read(machine, closed.jaxpr, closed.consts, given)


def scope_name(path: str, kind: type) -> str:
    """The name of the scope in which a module's equations are."""
    return f"{_SCOPE}{path}{_SCOPE}{kind.__name__}"


_SCOPE = "\N{MIDDLE DOT}"  # in no name of a module


def _read(
    machine: Machine,
    jaxpr: Any,
    constants: Sequence[Any],
    given: Sequence[Operand],
    origin: Origin | None = None,
) -> list[Operand]:
    """origin: of the equation that calls this jaxpr. A function that JAX has traced before keeps
    the places of the call that was traced.
    """
    values: dict[Any, Operand] = dict(zip(jaxpr.constvars, map(constant, constants), strict=True))
    values |= dict(zip(jaxpr.invars, given, strict=True))

    def operand(variable: Any) -> Operand:
        return constant(variable.val) if hasattr(variable, "val") else values[variable]

    for equation in jaxpr.eqns:
        machine.origin = origin or _origin(equation)
        results = _read_equation(machine, equation, [operand(one) for one in equation.invars])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [operand(variable) for variable in jaxpr.outvars]


def _read_equation(machine: Machine, equation: Any, inputs: list[Operand]) -> list[Operand]:
    inner = _inner(equation)
    if inner is not None:
        constants = getattr(inner, "consts", ())
        return _read(machine, getattr(inner, "jaxpr", inner), constants, inputs, machine.origin)
    shapes = [tuple(variable.aval.shape) for variable in equation.outvars]
    results = machine.interpret(PRIMITIVES, equation.primitive.name, equation, inputs, shapes)
    return results if isinstance(results, list) else [results]


def _origin(equation: Any) -> Origin:
    scopes = str(equation.source_info.name_stack).split(_SCOPE)
    path, kind = scopes[-2:] if len(scopes) > 2 else ("", "")
    trace = equation.source_info.traceback
    frames = [(frame.file_name, frame.line_num) for frame in trace.frames] if trace else []
    return Origin(path, kind.split("/")[0], *find_own_place(frames))


def _inner(equation: Any) -> Any:
    """The jaxpr that an equation calls once, or None."""
    if equation.primitive.name in LOOPS:
        return None
    keys = (key for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params)
    return equation.params.get(next(keys, None))


LOOPS = ("scan", "while", "cond")


def _out(e: Any) -> tuple[int, ...]:
    return tuple(e.outvars[0].aval.shape)


# Layers


def _convolution(m: Machine, e: Any, x: ImageValues, kernel: Held) -> Operand:
    p, numbers = e.params, e.params["dimension_numbers"]
    _, feature, *dims = numbers.lhs_spec
    outputs, _, *sides = numbers.rhs_spec
    assert numbers.out_spec == numbers.lhs_spec
    assert set(p["lhs_dilation"]) == {1}
    size = [kernel.shape[side] for side in sides]
    window = Window(dims, size, p["window_strides"], p["padding"], p["rhs_dilation"])
    groups = p["feature_group_count"]
    if isinstance(kernel, FixedArray):
        assert groups == x.shape[feature] == kernel.shape[outputs]
        return m.filter(x, same_for_all(kernel, sides), window)
    order = numbers.rhs_spec
    return m.convolution(x, kernel, window, kernel.shape[outputs], feature, groups, order)


def _matrix_product(m: Machine, e: Any, x: Operand, y: Operand) -> Operand:
    (x_summed, y_summed), (x_batch, y_batch) = e.params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = {dim: next(letters) for dim in range(len(x.shape))}
    same_dims = zip((*y_summed, *y_batch), (*x_summed, *x_batch), strict=True)
    of_y = {dim: of_x[other] for dim, other in same_dims}
    of_y |= {dim: next(letters) for dim in range(len(y.shape)) if dim not in of_y}
    batch = [of_x[dim] for dim in x_batch]
    free = [of_x[dim] for dim in of_x if dim not in (*x_summed, *x_batch)]
    free += [of_y[dim] for dim in range(len(y.shape)) if dim not in (*y_summed, *y_batch)]
    terms = ("".join(of_x.values()), "".join(of_y[dim] for dim in range(len(y.shape))))
    return contract(m, f"{','.join(terms)}->{''.join([*batch, *free])}", x, y)


def _pool(kind: str) -> Callable[..., Operand]:
    keys = ("window_dimensions", "window_strides", "padding")

    def pool(m: Machine, e: Any, x: Operand) -> Operand:
        dims = [dim for dim, size in enumerate(e.params["window_dimensions"]) if size > 1]
        size, stride, padding = ([e.params[key][dim] for dim in dims] for key in keys)
        return m.pool(x, kind, pooling(dims, size, stride, padding))

    return pool


# Moves


def _reshape(m: Machine, e: Any, x: Operand) -> Operand:
    return m.reshape(x, _out(e))


def _broadcast(m: Machine, e: Any, x: Operand) -> Operand:
    return m.broadcast(x, e.params["shape"], e.params["broadcast_dimensions"])


def _tile(m: Machine, e: Any, x: Operand) -> Operand:
    if isinstance(x, FixedArray) and x.value is not None:
        return constant(np.broadcast_to(np.tile(x.value, e.params["reps"]), _out(e)))
    sizes = zip(x.shape, e.params["reps"], strict=True)
    assert all(size == 1 or count == 1 for size, count in sizes)
    return m.broadcast(x, _out(e))


def _pad(m: Machine, e: Any, x: Operand, fill: FixedArray) -> Operand:
    assert fill.number is not None
    return m.pad(x, [(low, high) for low, high, _ in e.params["padding_config"]], fill.number)


def _slice(m: Machine, e: Any, x: Operand) -> Operand:
    return m.cut(x, e.params["start_indices"], _out(e), e.params["strides"])


def _split(m: Machine, e: Any, x: Operand) -> list[Operand]:
    sizes = e.params["sizes"]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        m.narrow(x, e.params["axis"], start, size)
        for start, size in zip(starts, sizes, strict=True)
    ]


def _gather(m: Machine, e: Any, x: Operand, where: Operand) -> Operand:
    if isinstance(where, Place):
        return m.gather(x, where)
    sizes, numbers = e.params["slice_sizes"], e.params["dimension_numbers"]
    (dim,) = numbers.start_index_map
    taken = m.gather(x, where, dim)
    if isinstance(taken, FixedArray):
        return FixedArray(taken.value, _out(e))
    assert list(sizes) == [*x.shape[:dim], 1, *x.shape[dim + 1 :]]
    collapsed = [at for at in range(len(x.shape)) if at not in numbers.offset_dims]
    assert collapsed == [dim] or taken.shape[dim] == 1
    return m.reshape(taken, _out(e))


def _iota(m: Machine, e: Any) -> FixedArray:
    shape, dim = e.params["shape"], e.params["dimension"]
    sizes = [size if at == dim else 1 for at, size in enumerate(shape)]
    return constant(np.broadcast_to(np.arange(shape[dim]).reshape(sizes), shape))


# The rest


def _reduce(kind: str) -> Callable[..., Operand]:
    return lambda m, e, x: m.reduce(x, kind, e.params["axes"], keep=False)


def _argmax(m: Machine, e: Any, x: ImageValues) -> Operand:
    (dim,) = e.params["axes"]
    return m.find_greatest(x, dim, keep=False)


def _choose(m: Machine, e: Any, condition: Operand, *cases: Operand) -> Operand:
    """The cases are in the order false, true."""
    return m.elementwise("choice", condition, *reversed(cases))


def _power(m: Machine, e: Any, x: Operand) -> Operand:
    exponent = e.params["y"]
    return m.elementwise("square", x) if exponent == 2 else m.elementwise("power", x, exponent)


def _cast(m: Machine, e: Any, x: Operand) -> Operand:
    kinds = [np.dtype(each).kind for each in (e.invars[0].aval.dtype, e.params["new_dtype"])]
    whole = isinstance(x, ImageValues) and kinds[0] in "fV" and kinds[1] in "iub"
    assert not whole, "it drops the fractions"
    return x


PRIMITIVES: Table = {
    "convert_element_type": _cast,
    "conv_general_dilated": _convolution,
    "dot_general": _matrix_product,
    "reduce_sum": _reduce("total"),
    "reduce_max": _reduce("maximum"),
    "argmax": _argmax,
    "reduce_window_sum": _pool("window total"),
    "reduce_window_max": _pool("max_pool"),
    "select_n": _choose,
    "integer_pow": _power,
    "pad": _pad,
    "slice": _slice,
    "split": _split,
    "gather": _gather,
    "iota": _iota,
    "tile": _tile,
    "rev": lambda m, e, x: m.reverse(x, e.params["dimensions"]),
    "concatenate": lambda m, e, *parts: m.concatenate(parts, e.params["dimension"]),
    "stack": lambda m, e, *parts: m.stack(parts, e.params["axis"]),
    "transpose": lambda m, e, x: m.transpose(x, e.params["permutation"]),
    "broadcast_in_dim": _broadcast,
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    **dict.fromkeys(("stop_gradient", "copy", "reduce_precision"), same),
    **elementwise(
        {
            "add": "sum",
            "add_any": "sum",
            "sub": "difference",
            "mul": "product",
            "div": "quotient",
            "rem": "remainder",
            "max": "greater",
            "min": "lesser",
            "exp": "exp",
            "tanh": "tanh",
            "sqrt": "root",
            "rsqrt": "reciprocal root",
            "log": "log",
            "log1p": "log1p",
            "expm1": "expm1",
            "exp2": "exp2",
            "pow": "power",
            "abs": "absolute",
            "erf": "erf",
            "erfc": "erfc",
            "square": "square",
            "neg": "negative",
            "sign": "sign",
            "floor": "floor",
            "ceil": "ceil",
            "logistic": "sigmoid",
            "gt": "is greater",
            "lt": "is less",
            "ge": "is greater or equal",
            "le": "is less or equal",
            "eq": "is equal",
            "ne": "is unequal",
            "and": "and",
            "bitcast_convert_type": "bits",
            "shift_right_arithmetic": "bits shifted",
            "shift_right_logical": "bits shifted, without sign",
        }
    ),
}
