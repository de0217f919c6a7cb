"""The steps of an executed graph: the part of the model that each belongs to, and why it is there.

Nothing is known of the model but its edges. A reason is given where these show it; all other
operations get a plain sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from resattn.explaining.analysis import Field
from resattn.explaining.code.alignment import Line
from resattn.explaining.entries import Entry, FoldedBlock
from resattn.explaining.reach import executed_fields
from resattn.explaining.reasons import COMMON_REASONS, NORM_REASONS, on_shortcut
from resattn.reading.blocks import GATING, ExecutedBlock, describe_form, is_gated
from resattn.reading.executed import ExecutedGraph
from resattn.reading.kinds import IMAGE_AXES
from resattn.reading.sources import read_line
from weights.checks import Pair
from weights.operations import Operation

SHORTCUT_WORDS = ("average_pool", "subsample")


@dataclass(frozen=True)
class ExecutedFold(FoldedBlock):
    """A block with the same form as an earlier one."""

    block: ExecutedBlock


def list_executed(
    found: ExecutedGraph, blocks: Sequence[ExecutedBlock]
) -> Iterator[Entry | FoldedBlock]:
    """The entries of a graph, in the order of execution. blocks: as `find_blocks` finds them."""
    fields = executed_fields(found)
    block_of = {name: block for block in blocks for name in block.members}
    first: dict[Any, str] = {}
    folded: set[str] = set()
    for operation in found:
        block = block_of.get(operation.name)
        if block is None:
            yield _make_entry(found, operation, _find_part(found, operation, blocks), None, fields)
            continue
        like = first.setdefault(describe_form(found, block, channels=False), block.name)
        if block.name in folded:
            continue
        if like != block.name:
            folded.add(block.name)
            inside = block.list_operations(found)
            yield ExecutedFold(block.name, like, inside, fields[block.end], block)
            continue
        part = _find_part_of_block(found, operation, block)
        yield _make_entry(found, operation, part, block, fields)


def own_lines(found: ExecutedGraph, name: str) -> tuple[Line, ...]:
    """The line of the user's own code that computes an operation, with its file and its number."""
    origin = found.origins[name]
    if not origin.line:
        return ()
    text = f"{Path(origin.file).name}:{origin.line}  {read_line(origin.file, origin.line)}"
    return (Line(text, origin.kind, origin.module, origin.line),)


def block_stride(found: ExecutedGraph, block: ExecutedBlock) -> Pair:
    """By how much the main path of a block divides rows and columns."""
    trunk = [found[name] for name in block.main if name not in block.side]
    strides = [each.settings["stride"] for each in trunk if "stride" in each.settings]
    rows, cols = (prod(stride[side] for stride in strides) for side in (0, 1))
    return rows, cols


def _make_entry(
    found: ExecutedGraph,
    operation: Operation,
    part: str,
    block: ExecutedBlock | None,
    fields: dict[str, Field],
) -> Entry:
    reason = _find_reason(found, operation, part, block)
    name = block.name if block else ""
    lines = own_lines(found, operation.name)
    return Entry(operation, part, reason, name, fields[operation.name], lines)


# The parts


def _find_part(found: ExecutedGraph, operation: Operation, blocks: Sequence[ExecutedBlock]) -> str:
    """The part of the model, outside of its blocks."""
    if operation.kind in ("input", "failure"):
        return operation.kind
    if not blocks:
        return "steps"
    order = [each.name for each in found]
    place = order.index(operation.name)
    if place < min(order.index(block.main[0]) for block in blocks):
        return "stem"
    after = place > max(order.index(block.end) for block in blocks)
    classifies = any(each.kind == "linear" for each in found.operations[place:])
    return "head" if after and classifies else "between"


def _find_part_of_block(found: ExecutedGraph, operation: Operation, block: ExecutedBlock) -> str:
    if operation.kind == "failure":
        return "failure"
    if operation.name in (block.join, block.end):
        return "join"
    if operation.name in block.shortcut:
        return "shortcut"
    if operation.name in block.side:
        return "gates" if is_gated(found, block.side) else "branches"
    return "main"


# The reasons


def _find_reason(
    found: ExecutedGraph, operation: Operation, part: str, block: ExecutedBlock | None
) -> str:
    """The key of the sentence that says why an operation is there, without "why."."""
    known = ""
    if operation.kind == "input":
        return "input"
    if block is not None:
        known = {
            "join": _at_sum,
            "shortcut": _beside,
            "main": _on_main,
            "gates": _of_gates,
        }.get(part, _plain)(found, operation, block)
    elif part in ("stem", "head"):
        known = _outside_blocks(found, operation, part)
    return known or _plain(found, operation, block)


def _plain(found: ExecutedGraph, operation: Operation, block: ExecutedBlock | None) -> str:
    kind = operation.kind
    if kind in GATING[:2]:
        return "plain.function"
    reason = NORM_REASONS.get(kind) or COMMON_REASONS.get(kind)
    return reason or f"plain.{kind}"


def _at_sum(found: ExecutedGraph, operation: Operation, block: ExecutedBlock) -> str:
    if operation.name != block.join:
        return "output" if operation.kind == "relu" else ""
    kinds = [found[name].kind for name in block.shortcut]
    if not kinds:
        return "sum.identity"
    return "sum.subsample" if kinds == ["subsample"] else "sum.projection"


def _beside(found: ExecutedGraph, operation: Operation, block: ExecutedBlock) -> str:
    known = ("convolution", *NORM_REASONS, *SHORTCUT_WORDS)
    return on_shortcut(operation) if operation.kind in known else ""


def _on_main(found: ExecutedGraph, operation: Operation, block: ExecutedBlock) -> str:
    trunk = [found[name] for name in block.main if name not in block.side]
    if operation.kind in NORM_REASONS:
        return "last_norm" if operation is trunk[-1] else ""
    convolutions = [each for each in trunk if each.kind == "convolution"]
    if operation not in convolutions:
        return ""
    number = convolutions.index(operation)
    pointwise = [prod(each.settings["kernel"]) == 1 for each in convolutions]
    strided = operation.settings["stride"] != (1, 1)
    if pointwise == [True, False, True]:
        return _of_bottleneck(operation, number, strided)
    if len(convolutions) != 2:
        return ""
    if number == 0:
        again = convolutions[1].settings["stride"] != (1, 1)
        if strided:
            return "first.strided" if again else "conv1.strided"
        return "conv1.pointwise" if pointwise[0] else "conv1"
    return "second.strided" if strided else "" if pointwise[1] else "conv2"


def _of_bottleneck(operation: Operation, number: int, strided: bool) -> str:
    grouped = ".grouped" if number == 1 and operation.settings["groups"] > 1 else ""
    step = ".strided" if strided and number < 2 else ""
    return f"bottleneck.conv{number + 1}{grouped}{step}"


def _of_gates(found: ExecutedGraph, operation: Operation, block: ExecutedBlock) -> str:
    users = [each for each in found if operation.name in each.inputs]
    if operation.kind == "average" and operation.settings["axes"] == IMAGE_AXES:
        return "squeeze"
    if operation.kind in GATING[:2]:
        return "gate" if any(each.kind == "product" for each in users) else ""
    if operation.kind == "product":
        smaller = min((found[name] for name in operation.inputs), key=lambda each: each.numbers)
        if smaller.numbers == operation.shape[0].size > 1:
            return "gate.channels"
        return "gate.positions" if smaller.shape[0].size == 1 else ""
    if operation.kind in ("convolution", "linear") and _leads_to_gate(found, operation, block):
        given = found[operation.inputs[0]].numbers
        if operation.numbers == operation.shape[0].size != given:
            return "excite.first" if operation.numbers < given else "excite.second"
    return ""


def _leads_to_gate(found: ExecutedGraph, operation: Operation, block: ExecutedBlock) -> bool:
    """Whether a gate is computed from an operation, in the attention of a block."""
    reached = {operation.name}
    for name in block.side:
        if reached.intersection(found[name].inputs):
            if found[name].kind in GATING[:2]:
                return True
            reached.add(name)
    return False


def _outside_blocks(found: ExecutedGraph, operation: Operation, part: str) -> str:
    kind, settings = operation.kind, operation.settings
    strided = settings.get("stride", (1, 1)) != (1, 1)
    if part == "stem" and kind == "convolution":
        first = found[operation.inputs[0]].kind == "input"
        return ("stem.conv.strided" if strided else "stem.conv") if first else "stem.conv.further"
    if part == "stem" and kind == "max_pool":
        return "stem.pool" if strided else "stem.pool.dense"
    if part == "head" and kind == "average" and settings["axes"] == IMAGE_AXES:
        return "global_average"
    last = operation is found.operations[-1]
    return "classifier" if part == "head" and kind == "linear" and last else ""
