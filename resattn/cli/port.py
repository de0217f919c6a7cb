"""`resattn port`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    DialectOption,
    ForceOption,
    PartOption,
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
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    dialect: DialectOption = None,
    force: ForceOption = False,
) -> None:
    """Convert a weights file to another format, bit for bit.

    The suffix of TARGET names the format. Files of timm, torchvision, Keras and the CIFAR ResNets
    are recognised from the names and shapes in them.
    """
    from weights.config import NetworkConfig
    from weights.dialects import dialect_named
    from weights.dialects.back import find_architectures
    from weights.errors import ArgumentError
    from weights.files.formats import read_checkpoint, write

    if target.exists() and not force:
        raise ArgumentError(f"{target}: exists already; pass --force to replace it")
    if dialect is not None:
        dialect_named(dialect)  # refused before anything is read
    found = read_checkpoint(source, read_config(config), architecture, part)
    for note in found.notes:
        typer.echo(f"{source.name}: {note}")
    with status(f"writing {target.name}"):
        write(target, found.config, found.arrays, origin=found.origin, dialect=dialect)
    named = f", with the names of {dialect}" if dialect else ""
    summary = summarize(found.config, found.arrays)
    typer.echo(f"{source.name} -> {target.name}{named}: {summary}")
    if dialect is not None and isinstance(found.config, NetworkConfig):
        spoken = dialect_named(dialect)
        names = find_architectures(spoken, found.config)
        fitting = f"its {' or '.join(names)}" if names else "a model that you build like this one"
        typer.echo(f"Next: load it with {spoken.title}, strictly, into {fitting}")
    elif target.suffix != ".keras":
        typer.echo(f"Next: resattn check {target}")
