"""Options that several commands get from one place, as Typer reads them: from a signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints


def read_hints(command: Callable[..., None]) -> dict[str, Any]:
    """The annotations of a command, with what `Annotated` holds."""
    return get_type_hints(command, include_extras=True)


def take_options(
    run: Callable[..., None],
    command: Callable[..., None],
    options: Mapping[str, Any],
    default: object = None,
    after: str | None = None,
) -> None:
    """Gives `run` the signature of a command that it wraps, with more options.

    options: their annotations by name. default: of each of them. after: the parameter that they
    follow; without it they are the last.
    """
    signature, hints = inspect.signature(command), read_hints(command)
    by_name = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, by_name, default=default, annotation=hint)
        for name, hint in options.items()
    ]
    parameters: list[inspect.Parameter] = []
    for name, each in signature.parameters.items():
        parameters.append(each.replace(kind=by_name, annotation=hints[name]))
        parameters += added if name == after else []
    parameters += added if after is None else []
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**hints, **options}
