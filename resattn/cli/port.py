"""`resattn port`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.arguments import (
    ConfigOption,
    ForceOption,
    NamingOption,
    read_config,
)
from resattn.cli.inspect import summarize
from resattn.cli.terminal import status


def port(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A .safetensors, .npz, .pt, .pth or .th file.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET",
            help="The file to write: .safetensors, .npz, .pt, .pth, .th or .keras.",
        ),
    ],
    config: ConfigOption = None,
    naming: NamingOption = None,
    force: ForceOption = False,
) -> None:
    """Convert a weights file to another format, bit for bit.

    The suffix of TARGET names the format.
    """
    from weights.errors import ArgumentError
    from weights.files.formats import read, write

    if target.exists() and not force:
        raise ArgumentError(f"{target}: exists already; pass --force to replace it")
    described, arrays = read(source, read_config(config), naming)
    with status(f"writing {target.name}"):
        write(target, described, arrays)
    typer.echo(f"{source.name} -> {target.name}: {summarize(described, arrays)}")
    if target.suffix != ".keras":
        typer.echo(f"Next: resattn check {target}")
