"""Modules of a large graph as one node each, so that its picture can be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from resattn.drawing.nodes import SceneNode, format_shape
from resattn.reading.blocks import path_of
from resattn.reading.executed import ExecutedGraph
from weights.language import say
from weights.operations import Operation

READABLE = 120  # a graph with more edges is drawn by its modules


def join_modules(
    found: ExecutedGraph, node_of: Mapping[str, str], fixed: Iterable[str]
) -> dict[str, str]:
    """The node of each operation where modules are nodes, as deep ones as the picture can hold.

    node_of: what it is now; fixed: those of these nodes that stay as they are. It stays as it is
    where modules are not known, or where they wait for each other.
    """
    paths = {name: path_of(found, name).split(".") for name in node_of}
    best = dict(node_of)
    for depth in range(max(map(len, paths.values())), 0, -1):
        joined = {
            name: node if node in fixed else _name_module(paths[name], depth) or name
            for name, node in node_of.items()
        }
        if _has_cycle(found, joined):
            continue
        if count_edges(found, joined) < count_edges(found, best):
            best = joined
        if count_edges(found, best) <= READABLE:
            break
    return best


def _name_module(path: Sequence[str], depth: int) -> str:
    """The module at a depth that an operation is in; "" for one that is not as deep."""
    return ".".join(path[:depth]) if len(path) >= depth and path[0] else ""


def list_inputs(found: ExecutedGraph, node_of: Mapping[str, str]) -> dict[str, list[str]]:
    """The other nodes that each node takes values from, in order."""
    inputs: dict[str, dict[str, None]] = {node: {} for node in node_of.values()}
    for operation in found:
        node = node_of[operation.name]
        inputs[node] |= {node_of[name]: None for name in operation.inputs if node_of[name] != node}
    return {node: [*given] for node, given in inputs.items()}


def count_edges(found: ExecutedGraph, node_of: Mapping[str, str]) -> int:
    """How many edges a picture with these nodes has."""
    return sum(map(len, list_inputs(found, node_of).values()))


def _has_cycle(found: ExecutedGraph, node_of: Mapping[str, str]) -> bool:
    try:
        TopologicalSorter(list_inputs(found, node_of)).prepare()
    except CycleError:
        return True
    return False


def sort_nodes(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """The nodes, each after those that it takes values from, and else in their order."""
    left, found = list(inputs), dict[str, None]()
    while left:
        ready = next(node for node in left if found.keys() >= {*inputs[node]})
        left.remove(ready)
        found[ready] = None
    return list(found)


def make_module(found: ExecutedGraph, name: str, inside: Sequence[Operation]) -> SceneNode:
    """The node of a module with several operations."""
    last = inside[-1]
    numbers = sum(each.trainable for each in inside)
    counts = (
        say("{count} operations", count=len(inside)),
        say("{count:,} parameters", count=numbers),
    )
    lines = (name, *counts)
    given = found[inside[0].inputs[0]].shape if inside[0].inputs else ()
    same = given == last.shape or last.name == found.output
    shape = "" if same else format_shape(last.shape, True)
    return SceneNode(name, "block", lines[: 3 if numbers else 2], shape)
