"""`resattn explain`."""

from __future__ import annotations

from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer

from resattn.cli.arguments import (
    ConfigOption,
    NamingOption,
    height_and_width,
    model_or_block,
    write_json,
)
from resattn.cli.terminal import print_line


def explain(
    file: Annotated[
        Path | None, typer.Argument(help="A weights file; what it holds is explained.")
    ] = None,
    config: ConfigOption = None,
    naming: NamingOption = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of the images, as in 32x33; by default 32x32, or 224x224 for "
            "ImageNet's networks."
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(help="How many images, for the memory and for batch norm in training.", min=1),
    ] = 8,
    dtype: Annotated[
        str, typer.Option(help="Of the activations: float16, float32 or float64.")
    ] = "float32",
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
    code: Annotated[
        str | None,
        typer.Option(
            help="Show the lines of this implementation beside what they compute: torch, jax or tf."
        ),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write all of it to this file.")
    ] = None,
) -> None:
    """Tell what a block or a network computes, step by step, what it costs, and what a port of it
    must get right.

    Without FILE and --config it takes the block 64 to 128 channels with stride 2.
    """
    from resattn.explaining import explanation

    described, _ = model_or_block(file, config, naming)
    sides = None if size is None else height_and_width(size)
    explained = explanation.explain(described, sides, batch, dtype, code)
    for line, style in explained.lines(get_terminal_size().columns, language):
        print_line(line, style)
    if as_json is not None:
        write_json(as_json, explained.to_dict(language))
