"""The brief form of an explanation: one line for each operation, and one for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from resattn.explaining.entries import AnyExplanation, Entry, FoldedBlock
from resattn.explaining.wording import Wording, format_sizes
from resattn.explaining.wrapping import StyledLine, pad, style_lines, wrap
from weights.compare import cut_middle
from weights.operations import Operation

_GAP = "  "
_LEAST, _LEAST_NAME = 12, 14  # cells for what an operation computes, and for its name


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
    table = _narrow([heads, *rows, total], width)
    widths = _measure(table)
    widths[1] = max(_LEAST, min(widths[1], width - _measure_others(widths)))
    yield from style_lines(wrap(title, width), "title")
    yield "", ""
    for number, row in enumerate(table):
        style = "step" if number in (0, len(table) - 1) else ""
        yield _align(row, widths), style


def _narrow(table: Sequence[list[str]], width: int) -> list[list[str]]:
    """A table that leaves room for what an operation computes: with shorter names, then without
    the parameters.
    """
    spare = _measure_others(_measure(table)) + _LEAST - width
    if spare > 0:
        room = max(_LEAST_NAME, _measure(table)[0] - spare)
        table = [[cut_middle(row[0], room), *row[1:]] for row in table]
    if _measure_others(_measure(table)) + _LEAST > width:
        table = [[*row[:3], *row[4:]] for row in table]
    return [*table]


def _measure(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*table, strict=True)]


def _measure_others(widths: Sequence[int]) -> int:
    """The cells of a line that all but the second column take."""
    return sum(widths) - widths[1] + len(_GAP) * (len(widths) - 1)


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
