"""`make bench`: how long the operations take that users wait for. Not a test."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from resattn.checking.backends import Backend, precise
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from weights import export, load, preset
from weights.errors import MissingFramework
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, adapter

PRESET = "se-resnet18"
BATCH, SIZE = 8, (64, 64)


def time_median(work: Callable[[], object], runs: int = 5) -> float:
    """The median of the seconds that several runs take."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def time_framework(framework: str, console: Console) -> list[str]:
    """The cells of the table for a framework. Each operation runs once to warm up."""
    backend = Backend(framework, "cpu")
    config = preset(PRESET)
    arrays, x = random_arrays(config), random_input(config, SIZE, BATCH, "float32")
    with console.status(f"{framework}: build"), precise((framework,), "float32"):
        start = time.perf_counter()
        model = backend.build(config, arrays)
        built = time.perf_counter() - start
        y = LiveModel.of(model).forward(x, training=False)
        cotangent = random_cotangent(y.shape, "float32")
        LiveModel.of(model).gradients(x, cotangent, training=True)
        operations: dict[str, Callable[[], object]] = {
            "export": lambda: export(model),
            "load": lambda: load(model, arrays),
            "forward": lambda: LiveModel.of(model).forward(x, training=False),
            "gradients": lambda: LiveModel.of(model).gradients(x, cotangent, training=True),
        }
        medians = [time_median(work) for work in operations.values()]
    return [
        adapter(framework).versions(),
        *(f"{seconds * 1000:.0f}" for seconds in (built, *medians)),
    ]


def main() -> None:
    console = Console()
    title = (
        f"{PRESET}, {BATCH} images of {SIZE[0]} x {SIZE[1]}, CPU, float32; milliseconds, median of "
        "5 runs after a first one"
    )
    table = Table(
        "framework",
        "build",
        "export",
        "load",
        "forward",
        "gradients",
        title=title,
        title_justify="left",
    )
    for framework in FRAMEWORKS:
        try:
            adapter(framework)
        except MissingFramework as error:
            console.print(str(error))
            continue
        table.add_row(*time_framework(framework, console))
    console.print(table)
    command = [sys.executable, "-m", "resattn.cli.app", "--help"]
    seconds = time_median(lambda: subprocess.run(command, check=True, capture_output=True))
    console.print(f"resattn --help: {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
