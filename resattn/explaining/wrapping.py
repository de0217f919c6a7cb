"""Text in lines of a terminal, where Chinese characters are two cells wide."""

import re
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

from resattn.explaining.code.alignment import Line

StyledLine = tuple[str, str]  # a line and the name of its style, "" for none

# A line is not broken at these: 32 × 32, a - b. The tie takes the place of their spaces.
_BOUND = re.compile(r"(?<=\S) ([×/-]) (?=\S)")
_TIE = "¬"
# Chinese characters and marks have no space between them. Names put into a sentence bring some.
_NO_SPACE = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) (?=[\u3000-\u9fff\uff00-\uffef])")
# A word of a Latin script or one character of another. Each takes along the marks that must not
# begin or end a line.
WORD = r"[（“]*(?:[^\s\u2e80-\uffef“”]+|[^\s（“])[，。；：、）！？”…]*"
_TOKENS = re.compile(rf"\s+|{WORD}")


def tie(text: str) -> str:
    """The text as one word, which `wrap` does not break."""
    return text.replace(" ", _TIE)


def close_gaps(text: str) -> str:
    """The text without spaces between Chinese characters."""
    return _NO_SPACE.sub("", text)


def wrap(text: str, width: int) -> list[str]:
    """Breaks a text into lines of at most `width` cells.

    Lines end between words or between Chinese characters. None begins with a closing mark or ends
    with an opening one. A word that is wider than `width` has a line of its own.
    """
    lines, line = [], ""
    for token in _TOKENS.findall(_BOUND.sub(rf"{_TIE}\1{_TIE}", text)):
        if line and cell_len((line + token).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += token if line or token.strip() else ""
    lines = [*lines, line.rstrip()] if line.strip() or not lines else lines
    return [line.replace(_TIE, " ") for line in lines]


def pad(text: str, width: int) -> str:
    """Fills a text with spaces up to a width in cells."""
    return text + " " * (width - cell_len(text))


def style_lines(lines: Iterable[str], style: str = "") -> list[StyledLine]:
    return [(line, style) for line in lines]


def align_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows of a table, with two spaces between columns."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(pad, row, widths)).rstrip()


def wrap_code(lines: Sequence[Line], width: int) -> list[str]:
    """Lines of code, with the name of the class where it changes. Long ones are broken."""
    several = len({line.of for line in lines}) > 1
    shown: list[str] = []
    of = ""
    for line in lines:
        if several and line.of != of:
            shown.append(f"# {line.of}")
        of = line.of
        code = line.text.lstrip()
        indent = " " * (len(line.text) - len(code))
        room = max(20, width - len(indent))
        first, *rest = wrap(code, room) if cell_len(line.text) > width else [code]
        shown += [indent + first, *(f"{indent}    {part}" for part in rest)]
    return shown


def place_beside(
    head: str, text: Sequence[StyledLine], code: Sequence[str], width: int
) -> Iterator[StyledLine]:
    """Text on the left, code on the right. head: what the first line begins with."""
    for number in range(max(len(text), len(code))):
        left, style = text[number] if number < len(text) else ("", "")
        left = (head if number == 0 else " " * len(head)) + left
        if number < len(code):
            yield f"{pad(left, width)} │ {code[number]}", style or "beside"
        else:
            yield left.rstrip(), style
