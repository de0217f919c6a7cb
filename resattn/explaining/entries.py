"""What an explanation lists: every operation once, or a block that looks like one before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resattn.explaining.analysis import Field, receptive_fields
from resattn.explaining.code.alignment import Line
from resattn.explaining.reasons import find_reason
from weights.config import BlockConfig
from weights.graph import Graph
from weights.operations import Operation


@dataclass(frozen=True)
class Entry:
    """One operation of an explanation.

    part: of the model, such as "stem" or "attention". reason: the key of the sentence that says why
    it is there. block: the name of its block, or "". field: its receptive field. lines: of code.
    """

    operation: Operation
    part: str
    reason: str
    block: str
    field: Field
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class FoldedBlock:
    """A block with the same form as an earlier one. like: the name of that one."""

    name: str
    like: str
    config: BlockConfig
    operations: tuple[Operation, ...]
    field: Field


def list_entries(
    found: Graph, lines: Mapping[str, tuple[Line, ...]]
) -> Iterator[Entry | FoldedBlock]:
    """The entries of a graph, in the order of execution. lines: of code, by operation."""
    fields, named = receptive_fields(found), found.config.named_blocks()
    first: dict[Any, str] = {}
    folded: set[str] = set()
    for operation in found:
        name = _block_of(operation, named)
        if name in folded:
            continue
        block = named.get(name)
        like = name if block is None else first.setdefault(_form_of(block), name)
        if block is not None and like != name:
            inside = tuple(each for each in found if _block_of(each, named) == name)
            folded.add(name)
            yield FoldedBlock(name, like, block, inside, fields[inside[-1].name])
            continue
        rest = operation.name.removeprefix(name).lstrip(".") if name else operation.name
        part, reason = find_reason(operation, rest, block, found)
        own = lines.get(operation.name, ())
        yield Entry(operation, part, reason, name, fields[operation.name], own)


def _block_of(operation: Operation, named: Mapping[str, BlockConfig]) -> str:
    """The name of the block that holds an operation. "" in a single block, a stem and a head."""
    holding = (name for name in named if name and f"{operation.name}.".startswith(f"{name}."))
    return next(holding, "")


# Fields that change neither the operations of a block nor their description. `projects` says
# whether a shortcut has layers.
UNSAID = (
    "in_channels",
    "out_channels",
    "hidden_channels",
    "first_channels",
    "projects_always",
    "drop_path",
    "zero_init",
)


def _form_of(block: BlockConfig) -> tuple[Any, ...]:
    """What decides which operations a block has, apart from the channels."""
    fields = {name: value for name, value in block.to_dict().items() if name not in UNSAID}
    return block.model, block.projects, block.changes, repr(fields)
