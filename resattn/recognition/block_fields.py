"""The config of a block, read off its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resattn.reading.roles import NORM_OPS
from resattn.recognition.attention_search import find_attention, find_similar
from resattn.recognition.nodes import KERNEL_OPS, GraphNode, Side
from resattn.recognition.structure import POOL_OPS, BlockPaths, PathParts
from weights.block_config import BlockConfig, BottleneckConfig
from weights.checks import SAME, Pair
from weights.errors import ArgumentError

USUAL_EPS = BlockConfig(1, 1).bn_eps
MOST_SIMILAR = 8  # attentions that are tried where none is equal
Fields = dict[str, Any]
Sides = tuple[Side, ...]


def read_fields(block: BlockPaths) -> Fields:
    """The fields of a block's config, as its first convolutions and its shortcut show them.

    With "form", "basic" or "bottleneck". Attention is the plainest that computes the same, else one
    that computes something similar, else "none".
    """
    main, kernels = block.main, main_kernels(block.main)
    form = "bottleneck" if len(kernels) == 3 else "basic"
    wide = kernels[1] if form == "bottleneck" else kernels[0] if kernels else None
    fields: Fields = {
        "form": form,
        "in_channels": block.start.channels,
        "out_channels": block.total.channels,
        "kernel_size": kernel_of(wide),
        "stride": _stride(block, form, kernels),
        "conv_bias": any(has_bias(node) for node in kernels),
        "dilation": _dilations(form, kernels),
        **read_norms([*main.layers, *main.after, *block.shortcut.layers]),
        **_read_shortcut(block),
    }
    fields["antialias"] = next(
        (POOL_OPS[node.op] for node in main.layers if node.op in POOL_OPS), "none"
    )
    last = main.layers[-1] if main.layers else None
    fields["relu_before_attention"] = last is not None and last.op == "relu"
    if form == "bottleneck":
        fields["first_channels"], fields["hidden_channels"] = (
            node.channels for node in kernels[:2]
        )
        fields["groups"] = kernels[1].facts.get("groups", 1)
        at_first = stride_of(kernels[0]) != (1, 1) and stride_of(kernels[1]) == (1, 1)
        fields["stride_at"] = "conv1" if at_first else "conv2"
    chosen = find_attention(main) or find_similar(main)
    fields["attention"], fields["attention_options"] = chosen[0] if chosen else ("none", {})
    return fields


def main_kernels(main: PathParts) -> list[GraphNode]:
    """The convolutions of a main path, those after a misplaced attention included."""
    return main.kernels + [node for node in main.after if node.op in KERNEL_OPS]


def make_block(fields: Mapping[str, Any]) -> BlockConfig | None:
    """The block of such fields; None if there is none."""
    given = {name: value for name, value in fields.items() if name != "form"}
    kind = BottleneckConfig if fields["form"] == "bottleneck" else BlockConfig
    known = {name for name in given if name in kind.__dataclass_fields__}
    try:
        return kind(**{name: given[name] for name in known})
    except ArgumentError:
        return None


def vary_fields(fields: Fields, block: BlockPaths) -> Iterator[Fields]:
    """The fields, and others that may be meant where a block is like none of ours."""
    yield fields
    if not find_attention(block.main):
        for kind, attention_options in find_similar(block.main)[:MOST_SIMILAR]:
            yield {**fields, "attention": kind, "attention_options": attention_options}
    strides = [stride_of(node) for node in (*main_kernels(block.main), *block.shortcut.kernels)]
    options: dict[str, Iterable[Any]] = {
        "padding": (SAME,),
        "stride": dict.fromkeys(strides),
        "conv_bias": (True, False),
        "form": ("basic", "bottleneck"),
        "norm": ("batch", "folded"),
        "relu_before_attention": (True, False),
        "shortcut": ("convolution", "subsample"),
    }
    for name, values in options.items():
        for value in values:
            if fields.get(name) != value:
                changed = {**fields, name: value}
                if changed.get("norm") == "folded":
                    changed["conv_bias"] = True
                yield changed


def kernel_of(node: GraphNode | None) -> Pair:
    """The size of its window; 1x1 for None."""
    sides: Sides = node.facts.get("sides", ()) if node is not None else ()
    return (sides[0][0], sides[1][0]) if len(sides) == 2 else (1, 1)


def stride_of(node: GraphNode) -> Pair:
    sides = node.facts.get("sides", ())
    return (sides[0][1], sides[1][1]) if len(sides) == 2 else (1, 1)


def has_bias(node: GraphNode) -> bool:
    return len(node.names) > 1


def _stride(block: BlockPaths, form: str, kernels: Sequence[GraphNode]) -> Pair:
    """That of the shortcut, which has one place for it; else of the main path's first layers."""
    for node in block.shortcut.layers:
        if "sides" in node.facts and stride_of(node) != (1, 1):
            return stride_of(node)
        if node.facts.get("strides"):
            steps = dict(node.facts["strides"])
            return steps.get("rows", 1), steps.get("cols", 1)
    if block.shortcut.layers:
        return (1, 1)
    places = [node for node in block.main.layers if "sides" in node.facts][:2]
    rows, cols = 1, 1
    for node in places:
        rows, cols = rows * stride_of(node)[0], cols * stride_of(node)[1]
    small = block.total.map_size == block.start.map_size
    return (1, 1) if small else (rows, cols)


def _dilations(form: str, kernels: Sequence[GraphNode]) -> Pair:
    """Of the first and of the last kernel that is not 1x1."""
    wide = [node.facts["sides"] for node in kernels if "sides" in node.facts]
    first, last = (max(side[4] for side in wide[at]) if wide else 1 for at in (0, -1))
    return (first, first if form == "bottleneck" else last)


def read_norms(nodes: Iterable[GraphNode]) -> Fields:
    """The kind of norm, its groups and its eps, as most of the nodes have them."""
    norms = [node for node in nodes if node.op in NORM_OPS]
    if not norms:
        return {"norm": "folded"}
    kind = most_common(node.op for node in norms)
    fields: Fields = {"norm": "group" if kind == "group_norm" else "batch"}
    same = [node for node in norms if node.op == kind]
    if kind == "group_norm":
        fields["norm_groups"] = most_common(node.facts["groups"] for node in same)
    eps = most_common((node.facts["eps"] for node in same if "eps" in node.facts), USUAL_EPS)
    return {**fields, "bn_eps": eps} if eps else fields


def most_common(values: Iterable[Any], usual: Any = None) -> Any:
    """The value that occurs most often, of several the usual one, else the first; None if there is
    none.
    """
    counted = Counter(values)
    if not counted:
        return None
    value, most = counted.most_common(1)[0]
    return usual if counted[usual] == most else value


def _read_shortcut(block: BlockPaths) -> Fields:
    layers = block.shortcut.layers
    kernels = block.shortcut.kernels
    changes = block.start.channels != block.total.channels or any(
        "sides" in node.facts and stride_of(node) != (1, 1) for node in layers
    )
    if kernels:
        pools = any(node.op in POOL_OPS for node in layers)
        fields: Fields = {"shortcut": "average" if pools else "convolution"}
        fields["shortcut_kernel_size"] = kernel_of(kernels[0])
        fields["projects_always"] = not changes
        return fields
    if layers:
        return {"shortcut": "subsample"}
    return {}
