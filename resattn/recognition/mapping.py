"""Which parameter and which module of a model is which of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations, product

import numpy as np

from resattn.recognition.drawings import DrawnModel
from resattn.recognition.keys import match_nodes
from resattn.recognition.nodes import GraphNode, NodeGraph
from weights.graph import IMAGE

NamedArrays = Mapping[str, np.ndarray]
NameMap = dict[str, str]  # canonical name -> own name


@dataclass(frozen=True)
class PartAlignment:
    """One way in which a model is a config.

    nodes: for each of our nodes the own one. parameters: for each canonical name the own name.
    open: of parameters that cannot be told apart by what is computed with them, which could be
    which: all assignments but the one in `parameters`.
    """

    nodes: Mapping[GraphNode, GraphNode]
    parameters: NameMap
    open: tuple[NameMap, ...] = ()


def align_part(
    graph: NodeGraph,
    ends: tuple[GraphNode, GraphNode],
    model: DrawnModel,
    own_arrays: NamedArrays,
    arrays: NamedArrays,
) -> PartAlignment | None:
    """The alignment of the part of a graph between two nodes with a model; None if they differ.

    own_arrays: by own names. arrays: by canonical names, where some are known: equal values decide
    between nodes that compute the same with other parameters.
    """
    ours = model.nodes

    def misfit(our: GraphNode, own: GraphNode) -> float:
        pairs = [
            (arrays[name], own_arrays[own.roles[role]])
            for role, name in our.roles.items()
            if name in arrays and own.roles.get(role) in own_arrays
        ]
        return sum(not _same_values(one, other) for one, other in pairs)

    nodes = match_nodes(graph.nodes, ends, ours.nodes, (ours.image, ours.output), misfit)
    if nodes is None:
        return None
    inside = [(our, own) for our, own in nodes.items() if our is not ours.image]
    choices = [_assignments(our, own, own_arrays, arrays) for our, own in inside]
    if not all(choices):
        return None
    every = (names for each in product(*choices) if (names := _merge(each)) is not None)
    found = list(islice(every, MOST_ASSIGNMENTS))
    return PartAlignment(nodes, found[0], tuple(found[1:])) if found else None


MOST_ASSIGNMENTS = 16  # that are offered


def _same_values(one: np.ndarray, other: np.ndarray) -> bool:
    return one.size == other.size and np.array_equal(np.ravel(one), np.ravel(other))


def _assignments(
    our: GraphNode, own: GraphNode, own_arrays: NamedArrays, arrays: NamedArrays
) -> list[NameMap]:
    """The ways in which the parameters of an own node can be those of ours."""
    known = {name: own.roles[role] for role, name in our.roles.items() if role in own.roles}
    rest = [name for name in our.names if name not in known]
    left = [name for name in own.names if name not in known.values()]
    if len(rest) != len(left):
        return []
    found = []
    for order in permutations(left):
        pairs = dict(zip(rest, order, strict=True))
        fits = all(_fits(our.shapes[one], own.shapes[other]) for one, other in pairs.items())
        if fits and not _is_impossible(our, pairs, own_arrays):
            found.append({**known, **pairs})
    agreeing = [
        names
        for names in found
        if all(
            _same_values(arrays[name], own_arrays[own_name])
            for name, own_name in names.items()
            if name in arrays and name in rest
        )
    ]
    return agreeing or found


def _is_impossible(our: GraphNode, pairs: NameMap, own_arrays: NamedArrays) -> bool:
    """Whether a variance would be negative."""
    own = pairs.get(our.roles.get("variance", ""))
    return own is not None and bool((own_arrays[own] < 0).any())


def _fits(one: Sequence[int], other: Sequence[int]) -> bool:
    return [size for size in one if size > 1] == [size for size in other if size > 1]


def _merge(each: Iterable[NameMap]) -> NameMap | None:
    """All names; None where an operation that comes twice would have two parameters of a name, or
    a parameter two names.
    """
    found: NameMap = {}
    for names in each:
        for name, own in names.items():
            if found.setdefault(name, own) != own:
                return None
    return found if len(set(found.values())) == len(found) else None


def in_order(names: Mapping[str, str], model: DrawnModel) -> NameMap:
    """NameMap in the canonical order."""
    return {each.name: names[each.name] for each in model.drawn.parameters}


def canonical_arrays(
    names: Mapping[str, str], own_arrays: NamedArrays, model: DrawnModel
) -> dict[str, np.ndarray]:
    """The arrays of a model by canonical name, in canonical shapes."""
    return {
        each.name: np.reshape(own_arrays[names[each.name]], each.shape)
        for each in model.drawn.parameters
    }


# Stages


def map_stages(alignment: PartAlignment, model: DrawnModel) -> dict[str, str]:
    """The own module for each stage whose value is exactly the module's output."""
    steps = {our.step.name: own for our, own in alignment.nodes.items() if our.step.name}
    steps.pop(IMAGE, None)
    owners = _find_exits(alignment.nodes.values())
    order = [operation.name for operation in model.drawn if operation.name in steps]
    return {name: owners[steps[name]] for name in order if steps[name] in owners}


def _find_exits(nodes: Iterable[GraphNode]) -> dict[GraphNode, str]:
    """For nodes whose value is the output of a module that runs once: the innermost such module."""
    every = _connected(nodes)
    exits: dict[str, set[GraphNode]] = {}
    broken: set[str] = set()
    for node in every:
        for path in _paths(node):
            if not node.users or any(path not in _paths(user) for user in node.users):
                exits.setdefault(path, set()).add(node)
        broken |= _split_paths(node)
    found: dict[GraphNode, str] = {}
    for path, ends in exits.items():
        if len(ends) == 1 and path not in broken:
            (node,) = ends
            if len(path) > len(found.get(node, "")):
                found[node] = path
    return found


def _connected(nodes: Iterable[GraphNode]) -> list[GraphNode]:
    """All nodes of the graph that these belong to."""
    found: dict[GraphNode, None] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            waiting += [*node.inputs, *node.users]
    return list(found)


def _paths(node: GraphNode) -> set[str]:
    """The module that a node is computed in, and those that this is in."""
    each = [_with_outer(primitive.origin.module) for primitive in node.step.primitives]
    return each[0].intersection(*each[1:])


def _split_paths(node: GraphNode) -> set[str]:
    """The modules that a part of a node is computed in: their output may be half of it."""
    each = [_with_outer(primitive.origin.module) for primitive in node.step.primitives]
    return each[0].union(*each[1:]) - each[0].intersection(*each[1:])


def _with_outer(path: str) -> set[str]:
    parts = path.split(".") if path else []
    return {".".join(parts[: count + 1]) for count in range(len(parts))}
