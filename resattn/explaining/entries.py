"""What an explanation lists: every operation once, or a block that looks like one before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resattn.explaining.analysis import Field, peak, receptive_fields, training_numbers
from resattn.explaining.code.alignment import Line
from resattn.explaining.facts import Fact
from resattn.explaining.reasons import find_reason
from weights.config import BlockConfig
from weights.errors import ArgumentError
from weights.graph import Graph, OperationGraph
from weights.operations import Operation

BYTES = {"float16": 2, "float32": 4, "float64": 8}


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
    operations: tuple[Operation, ...]
    field: Field


@dataclass(frozen=True)
class FoldedConfig(FoldedBlock):
    """A block of a network's config."""

    config: BlockConfig


@dataclass(frozen=True)
class AnyExplanation:
    """What there is to say about a graph, in the order of execution.

    batch, dtype: for the memory.
    """

    graph: OperationGraph
    batch: int
    dtype: str
    entries: tuple[Entry | FoldedBlock, ...]
    facts: tuple[Fact, ...]

    def bytes(self, numbers: int) -> int:
        """The memory of that many numbers per image, for the batch."""
        return numbers * self.batch * BYTES[self.dtype]

    def sums(self) -> dict[str, Any]:
        """Sums over all operations. Activations: numbers for one image, bytes for the batch."""
        operations = self.graph.operations
        parameters = sum(each.trainable for each in operations)
        statistics = sum(each.statistics for each in operations)
        training, (most, where) = training_numbers(self.graph), peak(self.graph)
        return {
            "output": [extent.size for extent in operations[-1].shape],
            "parameters": parameters,
            "statistics": statistics,
            "weight_bytes": (parameters + statistics) * BYTES[self.dtype],
            "multiply_adds": sum(each.multiply_adds for each in operations),
            "training_numbers": training,
            "training_bytes": self.bytes(training),
            "peak_numbers": most,
            "peak_bytes": self.bytes(most),
            "peak_at": where,
        }


def check_dtype(dtype: str) -> None:
    """Raises ArgumentError for a dtype that explanations do not know."""
    if dtype not in BYTES:
        raise ArgumentError(f"--dtype: expected one of {', '.join(BYTES)}, got {dtype!r}")


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
            yield FoldedConfig(name, like, inside, fields[inside[-1].name], block)
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
