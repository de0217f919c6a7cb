"""The config of a network, read off its stem, its blocks and its head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from resattn.recognition.attention_search import Chosen, find_attention, find_similar
from resattn.recognition.block_fields import (
    Fields,
    has_bias,
    kernel_of,
    main_kernels,
    most_common,
    read_fields,
    read_norms,
    stride_of,
)
from resattn.recognition.nodes import KERNEL_OPS, GraphNode
from resattn.recognition.structure import POOL_OPS, BlockPaths, TrunkParts
from weights.checks import SAME, Pair
from weights.config import NetworkConfig
from weights.errors import ArgumentError
from weights.operations import same_padding


@dataclass(frozen=True)
class NetworkEnds:
    """The part of a trunk that a network is: from its input to its average or classifier."""

    start: GraphNode
    end: GraphNode
    classes: int


def find_ends(parts: TrunkParts) -> NetworkEnds:
    """Where a network begins and ends, as far as one can be found."""
    start = parts.trunk[0]
    for node in parts.before:
        if node.op in KERNEL_OPS:
            break
        start = node if node.is_single and node.channels == start.channels else start
    else:
        start = parts.trunk[0]
    after = parts.after
    if not after or not _is_global_average(after[0]):
        return NetworkEnds(start, after[-1] if after else parts.trunk[-1], 0)
    layers = [node for node in after[1:] if node.names]
    if len(layers) == 1 and after[1] is layers[0] and layers[0].op == "dense":
        return NetworkEnds(start, after[1], after[1].channels)
    return NetworkEnds(start, after[0], 0)


def _is_global_average(node: GraphNode) -> bool:
    return node.op == "average" and node.facts.get("axes") == ("cols", "rows")


def make_network(parts: TrunkParts, ends: NetworkEnds) -> NetworkConfig | None:
    """The network with the fields that its parts show; None if no network has these."""
    if not parts.blocks:
        return None
    try:
        return NetworkConfig(**_read_network(parts, ends))
    except ArgumentError:
        return None


def _read_network(parts: TrunkParts, ends: NetworkEnds) -> Fields:
    blocks = parts.blocks
    each = [read_fields(block) for block in blocks]
    chosen = [
        find_attention(block.main) or find_similar(block.main) or [("none", {})] for block in blocks
    ]
    stages = _split_stages(blocks, each, chosen)
    firsts = [stage[0] for stage in stages]
    fields: Fields = {
        "in_channels": ends.start.channels,
        "classes": ends.classes,
        "widths": tuple(each[at]["out_channels"] for at in firsts),
        "depths": tuple(map(len, stages)),
        "form": _one_or_each([each[at]["form"] for at in firsts]),
        **_read_stem(parts, ends),
        **_read_common(parts, each),
        **_read_strides(stages, each, parts, ends),
        **_read_attention(stages, chosen),
    }
    changing = [at for at in firsts if _keeps(each[at])]
    fields["projects_first"] = any(each[at].get("projects_always") for at in changing)
    if "bottleneck" in [each[at]["form"] for at in firsts]:
        fields |= _read_widths(stages, each)
    return fields


def _keeps(fields: Mapping[str, Any]) -> bool:
    """Whether a block changes neither channels nor size."""
    return bool(fields["in_channels"] == fields["out_channels"] and fields["stride"] == (1, 1))


def _one_or_each(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else tuple(values)


def _split_stages(
    blocks: Sequence[BlockPaths], each: Sequence[Fields], chosen: Sequence[Sequence[Chosen]]
) -> list[list[int]]:
    """The numbers of the blocks of each stage: as few stages as possible."""
    stages: list[list[int]] = []
    for at, fields in enumerate(each):
        if stages:
            last = each[stages[-1][-1]]
            same = ("out_channels", "form")
            alike = all(fields[name] == last[name] for name in same) and _keeps(fields)
            alike = alike and not fields.get("projects_always")
            alike = alike and bool(_shared([chosen[stages[-1][0]], chosen[at]]))
            if alike and (len(stages[-1]) == 1 or fields["dilation"] == last["dilation"]):
                stages[-1].append(at)
                continue
        stages.append([at])
    return stages


def _shared(chosen: Iterable[Sequence[Chosen]]) -> list[Chosen]:
    """The kinds and options that all blocks may have, in the order of the first."""
    first, *others = chosen
    return [each for each in first if all(each in other for other in others)]


def _read_attention(stages: Sequence[Sequence[int]], chosen: Sequence[Sequence[Chosen]]) -> Fields:
    everywhere = _shared(chosen)
    if everywhere:
        kind, options = everywhere[0]
        return {"attention": kind, "attention_options": options}
    by_stage = [_shared([chosen[at] for at in stage])[0] for stage in stages]
    return {
        "attention": tuple(kind for kind, _ in by_stage),
        "attention_options": tuple(options or None for _, options in by_stage),
    }


def _read_widths(stages: Sequence[Sequence[int]], each: Sequence[Fields]) -> Fields:
    """Of bottlenecks: hidden widths where they are not a quarter, first widths where these differ
    from the hidden ones, groups and the place of the stride.
    """
    found: Fields = {}
    bottlenecks = [fields for fields in each if fields["form"] == "bottleneck"]
    if any(
        fields["hidden_channels"] != max(1, fields["out_channels"] // 4) for fields in bottlenecks
    ):
        found["hidden_widths"] = _widths(stages, each, "hidden_channels")
    if any(fields["first_channels"] != fields["hidden_channels"] for fields in bottlenecks):
        found["first_widths"] = _widths(stages, each, "first_channels")
    found["groups"] = most_common(fields["groups"] for fields in bottlenecks)
    strided = [fields["stride_at"] for fields in bottlenecks if fields["stride"] != (1, 1)]
    found["stride_at"] = most_common(strided) or "conv2"
    return found


def _widths(stages: Sequence[Sequence[int]], each: Sequence[Fields], name: str) -> tuple[Any, ...]:
    found: list[Any] = []
    for stage in stages:
        widths = [each[at].get(name, 1) for at in stage]
        found.append(widths[0] if len(set(widths)) == 1 else tuple(widths))
    return tuple(found)


def _read_common(parts: TrunkParts, each: Sequence[Fields]) -> Fields:
    """The fields that all blocks have in common, by most of those that show them."""
    strided = [fields for fields in each if fields["stride"] != (1, 1)] or each
    projecting = [fields["shortcut"] for fields in each if "shortcut" in fields]
    layers = [node for block in parts.blocks for node in (*block.main.layers, *block.main.after)]
    kernels = [node for block in parts.blocks for node in main_kernels(block.main)]
    stem = [node for node in parts.before if node.op in KERNEL_OPS]
    found: Fields = {
        "kernel_size": most_common(fields["kernel_size"] for fields in each),
        "padding": SAME if any(map(_is_uneven, kernels)) else None,
        "conv_bias": most_common(map(has_bias, [*kernels, *stem])),
        "antialias": most_common(fields["antialias"] for fields in strided),
        "relu_before_attention": most_common(fields["relu_before_attention"] for fields in each),
        **read_norms([*layers, *parts.before]),
    }
    found["shortcut"] = next((kind for kind in projecting if kind != "convolution"), "convolution")
    wide = [fields["shortcut_kernel_size"] for fields in each if "shortcut_kernel_size" in fields]
    if found["shortcut"] == "convolution" and wide:
        found["shortcut_kernel_size"] = max(wide)
    return found


def _is_uneven(node: GraphNode) -> bool:
    """Whether a kernel is padded by another number than half of it."""
    return any(
        before != size // 2 * dilation
        for size, _, before, _, dilation in node.facts.get("sides", ())
    )


def _read_strides(
    stages: Sequence[Sequence[int]], each: Sequence[Fields], parts: TrunkParts, ends: NetworkEnds
) -> Fields:
    """Strides; and where kernels are dilated, those that the dilations are there instead of."""
    strides: list[Pair] = []
    dilation, dilated = 1, False
    for number, stage in enumerate(stages):
        rows, cols = each[stage[0]]["stride"]
        after = _dilation_after(stages, each, number)
        if after > dilation:
            times = after // dilation
            rows, cols, dilated, dilation = rows * times, cols * times, True, after
        strides.append((rows, cols))
    found: Fields = {"strides": tuple(strides)}
    if dilated:
        stem = [max(stride_of(n)) for n in parts.before if n.position > ends.start.position]
        found["output_stride"] = prod([*stem, *(max(each[stage[0]]["stride"]) for stage in stages)])
    return found


def _dilation_after(stages: Sequence[Sequence[int]], each: Sequence[Fields], number: int) -> int:
    """The dilation with which a stage ends. A bottleneck shows it in the second block."""
    last: Fields = each[stages[number][-1]]
    if last["form"] == "basic" or len(stages[number]) > 1:
        return int(last["dilation"][1])
    if number + 1 < len(stages):
        return int(each[stages[number + 1][0]]["dilation"][0])
    return int(last["dilation"][0])


# The stem


def _read_stem(parts: TrunkParts, ends: NetworkEnds) -> Fields:
    nodes = [node for node in parts.before if node.position > ends.start.position]
    kernels = [node for node in nodes if node.op in KERNEL_OPS]
    if not kernels:
        return {}
    found: Fields = {}
    found["stem_pool"] = _find_pool(nodes, kernels)
    if found["stem_pool"] == "convolution":
        kernels = kernels[:-1]
    widths = tuple(node.channels for node in kernels)
    found["stem_channels"] = widths if len(widths) > 1 else widths[0]
    found["stem_kernel_size"] = kernel_of(kernels[0])
    found["stem_stride"] = stride_of(kernels[0])
    found["stem_padding"] = SAME if any(map(_is_uneven, kernels)) else None
    return found


def _find_pool(nodes: Sequence[GraphNode], kernels: Sequence[GraphNode]) -> str | None:
    ops = [node.op for node in nodes]
    if "binomial filter" in ops:
        return "max_blur"
    if "max_pool" in ops:
        return _name_max_pool(nodes[ops.index("max_pool")])
    if any(op in POOL_OPS for op in ops):
        return "average"
    return "convolution" if len(kernels) > 1 and stride_of(kernels[-1]) == (2, 2) else None


def _name_max_pool(node: GraphNode) -> str:
    sides = node.facts["sides"]
    extents = node.inputs[0].map_size
    if all(before == 1 for _, _, before, _, _ in sides):
        return "max"
    same = [
        same_padding(extent, size, stride)[0] == before
        for extent, (size, stride, before, _, _) in zip(extents, sides, strict=True)
    ]
    ceil = all(before == 0 for _, _, before, _, _ in sides)
    return "max_same" if all(same) and not ceil else "max_ceil"
