"""A graph without names: what two graphs are compared by.

The steps of the common form (`resattn.reading`) still say which module they are of. Here an
operation is known by what it computes, by the sizes of its parameters and by its inputs alone.
Spellings that compute the same are one: a linear layer and a 1x1 convolution, a window as large as
the map and the average of the map, and sums and products in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from resattn.reading.form import label_of, size_of
from resattn.reading.steps import LINEAR, CommonStep
from resattn.reading.windows import Window

SUMS = ("sum", "product")  # of any number of values, in any order
UNORDERED_OPS = (*SUMS, "greater")

KERNEL_OPS = ("convolution", "dense")
SPATIAL_AXES = ("rows", "cols")

Side = tuple[int, int, int, int, int]  # size, stride, padding before, after that counts, dilation


@dataclass(eq=False)
class GraphNode:
    """An operation of a graph.

    position: in the order of execution. op: as in `CommonStep`, with "dense" for a linear layer of
    the channels. facts: what else it is known by. sizes: of its values, by axis. roles: its
    parameters by role, in the graph's own names; loose: those whose role is not known. shapes: of
    both. inputs, users: the nodes before and after it. step: the last step that it is made of.
    """

    position: int
    op: str
    facts: Mapping[str, Any]
    sizes: Mapping[str, int]
    step: CommonStep
    inputs: list[GraphNode]
    roles: Mapping[str, str] = field(default_factory=dict)
    loose: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    users: list[GraphNode] = field(default_factory=list)
    weighed: tuple[tuple[str, str], ...] = ()  # what is computed of its parameters before use

    @property
    def names(self) -> tuple[str, ...]:
        """Of its parameters."""
        return (*self.roles.values(), *self.loose)

    @property
    def label(self) -> tuple[Any, ...]:
        """What it is equal to another node by, apart from its inputs."""
        shapes = sorted(tuple(s for s in self.shapes[name] if s > 1) for name in self.names)
        return (self.op, tuple(sorted(self.facts.items())), tuple(shapes), self.weighed)

    @property
    def channels(self) -> int:
        return self.sizes.get("channels", 1)

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and cols of its values."""
        return self.sizes.get("rows", 1), self.sizes.get("cols", 1)

    @property
    def window(self) -> Window | None:
        return self.step.settings.get("window")

    @property
    def is_single(self) -> bool:
        """Whether it is a function of one node."""
        return len(set(self.inputs)) == 1


@dataclass(frozen=True)
class NodeGraph:
    """Nodes in the order of execution: the first is the image, the last gives the output."""

    nodes: tuple[GraphNode, ...]

    @property
    def image(self) -> GraphNode:
        return self.nodes[0]

    @property
    def output(self) -> GraphNode:
        return self.nodes[-1]


def build_graph(
    steps: Sequence[CommonStep],
    shapes: Mapping[str, tuple[int, ...]],
    roles: Mapping[str, str] | None = None,
) -> NodeGraph:
    """The graph of steps. shapes: of the parameters. roles: of the parameters, where the steps do
    not say them.
    """
    found: dict[int, GraphNode] = {}
    counts: dict[int, int] = {}
    for step in steps:
        for given in step.inputs:
            counts[id(given)] = counts.get(id(given), 0) + 1
    for position, step in enumerate(steps):
        inputs = [found[id(given)] for given in step.inputs]
        node = _make_node(position, step, inputs, shapes, roles)
        if node.op in SUMS:
            node.inputs = list(_flatten(node, counts))
        if node.op == "a x + b" and inputs[0].op == "total" and counts[id(step.inputs[0])] == 1:
            _make_average(node, inputs[0])
        found[id(step)] = node
    return _finish(found[id(steps[-1])])


def _flatten(node: GraphNode, counts: Mapping[int, int]) -> Iterable[GraphNode]:
    """The terms of a sum or product; of a sum that nothing else uses the terms of that."""
    for given in node.inputs:
        if given.op == node.op and given.facts == node.facts and counts[id(given.step)] == 1:
            yield from given.inputs
        else:
            yield given


def _make_average(scaled: GraphNode, total: GraphNode) -> None:
    """A total that is multiplied by a number is an average that is multiplied by another."""
    (x,) = total.inputs
    count = prod(x.sizes.get(name, 1) for axis in total.facts["axes"] for name in axis.split("/"))
    total.op = "average"
    a = round_number(scaled.step.settings["a"] * count)
    scaled.facts = {**scaled.facts, "a": a}


def _finish(output: GraphNode) -> NodeGraph:
    """The graph of what an output needs, with the users of each node."""
    nodes: dict[int, GraphNode] = {}
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if id(node) not in nodes:
            nodes[id(node)] = node
            waiting += node.inputs
    ordered = sorted(nodes.values(), key=lambda node: node.position)
    for node in ordered:
        for given in dict.fromkeys(node.inputs):
            given.users.append(node)
    return NodeGraph(tuple(ordered))


def _make_node(
    position: int,
    step: CommonStep,
    inputs: list[GraphNode],
    shapes: Mapping[str, tuple[int, ...]],
    roles: Mapping[str, str] | None,
) -> GraphNode:
    names = sorted(step.held.names) if step.held else []
    known = _own_roles(step) if roles is None else {roles[name]: name for name in names}
    loose = tuple(name for name in names if name not in known.values())
    held = {name: tuple(shapes[name]) for name in names}
    sizes = {label_of(axis): size_of(axis) for axis in step.axes if label_of(axis)}
    op, facts = _op_and_facts(step, inputs, [held[name] for name in names], roles is not None)
    if step.op == "linear" and op == "dense":  # a drawn one gives no axis its name
        sizes["channels"] = max(shape[0] for shape in held.values() if len(shape) > 1)
    weighed = _list_functions(step, known)
    return GraphNode(
        position, op, facts, sizes, step, inputs, known, loose, held, weighed=tuple(weighed)
    )


# What a norm that is spelled out computes of its parameters, as in x scale + (bias - mean scale).
_PLAIN = {"product", "quotient", "negative", "difference", "sum"}
OF_NORMS = {
    "weight": _PLAIN,
    "bias": _PLAIN,
    "mean": _PLAIN,
    "variance": {*_PLAIN, "root", "reciprocal root", "reciprocal", "power"},
}


def _list_functions(step: CommonStep, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is computed of the parameters before they are used: (role, function), without what
    belongs to the operation.
    """
    if step.held is None:
        return []
    roles = {name: role for role, name in known.items()}
    written = ("product", "quotient", "difference", "sum")
    spelled = any(each.op in written and each.held for each in step.primitives)
    usual = OF_NORMS if spelled and step.op not in LINEAR else {}
    found = {
        (role, function)
        for name, function in step.held.functions
        for role in [roles.get(name, "")]
        if function not in usual.get(role, ())
    }
    if step.op == "batch_norm" and len(step.held.numbers) > 1:
        found.add(("", "numbers"))
    return sorted(found)


def _own_roles(step: CommonStep) -> Mapping[str, str]:
    """The parameters of a step by role. Tables of relative positions are known by their axis."""
    names = step.held.names if step.held else frozenset()
    if step.op != "linear" or len(names) != 2 or "bias" in step.roles:
        return step.roles
    for primitive in step.primitives:
        axis = label_of(primitive.axes[-2]) if len(primitive.axes) > 1 else ""
        if primitive.op == "matrix_product" and primitive.held and axis in SPATIAL_AXES:
            (first,) = primitive.held.names
            (second,) = names - {first}
            other = SPATIAL_AXES[1 - SPATIAL_AXES.index(axis)]
            return {axis: first, other: second}
    return {}


def _op_and_facts(
    step: CommonStep, inputs: Sequence[GraphNode], held: Sequence[tuple[int, ...]], drawn: bool
) -> tuple[str, dict[str, Any]]:
    """What a step computes, without names. drawn: whether it is of a drawn graph."""
    settings = step.settings
    facts: dict[str, Any] = {"crossed": True} if settings.get("crossed") else {}
    weights = [shape for shape in held if prod(shape) > 1 and len(shape) > 1]
    if step.op == "linear" and len(weights) == 1:
        return _describe_linear(step, inputs, drawn)
    if "window" in settings:
        return _describe_window(step, inputs[0])
    if "margins" in settings:
        facts["margins"] = tuple(sorted(settings["margins"].items()))
        facts["strides"] = tuple(sorted(settings["strides"].items()))
    for name in ("axes", "part", "parts"):
        if name in settings:
            facts[name] = settings[name]
    for name in ("eps", "a", "b"):
        if name in settings:
            facts[name] = round_number(settings[name])
    if step.op in ("group_norm",):
        facts["groups"] = settings["groups"]
    if step.op == "unknown":
        facts["primitive"] = settings["primitive"]
    return step.op, facts


def round_number(number: float) -> float:
    """A number as float32 holds it, to five digits: a model may have it in either format."""
    return float(f"{np.float32(number):.5g}")


def _describe_linear(
    step: CommonStep, inputs: Sequence[GraphNode], drawn: bool
) -> tuple[str, dict[str, Any]]:
    """A linear layer is "dense" if it takes the channels of each position alone."""
    if drawn:
        return "dense", {}
    before = sorted(label_of(axis) for axis in step.inputs[0].axes if label_of(axis))
    after = sorted(label_of(axis) for axis in step.axes if label_of(axis))
    # An axis that ends with one entry has no name.
    gone = [name for name in before if name not in after and name != "channels"]
    if not gone and "channels" in [*before, "channels"]:
        return "dense", {}
    return "linear", {"over": tuple(gone)}


def _describe_window(step: CommonStep, x: GraphNode) -> tuple[str, dict[str, Any]]:
    window: Window = step.settings["window"]
    sides = window_sides(window, x)
    facts: dict[str, Any] = {"sides": sides, "along": tuple(window.along)}
    fills = ("", "0", "zeros") if x.op == "relu" else ("", "0")  # no maximum of these is below 0
    if window.fill not in fills:
        facts["fill"] = window.fill
    groups = step.settings.get("groups", 1)
    if step.op not in ("convolution", "depthwise convolution"):
        whole = [side[:4] == (x.sizes.get(axis, 1), side[1], 0, 0)
                 for axis, side in zip(SPATIAL_AXES, sides, strict=False)]  # fmt: skip
        if step.op == "window average" and len(sides) == 2 and all(whole):
            return "average", {"axes": ("cols", "rows")}
        return step.op, facts
    plain = all(side[:4] == (1, 1, 0, 0) for side in sides)
    if plain and groups == 1 and len(sides) == 2:
        return "dense", {}
    return "convolution", {**facts, "groups": groups}


def window_sides(window: Window, x: GraphNode) -> tuple[Side, ...]:
    """Kernel, stride, padding and dilation along each axis, in numbers that say what is computed.

    The padding at the end is that which the last window reaches, which may be less than what is
    there, or below 0.
    """
    names = list(window.along)
    if len(names) != len(window.dims):
        names = list(SPATIAL_AXES) if len(window.dims) == 2 else ["channels"]
    found = []
    rows = zip(names, window.size, window.stride, window.padding, window.dilation, strict=True)
    for name, size, stride, (before, after), dilation in rows:
        extent, reach = x.sizes.get(name, 1), dilation * (size - 1) + 1
        count = (extent + before + after - reach) // stride + 1
        reached = (count - 1) * stride + reach - extent - before
        apart = dilation if size > 1 else 1
        found.append((int(size), int(stride), int(before), int(reached), int(apart)))
    return tuple(found)
