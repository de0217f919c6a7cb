"""Output that several commands share: styled lines, a status line, shortened messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

STYLES: dict[str, dict[str, Any]] = {
    "": {},
    "bad": {"fg": typer.colors.RED},
    "good": {"fg": typer.colors.GREEN},
    "warning": {"fg": typer.colors.YELLOW},
    "title": {"bold": True, "fg": typer.colors.CYAN},
    "heading": {"bold": True, "fg": typer.colors.MAGENTA},
    "step": {"bold": True},
    "code": {"fg": typer.colors.GREEN},
}


def print_line(line: str = "", style: str = "", *, error: bool = False) -> None:
    """Prints a line to standard output, or the standard error. style: a key of STYLES; any other is
    plain. What does not print is shown as its escape.
    """
    from weights.checks import printable  # here, since weights imports NumPy

    typer.secho(printable(line), err=error, **STYLES.get(style, {}))


def print_report(lines: Iterable[str]) -> None:
    """Prints the lines of a `weights.Report`: failures in red, the verdict in green."""
    for line in lines:
        bad = "OVER" in line or line.startswith("FAILED")
        print_line(line, "bad" if bad else "good" if line.startswith("All ") else "")


@contextmanager
def status(line: str) -> Iterator[Callable[[str], None]]:
    """Shows a spinner with `line` on the terminal while the body runs.

    Yields a function that adds the current step: show_step("oracle") shows "line: oracle".
    """
    from rich.console import Console
    from rich.text import Text

    from weights.checks import printable

    # Text, since a str may hold Rich's markup, as in a file called "[bold].pt".
    with Console(stderr=True).status(Text(printable(line))) as spinner:
        yield lambda step: spinner.update(Text(printable(f"{line}: {step}")))


def shorten(message: str, most: int = 20) -> str:
    """The first `most` lines of a message, and the number of lines left out.

    A checkpoint of another network has hundreds of faults.
    """
    lines = message.splitlines()
    if len(lines) <= most:
        return message
    return "\n".join([*lines[:most], f"  and {len(lines) - most} more"])
