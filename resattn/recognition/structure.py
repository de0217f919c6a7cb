"""The parts of a residual network, found in a graph of nodes: its trunk, and the paths of blocks.

The trunk is what every path from the image to the output leads through. Between two neighbours of
the trunk there may be several paths. Where they end in a sum, and have nothing in common, they are
those of a residual block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from resattn.reading.roles import NORM_OPS
from resattn.recognition.nodes import KERNEL_OPS, GraphNode

Parents = Mapping[GraphNode, GraphNode | None]

ACTIVATION_OPS = (
    *("relu", "sigmoid", "hard_sigmoid", "hard_swish", "square", "relu6", "leaky_relu", "elu"),
    *("silu", "gelu", "gelu_tanh", "softplus", "mish", "tanh"),
)
POOL_OPS = {"window average": "average", "average_around": "average", "binomial filter": "blur"}
LAYER_OPS = (*KERNEL_OPS, *NORM_OPS, *ACTIVATION_OPS)


_CLASSES = {
    **dict.fromkeys(KERNEL_OPS, "kernel"),
    **dict.fromkeys(NORM_OPS, "norm"),
    **dict.fromkeys(ACTIVATION_OPS, "activation"),
    **dict.fromkeys(("average", "maximum", "total"), "reduction"),
    **dict.fromkeys((*POOL_OPS, "max_pool"), "pooling"),
}


def class_of(node: GraphNode) -> str:
    """The class of an operation. Another of the same class may stand in its place."""
    if node.op == "unknown" and node.is_single:
        return "activation"
    return _CLASSES.get(node.op, node.op)


def find_parents(nodes: Sequence[GraphNode]) -> Parents:
    """For each node the last one before it that every path to it leads through.

    nodes: in the order of execution; the first has none.
    """
    parents: dict[GraphNode, GraphNode | None] = {nodes[0]: None}
    depths = {nodes[0]: 0}
    for node in nodes[1:]:
        inputs = [given for given in node.inputs if given in depths]
        if not inputs:
            continue
        parent = inputs[0]
        for given in inputs[1:]:
            parent = _common(parent, given, parents, depths)
        parents[node], depths[node] = parent, depths[parent] + 1
    return parents


def _common(
    one: GraphNode, other: GraphNode, parents: Parents, depths: Mapping[GraphNode, int]
) -> GraphNode:
    while one is not other:
        if depths[one] < depths[other]:
            one, other = other, one
        above = parents[one]
        assert above is not None, "the first node is above all others"
        one = above
    return one


def path_to(node: GraphNode, start: GraphNode, parents: Parents) -> list[GraphNode]:
    """The nodes that every path from `start` to `node` leads through, both included."""
    found = [node]
    while found[-1] is not start:
        above = parents[found[-1]]
        assert above is not None, "the start is above the node"
        found.append(above)
    return found[::-1]


def common_parent(nodes: Sequence[GraphNode], parents: Parents) -> GraphNode:
    """The last node that every path to each of the nodes leads through; of one node itself."""
    paths = [_path_from_top(node, parents) for node in nodes]
    common = paths[0][0]
    for each in zip(*paths, strict=False):
        if len(set(each)) > 1:
            break
        common = each[0]
    return common


def _path_from_top(node: GraphNode, parents: Parents) -> list[GraphNode]:
    found = [node]
    while (above := parents[found[-1]]) is not None:
        found.append(above)
    return found[::-1]


def nodes_between(start: GraphNode, ends: Iterable[GraphNode]) -> list[GraphNode]:
    """The nodes on the paths from `start` to `ends`, without the start, in their order."""
    found: dict[GraphNode, None] = {}
    waiting = [end for end in ends if end is not start]
    while waiting:
        node = waiting.pop()
        if node not in found and node is not start:
            found[node] = None
            waiting += [given for given in node.inputs if given.position >= start.position]
    return sorted(found, key=lambda node: node.position)


@dataclass(frozen=True)
class PathParts:
    """One path of a block.

    layers: functions of one node, from the start of the path to its attention. attention: what
    comes then, from its `entry`, the last of the layers or the start, to `exits`. after: functions
    of one node after the attention.
    """

    layers: tuple[GraphNode, ...]
    entry: GraphNode
    exits: tuple[GraphNode, ...]
    attention: tuple[GraphNode, ...] = ()
    after: tuple[GraphNode, ...] = ()

    @property
    def kernels(self) -> list[GraphNode]:
        """Its convolutions before the attention."""
        return [node for node in self.layers if node.op in KERNEL_OPS]

    @property
    def nodes(self) -> tuple[GraphNode, ...]:
        return (*self.layers, *self.attention, *self.after)


@dataclass(frozen=True)
class BlockPaths:
    """A residual block.

    start: the node that both paths begin at. main, shortcut: the paths; others: more paths. total:
    their sum, or what failed to be it. end: the activation after the sum, or the sum.
    """

    start: GraphNode
    main: PathParts
    shortcut: PathParts
    total: GraphNode
    end: GraphNode
    others: tuple[PathParts, ...] = ()


@dataclass(frozen=True)
class TrunkParts:
    """A graph between two nodes: its trunk, and the residual blocks on it.

    trunk: both ends included. between: the nodes of the trunk before the first block, after each
    block, and so on: one more than blocks.
    """

    trunk: tuple[GraphNode, ...]
    blocks: tuple[BlockPaths, ...] = ()
    between: tuple[tuple[GraphNode, ...], ...] = field(default=())

    @property
    def before(self) -> tuple[GraphNode, ...]:
        """The trunk before the first block, without the start."""
        return self.between[0]

    @property
    def after(self) -> tuple[GraphNode, ...]:
        """The trunk after the last block."""
        return self.between[-1]


def find_parts(nodes: Sequence[GraphNode], start: GraphNode, end: GraphNode) -> TrunkParts:
    """The trunk from `start` to `end`, and its blocks. nodes: in the order of execution."""
    inside = [start, *nodes_between(start, [end])]
    parents = find_parents(inside)
    trunk = path_to(end, start, parents)
    blocks: list[BlockPaths] = []
    between: list[list[GraphNode]] = [[]]
    at = 1
    while at < len(trunk):
        block = _find_block(trunk, at, parents)
        if block is None:
            between[-1].append(trunk[at])
            at += 1
        else:
            blocks.append(block)
            between.append([])
            at += 1 if block.end is block.total else 2
    return TrunkParts(tuple(trunk), tuple(blocks), tuple(map(tuple, between)))


def _find_block(trunk: Sequence[GraphNode], at: int, parents: Parents) -> BlockPaths | None:
    total, start = trunk[at], trunk[at - 1]
    if total.op not in ("sum", "unknown") or total.is_single:
        return None
    groups = _separate_inputs(total, start)
    if len(groups) < 2:
        return None
    paths = sorted(
        (_split_path(start, group, parents) for group in groups), key=_rank, reverse=True
    )
    end = trunk[at + 1] if at + 1 < len(trunk) else total
    if not (end.op in ACTIVATION_OPS and end.is_single):
        end = total
    main, shortcut, *others = paths
    return BlockPaths(start, main, shortcut, total, end, tuple(others))


def _separate_inputs(total: GraphNode, start: GraphNode) -> list[list[GraphNode]]:
    """The terms of a sum; those that have nodes in common together."""
    groups: list[tuple[list[GraphNode], set[GraphNode]]] = []
    for term in total.inputs:
        terms, nodes = [term], set(nodes_between(start, [term]))
        rest = []
        for other_terms, other_nodes in groups:
            if nodes & other_nodes:
                terms, nodes = other_terms + terms, nodes | other_nodes
            else:
                rest.append((other_terms, other_nodes))
        groups = [*rest, (terms, nodes)]
    return [terms for terms, _ in groups]


def _rank(path: PathParts) -> tuple[int, int, int]:
    """The main path has the most convolutions and the most other nodes."""
    kernels = [node for node in path.nodes if node.op in KERNEL_OPS]
    return len(kernels), len(path.nodes), -min((each.position for each in path.nodes), default=0)


def _split_path(start: GraphNode, exits: Sequence[GraphNode], parents: Parents) -> PathParts:
    end = common_parent(exits, parents)
    if end.position < start.position:
        end = start
    line = path_to(end, start, parents)
    plain = 1
    while plain < len(line) and set(line[plain].inputs) == {line[plain - 1]}:
        plain += 1
    if plain < len(line) and _is_projection(line[plain - 1]):
        plain -= 1  # a convolution that makes queries, keys and values
    layers = line[1:plain]
    entry = line[plain - 1]
    if len(exits) > 1:
        inside = nodes_between(entry, exits)
        return PathParts(tuple(layers), entry, tuple(exits), tuple(inside))
    after: list[GraphNode] = []
    rest = line[plain:]
    while rest and rest[-1].op in LAYER_OPS and set(rest[-1].inputs) == {_before(line, rest[-1])}:
        after.insert(0, rest.pop())
    last = rest[-1] if rest else entry
    inside = nodes_between(entry, [last])
    return PathParts(tuple(layers), entry, (last,), tuple(inside), tuple(after))


def _before(line: Sequence[GraphNode], node: GraphNode) -> GraphNode:
    return line[list(line).index(node) - 1]


def _is_projection(node: GraphNode) -> bool:
    return node.op in KERNEL_OPS and any(user.op == "part" for user in node.users)
