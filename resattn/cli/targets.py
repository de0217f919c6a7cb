"""The files that commands write: none over another one without --force, and known to be possible
before the work begins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from resattn.cli.signatures import read_hints, take_options
from resattn.cli.words import say


@dataclass(frozen=True)
class Written:
    """Marks an option or an argument that names a file to write, in its `Annotated`.

    in_place: whether it may be a file that the command reads, which is then read before.
    """

    in_place: bool = False


WRITTEN, WRITTEN_IN_PLACE = Written(), Written(in_place=True)
FOLDERS = (".orbax",)  # formats that are folders
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the files that are written, if they exist.")
]


def with_force(command: Callable[..., None]) -> Callable[..., None]:
    """A command that checks the files that it will write before it begins, and takes --force if it
    did not. Commands that write no file stay as they are.
    """
    hints = read_hints(command)
    marks = {
        name: mark
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Written)
    }
    if not marks:
        return command
    takes_force = "force" in hints

    @wraps(command)
    def run(**arguments: Any) -> None:
        force = arguments["force"] if takes_force else arguments.pop("force")
        check_targets(force, *(arguments[name] for name in marks))
        apart = [arguments[name] for name, mark in marks.items() if not mark.in_place]
        refuse_sources(apart, [each for name, each in arguments.items() if name not in marks])
        command(**arguments)

    added = {} if takes_force else {"force": ForceOption}
    take_options(run, command, added, default=False)
    return run


def check_targets(force: bool, *targets: Path | None) -> None:
    """The files that a command will write, before its work begins.

    Raises ArgumentError for one that exists, without --force, or that is named twice,
    MissingFileError for one whose folder does not exist, FileError for a folder.
    """
    from weights.errors import ArgumentError, FileError
    from weights.files.atomic import resolve_target

    found = [target for target in targets if target is not None]
    places = [resolve_target(target) for target in found]
    for target, place in zip(found, places, strict=True):
        if place.is_dir() and place.suffix.lower() not in FOLDERS:
            raise FileError(say("{file}: cannot be written (it is a folder)", file=target))
        if places.count(place) > 1:
            raise ArgumentError(say("{file}: is to be written twice; name two files", file=target))
        refuse_existing(target, force)


def refuse_sources(targets: Sequence[Path | None], others: Sequence[object]) -> None:
    """Raises ArgumentError for a target that the command also reads, even with --force. others: the
    values of its other arguments.
    """
    from weights.errors import ArgumentError

    named = [each for other in others for each in (other if isinstance(other, list) else [other])]
    read = {os.path.realpath(each) for each in named if isinstance(each, Path)}
    for target in targets:
        if target is not None and os.path.realpath(target) in read:
            raise ArgumentError(
                say("{target}: is read by this command; name another file to write", target=target)
            )


def refuse_existing(target: Path, force: bool) -> None:
    """Raises ArgumentError for a file that exists, without --force."""
    from weights.errors import ArgumentError

    if target.exists() and not force:
        raise ArgumentError(say("{file}: exists already; pass --force to replace it", file=target))
