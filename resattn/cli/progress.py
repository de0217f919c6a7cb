"""A bar with bytes and rate, for conversions of large files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_DELAY = 1.0  # seconds in which nothing is shown


@contextmanager
def show_progress(
    title: str, total: int, console: Console | None = None, delay: float = _DELAY
) -> Iterator[Callable[[str, int], None]]:
    """On a terminal, shows a bar for each stage of the body, once it takes longer than `delay`.

    total: bytes of each stage. Yields a function for any thread that says of which stage some more
    bytes are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from weights.checks import printable

    bars = Progress(
        TextColumn("{task.description}", markup=False),  # a name may hold Rich's markup
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console or Console(stderr=True),
        transient=True,
    )
    stages = {}
    lock = Lock()

    def advance(stage: str, nbytes: int) -> None:
        with lock:
            if stage not in stages:
                stages[stage] = bars.add_task(f"{printable(title)}: {stage}", total=total)
            bars.advance(stages[stage], nbytes)

    timer = Timer(delay, bars.start)
    if bars.console.is_terminal:
        timer.start()
    try:
        yield advance
    finally:
        if bars.console.is_terminal:
            timer.cancel()
            timer.join()
            bars.stop()
