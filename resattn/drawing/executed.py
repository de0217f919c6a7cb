"""What a picture shows of an executed graph.

A single residual block has one node for each operation, as a block's config has. In a network the
operations of a residual block are one node, and so are consecutive blocks that are equal. Any other
graph has one node for each operation, or for each convolution with the norm and the activation
after it, if it is large, or for each module, if it is very large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import prod

from resattn.drawing.modules import (
    READABLE,
    count_edges,
    join_modules,
    list_inputs,
    make_module,
    sort_nodes,
)
from resattn.drawing.nodes import ARROW, TIMES, SceneNode, format_shape, make_node
from resattn.drawing.scene import SHORTCUT_LABELS, Edge, Frame, Scene
from resattn.explaining.executed.entries import block_stride
from resattn.explaining.executed.failures import explain_failure
from resattn.explaining.wording import format_pair
from resattn.reading.blocks import (
    ACTIVATION_KINDS,
    ExecutedBlock,
    describe_form,
    find_blocks,
    is_gated,
)
from resattn.reading.executed import ExecutedGraph
from resattn.reading.sources import read_line
from weights.frameworks import FRAMEWORKS
from weights.graph import IMAGE
from weights.language import join_texts, mark, say
from weights.operations import Operation

MOST_NODES = 40  # of a graph with more operations, the small ones go to the node before them
NORMALIZATIONS = ("batch_norm", "group_norm", "layer_norm")


def executed_scene(found: ExecutedGraph) -> Scene:
    """The scene of a live model's graph. Shapes are numbers."""
    blocks = find_blocks(found)
    if len(blocks) == 1 and len(found.operations) <= MOST_NODES:
        return _make_single(found, blocks[0])
    return _make_folded(found, blocks)


def _complete(
    found: ExecutedGraph,
    nodes: Sequence[SceneNode],
    edges: Sequence[Edge],
    frames: Sequence[Frame],
    trunk: Sequence[str],
    aside: Sequence[str],
) -> Scene:
    label = FRAMEWORKS[found.framework].label
    given, last = format_shape(found.operations[0].shape, True), found.operations[-1]
    output = "" if found.failure else format_shape(last.shape, True)
    ends = (
        say("fails at its last operation") if found.failure else say("out {output}", output=output)
    )
    count = len(found.operations) - 1
    return Scene(
        title=found.title,
        notes=_list_notes(found),
        description=say(
            "{count} operations, as {framework} executes them; x of shape {given}, {ends}.",
            count=count,
            framework=label,
            given=given,
            ends=ends,
        ),
        nodes=tuple(nodes),
        edges=tuple(edges),
        frames=tuple(frames),
        trunk=tuple(trunk),
        aside=tuple(aside),
        output=output,
    )


def _list_notes(found: ExecutedGraph) -> tuple[str, ...]:
    """The line of code at which a model fails, and how its paths shrink."""
    explained = explain_failure(found, find_blocks(found))
    if explained is None:
        return ()
    failure, notes = explained.failure, []
    if failure.line:
        notes = [
            say("fails at line {line}:", line=failure.line),
            read_line(failure.file, failure.line),
        ]
    if len({path.shrinks for path in explained.paths}) > 1:
        words = {"main": say("main path"), "shortcut": say("shortcut")}
        notes += [
            say(
                "{path} shrinks by {factor}",
                path=words.get(path.role, path.name),
                factor=_format_shrinks(path.shrinks),
            )
            for path in explained.paths
        ]
    if explained.at_fault:
        notes.append(say("{module} should have stride 1", module=explained.at_fault))
    return tuple(notes)


def _format_shrinks(factors: tuple[Fraction, Fraction]) -> str:
    rows, cols = factors
    return str(rows) if rows == cols else f"{rows} {TIMES} {cols}"


def _find_shortest(inputs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The shortest way from the first node to the last. inputs: of each node, in order."""
    ways: dict[str, list[str]] = {}
    for name, given in inputs.items():
        reached = [ways[source] for source in given if source in ways]
        if reached or not ways:
            ways[name] = [*min(reached, key=len, default=[]), name]
    return tuple(ways[list(inputs)[-1]])


# One block


def _make_single(found: ExecutedGraph, block: ExecutedBlock) -> Scene:
    own, side = (f"{path}." if path else "" for path in (block.name, block.side_module))
    nodes = [
        _make_plain(found, operation, side or own if operation.name in block.side else own)
        for operation in found
    ]
    edges = [
        _make_edge(found, block, source, operation.name)
        for operation in found
        for source in operation.inputs
    ]
    frames = []
    if len(block.side) > 1:
        what = mark("attention") if is_gated(found, block.side) else mark("branches")
        own = block.side_module.removeprefix(f"{block.name}.")
        title = say(what) if own in ("", what) else f"{say(what)}: {own}"
        frames = [Frame(title, block.side, "attention")]
    main = {
        operation.name: [
            source
            for source in operation.inputs
            if (source, operation.name) != (block.fork, block.join)
        ]
        for operation in found
        if operation.name not in block.shortcut
    }
    return _complete(found, nodes, edges, frames, _find_shortest(main), block.shortcut)


def _make_plain(found: ExecutedGraph, operation: Operation, scope: str = "") -> SceneNode:
    return make_node(found, operation, True, scope)


def _make_edge(found: ExecutedGraph, block: ExecutedBlock, source: str, target: str) -> Edge:
    whole = (source, target) == (block.fork, block.join)
    aside = whole or source in block.shortcut or target in block.shortcut
    path = "shortcut" if aside else "main"
    return Edge(source, target, path, format_shape(found[source].shape, True), whole)


# Networks, and any other graph


def _make_folded(found: ExecutedGraph, blocks: Sequence[ExecutedBlock]) -> Scene:
    groups = fold_executed(found, blocks)
    node_of = {operation.name: operation.name for operation in found}
    for group in groups:
        node_of |= {member: group.name for block in group.blocks for member in block.members}
    if len({*node_of.values()}) > MOST_NODES:
        node_of = _join_small(found, node_of)
    by_name = {group.name: group for group in groups}
    if count_edges(found, node_of) > READABLE:
        node_of = join_modules(found, node_of, by_name)
    members: dict[str, list[Operation]] = {}
    for operation in found:
        members.setdefault(node_of[operation.name], []).append(operation)
    inputs = list_inputs(found, node_of)
    nodes = [
        _make_group(found, by_name[name])
        if name in by_name
        else _make_joined(found, name, members[name])
        for name in sort_nodes(inputs)
    ]
    arrivals = dict.fromkeys(
        (node_of[source], node_of[operation.name], format_shape(found[source].shape, True))
        for operation in found
        for source in operation.inputs
        if node_of[source] != node_of[operation.name]
    )
    edges = [Edge(source, target, "main", shape) for source, target, shape in arrivals]
    trunk = _find_shortest({node.name: inputs[node.name] for node in nodes})
    straight = len(trunk) == len(nodes)
    frames = _make_stages(nodes) if straight else []
    return _complete(found, nodes, edges, frames, trunk, ())


@dataclass(frozen=True)
class BlockGroup:
    """Consecutive blocks that are one node: the first `unit` of them, several times."""

    blocks: tuple[ExecutedBlock, ...]
    unit: int

    @property
    def name(self) -> str:
        return self.blocks[0].name or self.blocks[0].join


def fold_executed(found: ExecutedGraph, blocks: Sequence[ExecutedBlock]) -> list[BlockGroup]:
    """Consecutive equal blocks, and pairs of blocks that take turns, each as one group."""
    groups: list[BlockGroup] = []
    rest = list(blocks)
    while rest:
        counts = {unit: _count_repeats(found, rest, unit) for unit in (1, 2)}
        unit = 2 if counts[1] == 1 and counts[2] > 1 else 1
        taken = unit * counts[unit]
        groups.append(BlockGroup(tuple(rest[:taken]), unit))
        rest = rest[taken:]
    return groups


def _count_repeats(found: ExecutedGraph, blocks: Sequence[ExecutedBlock], unit: int) -> int:
    """How many times the first `unit` blocks come one after the other."""
    count = 1
    for place in range(unit, len(blocks)):
        last, block = blocks[place - 1], blocks[place]
        if last.end != block.fork or not _are_equal(found, blocks[place - unit], block):
            break
        count = place // unit + 1 if (place + 1) % unit == 0 else count
    return count


def _are_equal(found: ExecutedGraph, one: ExecutedBlock, other: ExecutedBlock) -> bool:
    first, second = (describe_form(found, block, channels=True) for block in (one, other))
    return found[other.join].kind != "failure" and first == second


def _is_small(operation: Operation) -> bool:
    """Whether it may be a part of the node of what it follows."""
    return operation.kind in (*NORMALIZATIONS, *ACTIVATION_KINDS, "affine", "scale")


def _join_small(found: ExecutedGraph, node_of: Mapping[str, str]) -> dict[str, str]:
    """Norms and activations in the node of what they follow, if nothing else follows that."""
    users: dict[str, int] = {}
    for operation in found:
        for name in operation.inputs:
            users[name] = users.get(name, 0) + 1
    joined = dict(node_of)
    for operation in found:
        small = _is_small(operation)
        given = operation.inputs[0] if len(operation.inputs) == 1 else ""
        alone = joined[operation.name] == operation.name and users.get(given) == 1
        if small and alone and given != IMAGE and found[given].kind not in ("product", "sum"):
            joined[operation.name] = joined[given]
    blocks = {name for name in node_of.values() if name not in found}
    return {name: node if node not in blocks else node_of[name] for name, node in joined.items()}


def _make_joined(found: ExecutedGraph, name: str, inside: Sequence[Operation]) -> SceneNode:
    """The node of an operation and of the small ones that follow it, or of a module."""
    first, *rest = inside
    if name != first.name or not all(_is_small(each) for each in rest):
        return make_module(found, name, inside)
    node = _make_plain(found, first)
    if not rest:
        return node
    words = ", ".join(_make_plain(found, each).lines[-1] for each in rest)
    last = inside[-1]
    same = found[first.inputs[0]].shape == last.shape if first.inputs else False
    shape = "" if same or last.name == found.output else format_shape(last.shape, True)
    return SceneNode(node.name, node.form, (*node.lines, words), shape)


def _make_stages(nodes: Sequence[SceneNode]) -> list[Frame]:
    """A frame around neighbouring blocks of one module."""
    groups = groupby(nodes, lambda node: node.name.rpartition(".")[0] if node.covers else "")
    members = [(parent, tuple(node.name for node in group)) for parent, group in groups]
    return [Frame(parent, names, "stage") for parent, names in members if parent]


def _make_group(found: ExecutedGraph, group: BlockGroup) -> SceneNode:
    """The node of equal blocks, or of two that take turns."""
    first, last = group.blocks[0], group.blocks[-1]
    names = tuple(each.name or each.join for each in group.blocks)
    unit, count = group.blocks[: group.unit], len(group.blocks) // group.unit
    fails = found[last.join].kind == "failure"
    title = (
        say(_find_form(found, first))
        if group.unit == 1
        else say("{count} blocks", count=group.unit)
    )
    title = f"{count} {TIMES} {title}" if count > 1 else title
    lines = [
        say("{title} fails", title=title) if fails else title,
        names[0] if len(names) == 1 else f"{names[0]} {ARROW} {names[-1]}",
        *(line for block in unit for line in _describe_block(found, block)),
    ]
    if fails:
        shapes = [format_shape(found[name].shape, True) for name in found[last.join].inputs]
        lines.append(join_texts(shapes, say(" and ")))
    given, made = found[first.fork].shape, found[last.end].shape
    shape = "" if given == made or last.end == found.output else format_shape(made, True)
    form = "wrong" if fails else "block"
    shortcut = _find_shortcut_form(found, first)
    return SceneNode(group.name, form, tuple(lines), shape, names, shortcut)


def _list_convolutions(found: ExecutedGraph, block: ExecutedBlock) -> list[Operation]:
    """Those of the main path, without attention."""
    trunk = (found[name] for name in block.main if name not in block.side)
    return [each for each in trunk if each.kind == "convolution"]


def _find_form(found: ExecutedGraph, block: ExecutedBlock) -> str:
    convolutions = _list_convolutions(found, block)
    wide = [prod(each.settings["kernel"]) > 1 for each in convolutions]
    made = found[block.main[-1]].shape[0].size
    narrow = wide == [False, True, False] and convolutions[1].shape[0].size <= made
    return "bottleneck" if narrow else "block"


def _describe_block(found: ExecutedGraph, block: ExecutedBlock) -> tuple[str, ...]:
    """Kernel, channels and stride; groups; what is beside the main path."""
    convolutions = _list_convolutions(found, block)
    shortcut = _find_shortcut_form(found, block)
    return (
        _describe_trunk(found, block, convolutions),
        *_describe_groups(convolutions),
        join_texts((_describe_side(found, block), say(SHORTCUT_LABELS[shortcut]))),
    )


def _describe_trunk(
    found: ExecutedGraph, block: ExecutedBlock, convolutions: Sequence[Operation]
) -> str:
    """The largest kernel, the channels and the stride of the main path."""
    given, made = found[block.fork].shape[0].formula, found[block.main[-1]].shape[0].formula
    inner = [each.shape[0].formula for each in convolutions[:-1]] if len(convolutions) > 2 else []
    widths = f" {ARROW} ".join([given, *dict.fromkeys(inner), made])
    kernels = [each.settings["kernel"] for each in convolutions]
    kernel = TIMES.join(map(str, max(kernels, key=prod))) if kernels else ""
    stride = block_stride(found, block)
    step = say(", stride {stride}", stride=format_pair(stride)) if stride != (1, 1) else ""
    return f"{kernel}, {widths}{step}" if kernel else f"{widths}{step}"


def _describe_groups(convolutions: Sequence[Operation]) -> tuple[str, ...]:
    grouped = [each for each in convolutions if each.settings["groups"] > 1]
    if not grouped:
        return ()
    if grouped[0].depthwise:
        return (say("depthwise"),)
    return (say("{count} groups", count=grouped[0].settings["groups"]),)


def _describe_side(found: ExecutedGraph, block: ExecutedBlock) -> str:
    if not block.side:
        return ""
    what = "attention" if is_gated(found, block.side) else "branches"
    own = block.side_module.removeprefix(f"{block.name}.")
    return f"{say(what)}, " if own in ("", what) else f"{say(what)} ({own}), "


def _find_shortcut_form(found: ExecutedGraph, block: ExecutedBlock) -> str:
    """As `SceneNode` has it."""
    if not block.shortcut:
        return "identity"
    held = any(found[name].module for name in block.shortcut)
    return "projected" if held else "padded"
