"""`resattn port`."""

from __future__ import annotations

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    DialectOption,
    ForceOption,
    PartOption,
    ShardSizeOption,
    SourceArgument,
    TargetArgument,
    find_source,
    refuse_existing,
)
from resattn.cli.inspect import summarize
from resattn.cli.progress import show_progress
from resattn.cli.terminal import print_line


def port(
    source: SourceArgument,
    target: TargetArgument,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    dialect: DialectOption = None,
    shard_size: ShardSizeOption = None,
    force: ForceOption = False,
) -> None:
    """Convert a weights file to another format, bit for bit.

    The suffix of TARGET names the format. Files of timm, torchvision, Keras and the CIFAR ResNets
    are recognised from the names and shapes in them.
    """
    from weights.config import NetworkConfig
    from weights.dialects import dialect_named
    from weights.dialects.back import find_architectures
    from weights.files.formats import transfer

    refuse_existing(target, force)
    if dialect is not None:
        dialect_named(dialect)  # refused before anything is read
    found = find_source(source, config, architecture, part)
    total = sum(array.nbytes for array in found.arrays.values())
    with show_progress(f"{source.name} -> {target.name}", total) as advance:
        transfer(
            found,
            target,
            dialect=dialect,
            shard_bytes=None if shard_size is None else shard_size * 10**6,
            advance=advance,
        )
    named = f", with the names of {dialect}" if dialect else ""
    summary = summarize(found.config, found.arrays)
    print_line(f"{source.name} -> {target.name}{named}: {summary}")
    if dialect is not None and isinstance(found.config, NetworkConfig):
        spoken = dialect_named(dialect)
        names = find_architectures(spoken, found.config)
        fitting = f"its {' or '.join(names)}" if names else "a model that you build like this one"
        print_line(f"Next: load it with {spoken.title}, strictly, into {fitting}")
    elif target.suffix != ".keras":
        print_line(f"Next: resattn check {target}")
