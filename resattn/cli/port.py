"""`resattn port`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    DialectOption,
    FoldOption,
    PartOption,
    ShardSizeOption,
    SourceArgument,
    TargetArgument,
    find_source,
    list_given_options,
)
from resattn.cli.check_card import keep_card
from resattn.cli.inspect import summarize
from resattn.cli.live import ChannelsOption, ChoiceOption, ModelOption, OnlyOption
from resattn.cli.live_forms import DESCRIBING, LiveRequest, find_live, port_live, understand
from resattn.cli.progress import show_progress
from resattn.cli.terminal import print_line
from resattn.cli.words import say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from weights.config import Config
    from weights.files.formats import CheckpointHeader
    from weights.stored import StoredArray


def port(
    context: typer.Context,
    source: SourceArgument,
    target: TargetArgument,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    dialect: DialectOption = None,
    shard_size: ShardSizeOption = None,
    fold: FoldOption = False,
    model: ModelOption = None,
    channels: ChannelsOption = None,
    only: OnlyOption = None,
    choice: ChoiceOption = None,
) -> None:
    """Convert a weights file to another format, bit for bit, or with its batch norms folded.

    The suffix of TARGET names the format. Files of timm, torchvision, Keras and the CIFAR ResNets
    are recognised from the names and shapes in them.

    A model of your own is recognised by what it computes: as SOURCE with its own weights, in
    --model with the weights in SOURCE, which are under the model's own names. A model with
    parameters besides what was recognised is refused; --only names the part that is meant.
    """
    from weights.dialects import dialect_named
    from weights.files.formats import transfer

    if dialect is not None:
        dialect_named(dialect)  # refused before anything is read
    shard_bytes = None if shard_size is None else shard_size * 10**6
    live = find_live(list_given_options(context), source, model, ("--fold", *DESCRIBING))
    if live is not None:
        request = LiveRequest(live, None, channels, only, choice)
        understood = understand(request, weights=None if model is None else source)
        written = port_live(understood, request, target, dialect, shard_bytes)
        finish_port(str(source), target, dialect, *written)
        return
    found = find_source(source, config, architecture, part)
    card = keep_card(found, fold, dialect)
    found = fold_source(found) if fold else found
    total = sum(array.nbytes for array in found.arrays.values())
    with show_progress(f"{source.name} -> {target.name}", total) as advance:
        transfer(
            found,
            target,
            dialect=dialect,
            shard_bytes=shard_bytes,
            card=card,
            advance=advance,
        )
    finish_port(source.name, target, dialect, found.config, found.arrays)


def finish_port(
    source: str,
    target: Path,
    dialect: str | None,
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
) -> None:
    """Prints what was written, and what to do next."""
    from weights.config import NetworkConfig
    from weights.dialects import dialect_named
    from weights.dialects.back import find_architectures

    summary, named = summarize(config, arrays), ""
    if dialect:
        named = say(", with the names of {dialect}", dialect=dialect)
    print_line(f"{source} -> {target.name}{named}: {summary}")
    if dialect is not None and isinstance(config, NetworkConfig):
        spoken = dialect_named(dialect)
        names = find_architectures(spoken, config)
        fitting = say("a model that you build like this one")
        if names:
            fitting = say("its {names}", names=say(" or ").join(names))
        print_line(
            say(
                "Next: load it with {library}, strictly, into {fitting}",
                library=spoken.title,
                fitting=fitting,
            )
        )
    elif target.suffix != ".keras":
        print_line(say("Next: resattn check {target}", target=target))


def fold_source(source: CheckpointHeader) -> CheckpointHeader:
    """A file with its batch norms folded. Raises ArgumentError for a network without any."""
    from weights.errors import ArgumentError
    from weights.fold import fold_stored

    source.check()
    config, arrays = fold_stored(source.config, source.arrays)
    if config == source.config:
        raise ArgumentError(
            say(
                "--fold: {file} has no batch norms that could be folded; port it without",
                file=source.source,
            )
        )
    return replace(source, config=config, arrays=arrays, label={})
