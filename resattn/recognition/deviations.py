"""In what the parts of a model differ from those of the nearest config: as data, not in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resattn.reading.form import Origin
from resattn.reading.reading import Failure
from resattn.reading.roles import NORM_OPS
from resattn.recognition.attention_search import find_attention, path_key
from resattn.recognition.block_fields import has_bias, kernel_of, stride_of
from resattn.recognition.keys import key_nodes, match_nodes
from resattn.recognition.nodes import KERNEL_OPS, GraphNode
from resattn.recognition.structure import BlockPaths, PathParts, TrunkParts, class_of

Facts = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Deviation:
    """One thing in which a model differs from a config.

    key: what it is, "stride", "missing" and so on; `words_en` has a sentence for each. stage: where
    it is in our model, "conv2" or "stages.0.1.conv2". origin: where it is in the model's own code.
    values: the numbers and names of the sentence, the same for equal sentences.
    """

    key: str
    stage: str
    origin: Origin = field(default=Origin(), compare=False)
    values: Facts = ()

    def __getitem__(self, name: str) -> Any:
        return dict(self.values)[name]


PathItem = GraphNode | PathParts  # a layer, or the attention of a path
ItemPair = tuple[PathItem | None, PathItem | None]  # own and ours
UNPAIRED, IMPOSSIBLE = 1.0, 100.0


def compare_trunks(own: TrunkParts, ours: TrunkParts, failure: Failure | None) -> list[Deviation]:
    """All in which the own parts of a model differ from ours, in the order of execution.

    failure: of the own model, which ends with the sum that fails.
    """
    found: list[Deviation] = []
    counts = len(own.blocks), len(ours.blocks)
    if counts[0] != counts[1] and failure is None:
        found.append(Deviation("blocks", "", Origin(), (("value", counts[0]), ("ours", counts[1]))))
    pairs = zip(own.blocks, ours.blocks, strict=False)
    found += _compare_lines(own.before, ours.before)
    for number, (block, our_block) in enumerate(pairs):
        failed = failure if number == len(own.blocks) - 1 else None
        found += compare_blocks(block, our_block, failed)
        if number + 1 < len(ours.between) and number + 1 < len(own.between) and failed is None:
            found += _compare_lines(own.between[number + 1], ours.between[number + 1])
    return found


def compare_blocks(own: BlockPaths, ours: BlockPaths, failure: Failure | None) -> list[Deviation]:
    """All in which a block differs from ours."""
    if _is_preactivated(own):
        found = [Deviation("preactivation", _stage(ours.total), own.main.layers[0].step.origin)]
        lines = [_only_kernels(own.main), _only_kernels(ours.main)]
        found += _compare_lines(*lines)
    else:
        found = list(_compare_lines(_items(own.main), _items(ours.main)))
    shapes = _count_reductions(own, failure)
    found = _join_moved(found, own)
    if shapes:
        found = [_explain_failure(each, shapes) for each in found]
    found += _compare_lines(_items(own.shortcut), _items(ours.shortcut))
    found += [
        Deviation("extra_path", _stage(ours.total), own.total.step.origin) for _ in own.others
    ]
    if failure is not None:
        explained = any(dict(each.values).get("fails") for each in found)
        found += [] if explained else [_fails(ours, own, shapes)]
    elif not _is_preactivated(own):
        found += _compare_ends(own, ours)
    if own.total.op == "unknown" and failure is None:
        found.append(_unlike(own.total, "extra", ours.total))
    return found


def _join_moved(found: list[Deviation], own: BlockPaths) -> list[Deviation]:
    """An attention at another place than ours is one difference, not two."""
    missing = [each for each in found if each.key == "missing_attention"]
    extra = [each for each in found if each.key == "extra_attention"]
    chosen = find_attention(own.main)
    if not missing or not extra or not chosen:
        return found
    moved = replace(extra[0], key="moved_attention", values=(("kind", chosen[0][0]),))
    return [moved if each is extra[0] else each for each in found if each is not missing[0]]


def _is_preactivated(block: BlockPaths) -> bool:
    layers = block.main.layers
    return bool(layers) and layers[0].op in NORM_OPS and block.end is block.total


def _only_kernels(path: PathParts) -> list[PathItem]:
    items = [item for item in _items(path) if isinstance(item, PathParts)]
    return [*(node for node in (*path.layers, *path.after) if node.op in KERNEL_OPS), *items]


def _items(path: PathParts) -> list[PathItem]:
    return [*path.layers, *([path] if path.attention else []), *path.after]


def _compare_ends(own: BlockPaths, ours: BlockPaths) -> Iterator[Deviation]:
    """The activation after the sum."""
    ends = [[block.end] if block.end is not block.total else [] for block in (own, ours)]
    yield from _compare_lines(*ends)


def _count_reductions(
    own: BlockPaths, failure: Failure | None
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """How many times smaller than its input the main path and the shortcut become, (rows, cols),
    where they do not end with one size.
    """
    sizes = [path.exits[0].map_size for path in (own.main, own.shortcut)]
    if failure is None or sizes[0] == sizes[1]:
        return None
    start = own.start.map_size
    main, shortcut = (
        tuple(-(-whole // part) for whole, part in zip(start, size, strict=True)) for size in sizes
    )
    return (main[0], main[1]), (shortcut[0], shortcut[1])


def _explain_failure(deviation: Deviation, shapes: tuple[Any, Any]) -> Deviation:
    if deviation.key not in ("stride", "padding", "kernel"):
        return deviation
    values = (*deviation.values, ("fails", True), ("main", shapes[0]), ("shortcut", shapes[1]))
    return Deviation(deviation.key, deviation.stage, deviation.origin, values)


def _fails(ours: BlockPaths, own: BlockPaths, shapes: Any) -> Deviation:
    sizes = tuple(
        (path.exits[0].channels, *path.exits[0].map_size) for path in (own.main, own.shortcut)
    )
    return Deviation("fails", _stage(ours.total), own.total.step.origin, (("sizes", sizes),))


# Lines of layers


def _compare_lines(own: Sequence[PathItem], ours: Sequence[PathItem]) -> Iterator[Deviation]:
    """The differences of two lines of layers, aligned so that there are as few as possible."""
    last = next((_item_stage(item) for item in reversed(ours)), "")
    for one, other in _align(own, ours):
        if one is None:
            assert other is not None
            yield _missing(other)
        elif other is None:
            yield _unlike(one, "extra", last)
        else:
            yield from _compare_items(one, other)


def _missing(ours: PathItem) -> Deviation:
    if isinstance(ours, PathParts):
        return Deviation("missing_attention", _item_stage(ours))
    return Deviation("missing", _stage(ours), values=(("op", describe_node(ours)),))


def _align(own: Sequence[PathItem], ours: Sequence[PathItem]) -> list[ItemPair]:
    """Pairs of own and our items in their order, with the least number of differences."""
    costs: dict[tuple[int, int], tuple[float, ItemPair]] = {(0, 0): (0.0, (None, None))}
    for at in range(len(own) + 1):
        for place in range(len(ours) + 1):
            ways: list[tuple[float, ItemPair]] = []
            pair: ItemPair
            if at and place:
                pair = (own[at - 1], ours[place - 1])
                ways.append((costs[at - 1, place - 1][0] + _cost(*pair), pair))
            if at:
                ways.append((costs[at - 1, place][0] + UNPAIRED, (own[at - 1], None)))
            if place:
                ways.append((costs[at, place - 1][0] + UNPAIRED, (None, ours[place - 1])))
            if ways:
                costs[at, place] = min(ways, key=lambda way: way[0])
    found: list[ItemPair] = []
    at, place = len(own), len(ours)
    while (at, place) != (0, 0):
        pair = costs[at, place][1]
        found.insert(0, pair)
        at, place = at - (pair[0] is not None), place - (pair[1] is not None)
    return found


def _cost(own: PathItem, ours: PathItem) -> float:
    if _class(own) != _class(ours):
        return IMPOSSIBLE
    if isinstance(own, PathParts) and isinstance(ours, PathParts):
        return 0.0 if _same_attention(own, ours) else 0.9
    return sum(0.9 for _ in _compare_items(own, ours))


def _same_attention(own: PathParts, ours: PathParts) -> bool:
    """Whether both compute the same, or are one kind with the same options: the keys differ where
    something before it gives it maps of another size.
    """
    if path_key(own) == path_key(ours):
        return True
    found = find_attention(own)
    return bool(found) and found == find_attention(ours)


def _class(item: PathItem) -> str:
    return "attention" if isinstance(item, PathParts) else class_of(item)


def _compare_items(own: PathItem, ours: PathItem) -> Iterator[Deviation]:
    if isinstance(own, PathParts) and isinstance(ours, PathParts):
        if not _same_attention(own, ours):
            yield from _compare_attention(own, ours)
        return
    assert isinstance(own, GraphNode)
    assert isinstance(ours, GraphNode)
    stage, origin = _stage(ours), own.step.origin
    if own.op in KERNEL_OPS:
        yield from _compare_kernels(own, ours)
    elif own.op != ours.op:
        values = (("op", describe_node(own)), ("ours", describe_node(ours)))
        yield Deviation("another", stage, origin, values)
    elif own.op in NORM_OPS:
        yield from _compare_norms(own, ours)
    elif dict(own.facts) != dict(ours.facts):
        yield from _compare_windows(own, ours)


def _compare_attention(own: PathParts, ours: PathParts) -> Iterator[Deviation]:
    """What differs in attentions of the same operations; else that they differ."""
    pairs: dict[GraphNode, GraphNode] = {}
    for one, other in zip(own.exits, ours.exits, strict=False):
        found = match_nodes(
            (own.entry, *own.attention),
            (own.entry, one),
            (ours.entry, *ours.attention),
            (ours.entry, other),
            lambda our, each: sum(1.0 for _ in _compare_items(each, our)),
            class_of,
        )
        pairs.update(found or {})
    inside = [our for our in ours.attention if our in pairs]
    if len(inside) != len(ours.attention):
        yield _unlike(own, "attention", ours)
        return
    different = [each for our in inside for each in _compare_items(pairs[our], our)]
    yield from different or [_unlike(own, "attention", ours)]


def _compare_norms(own: GraphNode, ours: GraphNode) -> Iterator[Deviation]:
    for fact in ("eps", "groups"):
        if own.facts.get(fact) != ours.facts.get(fact):
            yield _facts(fact, own, ours, own.facts.get(fact), ours.facts.get(fact))
    for role in ours.roles:
        if own.roles and role not in own.roles:
            yield Deviation("no_role", _stage(ours), own.step.origin, (("role", role),))


def _compare_kernels(own: GraphNode, ours: GraphNode) -> Iterator[Deviation]:
    yield from _compare_windows(own, ours)
    groups = [node.facts.get("groups", 1) for node in (own, ours)]
    if groups[0] != groups[1]:
        yield _facts("groups", own, ours, *groups)
    if has_bias(own) != has_bias(ours):
        yield _facts("bias", own, ours, has_bias(own), has_bias(ours))
    if own.channels != ours.channels:
        yield _facts("width", own, ours, own.channels, ours.channels)
    if own.weighed:
        functions = tuple(dict.fromkeys(function for _, function in own.weighed))
        yield Deviation("weighed", _stage(ours), own.step.origin, (("functions", functions),))


def _compare_windows(own: GraphNode, ours: GraphNode) -> Iterator[Deviation]:
    names = ("kernel", "stride", "padding", "dilation")
    one, other = _window(own), _window(ours)
    same = [one[name] == other[name] for name in names]
    if all(same) and own.facts.get("axes") != ours.facts.get("axes"):
        yield _facts("axes", own, ours, own.facts.get("axes"), ours.facts.get("axes"))
    padded = own.facts.get("fill"), ours.facts.get("fill")
    if padded[0] != padded[1]:
        yield _facts("fill", own, ours, *padded)
    for name, alike in zip(names, same, strict=True):
        # Another kernel or dilation needs another padding: that is no difference of its own.
        follows = name == "padding" and _is_half(own) and _is_half(ours)
        if not alike and not follows:
            yield _facts(name, own, ours, one[name], other[name])


def _window(node: GraphNode) -> dict[str, Any]:
    sides = node.facts.get("sides", ())
    if len(sides) != 2:
        return {"kernel": (1, 1), "stride": (1, 1), "padding": "half", "dilation": (1, 1)}
    uneven = any(before != size // 2 * apart for size, _, before, _, apart in sides)
    return {
        "kernel": kernel_of(node),
        "stride": stride_of(node),
        "padding": tuple(before for _, _, before, _, _ in sides) if uneven else "half",
        "dilation": tuple(apart for *_, apart in sides),
    }


def _is_half(node: GraphNode) -> bool:
    return bool(_window(node)["padding"] == "half")


def _facts(key: str, own: GraphNode, ours: GraphNode, value: Any, expected: Any) -> Deviation:
    values: Facts = (("value", value), ("ours", expected))
    if key == "padding":
        values = (("value", _padding(own)), ("ours", _padding(ours)))
    return Deviation(key, _stage(ours), own.step.origin, values)


def _padding(node: GraphNode) -> tuple[int, ...]:
    sides = node.facts.get("sides", ())
    return tuple(before for _, _, before, _, _ in sides) if len(sides) == 2 else (0, 0)


def _unlike(own: PathItem, key: str, near: PathItem | str) -> Deviation:
    """Something that ours does not have. near: what comes next to it in ours."""
    stage = near if isinstance(near, str) else _item_stage(near)
    if isinstance(own, PathParts):
        values: Facts = (("ops", tuple(map(describe_node, own.attention))),)
        key = "attention" if isinstance(near, PathParts) else "extra_attention"
        return Deviation(key, stage, own.attention[0].step.origin, values)
    return Deviation(key, stage, own.step.origin, (("op", describe_node(own)),))


def find_unlike(start: GraphNode, own: Sequence[GraphNode], ours: Sequence[GraphNode]) -> Deviation:
    """The first operation of ours that no own one is equal to, where no difference has a name.

    start: where the own part begins.
    """
    keys, our_keys = key_nodes(own, start), key_nodes(ours, ours[0])
    known = {*keys.values()}
    first = next((node for node in ours if our_keys[node] not in known), ours[-1])
    return Deviation("unlike", _stage(first), Origin(), (("op", describe_node(first)),))


# Nodes as data


def describe_node(node: GraphNode) -> Facts:
    """An operation in numbers and names, for a list of them."""
    values: dict[str, Any] = {"op": node.op}
    if node.op in (*KERNEL_OPS, "linear"):
        before = node.inputs[0].channels if node.inputs else 0
        values |= {"in": before, "out": node.channels, "kernel": kernel_of(node)}
        values["groups"] = node.facts.get("groups", 1)
        if len(node.facts.get("sides", ())) == 1:
            values["kernel"] = (node.facts["sides"][0][0],)
    for fact in ("axes", "a", "b", "eps", "primitive", "part", "parts"):
        if fact in node.facts:
            values[fact] = node.facts[fact]
    return tuple(values.items())


def _stage(node: GraphNode) -> str:
    return node.step.name


def _item_stage(item: PathItem) -> str:
    if isinstance(item, GraphNode):
        return _stage(item)
    return item.exits[0].step.name or item.attention[0].step.name
