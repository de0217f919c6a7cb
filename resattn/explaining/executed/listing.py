"""The text of the explanation of a live model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resattn.explaining.analysis import Field
from resattn.explaining.code.alignment import Line
from resattn.explaining.entries import Entry, FoldedBlock
from resattn.explaining.executed.entries import ExecutedFold
from resattn.explaining.executed.sentences import describe_block, say_failure
from resattn.explaining.listing import MARGIN, Listing
from resattn.explaining.wording import Wording
from resattn.explaining.wrapping import StyledLine, style_lines, wrap, wrap_code
from weights.frameworks import FRAMEWORKS

if TYPE_CHECKING:
    from resattn.explaining.executed.explanation import ExecutedExplanation


class ExecutedListing(Listing):
    """The explanation of a live model, put into words and laid out."""

    FACTS = "executed.facts"

    def __init__(self, explanation: ExecutedExplanation, wording: Wording):
        super().__init__(explanation, wording)
        self.explained, self.found = explanation, explanation.graph
        self.shown_before: list[str] = []
        self.blocks = {block.name: block for block in explanation.blocks}

    def title(self) -> str:
        size = " × ".join(map(str, self.found.size))
        label = FRAMEWORKS[self.found.framework].label
        return self.say("executed.title", what=self.found.title, label=label, size=size)

    def head_lines(self, width: int) -> Iterator[StyledLine]:
        yield from style_lines(wrap(self.title(), width), "title")
        yield "", ""
        legend = self.say("legend", batch=self.wording.images(), dtype=self.explanation.dtype)
        yield from style_lines(wrap(legend, width))
        if any(origin.line for origin in self.found.origins.values()):
            yield from style_lines(wrap(self.words["executed.code"], width))
        if self.explained.failure is not None:
            yield "", ""
            yield from style_lines(wrap(self.words["executed.fails"], width), "heading")

    def heading_lines(self, entry: Entry, block_before: str, width: int) -> Iterator[StyledLine]:
        block = self.blocks.get(entry.block)
        if block and entry.block and entry.block != block_before:
            values = describe_block(self.wording, self.found, block)
            title = self.say("group.block", name=entry.block, **values)
            yield from style_lines(wrap(title, width), "title")
            yield "", ""
        if entry.part == "input":
            return
        side = {"branches", "gates"}
        key = f"executed.{entry.part}" if entry.part in side else f"group.{entry.part}"
        of = block.side_module if block else ""
        heading = self.words[key]
        if of and entry.part in side:
            heading = f"{heading}{self.words['colon']}{of}"
        yield from style_lines(wrap(heading, width), "heading")
        yield "", ""

    def entry_lines(self, entry: Entry, number: int, width: int) -> Iterator[StyledLine]:
        if entry.part == "failure":
            yield from self.failure_lines(width)
            return
        # A line of code that computes several steps is shown once, then its number alone.
        shown = [line.text for line in entry.lines]
        again = bool(shown) and shown == self.shown_before
        self.shown_before = shown
        if again:
            entry = replace(entry, lines=tuple(_keep_place(line) for line in entry.lines))
        yield from super().entry_lines(entry, number, width)

    def failure_lines(self, width: int) -> Iterator[StyledLine]:
        """What failed, how its inputs came to their shapes, and at which line."""
        failure = self.explained.failure
        assert failure is not None
        room = width - len(MARGIN)
        first, *rest = say_failure(self.wording, failure)
        for sentence, style in ((first, "step"), *((each, "") for each in rest)):
            yield from style_lines((MARGIN + line for line in wrap(sentence, room)), style)
        entry = self.explanation.entries[-1]
        assert isinstance(entry, Entry)
        code = wrap_code(entry.lines, room - 2)
        yield from style_lines((f"{MARGIN}│ {line}" for line in code), "code")

    def fold_values(self, fold: FoldedBlock) -> dict[str, Any]:
        assert isinstance(fold, ExecutedFold)
        return describe_block(self.wording, self.found, fold.block)

    def total_values(self) -> dict[str, Any]:
        return self.explained.totals()

    def total_rows(self) -> Iterator[tuple[str, str]]:
        yield from super().total_rows()
        if self.found.unused:
            yield self.words["executed.unused"], self.wording.join_names(self.found.unused)

    def total_field(self, field: Field) -> str:
        return self.wording.total_field(field)


def _keep_place(line: Line) -> Line:
    """The file and the number of a line, without its text."""
    return replace(line, text=line.text.split()[0])
