"""The files that commands write: none over another one without --force, and known to be possible
before the work begins.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from resattn.cli.words import say


@dataclass(frozen=True)
class Written:
    """Marks an option or an argument that names a file to write, in its `Annotated`."""


WRITTEN = Written()
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the files that are written, if they exist.")
]


def with_force(command: Callable[..., None]) -> Callable[..., None]:
    """A command that checks the files that it will write before it begins, and takes --force if it
    did not. Commands that write no file stay as they are.
    """
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    targets = [name for name, hint in hints.items() if WRITTEN in getattr(hint, "__metadata__", ())]
    if not targets:
        return command
    takes_force = "force" in signature.parameters

    @wraps(command)
    def run(**arguments: Any) -> None:
        force = arguments["force"] if takes_force else arguments.pop("force")
        check_targets(force, *(arguments[name] for name in targets))
        command(**arguments)

    by_name = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        each.replace(annotation=hints[name], kind=by_name)
        for name, each in signature.parameters.items()
    ]
    if not takes_force:
        force = inspect.Parameter("force", by_name, default=False, annotation=ForceOption)
        parameters.append(force)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**hints, "force": ForceOption}
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
        if place.is_dir():
            raise FileError(say("{file}: cannot be written (it is a folder)", file=target))
        if places.count(place) > 1:
            raise ArgumentError(say("{file}: is to be written twice; name two files", file=target))
        refuse_existing(target, force)


def refuse_existing(target: Path, force: bool) -> None:
    """Raises ArgumentError for a file that exists, without --force."""
    from weights.errors import ArgumentError

    if target.exists() and not force:
        raise ArgumentError(say("{file}: exists already; pass --force to replace it", file=target))
