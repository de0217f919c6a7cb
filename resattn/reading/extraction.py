"""What each framework executes, primitive by primitive: torch.export's graph, the jaxpr, the graph
of a tf.function.

Each reader walks a framework's own graph in its order and tells a `Machine`
(resattn/reading/executed.py) what every primitive computes. What it does not know is a KeyError with
the primitive's name, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from resattn.reading.executed import (
    NAMES,
    Constant,
    Held,
    Machine,
    Place,
    Step,
    Value,
    Values,
    reading,
)
from weights import schema
from weights.frameworks import framework_named
from weights.live import adapter, framework_of, leaves

BATCH = 2
LAST = (NAMES[0], *NAMES[2:], NAMES[1])  # channels last


def executed(model: Any, size: tuple[int, int], training: bool = False) -> list[Step]:
    """The operations that a model executes for images of that size (height, width), in the common
    form and in order.
    """
    framework = framework_of(model)
    if framework == "tf":
        framework = {"tensorflow": "tf", "jax": "keras on jax", "torch": "keras on torch"}[
            adapter("tf").BACKEND
        ]
    machine = Machine()
    output = READERS[framework](machine, model, size, training)
    return reading(machine, output, model.config)


def constant(value: Any) -> Constant:
    array = np.asarray(value)
    return Constant(array, array.shape)


# --- PyTorch


def _torch(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> Values:
    torch = import_module("torch")
    shape = (BATCH, model.config.in_channels, *size)
    adapter("torch").set_training(model, training)
    names = {id(leaf): name for name, leaf in leaves(model).items()}
    held = {
        name: names[id(leaf)]
        for name, leaf in adapter("torch").variables(model).items()
        if id(leaf) in names
    }
    with torch.no_grad():
        exported = torch.export.export(model, (torch.zeros(shape),))
    adapter("torch").set_training(model, False)
    signature = exported.graph_signature
    owners = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return _torch_graph(machine, exported.graph, owners, held, machine.image(shape, NAMES))


def _torch_graph(
    machine: Machine,
    graph: Any,
    owners: Mapping[str, str],
    held: Mapping[str, str],
    image: Values,
    constants: Mapping[str, Any] | None = None,
) -> Values:
    values: dict[Any, Any] = {}

    def of(argument: Any) -> Any:
        if type(argument).__name__ == "Node":
            return values[argument]
        return (
            type(argument)(of(one) for one in argument)
            if isinstance(argument, (list, tuple))
            else argument
        )

    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = _torch_input(node, owners, held, image, constants or {})
        elif node.op == "output":
            return of(node.args[0])[-1]  # in front of it are the new statistics
        else:
            name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
            values[node] = TORCH[name](machine, node, *of(node.args))
    raise AssertionError("a graph has an output")


def _torch_input(
    node: Any,
    owners: Mapping[str, str],
    held: Mapping[str, str],
    image: Values,
    constants: Mapping[str, Any],
) -> Any:
    if node.name not in owners:
        return image
    shape = tuple(node.meta["val"].shape)
    own = owners[node.name]
    if own in constants and own not in held:
        return constant(constants[own].detach().numpy())
    return Held(frozenset([held[own]]), shape=shape) if own in held else Constant(None, shape)


def _torch_value(value: Any) -> Value:
    return value if isinstance(value, (Values, Held, Constant, Place)) else constant(value)


def _function(name: str) -> Callable[..., Any]:
    return lambda m, primitive, *values: m.elementwise(name, *values)


def _torch_function(name: str) -> Callable[..., Any]:
    return lambda m, node, *values: m.elementwise(name, *map(_torch_value, values))


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _torch_reshape(m: Machine, node: Any, x: Any, *_: Any) -> Any:
    return m.reshape(x, _shape(node))


def _torch_transpose(m: Machine, node: Any, x: Any, first: int = -1, second: int = -2) -> Any:
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return m.transpose(x, order)


def _torch_conv(
    m: Machine,
    node: Any,
    x: Any,
    kernel: Held,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    spatial = range(2, len(kernel.shape))
    stride, padding, dilation = (_each(one, len(spatial)) for one in (stride, padding, dilation))
    sides = [(side, side) for side in padding]
    y = m.convolution(
        x, kernel, kernel.shape[2:], kernel.shape[0], 1, spatial, stride, sides, dilation, groups
    )
    return (
        y
        if bias is None
        else m.elementwise("sum", y, m.reshape(bias, (*bias.shape, *(1 for _ in spatial))))
    )


def _each(value: Any, count: int) -> tuple[int, ...]:
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * count if len(value) == 1 else value


def _torch_batch_norm(m: Machine, node: Any, x: Any, *rest: Any) -> Any:
    *held, _training, _momentum, eps, _ = rest
    names = frozenset().union(*(one.names for one in held if one is not None))
    return m.norm(x, "batch norm", Held(names), eps)


def _torch_layer_norm(
    m: Machine, node: Any, x: Any, shape: Any, weight: Held, bias: Held, eps: float, *_: Any
) -> Any:
    return m.norm(x, "layer norm", Held(weight.names | bias.names), eps)


def _torch_linear(m: Machine, node: Any, x: Any, weight: Held, bias: Any = None) -> Any:
    y = m.matrix_product(x, m.transpose(weight, (1, 0)), _shape(node))
    return y if bias is None else m.elementwise("sum", y, bias)


def _torch_max_pool(
    m: Machine, node: Any, x: Any, size: Any, stride: Any, padding: Any = 0, *_: Any
) -> Any:
    size, stride, padding = (_each(one, 2) for one in (size, stride, padding))
    return m.pool(x, "maximum pooling", size, (2, 3), stride, [(side, side) for side in padding])


def _torch_avg_pool(
    m: Machine,
    node: Any,
    x: Any,
    size: Any,
    stride: Any,
    padding: Any,
    ceil: bool = False,
    of_all: bool = True,
) -> Any:
    kind = "window average" if of_all or not any(_each(padding, 2)) else "average around"
    return m.pool(
        x,
        kind,
        _each(size, 2),
        (2, 3),
        _each(stride, 2),
        [(side, side) for side in _each(padding, 2)],
    )


def _torch_pad(
    m: Machine, node: Any, x: Any, sides: Any, mode: str = "constant", value: Any = None
) -> Any:
    margins = [(0, 0)] * len(x.shape)
    for number in range(len(sides) // 2):
        margins[-1 - number] = (sides[2 * number], sides[2 * number + 1])
    return m.pad(x, margins, "around" if mode == "circular" else float(value or 0))


def _torch_index(m: Machine, node: Any, x: Any, places: Sequence[Any]) -> Any:
    (at,) = (at for at, place in enumerate(places) if place is not None)
    return m.gather(x, places[at], at)


def _torch_select(m: Machine, node: Any, x: Any, at: int, place: int) -> Any:
    return m.reshape(_torch_narrow(m, node, x, at, place, 1), _shape(node))


def _torch_narrow(m: Machine, node: Any, x: Any, at: int, start: int, size: int) -> Any:
    starts = [start if axis == at else 0 for axis in range(len(x.shape))]
    return m.cut(x, starts, [size if axis == at else length for axis, length in enumerate(x.shape)])


def _torch_slice(
    m: Machine, node: Any, x: Any, at: int = 0, start: Any = 0, end: Any = None, step: int = 1
) -> Any:
    starts, steps = [0] * len(x.shape), [1] * len(x.shape)
    starts[at], steps[at] = (start or 0) % x.shape[at], step
    return m.cut(x, starts, _shape(node), steps)


def _torch_broadcast(m: Machine, node: Any, x: Any, *_: Any) -> Any:
    return m.broadcast(x, _shape(node))


TORCH: dict[str, Callable[..., Any]] = {
    "conv2d": _torch_conv,
    "conv1d": _torch_conv,
    "batch_norm": _torch_batch_norm,
    "layer_norm": _torch_layer_norm,
    "linear": _torch_linear,
    "max_pool2d": _torch_max_pool,
    "avg_pool2d": _torch_avg_pool,
    "mean": lambda m, node, x, axes, keep=False, **_: m.reduce(
        x, "average", [a % len(x.shape) for a in axes], keep
    ),
    "max": lambda m, node, x, axis, keep=False: (
        m.reduce(x, "maximum", [axis % len(x.shape)], keep),
        None,
    ),
    "amax": lambda m, node, x, axes, keep=False: m.reduce(
        x, "maximum", [a % len(x.shape) for a in axes], keep
    ),
    "sum": lambda m, node, x, axes, keep=False, **_: m.reduce(
        x, "total", [a % len(x.shape) for a in axes], keep
    ),
    "argmax": lambda m, node, x, axis, keep=False: m.place_of_greatest(
        x, axis % len(x.shape), keep
    ),
    "gather": lambda m, node, x, axis, where: m.gather(x, where, axis),
    "take_along_dim": lambda m, node, x, where, axis: m.gather(x, where, axis),
    "index_select": lambda m, node, x, axis, where: m.gather(x, where, axis % len(x.shape)),
    "stack": lambda m, node, parts, axis=0: _stacked(m, parts, axis % len(_shape(node))),
    "getitem": lambda m, node, x, at: x[at],
    "softmax": lambda m, node, x, axis, *_: m.softmax(x),
    "matmul": lambda m, node, x, y: m.matrix_product(x, y, _shape(node)),
    "cat": lambda m, node, parts, axis=0: m.concatenate(parts, axis % len(parts[0].shape)),
    "pad": _torch_pad,
    "index": _torch_index,
    "select": _torch_select,
    "narrow": _torch_narrow,
    "slice": _torch_slice,
    "transpose": _torch_transpose,
    "mT": _torch_transpose,
    "swapaxes": _torch_transpose,
    "ones_like": lambda m, node, x, **_: constant(np.ones(_shape(node))),
    "where": lambda m, node, *values: m.elementwise("choice", *map(_torch_value, values)),
    "permute": lambda m, node, x, order: m.transpose(x, order),
    "expand": _torch_broadcast,
    "arange": lambda m, node, *range_: constant(np.arange(*range_)),
    **dict.fromkeys(
        ("to", "alias", "clone", "detach", "lift_fresh_copy"), lambda m, node, x, *_: x
    ),
    "_assert_tensor_metadata": lambda m, node, *_: None,
    "promote_types": lambda m, node, *_: None,
    **dict.fromkeys(
        ("reshape", "view", "flatten", "ravel", "unsqueeze", "squeeze", "contiguous"),
        _torch_reshape,
    ),
    **{
        own: _torch_function(name)
        for own, name in {
            "add": "sum",
            "sub": "difference",
            "mul": "product",
            "div": "quotient",
            "floor_divide": "whole quotient",
            "remainder": "remainder",
            "relu": "relu",
            "relu6": "relu6",
            "sigmoid": "sigmoid",
            "hardsigmoid": "hard sigmoid",
            "hardswish": "hard swish",
            "tanh": "tanh",
            "exp": "exp",
            "sqrt": "root",
            "square": "square",
            "maximum": "greater",
            "minimum": "lesser",
            "lt": "is less",
            "gt": "is greater",
            "eq": "is equal",
            "ne": "is unequal",
        }.items()
    },
}


# --- JAX


def _flax(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> Values:
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    shape = (BATCH, *size, model.config.in_channels)
    own = framework_named("jax")
    adapter("jax").set_training(model, training)
    graph, state = nnx.split(model)
    adapter("jax").set_training(model, False)
    flat = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    named = {own.name(parameter): parameter.name for parameter in schema(model.config)}
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(
        state, jax.ShapeDtypeStruct(shape, "float32")
    )
    held = [_held(named.get(path), leaf) for path, leaf in flat.items()]
    return _jaxpr(machine, jaxpr.jaxpr, jaxpr.consts, [*held, machine.image(shape, LAST)])[0]


def _held(name: str | None, leaf: Any) -> Value:
    shape = tuple(leaf.shape)
    return Constant(None, shape) if name is None else Held(frozenset([name]), shape=shape)


def _jaxpr(
    machine: Machine, jaxpr: Any, constants: Sequence[Any], given: Sequence[Any]
) -> list[Any]:
    values = dict(zip(jaxpr.constvars, map(constant, constants), strict=True))
    values |= dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> Any:
        return constant(variable.val) if hasattr(variable, "val") else values[variable]

    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, [of(variable) for variable in equation.invars]
        inner = next(
            (
                equation.params[key]
                for key in ("jaxpr", "call_jaxpr", "fun_jaxpr")
                if key in equation.params
            ),
            None,
        )
        if inner is not None:
            results = _jaxpr(
                machine, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs
            )
        else:
            results = JAX[name](machine, equation, *inputs)
            results = results if isinstance(results, list) else [results]
        values |= dict(zip(equation.outvars, results, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _out(equation: Any) -> tuple[int, ...]:
    return tuple(equation.outvars[0].aval.shape)


def _jax_reduce(kind: str) -> Callable[..., Any]:
    return lambda m, e, x: m.reduce(x, kind, e.params["axes"], keep=False)


def _jax_choice(m: Machine, e: Any, condition: Any, *cases: Any) -> Any:
    return m.elementwise("choice", condition, *reversed(cases))


def _jax_conv(m: Machine, e: Any, x: Values, kernel: Held) -> Any:
    p = e.params
    _, feature, *spatial = p["dimension_numbers"].lhs_spec
    outputs, _, *sides = p["dimension_numbers"].rhs_spec
    assert p["dimension_numbers"].out_spec == p["dimension_numbers"].lhs_spec
    assert set(p["lhs_dilation"]) == {1}
    size = [kernel.shape[side] for side in sides]
    rest = p["window_strides"], p["padding"], p["rhs_dilation"], p["feature_group_count"]
    return m.convolution(x, kernel, size, kernel.shape[outputs], feature, spatial, *rest)


def _jax_dot(m: Machine, e: Any, x: Any, y: Any) -> Any:
    (x_summed, y_summed), (x_batch, y_batch) = e.params["dimension_numbers"]
    assert len(x_summed) == len(y_summed) == 1
    x_free = [at for at in range(len(x.shape)) if at not in (*x_summed, *x_batch)]
    y_free = [at for at in range(len(y.shape)) if at not in (*y_summed, *y_batch)]
    x = m.transpose(x, (*x_batch, *x_free, *x_summed))
    y = m.transpose(y, (*y_batch, *y_summed, *y_free))
    return m.matrix_product(x, y, _out(e))


def _jax_window(kind: str) -> Callable[..., Any]:
    def pooled(m: Machine, e: Any, x: Any) -> Any:
        p = e.params
        spatial = [at for at, size in enumerate(p["window_dimensions"]) if size > 1]
        size, stride, padding = (
            [p[k][at] for at in spatial] for k in ("window_dimensions", "window_strides", "padding")
        )
        return m.pool(x, kind, size, spatial, stride, padding)

    return pooled


def _jax_pad(m: Machine, e: Any, x: Any, fill: Constant) -> Any:
    return m.pad(x, [(low, high) for low, high, _ in e.params["padding_config"]], fill.number)


def _jax_slice(m: Machine, e: Any, x: Any) -> Any:
    return m.cut(x, e.params["start_indices"], _out(e), e.params["strides"])


def _jax_split(m: Machine, e: Any, x: Any) -> Any:
    at, sizes, parts = e.params["axis"], e.params["sizes"], []
    for number, size in enumerate(sizes):
        starts = [sum(sizes[:number]) if axis == at else 0 for axis in range(len(x.shape))]
        parts.append(
            m.cut(
                x, starts, [size if axis == at else length for axis, length in enumerate(x.shape)]
            )
        )
    return parts


def _jax_gather(m: Machine, e: Any, x: Any, where: Any) -> Any:
    if isinstance(where, Place):
        return m.gather(x, where)
    sizes, numbers = e.params["slice_sizes"], e.params["dimension_numbers"]
    (at,) = numbers.start_index_map
    taken = m.gather(x, where, at)
    if not isinstance(taken, Values):
        return Constant(taken.value, _out(e))
    assert all(size == (1 if axis == at else x.shape[axis]) for axis, size in enumerate(sizes))
    assert [axis for axis in range(len(x.shape)) if axis not in numbers.offset_dims] == [
        at
    ] or taken.shape[at] == 1
    return m.reshape(taken, _out(e))


def _jax_iota(m: Machine, e: Any) -> Constant:
    shape, at = e.params["shape"], e.params["dimension"]
    between = [size if axis == at else 1 for axis, size in enumerate(shape)]
    return constant(np.broadcast_to(np.arange(shape[at]).reshape(between), shape))


def _same(m: Machine, e: Any, x: Any, *_: Any) -> Any:
    return x


JAX: dict[str, Callable[..., Any]] = {
    "conv_general_dilated": _jax_conv,
    "dot_general": _jax_dot,
    "reduce_sum": _jax_reduce("total"),
    "reduce_max": _jax_reduce("maximum"),
    "argmax": lambda m, e, x: m.place_of_greatest(x, *e.params["axes"], keep=False),
    "reduce_window_sum": _jax_window("window total"),
    "reduce_window_max": _jax_window("maximum pooling"),
    "select_n": _jax_choice,
    "pad": _jax_pad,
    "slice": _jax_slice,
    "split": _jax_split,
    "gather": _jax_gather,
    "iota": _jax_iota,
    "concatenate": lambda m, e, *parts: m.concatenate(parts, e.params["dimension"]),
    "transpose": lambda m, e, x: m.transpose(x, e.params["permutation"]),
    "broadcast_in_dim": lambda m, e, x: m.broadcast(
        x, e.params["shape"], e.params["broadcast_dimensions"]
    ),
    "reshape": lambda m, e, x: m.reshape(x, _out(e)),
    "squeeze": lambda m, e, x: m.reshape(x, _out(e)),
    "expand_dims": lambda m, e, x: m.reshape(x, _out(e)),
    "convert_element_type": _same,
    "stop_gradient": _same,
    "copy": _same,
    "bitcast_convert_type": _function("bits"),
    "stack": lambda m, e, *parts: _stacked(m, parts, e.params["axis"]),
    "integer_pow": lambda m, e, x: m.elementwise({2: "square"}[e.params["y"]], x),
    **{
        own: _function(name)
        for own, name in {
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
            "square": "square",
            "neg": "negative",
            "sign": "sign",
            "logistic": "sigmoid",
            "gt": "is greater",
            "lt": "is less",
            "eq": "is equal",
            "ne": "is unequal",
            "and": "and",
            "shift_right_arithmetic": "bits shifted",
            "shift_right_logical": "bits shifted, without sign",
        }.items()
    },
}


# --- Keras on TensorFlow


def _tensorflow(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> Values:
    tf = import_module("tensorflow")
    shape = (BATCH, *size, model.config.in_channels)
    function = tf.function(lambda x: model(x, training=training), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec(shape, "float32")).graph
    named = {id(leaf.value.handle): name for name, leaf in leaves(model).items()}
    values: dict[str, Any] = {graph.inputs[0].name: machine.image(shape, LAST)}
    for outside, inside in graph.captures:
        values[inside.name] = (
            Held(frozenset([named[id(outside)]])) if id(outside) in named else Constant(None)
        )
    for operation in graph.get_operations():
        _tensorflow_operation(machine, operation, values)
    return values[graph.outputs[0].name]


def _tensorflow_operation(machine: Machine, operation: Any, values: dict[str, Any]) -> None:
    if operation.type == "Placeholder" or not operation.outputs:
        return
    inputs = [values[given.name] for given in operation.inputs]
    values[operation.outputs[0].name] = TENSORFLOW[operation.type](machine, operation, *inputs)


def _tf_out(operation: Any) -> tuple[int, ...]:
    return tuple(operation.outputs[0].shape)


def _tf_constant(m: Machine, o: Any, *_: Any) -> Constant:
    value = import_module("tensorflow").get_static_value(o.outputs[0])
    return Constant(None, _tf_out(o)) if value is None else constant(value)


def _tf_read(m: Machine, o: Any, x: Any) -> Any:
    return Held(x.names, shape=_tf_out(o)) if isinstance(x, Held) else Constant(None, _tf_out(o))


def _tf_reshape(m: Machine, o: Any, x: Any, *_: Any) -> Any:
    return m.reshape(x, _tf_out(o))


def _tf_conv(m: Machine, o: Any, x: Values, kernel: Held) -> Any:
    assert (o.get_attr("data_format"), o.get_attr("padding")) == (b"NHWC", b"VALID")
    stride, dilation = list(o.get_attr("strides"))[1:3], list(o.get_attr("dilations"))[1:3]
    rows, cols, inputs, outputs = kernel.shape
    if o.type == "DepthwiseConv2dNative":
        return m.convolution(
            x,
            kernel,
            (rows, cols),
            inputs * outputs,
            3,
            (1, 2),
            stride,
            [(0, 0)] * 2,
            dilation,
            inputs,
        )
    if _from_one_axis(o):
        flat = m.reshape(x, (x.shape[0], *x.shape[2:]))
        y = m.convolution(
            flat, kernel, (cols,), outputs, 2, (1,), stride[1:], [(0, 0)], dilation[1:]
        )
        return m.reshape(y, (y.shape[0], 1, *y.shape[1:]))
    return m.convolution(
        x, kernel, (rows, cols), outputs, 3, (1, 2), stride, [(0, 0)] * 2, dilation
    )


def _from_one_axis(o: Any) -> bool:
    """Whether a 2-d convolution is one of TensorFlow's 1-d convolutions, which expands image and
    kernel for it.
    """
    return all(given.op.type == "ExpandDims" for given in o.inputs)


def _tf_pool(kind: str) -> Callable[..., Any]:
    def pooled(m: Machine, o: Any, x: Any) -> Any:
        assert (o.get_attr("data_format"), o.get_attr("padding")) == (b"NHWC", b"VALID")
        size, stride = list(o.get_attr("ksize"))[1:3], list(o.get_attr("strides"))[1:3]
        return m.pool(x, kind, size, (1, 2), stride, [(0, 0)] * 2)

    return pooled


def _tf_matmul(m: Machine, o: Any, x: Any, y: Any) -> Any:
    batched = o.type != "MatMul"
    for value, name in (
        (x, "adj_x" if batched else "transpose_a"),
        (y, "adj_y" if batched else "transpose_b"),
    ):
        assert not o.get_attr(name), value
    return m.matrix_product(x, y, _tf_out(o))


def _tf_pad(m: Machine, o: Any, x: Any, margins: Constant, fill: Constant | None = None) -> Any:
    return m.pad(
        x,
        [tuple(map(int, margin)) for margin in margins.value],
        0.0 if fill is None else fill.number,
    )


def _tf_strided(m: Machine, o: Any, x: Any, begin: Constant, end: Constant, step: Constant) -> Any:
    if isinstance(x, Held):
        return Held(x.names, x.numbers, _tf_out(o))
    masks = {
        name: o.get_attr(f"{name}_mask")
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    keys = _tf_keys(len(x.shape), begin.value, end.value, step.value, masks)
    starts, sizes, steps = zip(
        *(_span(key, size) for key, size in zip(keys, x.shape, strict=True)), strict=True
    )
    return m.reshape(m.cut(x, starts, sizes, steps), _tf_out(o))


def _tf_keys(rank: int, begin: Any, end: Any, step: Any, masks: Mapping[str, int]) -> list[slice]:
    """A slice for each axis, as StridedSlice's masks describe them."""
    keys: list[slice] = []
    count = sum(
        1
        for at in range(len(begin))
        if not masks["new_axis"] >> at & 1 and not masks["ellipsis"] >> at & 1
    )
    for at in range(len(begin)):
        bit = {name: mask >> at & 1 for name, mask in masks.items()}
        if bit["ellipsis"]:
            keys += [slice(None)] * (rank - count)
        elif not bit["new_axis"]:
            low = None if bit["begin"] else int(begin[at])
            high = None if bit["end"] else int(end[at])
            if bit["shrink_axis"]:
                low, high = int(begin[at]), int(begin[at]) + 1 or None
            keys.append(slice(low, high, int(step[at])))
    return keys + [slice(None)] * (rank - len(keys))


def _span(key: slice, size: int) -> tuple[int, int, int]:
    start, stop, step = key.indices(size)
    return start, len(range(start, stop, step)), step


def _tf_gather(m: Machine, o: Any, x: Any, where: Any, at: Constant) -> Any:
    if isinstance(where, Place):
        return m.gather(x, where)
    return m.gather(x, where, int(at.value) % len(x.shape))


def _tf_stack(m: Machine, o: Any, *parts: Any) -> Any:
    if not any(isinstance(part, Values) for part in parts):
        return _tf_constant(m, o)
    return _stacked(m, parts, o.get_attr("axis") % len(_tf_out(o)))


def _stacked(m: Machine, parts: Sequence[Any], at: int) -> Any:
    wide = [m.reshape(part, (*part.shape[:at], 1, *part.shape[at:])) for part in parts]
    return m.concatenate(wide, at)


def _tf_apart(m: Machine, o: Any, x: Values, block: Constant, _: Any) -> Any:
    return Values(x.of, x.axes, x.margins, x.steps, tuple(map(int, block.value)))


def _tf_reduce(kind: str) -> Callable[..., Any]:
    def reduced(m: Machine, o: Any, x: Any, axes: Constant) -> Any:
        places = [int(axis) % len(x.shape) for axis in np.ravel(axes.value)]
        return m.reduce(x, kind, places, o.get_attr("keep_dims"))

    return reduced


TENSORFLOW: dict[str, Callable[..., Any]] = {
    "ReadVariableOp": _tf_read,
    "Conv2D": _tf_conv,
    "DepthwiseConv2dNative": _tf_conv,
    "MatMul": _tf_matmul,
    "BatchMatMulV2": _tf_matmul,
    "MaxPool": _tf_pool("maximum pooling"),
    "AvgPool": _tf_pool("window average"),
    "Sum": _tf_reduce("total"),
    "Max": _tf_reduce("maximum"),
    "ArgMax": lambda m, o, x, at: m.place_of_greatest(x, int(at.value) % len(x.shape), keep=False),
    "Softmax": lambda m, o, x: m.softmax(x),
    "Pad": _tf_pad,
    "PadV2": _tf_pad,
    "StridedSlice": _tf_strided,
    "GatherV2": _tf_gather,
    "ConcatV2": lambda m, o, *parts: m.concatenate(
        parts[:-1], int(parts[-1].value) % len(parts[0].shape)
    ),
    "Pack": _tf_stack,
    "Transpose": lambda m, o, x, order: m.transpose(x, [int(at) for at in order.value]),
    "BroadcastTo": lambda m, o, x, shape: m.broadcast(x, _tf_out(o)),
    "SpaceToBatchND": _tf_apart,
    "BatchToSpaceND": lambda m, o, x, block, cropped: x,
    "Range": lambda m, o, *range_: constant(np.arange(*(one.value for one in range_))),
    **dict.fromkeys(("Const", "Shape", "Fill", "OnesLike"), _tf_constant),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), _tf_reshape),
    **dict.fromkeys(("Identity", "Cast", "StopGradient"), _same),
    **{
        own: _function(name)
        for own, name in {
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
            "Square": "square",
            "Neg": "negative",
            "Relu": "relu",
            "Relu6": "relu6",
            "Sigmoid": "sigmoid",
            "SelectV2": "choice",
            "Greater": "is greater",
            "Less": "is less",
            "Equal": "is equal",
            "LogicalAnd": "and",
            "Bitcast": "bits",
            "BitwiseAnd": "bitwise and",
        }.items()
    },
}


# --- Keras on its other backends


def _keras_jax(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> Values:
    jax, keras = import_module("jax"), import_module("keras")
    shape = (BATCH, *size, model.config.in_channels)
    live = leaves(model)

    def run(arrays: list[Any], x: Any) -> Any:
        mapping = list(zip(live.values(), arrays, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return model(x, training=training)

    jaxpr = jax.make_jaxpr(run)(
        [leaf.value for leaf in live.values()], jax.ShapeDtypeStruct(shape, "float32")
    )
    held = [_held(name, leaf) for name, leaf in live.items()]
    return _jaxpr(machine, jaxpr.jaxpr, jaxpr.consts, [*held, machine.image(shape, LAST)])[0]


def _keras_torch(machine: Machine, model: Any, size: tuple[int, int], training: bool) -> Values:
    torch = import_module("torch")
    shape = (BATCH, *size, model.config.in_channels)
    names = {leaf.value.data_ptr(): name for name, leaf in leaves(model).items()}
    with torch.no_grad():
        exported = torch.export.export(model, (torch.zeros(shape),), {"training": training})
    # torch.export takes Keras' parameters for constants; they are known by where they lie in
    # memory.
    held = {
        name: names[array.data_ptr()]
        for name, array in exported.constants.items()
        if array.data_ptr() in names
    }
    owners = dict(exported.graph_signature.inputs_to_lifted_tensor_constants)
    owners |= (
        exported.graph_signature.inputs_to_parameters | exported.graph_signature.inputs_to_buffers
    )
    return _torch_graph(
        machine, exported.graph, owners, held, machine.image(shape, LAST), exported.constants
    )


READERS: dict[str, Callable[[Machine, Any, tuple[int, int], bool], Values]] = {
    "torch": _torch,
    "jax": _flax,
    "tf": _tensorflow,
    "keras on jax": _keras_jax,
    "keras on torch": _keras_torch,
}
