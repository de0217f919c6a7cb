"""`resattn draw`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    PartOption,
    list_given_options,
    parse_size,
    read_model_or_block,
)
from resattn.cli.live import LIVE_HELP, ChannelsOption
from resattn.cli.live_forms import LiveRequest, draw_live, find_live
from resattn.cli.targets import WRITTEN, ForceOption
from resattn.cli.terminal import find_width, print_line, write_out
from resattn.cli.words import say

if TYPE_CHECKING:
    from resattn.drawing.scene import Scene


OpenOption = Annotated[
    bool | None,
    typer.Option("--open/--closed", help="Draw the attention module step by step, or as one box."),
]
ToOption = Annotated[
    Path | None,
    typer.Option(
        help="The file to write: .svg, .png, .pdf, .mmd (Mermaid) or .md (Markdown). Without it "
        "the drawing goes to the terminal."
    ),
    WRITTEN,
]
DarkOption = Annotated[
    bool | None,
    typer.Option(
        "--dark/--light",
        help="Colours for a dark or a light page. Default: .svg follows the page, .png and .pdf "
        "are light.",
    ),
]


def draw(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help=f"A weights file. Its config is drawn. {LIVE_HELP}"),
    ] = None,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    only: Annotated[
        str | None,
        typer.Option("--only", help="Draw one block of a network, as in stages.1.0."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of the image, as in 224x224. Shapes are then numbers instead of "
            "formulas."
        ),
    ] = None,
    opened: OpenOption = None,
    to: ToOption = None,
    dark: DarkOption = None,
    scale: Annotated[
        float, typer.Option(help="Scale of a .png. 1 is the natural size.", min=0.1, max=10)
    ] = 2,
    channels: ChannelsOption = None,
    force: ForceOption = False,
) -> None:
    """Draw a block with its attention, or a network, from its config.

    A model of your own is drawn as it is executed.
    Without FILE and --config the model is the block from 64 to 128 channels with stride 2.
    """
    from resattn.drawing.pictures import block_of, check_picture, scene_of
    from weights import BlockConfig
    from weights.errors import ArgumentError

    if to is not None:
        check_picture(to)
    given = list_given_options(context)
    live = find_live(given, file, excluded=("--open", "--closed"), shared=("--only",))
    if live is not None:
        request = LiveRequest(live, None if size is None else parse_size(size), channels)
        show_picture(draw_live(request, only), to, dark, scale, force, str(live.text))
        return
    shown, _ = read_model_or_block(file, config, architecture, part)
    sides = None if size is None else parse_size(size)
    if only is not None:
        shown, sides = block_of(shown, only, sides)
    if opened is not None and not isinstance(shown, BlockConfig):
        raise ArgumentError(
            say(
                "--open, --closed: are for one block; choose one of the network with "
                "--only, as in --only stages.0.0"
            )
        )
    picture = scene_of(shown, sides, opened is not False)
    show_picture(picture, to, dark, scale, force, shown.describe())


def show_picture(
    picture: Scene, to: Path | None, dark: bool | None, scale: float, force: bool, title: str
) -> None:
    """Draws on the terminal, or writes the file in --to and says what is in it."""
    from resattn.drawing.pictures import save_picture

    if to is None:
        draw_on_terminal(picture)
        return
    save_picture(picture, to, dark, scale, force)
    print_line(f"{to}: {title}")


def draw_on_terminal(picture: Scene) -> None:
    """Prints the picture, in colour if the terminal has it, in ASCII if its encoding needs it."""
    from resattn.drawing.terminal import COLOURS, COLUMNS, MOST_COLUMNS, lines, strip_colours
    from weights.checks import printable

    columns = min(find_width() or COLUMNS, MOST_COLUMNS)
    drawn = lines(picture, columns)
    try:
        strip_colours(drawn).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        drawn = lines(picture, columns, ascii_only=True)
    for line in drawn:
        parts = []
        for words, form in line:
            colour = COLOURS.get(form.split(" ")[0])
            # None instead of False: dim=False would turn bold off.
            bold, dim = "name" in form or None, form == "quiet" or None
            words = printable(words)
            parts.append(typer.style(words, fg=colour, bold=bold, dim=dim) if form else words)
        # Escaped above, where there are no styles yet.
        write_out("".join(parts).rstrip())
