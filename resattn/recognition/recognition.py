"""What a model of anybody's is: one of our blocks or networks, or what it differs in.

Names do not matter. A config is read off the parts of the model, drawn, and compared with the
model operation by operation; only if all are equal is it recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

import numpy as np

from resattn.reading.reading import Reading
from resattn.recognition.block_fields import make_block, read_fields, vary_fields
from resattn.recognition.decay import with_decay
from resattn.recognition.deviations import (
    Deviation,
    Facts,
    compare_blocks,
    compare_trunks,
    describe_node,
    find_unlike,
)
from resattn.recognition.drawings import DrawnModel, draw_model
from resattn.recognition.mapping import align_part, canonical_arrays, in_order, map_stages
from resattn.recognition.network_fields import find_ends, make_network
from resattn.recognition.nodes import GraphNode, NodeGraph, build_graph
from resattn.recognition.structure import TrunkParts, find_parts, nodes_between
from resattn.recognition.wording import describe_recognition
from weights.checks import list_names
from weights.config import BlockConfig, Config, NetworkConfig
from weights.errors import ArgumentError


@dataclass(frozen=True)
class Recognition:
    """What a model was found to be.

    reading: of the model. config: what it computes, and nothing else; None if it computes something
    else, or can be several things.
    nearest: the config with the fewest differences; `config` itself if there is one, and None if
    there is no residual block. differences: from it, in the order of execution.
    module: the path of the part that it is, "" for the whole model or if no module is that part.
    stages: for each stage the path of the own module whose output is exactly its value, as
    `resattn.Mapped` takes it. parameters: for each canonical name the own name. arrays: canonical.
    before, after: what the model computes besides, before and after the part, as
    `describe_node` gives it. unused: the own names of parameters that nothing of the model uses.
    size: (height, width) of the part's input.
    alternatives: what it can be, where that is several things; the caller chooses one.
    """

    reading: Reading = field(repr=False)
    config: Config | None = None
    nearest: Config | None = None
    differences: tuple[Deviation, ...] = ()
    module: str = ""
    stages: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    before: tuple[Facts, ...] = ()
    after: tuple[Facts, ...] = ()
    unused: tuple[str, ...] = ()
    size: tuple[int, int] = (1, 1)
    alternatives: tuple[Recognition, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the model computes nothing besides."""
        return not self.before and not self.after

    def describe(self, language: str = "en") -> list[str]:
        """What it was taken for and by which signs, or what it differs in, in lines.

        language: "en" or "zh". Raises ArgumentError for another one.
        """
        return describe_recognition(self, language)


@dataclass(frozen=True)
class _Part:
    """A part of a model that may be one of ours: the nodes that it begins after and ends with."""

    config: Config
    start: GraphNode
    end: GraphNode


@dataclass(frozen=True)
class _Own:
    """The graph of a model, and the part of it that is looked at. arrays: those that are known, by
    canonical name.
    """

    reading: Reading
    graph: NodeGraph
    parts: TrunkParts
    arrays: Mapping[str, np.ndarray]


def recognise_model(
    reading: Reading,
    expected: Config | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    only: str = "",
    choice: int | None = None,
) -> Recognition:
    """The block or network of ours that computes what a model computes.

    reading: of the model, or of one that contains a block or a network of ours.
    expected: what it should be; it is preferred to another config that computes the same, and
    differences are those from it. arrays: those of a file by canonical name: of parameters that
    could change places, those with equal values are taken.
    only: the path of the module that is looked at. choice: which alternative to take, from 1.
    Of several configs that compute the same for images of this size, it is the plainest.
    Raises ArgumentError for a module that does not exist or that has several inputs or outputs, and
    for a choice that there is not.
    """
    shapes = {name: array.shape for name, array in reading.arrays.items()}
    graph = build_graph(reading.steps, shapes)
    start, end = (graph.image, graph.output) if not only else _find_module(graph, only)
    parts = find_parts(graph.nodes, start, end)
    own = _Own(reading, graph, parts, arrays or {})
    found = _recognise(own, expected)
    return found if choice is None else _choose(found, choice)


def _find_module(graph: NodeGraph, path: str) -> tuple[GraphNode, GraphNode]:
    """The node before a module and its last one."""
    inside = [node for node in graph.nodes if _is_inside(node, path)]
    if not inside:
        paths = {node.step.origin.module for node in graph.nodes} - {""}
        raise ArgumentError(
            f"only: expected the path of a module that computes something, as "
            f"{list_names(sorted(paths), most=4)}, got {path!r}"
        )
    members = set(inside)
    starts = {given for node in inside for given in node.inputs if given not in members}
    ends = {node for node in inside if not node.users or not members.issuperset(node.users)}
    if len(starts) != 1 or len(ends) != 1:
        raise ArgumentError(
            f"only: expected a module that is called once, with one input and one output; {path!r} "
            f"takes {len(starts)} values and gives {len(ends)}"
        )
    return starts.pop(), ends.pop()


def _is_inside(node: GraphNode, path: str) -> bool:
    return f"{node.step.origin.module}.".startswith(f"{path}.")


def _choose(found: Recognition, choice: int) -> Recognition:
    count = len(found.alternatives)
    if not 1 <= choice <= count:
        expected = f"a number from 1 to {count}" if count else "none, as there is one answer"
        raise ArgumentError(f"choice: expected {expected}, got {choice}")
    return found.alternatives[choice - 1]


def _recognise(own: _Own, expected: Config | None) -> Recognition:
    networks = list(_networks(own.parts, expected))
    for part in networks:
        found = _try_part(own, part)
        if found is not None:
            return found
    candidates = list(_blocks(own.parts, expected))
    blocks = list(_exact_blocks(own, candidates))
    if len(blocks) == 1 and (len(own.parts.blocks) == 1 or expected is not None):
        return blocks[0]
    if networks and len(own.parts.blocks) > 1:
        nearest = _find_nearest(own, networks)
    elif blocks:
        nearest = Recognition(own.reading)
    else:
        nearest = _find_nearest(own, [*networks, *(part for each in candidates for part in each)])
    return replace(nearest, alternatives=tuple(blocks))


def _networks(parts: TrunkParts, expected: Config | None) -> Iterator[_Part]:
    if isinstance(expected, BlockConfig):
        return
    ends = find_ends(parts)
    config = make_network(parts, ends) if expected is None else expected
    if config is not None and parts.blocks:
        yield _Part(config, ends.start, ends.end)


def _blocks(parts: TrunkParts, expected: Config | None) -> Iterator[list[_Part]]:
    """For each block what it may be."""
    if isinstance(expected, NetworkConfig):
        return
    for block in parts.blocks:
        configs = map(make_block, vary_fields(read_fields(block), block))
        given = configs if expected is None else [expected]
        different = dict.fromkeys(config for config in given if config is not None)
        yield [_Part(config, block.start, block.end) for config in different]


def _exact_blocks(own: _Own, candidates: Iterable[list[_Part]]) -> Iterator[Recognition]:
    for tried in candidates:
        exact = next((one for part in tried if (one := _try_part(own, part))), None)
        if exact is not None:
            yield exact


def _try_part(own: _Own, part: _Part) -> Recognition | None:
    """The part as what it is taken for; None if it is something else."""
    if own.reading.failure is not None and part.end is own.graph.output:
        return None
    try:
        model = draw_model(part.config, part.start.map_size)
    except ArgumentError:
        return None
    found = align_part(own.graph, (part.start, part.end), model, own.reading.arrays, own.arrays)
    if found is None:
        return None
    common = replace(_begin(own, part), stages=map_stages(found, model))
    each = [_with_parameters(common, names, model) for names in (found.parameters, *found.open)]
    return each[0] if len(each) == 1 else replace(common, alternatives=tuple(each))


def _with_parameters(
    found: Recognition, names: Mapping[str, str], model: DrawnModel
) -> Recognition:
    arrays = found.reading.arrays
    return replace(
        found,
        config=with_decay(model.config, names, found.reading.decays),
        parameters=in_order(names, model),
        arrays=canonical_arrays(names, arrays, model),
    )


def _begin(own: _Own, part: _Part) -> Recognition:
    """What is known of a part before it is compared."""
    trunk = own.parts.trunk
    start, end = trunk.index(part.start), trunk.index(part.end)
    beside = (trunk[1 : start + 1], trunk[end + 1 :])
    before, after = (tuple(map(describe_node, nodes)) for nodes in beside)
    return Recognition(
        own.reading,
        nearest=part.config,
        module=_module_of(own.graph, part),
        before=before,
        after=after,
        unused=_find_unused(own),
        size=part.start.map_size,
    )


def _find_unused(own: _Own) -> tuple[str, ...]:
    """Counters of batches are no parameters."""
    used = {name for node in own.graph.nodes for name in node.names}
    arrays = own.reading.arrays.items()
    return tuple(name for name, each in arrays if name not in used and each.size > 1)


def _module_of(graph: NodeGraph, part: _Part) -> str:
    """The path of the module that consists of the part; "" if there is none."""
    inside = nodes_between(part.start, [part.end])
    if len(inside) == len(graph.nodes) - 1:
        return ""
    paths = [node.step.origin.module.split(".") for node in inside]
    common = list(takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False)))
    path = ".".join(names[0] for names in common)
    members = [node for node in graph.nodes if _is_inside(node, path)]
    return path if members == inside else ""


def _find_nearest(own: _Own, tried: Sequence[_Part]) -> Recognition:
    """The part with the fewest differences."""
    best: Recognition | None = None
    for part in tried:
        differences = _compare(own, part)
        if differences and (best is None or len(differences) < len(best.differences)):
            best = replace(_begin(own, part), differences=tuple(differences))
    return best or Recognition(own.reading)


def _compare(own: _Own, part: _Part) -> list[Deviation]:
    try:
        model = draw_model(part.config, part.start.map_size)
    except ArgumentError:
        return []
    parts = find_parts(own.graph.nodes, part.start, part.end)
    failure = own.reading.failure if part.end is own.graph.output else None
    if isinstance(part.config, NetworkConfig):
        found = compare_trunks(parts, model.parts, failure)
    else:
        found = compare_blocks(parts.blocks[0], model.parts.blocks[0], failure)
    return found or [find_unlike(parts.trunk[0], own.graph.nodes, model.nodes.nodes)]
