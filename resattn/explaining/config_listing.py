"""The text of the explanation of a config."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from resattn.explaining.analysis import Field, field_without_attention
from resattn.explaining.entries import Entry, FoldedBlock, FoldedConfig
from resattn.explaining.listing import Listing
from resattn.explaining.wording import Wording
from resattn.explaining.wrapping import StyledLine, style_lines, wrap
from weights.attention import ATTENTION
from weights.frameworks import FRAMEWORKS

if TYPE_CHECKING:
    from resattn.explaining.explanation import Explanation


class ConfigListing(Listing):
    """The explanation of a config, put into words and laid out."""

    def __init__(self, explanation: "Explanation", wording: Wording):
        super().__init__(explanation, wording)
        self.found, self.code = explanation.graph, explanation.code
        self.totals = explanation.totals()

    def title(self) -> str:
        size = " × ".join(map(str, self.graph.size))
        return self.say("title", what=self.wording.describe(self.found.config), size=size)

    def head_lines(self, width: int) -> Iterator[StyledLine]:
        yield from style_lines(wrap(self.title(), width), "title")
        yield "", ""
        legend = self.say("legend", batch=self.wording.images(), dtype=self.explanation.dtype)
        yield from style_lines(wrap(legend, width))
        if self.code is not None:
            row = FRAMEWORKS[self.code]
            code = self.say("code", label=row.label, package=row.package)
            yield from style_lines(wrap(code, width))

    def heading_lines(self, entry: Entry, block_before: str, width: int) -> Iterator[StyledLine]:
        """The headings in front of the first entry of a block and of a part of the model."""
        block = self.found.config.named_blocks().get(entry.block)
        if block and entry.block != block_before:
            title = self.say("group.block", name=entry.block, **self.wording.block_values(block))
            yield from style_lines(wrap(title, width), "title")
            yield "", ""
        if entry.part == "input":
            return
        kind = block.attention if block else ""
        heading = self.say(f"group.{entry.part}", kind=kind)
        yield from style_lines(wrap(heading, width), "heading")
        if entry.part == "attention":
            summary = self.words.get(f"summary.{kind}", ATTENTION[kind].summary)
            yield from style_lines(wrap(summary, width) if summary else ())
        yield "", ""

    def fold_values(self, fold: FoldedBlock) -> dict[str, Any]:
        assert isinstance(fold, FoldedConfig)
        return self.wording.block_values(fold.config)

    def total_values(self) -> dict[str, Any]:
        return self.totals

    def total_field(self, field: Field) -> str:
        return self.wording.total_field(field, lambda: field_without_attention(self.found))
