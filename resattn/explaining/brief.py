"""The brief form of an explanation: one line for each operation, and one for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from resattn.explaining.entries import AnyExplanation, Entry, FoldedBlock
from resattn.explaining.wording import Wording, format_sizes
from resattn.explaining.wrapping import StyledLine, pad, style_lines, wrap
from weights.operations import Operation

_GAP = "  "
_LEAST = 16  # cells for what an operation computes; a narrower terminal breaks the lines itself


def brief_lines(
    explanation: AnyExplanation, wording: Wording, title: str, width: int
) -> Iterator[StyledLine]:
    """A table: the name of each operation, what it computes, its output, parameters and
    multiply-adds. A block with the form of an earlier one has one line.
    """
    words = wording.words
    heads = [
        words[f"brief.{name}"] for name in ("name", "what", "output", "parameters", "products")
    ]
    rows = [_make_row(entry, wording) for entry in explanation.entries]
    operations = explanation.graph.operations
    total = [words["brief.total"], "", *_count(operations)]
    table = [heads, *rows, total]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    others = sum(widths) - widths[1] + len(_GAP) * (len(widths) - 1)
    widths[1] = max(_LEAST, min(widths[1], width - others))
    yield from style_lines(wrap(title, width), "title")
    yield "", ""
    for number, row in enumerate(table):
        style = "step" if number in (0, len(table) - 1) else ""
        yield _align(row, widths), style


def _make_row(entry: Entry | FoldedBlock, wording: Wording) -> list[str]:
    if isinstance(entry, FoldedBlock):
        what = wording.say("brief.fold", like=entry.like)
        return [entry.name, what, *_count(entry.operations)]
    operation = entry.operation
    return [operation.name, wording.what(operation), *_count([operation])]


def _count(operations: Sequence[Operation]) -> list[str]:
    """The output of the last one; the parameters and multiply-adds of all."""
    counts = (
        sum(each.trainable for each in operations),
        sum(each.multiply_adds for each in operations),
    )
    return [
        format_sizes(operations[-1].shape).replace(" ", ""),
        *(f"{count:,}" if count else "" for count in counts),
    ]


def _align(row: Sequence[str], widths: Sequence[int]) -> str:
    """The cells of a row in their columns, numbers on the right. What does not fit is cut off."""
    name, what, output, *numbers = row
    if cell_len(what) > widths[1]:
        what = set_cell_size(what, widths[1] - 1).rstrip() + "…"
    left = [pad(cell, size) for cell, size in zip((name, what, output), widths, strict=False)]
    right = [
        " " * (size - cell_len(number)) + number
        for number, size in zip(numbers, widths[3:], strict=True)
    ]
    return _GAP.join([*left, *right]).rstrip()
