"""`resattn draw`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    ConfigOption,
    ForceOption,
    NamingOption,
    height_and_width,
    model_or_block,
)

if TYPE_CHECKING:
    from resattn.drawing.scene import Scene


OpenOption = Annotated[
    bool | None,
    typer.Option("--open/--closed", help="Show the attention module step by step, or as one box."),
]
ToOption = Annotated[
    Path | None,
    typer.Option(
        help="A .svg, .png, .mmd (Mermaid) or .md (Markdown) file to write; without it, the "
        "terminal."
    ),
]
DarkOption = Annotated[
    bool | None,
    typer.Option(
        "--dark/--light",
        help="For pages of that colour; by default .svg follows the page, .png is light.",
    ),
]


def draw(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A weights file, to draw what it is of; without one, --config says what."
        ),
    ] = None,
    config: ConfigOption = None,
    naming: NamingOption = None,
    block: Annotated[
        str | None, typer.Option(help="One block of a network, as in stages.1.0.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of the image, as in 224x224: shapes are then numbers, not "
            "formulas."
        ),
    ] = None,
    opened: OpenOption = None,
    to: ToOption = None,
    dark: DarkOption = None,
    scale: Annotated[
        float, typer.Option(help="How much larger than natural size a .png is.", min=0.1, max=10)
    ] = 2,
    force: ForceOption = False,
) -> None:
    """Draw a block with its attention, or a network, as its config says it is. Without FILE and
    --config: as `check`.
    """
    from resattn.drawing.pictures import block_of, save, scene_of
    from weights import BlockConfig
    from weights.errors import ArgumentError

    shown, _ = model_or_block(file, config, naming)
    sides = None if size is None else height_and_width(size)
    if block is not None:
        shown, sides = block_of(shown, block, sides)
    if opened is not None and not isinstance(shown, BlockConfig):
        raise ArgumentError(
            "--open, --closed: are for one block; choose one of the network with --block, as in "
            "--block stages.0.0"
        )
    picture = scene_of(shown, sides, opened is not False)
    if to is None:
        draw_on_terminal(picture)
        return
    save(picture, to, dark, scale, force)
    typer.echo(f"{to}: {shown.describe()}")


def draw_on_terminal(picture: Scene) -> None:
    """In colour where there is any, in ASCII where the terminal's encoding has no more."""
    from resattn.drawing.terminal import COLOURS, lines, plain

    drawn = lines(picture)
    try:
        plain(drawn).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        drawn = lines(picture, ascii_only=True)
    for line in drawn:
        parts = []
        for words, form in line:
            colour = COLOURS.get(form.split(" ")[0])
            # None where there is nothing to say: what is not dim would no longer be bold.
            bold, dim = "name" in form or None, form == "quiet" or None
            parts.append(typer.style(words, fg=colour, bold=bold, dim=dim) if form else words)
        typer.echo("".join(parts).rstrip())
