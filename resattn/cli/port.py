"""`resattn port`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.arguments import (
    ConfigOption,
    ForceOption,
    NamingOption,
    SourceArgument,
    config_from,
)
from resattn.cli.inspect import summary
from resattn.cli.terminal import status


def port(
    source: SourceArgument,
    target: Annotated[
        Path, typer.Argument(help="A .safetensors, .npz, .pt, .pth or .keras file to write.")
    ],
    config: ConfigOption = None,
    naming: NamingOption = None,
    force: ForceOption = False,
) -> None:
    """Write the weights in SOURCE in the format that the suffix of TARGET names, bit for bit."""
    from weights.errors import ArgumentError
    from weights.files.store import read, write

    if target.exists() and not force:
        raise ArgumentError(f"{target}: exists already; pass --force to replace it")
    described, arrays = read(source, config_from(config), naming)
    with status(f"writing {target.name}"):
        write(target, described, arrays)
    typer.echo(f"{source.name} -> {target.name}: {summary(described, arrays)}")
    if target.suffix != ".keras":
        typer.echo(f"Next: resattn check {target}")
