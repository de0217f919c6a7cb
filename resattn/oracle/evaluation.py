"""The oracle: the graph of a config (`weights.graph`) computed in NumPy, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resattn.oracle import convolution, layers, pooling
from resattn.oracle.cancellation import cancelling_weights, idle_biases
from resattn.oracle.kinks import Kinks
from resattn.oracle.layers import State
from resattn.oracle.moments import BatchParts
from resattn.oracle.node import (
    Array,
    Node,
    average,
    backward,
    concatenate,
    entered,
    is_disturbed,
    reshape,
    take,
    transpose,
    without_slopes,
)
from resattn.oracle.stand_in import stand_in
from weights.config import Config
from weights.graph import Graph, check_size, graph
from weights.operations import AXES, Operation

Computation = Callable[..., Node]  # (state, operation, *inputs)


@dataclass(frozen=True)
class Stage:
    """An operation in a pass.

    computed: its output. output: the value that the pass went on with: the same, unless it was
    altered. inputs: the values that it was given.
    """

    operation: Operation
    computed: Node
    output: Node
    inputs: tuple[Node, ...]

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def kind(self) -> str:
        return self.operation.kind

    @property
    def module(self) -> str:
        return self.operation.module

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.operation.settings


Altered = Mapping[str, Callable[[Stage], Array]]


@dataclass(frozen=True)
class Evaluation:
    """A forward pass: what it left, its stages by name, the image and the output."""

    state: State
    stages: Mapping[str, Stage]
    image: Node
    output: Node


@dataclass(frozen=True)
class Pass:
    """The outcome of one pass of the oracle.

    gradients: by parameter, with input_gradient; empty if they were not asked for.
    scales: what rounding errors are relative to, for gradients that cancel.
    vanishing: the parameters whose gradient is exactly zero whatever comes.
    shifted, kinks, multiply_adds: as in `State`.
    """

    output: Array
    statistics: dict[str, Array]
    input_gradient: Array | None
    gradients: dict[str, Array]
    scales: dict[str, float]
    vanishing: frozenset[str]
    shifted: frozenset[str]
    kinks: Kinks
    multiply_adds: int

    @property
    def every_gradient(self) -> dict[str, Array]:
        """Those of the parameters, and that of the images under "input"."""
        assert self.input_gradient is not None, "no gradients were asked for"
        return {"input": self.input_gradient, **self.gradients}


def evaluate(
    operations: Sequence[Operation],
    arrays: Mapping[str, Array],
    x: Array,
    *,
    training: bool,
    altered: Altered | None = None,
    kinks: Kinks | None = None,
    parts: BatchParts | None = None,
    keep: bool = True,
) -> Evaluation:
    """One forward pass of a graph's operations. arrays: canonical; all are taken as float64.

    altered: for some operations, a function that makes of the stage the value to go on with.
    kinks: of a pass within `node.disturbed`. parts: how batch norms divide the batch in training.
    keep: whether the stages are kept; else each of them
    only until the last operation that reads it.
    """
    state = State({name: _wide(array) for name, array in arrays.items()}, training)
    state.kinks = Kinks() if kinks is None else kinks
    state.parts = parts
    idle = idle_biases(operations, training)
    state.vanishing |= set(idle)
    state.shifted |= {mean for mean in idle.values() if mean}
    state.cancelling |= cancelling_weights(operations, training)
    image = entered(_wide(x))
    stages: dict[str, Stage] = {}
    last = {name: operation.name for operation in operations for name in operation.inputs}
    for operation in operations:
        inputs = tuple(stages[name].output for name in operation.inputs)
        is_image = operation.kind == "input"
        computed = image if is_image else COMPUTE[operation.kind](state, operation, *inputs)
        stage = Stage(operation, computed, computed, inputs)
        if altered and operation.name in altered:
            stage = replace(stage, output=Node(altered[operation.name](stage)))
        stages[operation.name] = stage
        for name in operation.inputs if not keep else ():
            if last[name] == operation.name:
                stages.pop(name, None)
    return Evaluation(state, stages, image, stages[operations[-1].name].output)


def stages(
    config: Config | Graph,
    arrays: Mapping[str, Array],
    x: Array,
    *,
    training: bool,
    altered: Altered | None = None,
    kinks: Kinks | None = None,
) -> Evaluation:
    """One forward pass of a config. x: (batch, channels, height, width). The rest: `evaluate`.

    config: or its graph for images of that size.
    Raises ArgumentError for images that an attention module cannot use.
    """
    operations = _operations(config, x)
    return evaluate(operations, arrays, x, training=training, altered=altered, kinks=kinks)


def _operations(config: Config | Graph, x: Array) -> Sequence[Operation]:
    if isinstance(config, Graph):
        return config.operations
    size = (x.shape[2], x.shape[3])
    check_size(config, size)
    return graph(config, size).operations


def run(
    config: Config | Graph,
    arrays: Mapping[str, Array],
    x: Array,
    cotangent: Array | Callable[[Array], Array] | None = None,
    *,
    training: bool,
    kinks: Kinks | None = None,
    parts: BatchParts | None = None,
) -> Pass:
    """One pass of the oracle. arrays: canonical; x: (batch, channels, height, width).

    All are taken as float64. cotangent: the gradients are those of sum(output * cotangent); None if
    no gradients are wanted; a function of the output if it depends on it, as the slope of a loss.
    kinks: of a pass within `node.disturbed`; there gradients that vanish are what noise leaves of
    them. None for a pass that no disturbed one will follow.
    parts: how batch norms divide the batch in training.
    """
    kinks = Kinks(matter=False) if kinks is None else kinks
    operations = _operations(config, x)
    with without_slopes() if cotangent is None else nullcontext():
        made = evaluate(
            operations, arrays, x, training=training, kinks=kinks, parts=parts, keep=False
        )
    state, output, image = made.state, made.output.value, made.image
    gradients: dict[str, Array] = {}
    if cotangent is not None:
        slope = cotangent(output) if callable(cotangent) else cotangent
        backward(made.output, _wide(slope), keep=False)
        for name, node in state.parameters.items():
            if node.slope is None or (name in state.vanishing and not is_disturbed()):
                gradients[name] = np.zeros(node.shape)
            else:
                gradients[name] = node.slope
    small = state.cancelling | state.vanishing
    return Pass(
        output,
        state.statistics,
        image.slope,
        gradients,
        {name: state.magnitudes[name] for name in small if name in state.magnitudes},
        frozenset(state.vanishing),
        frozenset(state.shifted),
        state.kinks,
        state.multiply_adds,
    )


def _wide(array: Array) -> Array:
    return array.astype(np.result_type(array, np.float64))


# How each kind of operation is computed. Operands are reshaped to what an operation needs: moving
# values about is no operation.


def _shaped(x: Node, operation: Operation) -> Node:
    """The same values in the shape of the operation's output."""
    return reshape(x, len(x.value), *(extent.size for extent in operation.shape))


def _convolution(state: State, operation: Operation, x: Node) -> Node:
    settings = operation.settings
    options = {name: settings[name] for name in ("stride", "padding", "dilation", "groups")}
    return convolution.conv2d(state, operation.module, x, **options)


def _convolution_1d(state: State, operation: Operation, x: Node) -> Node:
    flat = reshape(x, *x.shape[:2])
    y = layers.conv1d(state, operation.module, flat, operation.settings["padding"])
    return _shaped(y, operation)


def _linear(state: State, operation: Operation, x: Node) -> Node:
    return layers.apply_linear(state, operation.module, reshape(x, len(x.value), -1))


def _batch_norm(state: State, operation: Operation, x: Node) -> Node:
    eps, decay = operation.settings["eps"], operation.settings["decay"]
    return layers.apply_batch_norm(state, operation.module, x, eps, decay)


def _axes(operation: Operation) -> list[int]:
    return [AXES.index(axis) + 1 for axis in operation.settings["axes"]]


def _max_pool(state: State, operation: Operation, x: Node) -> Node:
    return pooling.max_pool(state, x, **operation.settings)


def _group_norm(state: State, operation: Operation, x: Node) -> Node:
    groups, eps = operation.settings["groups"], operation.settings["eps"]
    return layers.apply_group_norm(state, operation.module, x, groups, eps)


def _average_around(state: State, operation: Operation, x: Node) -> Node:
    extent = operation.settings["extent"]
    y = layers.average_around(x, extent, layers.ROWS)
    return layers.average_around(y, extent, layers.COLS)


def _nearest(state: State, operation: Operation, x: Node) -> Node:
    for axis, extent in zip(layers.POSITIONS, operation.shape[1:], strict=True):
        x = take(x, [place * x.shape[axis] // extent.size for place in range(extent.size)], axis)
    return x


def _concatenate(state: State, operation: Operation, *parts: Node) -> Node:
    axis = AXES.index(operation.settings["axis"]) + 1
    shape = [-1, *(extent.size for extent in operation.shape)]
    shape[0], shape[axis] = len(parts[0].value), -1
    return concatenate([reshape(part, *shape) for part in parts], axis)


def _slice(state: State, operation: Operation, x: Node) -> Node:
    axis, start = AXES.index(operation.settings["axis"]) + 1, operation.settings["start"]
    others = x.value.size // (len(x.value) * x.shape[axis])
    return _shaped(take(x, range(start, start + operation.numbers // others), axis), operation)


def _head_part(state: State, operation: Operation, x: Node) -> Node:
    settings, width = operation.settings, operation.shape[2].size
    parts = reshape(x, len(x.value), settings["parts"], settings["heads"], width, -1)
    return _shaped(transpose(take(parts, [settings["part"]], 1), 0, 1, 2, 4, 3), operation)


def _swap_axes(state: State, operation: Operation, x: Node) -> Node:
    first, second = _axes(operation)
    order = list(range(4))
    order[first], order[second] = second, first
    return transpose(x, *order)


def _matrix_product(state: State, operation: Operation, a: Node, b: Node) -> Node:
    """The equation names axes; the rows and cols of a map are one of them."""
    terms, result = operation.settings["equation"].split(" -> ")
    named = [term.split() for term in (*terms.split(", "), result)]
    names = dict.fromkeys(name for term in named for name in term)
    letters = dict(zip(names, "bcdefgh", strict=False))
    first, second, out = ("a" + "".join(letters[name] for name in term) for term in named)
    a, b = (_merged(x, len(term)) for x, term in ((a, first), (b, second)))
    return _shaped(layers.einsum(state, f"{first},{second}->{out}", a, b), operation)


def _merged(x: Node, axes: int) -> Node:
    """With so many axes: the last two are made one if there is one too many."""
    return x if x.value.ndim == axes else reshape(x, *x.shape[:-2], -1)


def _relative_positions(state: State, operation: Operation, query: Node) -> Node:
    """Shaw et al. 2018: logits of query and table by how far two positions are apart, along each
    axis. query: (batch, heads, positions, feature).
    """
    batch, heads, _, width = query.shape
    rows, cols = operation.settings["size"]
    query = reshape(query, batch, heads, rows, cols, width)

    def distances(leaf: str, size: int) -> Node:
        """(here, there, feature): the table's row for there - here."""
        steps = np.arange(size)[None, :] - np.arange(size)[:, None] + size - 1
        table = state.parameter(f"{operation.module}.{leaf}")
        return reshape(take(table, steps.ravel(), 0), size, size, width)

    vertical = layers.einsum(state, "bnhwf,hif->bnhwi", query, distances("height_rel", rows))
    horizontal = layers.einsum(state, "bnhwf,wjf->bnhwj", query, distances("width_rel", cols))
    vertical = reshape(vertical, *vertical.shape, 1)
    horizontal = reshape(horizontal, *horizontal.shape[:4], 1, cols)
    return _shaped(vertical + horizontal, operation)


def _sum(state: State, operation: Operation, *terms: Node) -> Node:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _affine(state: State, operation: Operation, x: Node) -> Node:
    factor: float = operation.settings["factor"]
    offset: float = operation.settings["offset"]
    return x * factor + offset


def _bessel(state: State, operation: Operation, variance: Node) -> Node:
    count: int = operation.settings["count"]
    return variance * (count / (count - 1))


def _parameter(state: State, operation: Operation, *unused: Node) -> Node:
    shape = (extent.size for extent in operation.shape)
    return reshape(state.parameter(operation.settings["parameter"]), 1, *shape)


COMPUTE: dict[str, Computation] = {
    "convolution": _convolution,
    "convolution_1d": _convolution_1d,
    "linear": _linear,
    "pad": lambda s, o, x: pooling.pad_zeros(x, **o.settings),
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": lambda s, o, x: layers.apply_layer_norm(s, o.module, x, o.settings["eps"]),
    "flatten": lambda s, o, x: _shaped(x, o),
    "relu": lambda s, o, x: layers.relu(s, x),
    "sigmoid": lambda s, o, x: layers.sigmoid(x),
    "hard_sigmoid": lambda s, o, x: layers.hard_sigmoid(s, x),
    "hard_swish": lambda s, o, x: x * layers.hard_sigmoid(s, x),
    "square": lambda s, o, x: x * x,
    "softmax": lambda s, o, x: layers.softmax(_shaped(x, o)),
    "average": lambda s, o, x: average(x, *_axes(o)),
    "maximum": lambda s, o, x: layers.maximum(s, x, *_axes(o)),
    "average_around": _average_around,
    "max_pool": _max_pool,
    "average_pool": lambda s, o, x: pooling.average_pool(x, **o.settings),
    "blur_pool": lambda s, o, x: pooling.blur_pool(x, **o.settings),
    "subsample": lambda s, o, x: pooling.subsample(x, **o.settings),
    "nearest": _nearest,
    "concatenate": _concatenate,
    "slice": _slice,
    "head_part": _head_part,
    "swap_axes": _swap_axes,
    "matrix_product": _matrix_product,
    "relative_positions": _relative_positions,
    "sum": _sum,
    "product": lambda s, o, x, y: x * y,
    "difference": lambda s, o, x, y: x - y,
    "quotient": lambda s, o, x, y: x / y,
    "greater": lambda s, o, *parts: layers.greater(s, parts),
    "affine": _affine,
    "bessel": _bessel,
    "parameter": _parameter,
    "attention": stand_in,
}
