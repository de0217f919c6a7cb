"""The output of the demo."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resattn.cli.demo_outcomes import Outcome
from resattn.training.digits import intensity
from weights import Difference
from weights.convert import Arrays

FILE = "se-digits.safetensors"
PIXEL = 2  # characters to a pixel, which makes it about square
SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"
ALL_OF = {2: "both", 3: "all three"}


def headline(arrays: Arrays, labels: np.ndarray, outcomes: list[Outcome]) -> Text:
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


def print_samples(
    console: Console,
    images: np.ndarray,
    labels: np.ndarray,
    expected: Outcome,
    outcomes: list[Outcome],
) -> None:
    """Prints as many digits as fit side by side: the hardest half, then some others."""
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
    """The indices of the digits to show.

    First those with the least margin (the label's logit minus the greatest other one), then the
    first digits with other labels.
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


def print_table(
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
    # One version a line on a narrow terminal.
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


def print_verdict(
    console: Console,
    expected: Outcome,
    outcomes: list[Outcome],
    to_reference: list[Difference],
    between: list[Difference],
) -> bool:
    """Prints whether predictions and logits agree, and returns it."""
    predictions = np.stack([outcome.predictions for outcome in (*outcomes, expected)])
    equal = int((predictions == predictions[-1]).all(axis=0).sum())
    count = predictions.shape[1]
    far = [row for row in (*to_reference, *between) if not row.ok]
    worst = max(between, key=lambda row: row.absolute)
    console.print(
        f"{equal} of {count} predictions equal in {ALL_OF[len(outcomes)]} frameworks and in the "
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


def print_missing(console: Console, missing: list[str]) -> None:
    for line in missing:
        console.print(line, style="red", markup=False, soft_wrap=True)


def next_steps() -> Text:
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
    """The name to call the command line by, which is a path if the environment is not activated.

    `make demo` does not activate it.
    """
    called = Path(sys.argv[0])
    return "resattn" if shutil.which("resattn") or called.name != "resattn" else str(called)
