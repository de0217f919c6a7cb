"""`resattn inspect`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    PartOption,
    SourceArgument,
    read_config,
)
from resattn.cli.check_card import show_card
from resattn.cli.listing import find_doubts, list_arrays
from resattn.cli.terminal import print_line, shorten
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from weights.config import Config
    from weights.errors import ResattnError
    from weights.files.formats import CheckpointHeader
    from weights.stored import StoredArray


def inspect(
    file: SourceArgument,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    values: Annotated[
        bool,
        typer.Option(
            "--values",
            help="Also read the values: their range and mean, signs of damage, and whether they "
            "are those that were written.",
        ),
    ] = False,
) -> None:
    """Show a weights file: what it is, and the shape and dtype of each array.

    Of a network that we know: its config, and the command that ports it. Of anything else, the
    arrays under their own names, and why it is not known.

    Only the header of the file is read, unless --values is given.
    """
    from weights.errors import ArgumentError, WeightsError
    from weights.files.formats import read_header

    try:
        found = read_header(file, read_config(config), architecture, part)
    except (ArgumentError, WeightsError) as error:
        if config is not None or architecture is not None:
            raise
        if part is None and (parts := _list_parts(file)):
            _show_parts(file, parts)
        else:
            _show_unknown(file, part, values, error)
        return
    given = {"--config": config, "--as": architecture, "--part": part}
    _show_known(found, values, name_port_command(file, given))


def _show_known(found: CheckpointHeader, values: bool, command: str) -> None:
    """What a file says that holds a network or a block of ours, or one that we know. command: that
    ports it.
    """
    from weights.files.label import CHECKSUMS
    from weights.schema import schema

    print_line(f"{found.source}: {summarize(found.config, found.arrays)}")
    for note in found.notes:
        print_line(note)
    for key, value in found.origin.items():
        if isinstance(value, (str, int, float)):
            # A line break in a value would make a line that looks like ours.
            print_line(f"origin: {key} {value}".replace("\n", r"\n"))
    arrays = found.read().arrays if values else None
    show_card(found, arrays)
    print_line(say("config: {config}", config=found.config.to_json()))
    print_line(say("port it: {command}", command=command))
    print_line()
    parameters = schema(found.config)
    names = [parameter.name for parameter in parameters]
    axes = {parameter.name: parameter.axes for parameter in parameters}
    list_arrays({name: found.arrays[name] for name in names}, arrays, axes)
    if values and CHECKSUMS in found.label:
        print_line()
        print_line(say("The values are those that were written: every checksum fits."), "good")
    roles = {parameter.name: parameter.role for parameter in parameters}
    for name, array in (arrays or {}).items():
        _show_doubts(find_doubts(name, roles[name], array))


def _list_parts(file: Path) -> list[str]:
    """The networks in a file, where there are several."""
    from weights.errors import ResattnError
    from weights.files.opening import list_networks

    try:
        return list_networks(file)
    except ResattnError:  # the reason is shown by who asked first
        return []


def _show_parts(file: Path, parts: list[str]) -> None:
    """What each of several networks in a file is, and the command that ports it."""
    from weights.errors import ArgumentError, WeightsError
    from weights.files.formats import read_header

    print_line(
        say(
            "{file}: holds {count} networks; --part shows one of them:",
            file=file.name,
            count=len(parts),
        )
    )
    for part in parts:
        print_line()
        print_line(part or say("(no prefix)"), "title")
        try:
            found = read_header(file, part=part)
        except (ArgumentError, WeightsError) as error:
            _show_reason(file, part, error)
            continue
        print_line(f"  {summarize(found.config, found.arrays)}")
        command = name_port_command(file, {"--part": part})
        print_line("  " + say("port it: {command}", command=command))


def _show_reason(file: Path, part: str | None, reason: ResattnError) -> None:
    """Why it is not said which network a file holds, and the commands for those that it can be."""
    from weights.errors import AmbiguousNetwork, ArgumentError

    words = shorten(str(reason))
    if isinstance(reason, ArgumentError):  # several fit, or it needs a config
        print_line(say("not clear which network it is: {reason}", reason=words), "warning")
    else:
        print_line(say("not a network that we know: {reason}", reason=words), "warning")
    for name in reason.candidates if isinstance(reason, AmbiguousNetwork) else ():
        command = name_port_command(file, {"--as": name, "--part": part})
        print_line(say("if it is {name}, port it: {command}", name=name, command=command))


def _show_unknown(file: Path, part: str | None, values: bool, reason: ResattnError) -> None:
    """The arrays of a file whose network is not known. Raises the reason for one that cannot be
    read.
    """
    from weights.errors import ResattnError
    from weights.files.opening import open_content
    from weights.stored import read_arrays

    try:
        content, source, _ = open_content(file, part)
    except ResattnError:
        raise reason from None
    dtypes = ", ".join(sorted({array.dtype.name for array in content.arrays.values()}))
    count = sum(math.prod(array.shape) for array in content.arrays.values())
    print_line(
        say(
            "{file}: {arrays}, {numbers:,} numbers, {dtypes}",
            file=source.name,
            arrays=_count_arrays(content.arrays),
            numbers=count,
            dtypes=dtypes,
        )
    )
    for note in content.notes:
        print_line(note)
    _show_reason(file, part, reason)
    print_line()
    arrays = read_arrays(content.arrays) if values else None
    list_arrays(content.arrays, arrays)
    for name, array in (arrays or {}).items():
        _show_doubts(find_doubts(name, "", array))


def _count_arrays(arrays: Collection[object]) -> str:
    return say("1 array") if len(arrays) == 1 else say("{count} arrays", count=len(arrays))


def _show_doubts(doubts: list[str]) -> None:
    for doubt in doubts:
        print_line(say("warning: {doubt}", doubt=doubt), "warning")


def name_port_command(file: Path, options: Mapping[str, str | None]) -> str:
    """The command that ports a file, with the options that were needed to read it."""
    given = [f"{name} {shlex.quote(value)}" for name, value in options.items() if value is not None]
    source = f"./{file}" if str(file).startswith("-") else file
    return " ".join(["resattn port", quote_path(source), _name_target(file), *given])


def _name_target(file: Path) -> str:
    """A file to port to: of the same name, as .safetensors; another one if it is that already."""
    stem = file.name.split(".")[0].lstrip("-") or "network"
    target = f"{stem}.safetensors"
    return quote_path(f"{stem}.npz" if target == file.name else target)


def quote_path(path: Path | str) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def summarize(config: Config, arrays: Mapping[str, np.ndarray | StoredArray]) -> str:
    """One line: the model, the numbers of arrays and of values, the dtypes."""
    dtypes = ", ".join(sorted({array.dtype.name for array in arrays.values()}))
    count = sum(math.prod(array.shape) for array in arrays.values())
    return say(
        "{config}; {count} arrays, {numbers:,} numbers, {dtypes}",
        config=config.describe(),
        count=len(arrays),
        numbers=count,
        dtypes=dtypes,
    )
