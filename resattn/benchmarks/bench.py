"""`make bench`: seconds for what users wait for, the median of several runs. A command, never a
test.
"""

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

CONFIG = "se-resnet18"
BATCH, SIZE = 8, (64, 64)


def median(work: Callable[[], object], runs: int = 5) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(framework: str, console: Console) -> list[str]:
    """A row of the table for a framework: each step once to warm up, then the median of five."""
    backend = Backend(framework, "cpu")
    config = preset(CONFIG)
    arrays, x = random_arrays(config), random_input(config, SIZE, BATCH, "float32")
    with console.status(f"{framework}: build"), precise((framework,), "float32"):
        start = time.perf_counter()
        model = backend.build(config, arrays)
        built = time.perf_counter() - start
        y = LiveModel.of(model).forward(x, training=False)
        cotangent = random_cotangent(y.shape, "float32")
        LiveModel.of(model).gradients(x, cotangent, training=True)
        steps: dict[str, Callable[[], object]] = {
            "export": lambda: export(model),
            "load": lambda: load(model, arrays),
            "forward": lambda: LiveModel.of(model).forward(x, training=False),
            "gradients": lambda: LiveModel.of(model).gradients(x, cotangent, training=True),
        }
        medians = [median(work) for work in steps.values()]
    return [
        adapter(framework).versions(),
        *(f"{seconds * 1000:.0f}" for seconds in (built, *medians)),
    ]


def main() -> None:
    console = Console()
    title = f"{CONFIG}, {BATCH} images of {SIZE[0]} x {SIZE[1]}, CPU, float32; milliseconds, median of 5 after one to warm up"
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
        table.add_row(*measure(framework, console))
    console.print(table)
    command = [sys.executable, "-m", "resattn.cli.app", "--help"]
    seconds = median(lambda: subprocess.run(command, check=True, capture_output=True))
    console.print(f"resattn --help: {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
