"""Output that several commands share: styled lines, a status line, shortened messages."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

import typer

from resattn.cli.words import say

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

LEAST_WIDTH = 60  # characters of a line; a narrower terminal breaks lines by itself
WIDE_TABLE = 160  # characters of a line of a table in a pipe
_FIRST_ESTIMATE = 0.25  # the part of the work after which the time left is shown
SECONDS = 5.0  # between two lines of `status` in a pipe, at least


def print_line(line: str = "", style: str = "", *, error: bool = False) -> None:
    """Prints a line to standard output, or the standard error. style: a key of STYLES; any other is
    plain. What does not print is shown as its escape.
    """
    from weights.checks import printable  # here, since weights imports NumPy

    text = encodable(printable(line), sys.stderr if error else sys.stdout)
    write_out(typer.style(text, **STYLES.get(style, {})), error=error)


def write_out(text: str, *, error: bool = False) -> None:
    """Writes a line that may have styles. Raises FileError where the output cannot take it, as on a
    full disk.
    """
    try:
        typer.echo(text, err=error, color=wants_colour())
    except BrokenPipeError:
        raise  # nobody reads any more: the command line ends without a word
    except OSError as problem:
        from weights.errors import FileError

        stream = sys.stderr if error else sys.stdout
        with suppress(OSError, ValueError):  # what is left of it would fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        reason = problem.strerror or problem
        raise FileError(say("the output cannot be written ({reason})", reason=reason)) from problem


_PLAIN = str.maketrans(
    {
        "→": "->",
        "×": "x",
        "−": "-",
        "│": "|",
        "≥": ">=",
        "≤": "<=",
        "⌈": "ceil(",
        "⌉": ")",
        "⌊": "floor(",
        "⌋": ")",
        "γ": "gamma",
        "β": "beta",
    }
)


def encodable(text: str, stream: Any) -> str:
    """The text, in plain characters where the stream's encoding, as that of old Windows consoles,
    does not have them; question marks for what has none.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def wants_colour() -> bool | None:
    """False where the user or the terminal wants none (no-color.org); None where it depends on
    whether it is a terminal.
    """
    none = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return False if none else None


def find_width() -> int | None:
    """The width of the terminal, in characters; None where the output goes somewhere else and
    COLUMNS does not say how wide it may be.
    """
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return max(LEAST_WIDTH, get_terminal_size().columns)
    return None


def choose_width(table: bool = False) -> int:
    """The width of the terminal, or of the lines in a pipe: 80, of a table more."""
    return find_width() or (WIDE_TABLE if table else 80)


def print_prose(line: str, style: str = "") -> None:
    """Prints a line of words, broken between words where the terminal is narrower. Lines that
    continue it are indented.
    """
    from weights.language import count_cells  # here, since weights imports NumPy

    width, cells = find_width(), count_cells(line)
    parts = (
        [line] if width is None or cells <= width else _break_prose(line, width, cells > len(line))
    )
    for part in parts:
        print_line(part, style)


def _break_prose(line: str, width: int, has_wide: bool) -> list[str]:
    """has_wide: whether there are Chinese characters in it, between which it may be broken."""
    start = line[: len(line) - len(line.lstrip())]
    indent = start + 4 * " "
    if not has_wide:
        return wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    from resattn.explaining import wrapping

    first, *rest = wrapping.wrap(line.lstrip(), width - len(indent))
    return [start + first, *(indent + part for part in rest)]


def print_report(lines: Iterable[tuple[str, str]]) -> None:
    """Prints the lines of a report or a trace, each with its style."""
    for line, style in lines:
        print_prose(line, style)


@contextmanager
def status(line: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done, for how long, and about how long it will still take, while the body
    runs.

    On a terminal a spinner that disappears at the end. Else, as in a pipe, a plain line now and
    then: after `SECONDS`, and then whenever a tenth more time has passed. Both on standard error.
    Yields a function that adds the current step, a text or a `ProgressLine`: show_step("oracle")
    shows "line: oracle".
    """
    shown = _show_spinner if sys.stderr.isatty() else _show_lines
    with shown(line) as show:
        yield lambda step: show(f"{line}: {step}", getattr(step, "done", 0.0))


def _say_left(seconds: float, done: float) -> str:
    """How long the rest takes, if the steps take equally long; "" before a quarter is done."""
    if done < _FIRST_ESTIMATE:
        return ""
    return say(", about {seconds:.0f} s left", seconds=seconds / done * (1 - done))


@contextmanager
def _show_spinner(line: str) -> Iterator[Callable[[str, float], None]]:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from weights.checks import printable

    class Left(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(_say_left(task.fields["began"], task.fields["done"]))

    # Without markup, which a line may hold by chance, as in a file called "[bold].pt".
    text = TextColumn("{task.description}", markup=False)
    with Progress(
        *(SpinnerColumn(), text, TimeElapsedColumn(), Left()),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as spinner:
        task = spinner.add_task(printable(line), total=None, done=0.0, began=0.0)
        start = time.monotonic()

        def show(text: str, done: float) -> None:
            began = time.monotonic() - start
            spinner.update(task, description=printable(text), done=done, began=began)

        yield show


@contextmanager
def _show_lines(line: str) -> Iterator[Callable[[str, float], None]]:
    import weights.checks  # noqa: F401  (which `print_line` needs: not in a thread of its own)

    start, ended, left = time.monotonic(), threading.Event(), ""
    current = line

    def repeat() -> None:
        while not ended.wait(max(SECONDS, (time.monotonic() - start) / 10)):
            with suppress(OSError, ValueError):  # nobody reads any more
                print_line(f"{current} ({time.monotonic() - start:.0f} s{left})", error=True)

    def show(text: str, done: float) -> None:
        nonlocal current, left
        current, left = text, _say_left(time.monotonic() - start, done)

    lines = threading.Thread(target=repeat, daemon=True)
    lines.start()
    try:
        yield show
    finally:
        ended.set()
        lines.join()


def shorten(message: str, most: int = 20) -> str:
    """The first `most` lines of a message, and the number of lines left out.

    A checkpoint of another network has hundreds of faults.
    """
    lines = message.splitlines()
    if len(lines) <= most:
        return message
    return "\n".join([*lines[:most], say("  and {count} more", count=len(lines) - most)])
