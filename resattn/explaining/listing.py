"""The text of an explanation, line by line, for a terminal."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from rich.cells import cell_len

from resattn.explaining.analysis import Field
from resattn.explaining.brief import brief_lines
from resattn.explaining.entries import AnyExplanation, Entry, FoldedBlock
from resattn.explaining.wording import Wording, format_bytes, format_formulas, format_sizes
from resattn.explaining.wrapping import (
    StyledLine,
    align_columns,
    pad,
    place_beside,
    style_lines,
    wrap,
    wrap_code,
)
from weights.operations import Operation

BESIDE = 112  # the width from which code is beside the text and not between its lines
CODE = 50  # the width of the code there
MARGIN = " " * 5  # in front of every line of an entry; the first has its number there


class Listing(ABC):
    """An explanation, put into words and laid out. FACTS: the key of the heading of the facts."""

    FACTS = "group.facts"

    def __init__(self, explanation: AnyExplanation, wording: Wording):
        self.explanation = explanation
        self.graph = explanation.graph
        self.wording = wording
        self.words, self.say = wording.words, wording.say

    def lines(self, width: int) -> Iterator[StyledLine]:
        yield from self.head_lines(width)
        before = ("", "")
        number = 0
        for entry in self.explanation.entries:
            yield "", ""
            if isinstance(entry, FoldedBlock):
                yield from self.fold_lines(entry, width)
                number += len(entry.operations)
                before = ("fold", entry.name)
                continue
            if (entry.part, entry.block) != before:
                yield from self.heading_lines(entry, before[1], width)
                before = (entry.part, entry.block)
            yield from self.entry_lines(entry, number, width)
            number += 1
        yield from self.total_lines(width)
        yield from self.fact_lines(width)

    def brief_lines(self, width: int) -> Iterator[StyledLine]:
        """The brief form: a line for each operation."""
        return brief_lines(self.explanation, self.wording, self.title(), width)

    @abstractmethod
    def title(self) -> str:
        """What is explained."""

    @abstractmethod
    def head_lines(self, width: int) -> Iterator[StyledLine]:
        """What the explanation begins with."""

    @abstractmethod
    def heading_lines(self, entry: Entry, block_before: str, width: int) -> Iterator[StyledLine]:
        """The headings in front of the first entry of a block and of a part of the model."""

    @abstractmethod
    def fold_values(self, fold: FoldedBlock) -> dict[str, Any]:
        """The values in the sentences about a folded block."""

    @abstractmethod
    def total_values(self) -> dict[str, Any]:
        """The totals. Those of a model that fails have no output and no activations."""

    @abstractmethod
    def total_field(self, field: Field) -> str:
        """The receptive field of the whole model, in words."""

    def entry_lines(self, entry: Entry, number: int, width: int) -> Iterator[StyledLine]:
        """One operation, with its lines of code beside it or between."""
        head = f"{number:>3}  " if number else MARGIN
        beside = width >= BESIDE and bool(entry.lines)
        code = wrap_code(entry.lines, (CODE if beside else width) - 7)
        room = width - CODE - 2 if beside else width
        title, details = self.entry_text(entry, number, room - len(MARGIN))
        if beside:
            text = [*style_lines(title, "step"), *style_lines(details)]
            yield from place_beside(head, text, code, room)
            return
        first, *rest = title
        yield from style_lines([head + first, *(MARGIN + line for line in rest)], "step")
        yield from style_lines((f"{MARGIN}│ {line}" for line in code), "code")
        yield from style_lines(MARGIN + line for line in details)

    def entry_text(self, entry: Entry, number: int, width: int) -> tuple[list[str], list[str]]:
        """The name of an operation and what it computes; then shapes, costs and the reason."""
        operation, before = entry.operation, self.graph.operations[number - 1].name
        title = self.wording.what(operation)
        if operation.kind != "input":
            title = f"{operation.name}{self.words['colon']}{title}"
        if operation.inputs and operation.inputs != (before,):
            source = self.say("from", names=list(operation.inputs))
            title = f"{title}{self.words['separator']}{source}"
        details = [
            *self.shape_lines(operation, width),
            self.wording.costs([operation], entry.field),
            self.wording.why(entry),
        ]
        return wrap(title, width), [part for line in details for part in wrap(line, width)]

    def shape_lines(self, operation: Operation, width: int) -> list[str]:
        """Formulas and numbers in one line if they fit, else in two. An unchanged shape once."""
        formulas, numbers = self.wording.shapes(operation)
        if [self.graph[name].shape for name in operation.inputs] == [operation.shape]:
            formulas, numbers = (text.split(" → ")[-1] for text in (formulas, numbers))
            same = f"{formulas} = {numbers}" if numbers else formulas
            return [self.say("unchanged", shape=same)]
        together = f"{formulas}  =  {numbers}"
        if numbers and cell_len(together) > width:
            return [formulas, f"= {numbers}"]
        return [together if numbers else formulas]

    def fold_lines(self, fold: FoldedBlock, width: int) -> Iterator[StyledLine]:
        """A block with the form of an earlier one: its name, its shapes and its costs."""
        title = self.say("fold", name=fold.name, like=fold.like)
        yield from style_lines(wrap(title, width), "title")
        first, last = fold.operations[0], fold.operations[-1]
        shapes = self.graph[first.inputs[0]].shape, last.shape
        formulas, sizes = (
            " → ".join(map(show, shapes)) for show in (format_formulas, format_sizes)
        )
        count, values = len(fold.operations), self.fold_values(fold)
        for line in (
            self.say("fold.detail", count=count, **values),
            f"{formulas}  =  {sizes}" if formulas != sizes else sizes,
            self.wording.costs(fold.operations, fold.field),
        ):
            yield from style_lines(MARGIN + part for part in wrap(line, width - len(MARGIN)))

    def total_lines(self, width: int) -> Iterator[StyledLine]:
        yield "", ""
        yield self.words["group.totals"], "title"
        rows = list(self.total_rows())
        indent = max(cell_len(name) for name, _ in rows)
        for name, value in rows:
            for number, part in enumerate(wrap(value, width - indent - 4)):
                yield f"  {pad(name if number == 0 else '', indent + 2)}{part}", ""
        if "peak_bytes" in self.total_values():
            note = wrap(self.words["total.note"], width - 2)
            yield from style_lines(f"  {line}" for line in note)

    def total_rows(self) -> Iterator[tuple[str, str]]:
        totals = self.total_values()
        makers: dict[str, Callable[[], str]] = {
            "output": lambda: " × ".join(map(str, totals["output"])),
            "parameters": lambda: f"{totals['parameters']:,}",
            "statistics": lambda: f"{totals['statistics']:,}",
            "weight_bytes": lambda: (
                f"{format_bytes(totals['weight_bytes'])} ({self.explanation.dtype})"
            ),
            "multiply_adds": lambda: self.say(
                "total.multiply_adds.value", count=f"{totals['multiply_adds']:,}"
            ),
            "training_bytes": lambda: self.say(
                "total.training_bytes.value",
                bytes=format_bytes(totals["training_bytes"]),
                count=f"{totals['training_numbers']:,}",
            ),
            "peak_bytes": lambda: self.say(
                "total.peak_bytes.value",
                bytes=format_bytes(totals["peak_bytes"]),
                name=totals["peak_at"],
            ),
            "receptive_field": lambda: self.total_field(tuple(totals["receptive_field"])),
        }
        for name, make in makers.items():
            if name in totals:
                yield self.words[f"total.{name}"], make()

    def fact_lines(self, width: int) -> Iterator[StyledLine]:
        yield "", ""
        yield self.words[self.FACTS], "title"
        for fact in self.explanation.facts:
            first, *rest = wrap(self.wording.fact(fact), width - 4)
            yield f"  • {first}", ""
            yield from style_lines(f"    {line}" for line in rest)
            rows = align_columns(self.wording.table(fact))
            yield from style_lines((f"    {line}" for line in rows), "table")
