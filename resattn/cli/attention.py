"""`resattn attention`."""

from __future__ import annotations

from inspect import Parameter
from shutil import get_terminal_size
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resattn.cli.arguments import parse_json_object, parse_size
from resattn.cli.terminal import print_line

if TYPE_CHECKING:
    from weights.attention import Kind


def attention(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="One kind, to see its options and parameters. Without it all kinds are listed.",
        ),
    ] = None,
    channels: Annotated[int, typer.Option(help="Channels of the map.", min=1)] = 256,
    size: Annotated[str, typer.Option(help="Height and width of the map, as in 14x14.")] = "14x14",
    options: Annotated[
        str | None, typer.Option(help="Options of KIND as JSON, as in '{\"kernel_size\": 3}'.")
    ] = None,
) -> None:
    """List the attention kinds: what each does, its source, and what it costs.

    With KIND: its options and its parameters.
    """
    from weights.errors import ArgumentError

    sides = parse_size(size)
    if kind is not None:
        show_kind(kind, channels, sides, parse_json_object("--options", options or "{}"))
    elif options is not None:
        raise ArgumentError("--options: expected a KIND that has them, but none was given")
    else:
        list_kinds(channels, sides)


def list_kinds(channels: int, size: tuple[int, int]) -> None:
    """Prints a table of all kinds."""
    from weights.attention import ATTENTION

    table: list[tuple[str, ...]] = [("kind", "parameters", "multiply-adds", "what it does")]
    for name, described in ATTENTION.items():
        table.append((name, *costs(name, channels, size), sentence(described)))
    print_line(f"{channels} channels, maps of {size[0]} x {size[1]}, options at their defaults:\n")
    print_line("\n".join(fold_table(table)))
    print_line("\nMultiply-adds for one image: convolutions, linear layers and matrix products.")
    if any("-" in row[1:3] for row in table):
        print_line(
            "-: the kind cannot have this number of channels, or its number is not registered."
        )
    print_line("Next: resattn attention cbam (source, options and parameters of one kind)")


def show_kind(kind: str, channels: int, size: tuple[int, int], given: dict[str, Any]) -> None:
    """Prints the source, the costs, the options and the parameters of one kind."""
    from weights.attention import ATTENTION, attention_parameters
    from weights.compare import columns

    chosen = {**fixed_size(kind, size, given), **given}
    parameters = attention_parameters(kind, channels, chosen)
    described = ATTENTION[kind]
    numbers, products = costs(kind, channels, size, given)
    print_folded(f"{kind}: {described.summary}")
    print_line(f"source: {described.source or 'none given'}")
    print_line(
        f"at {channels} channels and maps of {size[0]}x{size[1]}: {numbers} parameters, {products} "
        "multiply-adds\n"
    )
    if described.options:
        values = {**described.options, **chosen}
        print_folded(
            "options: "
            + ", ".join(f"{name}={format_default(value)}" for name, value in values.items())
        )
        print_folded(" ".join(described.explanation.split()))
        print_line()
    rows = [(p.name, " x ".join(map(str, p.shape)), p.axes) for p in parameters]
    table = columns([("parameter", "shape", "axes"), *rows]) if rows else ["no parameters"]
    print_line("\n".join(table))


def print_folded(text: str) -> None:
    """Prints a paragraph, folded to the width of the terminal."""
    print_line(fill(text, get_terminal_size().columns, break_on_hyphens=False))


def sentence(described: Kind) -> str:
    """What a kind does, and its authors in brackets."""
    authors = described.source.split(",")[0]
    return f"{described.summary} ({authors})" if authors else described.summary


def fixed_size(kind: str, size: tuple[int, int], given: dict[str, Any]) -> dict[str, Any]:
    """The option `size`, for a kind that needs it; else no option."""
    from weights.attention import ATTENTION

    known = ATTENTION[kind].options if kind in ATTENTION else {}
    whole = kind == "ge" and given.get("gather") == "convolution" and given.get("extent") is None
    return {"size": size} if whole or known.get("size") is Parameter.empty else {}


def format_default(default: object) -> str:
    """The default of an option, as text."""
    return "(must be given)" if default is Parameter.empty else str(default)


def costs(
    kind: str, channels: int, size: tuple[int, int], given: dict[str, Any] | None = None
) -> tuple[str, str]:
    """The numbers of parameters and of multiply-adds, as text.

    A dash: the kind cannot have these channels or this size, or its number is not registered.
    """
    from weights.errors import ResattnError
    from weights.graph import multiply_adds, parameter_count

    options = {**fixed_size(kind, size, given or {}), **(given or {})}
    try:
        numbers = parameter_count(kind, channels, options)
        products = multiply_adds(kind, channels, size, options)
    except ResattnError:
        return "-", "-"
    return f"{numbers:,}", "-" if products is None else f"{products:,}"


def fold_table(table: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table. Its last column is folded to the width of the terminal."""
    first, *widths = (max(map(len, column)) for column in list(zip(*table, strict=True))[:-1])
    indent = 2 + first + sum(2 + width for width in widths) + 2
    room = max(30, get_terminal_size().columns - indent)
    lines = []
    for name, *numbers, words in table:
        cells = (number.rjust(width) for number, width in zip(numbers, widths, strict=True))
        head = "  ".join([name.ljust(first), *cells])
        parts = wrap(words, room, break_on_hyphens=False) or [""]
        lines += [f"  {head}  {parts[0]}", *(" " * indent + part for part in parts[1:])]
    return lines
