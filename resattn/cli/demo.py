"""The demo: one trained network in three frameworks, reading the same real handwritten digits."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

import weights
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from resattn.training.digits import intensity, split
from weights import Difference, MissingFramework, difference
from weights.config import Config
from weights.convert import Arrays
from weights.frameworks import FRAMEWORKS, framework_named
from weights.live import adapter, build

FILE = "se-digits.safetensors"
FRAMEWORKS = tuple(
    FRAMEWORKS
)  # PyTorch before TensorFlow: in the other order the two can disturb each other's libraries
REFERENCE = "NumPy"
PIXEL = 2  # characters to a pixel, which makes it about square
DTYPE = "float32"
SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"
WORDS = {2: "both", 3: "all three"}


@dataclass(frozen=True)
class Outcome:
    """What one framework, or the reference, made of the images. Times in seconds; load includes
    importing the framework.
    """

    name: str
    versions: str
    logits: np.ndarray
    load: float
    classify: float

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(axis=1)


def run(console: Console | None = None) -> bool:
    """Runs the demo and prints what it found.

    Returns whether all three frameworks ran, every prediction is the same in each and in the
    reference, and no output is farther from the reference or from another framework's than the
    tolerance.
    Raises MissingData when scikit-learn, which holds the digits, is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console = console or Console(highlight=False)
    data = split()
    config, arrays = weights.read(Path(weights.__file__).parent / "pretrained" / FILE)
    images, labels = data.held_out_images, data.held_out_labels

    with _progress(console) as progress:
        expected, outcomes, missing = _classify(progress, config, arrays, images)
    if len(outcomes) < 2:
        _print_missing(console, missing)
        console.print(
            "The demo compares frameworks, so it needs at least two of them.", style="red"
        )
        return False

    to_reference = [_compare(outcome, expected, expected) for outcome in outcomes]
    between = [_compare(*pair, expected) for pair in combinations(outcomes, 2)]
    console.print(_headline(arrays, labels, outcomes))
    console.print()
    _print_samples(console, images, labels, expected, outcomes)
    _print_table(console, labels, expected, outcomes, to_reference)
    agree = _print_verdict(console, expected, outcomes, to_reference, between)
    _print_missing(console, missing)
    console.print(_next_steps())
    return agree and not missing


def _classify(
    progress: Progress, config: Config, arrays: Arrays, images: np.ndarray
) -> tuple[Outcome, list[Outcome], list[str]]:
    """The reference's outcome, those of the frameworks, and a line for each framework that is
    missing.
    """
    task = progress.add_task("", total=2 * len(FRAMEWORKS) + 1)
    outcomes, missing = [], []
    for framework in FRAMEWORKS:
        try:
            outcomes.append(_classify_in(framework, progress, task, config, arrays, images))
        except MissingFramework as error:
            missing.append(str(error))
            progress.advance(task, 2)
    progress.update(task, description=f"classify {len(images)} digits in NumPy, float64")
    start = time.perf_counter()
    output = reference.run(config, arrays, images, training=False).output
    expected = Outcome(
        REFERENCE, f"numpy {np.__version__}", output, 0.0, time.perf_counter() - start
    )
    progress.advance(task)
    return expected, outcomes, missing


def _classify_in(
    framework: str,
    progress: Progress,
    task: TaskID,
    config: Config,
    arrays: Arrays,
    images: np.ndarray,
) -> Outcome:
    """On the CPU, so that the numbers do not depend on which GPU there is."""
    name = framework_named(framework).label
    with _quiet():
        progress.update(task, description=f"load the weights into {name}")
        start = time.perf_counter()
        module = adapter(framework)
        model = build(config, arrays, framework, "cpu")
        loaded = time.perf_counter()
        progress.update(task, advance=1, description=f"classify {len(images)} digits in {name}")
        with module.precise(DTYPE):
            logits = module.forward(model, images, training=False)
        done = time.perf_counter()
    progress.advance(task)
    return Outcome(name, module.versions(), logits, loaded - start, done - loaded)


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what frameworks write to standard error while they start, by whatever way; shows it
    only if they fail.

    Their C++ parts write to the file descriptor itself, which no Python setting reaches.
    """
    _flush()
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as noise, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not isinstance(error, MissingFramework):
                noise.seek(0)
                os.write(saved, noise.read())
            raise
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)


def _flush() -> None:
    with suppress(AttributeError, ValueError, OSError):  # standard error can be None, or closed
        sys.stderr.flush()


def _compare(actual: Outcome, against: Outcome, expected: Outcome) -> Difference:
    """The greatest difference of the logits, relative to the greatest logit of the reference."""
    return difference(
        actual.logits,
        against.logits,
        tolerance=tolerance(DTYPE, "eval output"),
        scale=float(np.abs(expected.logits).max()),
        quantity="eval output",
        tensor="logits",
        names=(actual.name, against.name),
        axes="batch class",
    )


def _headline(arrays: Arrays, labels: np.ndarray, outcomes: list[Outcome]) -> Text:
    names = [outcome.name for outcome in outcomes]
    numbers = sum(array.size for array in arrays.values())
    text = Text("One file of weights, trained in PyTorch, ", style="bold")
    text.append(f"loaded into {', '.join(names[:-1])} and {names[-1]}\n")
    text.append(
        f"A residual network with squeeze-and-excitation ({numbers:,} numbers, {FILE}) read "
        f"{len(labels)} real handwritten digits that it was not trained on, 8 x 8 pixels each, on "
        "the CPU in float32.",
        style="not bold",
    )
    return text


def _print_samples(
    console: Console,
    images: np.ndarray,
    labels: np.ndarray,
    expected: Outcome,
    outcomes: list[Outcome],
) -> None:
    """As many digits as fit side by side: the hardest half, then some others."""
    gap = 3
    width = PIXEL * images.shape[-1]
    count = max(1, min(6, (console.width + gap) // (width + gap)))
    chosen = _chosen(expected.logits, labels, count)
    shades = ASCII_SHADES if console.options.ascii_only else SHADES
    pictures = [_picture(images[index, 0], shades) for index in chosen]
    captions = [_caption(index, labels, outcomes) for index in chosen]
    console.print(f"The {count - count // 2} hardest, and {count // 2} others:", style="bold")
    grid = Table.grid(padding=(0, gap, 0, 0))
    for _ in chosen:
        grid.add_column(width=width, no_wrap=True)
    grid.add_row(*pictures)
    grid.add_row(*captions)
    console.print(grid)
    console.print()


def _chosen(logits: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """The digits with the least margin (the label's logit less the greatest other), then the first
    of other labels.
    """
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    order = np.argsort(logits[rows, labels] - others.max(axis=1), kind="stable")
    chosen = [int(index) for index in order[: count - count // 2]]
    for index in range(len(labels)):
        if len(chosen) < count and labels[index] not in labels[chosen]:
            chosen.append(index)
    return chosen


def _picture(image: np.ndarray, shades: str) -> Text:
    levels = np.rint(intensity(image) * (len(shades) - 1)).astype(int)
    return Text(
        "\n".join("".join(shades[level] * PIXEL for level in row) for row in levels), style="cyan"
    )


def _caption(index: int, labels: np.ndarray, outcomes: list[Outcome]) -> Text:
    text = Text(f"{'label':8} {labels[index]}", style="bold")
    for outcome in outcomes:
        prediction = outcome.predictions[index]
        right = prediction == labels[index]
        text.append(
            f"\n{outcome.name:8} {prediction}", style="not bold" if right else "not bold red"
        )
        text.append("" if right else " wrong", style="not bold red")
    return text


def _print_table(
    console: Console,
    labels: np.ndarray,
    expected: Outcome,
    outcomes: list[Outcome],
    differences: list[Difference],
) -> None:
    console.print(
        "Logits compared with NumPy in float64 (relative: to the greatest logit)", style="bold"
    )
    table = Table("", "", box=None, pad_edge=False)
    for name in (
        "\naccuracy",
        "greatest\ndifference",
        "\nrelative",
        "load\nseconds",
        "classify\nseconds",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    # Where there is little room, one version a line.
    versions = [
        (outcome.versions if console.width >= 100 else outcome.versions.replace(", ", ",\n"))
        for outcome in outcomes
    ]
    for outcome, version, row in zip(outcomes, versions, differences, strict=True):
        numbers = (
            f"{row.absolute:.1e}",
            f"{row.relative:.1e}",
            f"{outcome.load:.1f}",
            f"{outcome.classify:.2f}",
        )
        table.add_row(outcome.name, version, _accuracy(outcome, labels), *numbers)
    numbers = ("", "", "", f"{expected.classify:.2f}")
    table.add_row(
        expected.name, expected.versions, _accuracy(expected, labels), *numbers, style="dim"
    )
    console.print(table)
    console.print()


def _accuracy(outcome: Outcome, labels: np.ndarray) -> str:
    return f"{(outcome.predictions == labels).mean():.2%}"


def _print_verdict(
    console: Console,
    expected: Outcome,
    outcomes: list[Outcome],
    to_reference: list[Difference],
    between: list[Difference],
) -> bool:
    """Says whether predictions and logits agree, and returns it."""
    predictions = np.stack([outcome.predictions for outcome in (*outcomes, expected)])
    equal = int((predictions == predictions[-1]).all(axis=0).sum())
    count = predictions.shape[1]
    far = [row for row in (*to_reference, *between) if not row.ok]
    worst = max(between, key=lambda row: row.absolute)
    console.print(
        f"{equal} of {count} predictions equal in {WORDS[len(outcomes)]} frameworks and in the "
        "reference.",
        style="bold green" if equal == count else "bold red",
    )
    console.print(
        f"Greatest logit difference between two frameworks: {worst.absolute:.1e}, relative "
        f"{worst.relative:.1e} ({worst.actual} and {worst.expected}); the tolerance is "
        f"{worst.tolerance:.0e} relative.",
        style="green" if not far else "",
    )
    for row in far:
        console.print(str(row), style="red", markup=False)
    return equal == count and not far


def _print_missing(console: Console, missing: list[str]) -> None:
    for line in missing:
        console.print(line, style="red", markup=False, soft_wrap=True)


def _next_steps() -> Text:
    text = Text("\nNext, in the folder of the repository:", style="bold")
    for what, command in (
        (
            "Compare gradients and running statistics as well",
            f"{_command()} check weights/pretrained/{FILE}",
        ),
        (
            "Turn the weights into a model file for Keras",
            f"{_command()} port weights/pretrained/{FILE} digits.keras",
        ),
    ):
        text.append(f"\n  {what}\n", style="not bold")
        text.append(f"    {command}", style="not bold cyan")
    return text


def _command() -> str:
    """How this user can call the command line: `make demo` runs it from a virtual environment that
    is not activated.
    """
    called = Path(sys.argv[0])
    return "resattn" if shutil.which("resattn") or called.name != "resattn" else str(called)
