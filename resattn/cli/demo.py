"""`resattn demo`."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console


def demo() -> None:
    """Port a small trained network to all three frameworks, and read real handwritten digits in
    each.
    """
    if not run_demo():
        raise typer.Exit(1)


def run_demo(console: Console | None = None) -> bool:
    """Runs the demo and prints the result.

    Returns whether all three frameworks ran, all predictions equal those of the reference, and all
    outputs are within the tolerance of the reference and of each other.
    Raises MissingData when scikit-learn, which holds the digits, is not installed.
    """
    from rich.console import Console

    import weights
    from resattn.cli import demo_output as output
    from resattn.cli.demo_outcomes import classify, compare_outcomes
    from resattn.training.digits import split

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console = console or Console(highlight=False)
    data = split()
    folder = Path(weights.__file__).parent / "pretrained"
    config, arrays = weights.read(folder / output.FILE)
    images, labels = data.held_out_images, data.held_out_labels

    expected, outcomes, missing = classify(console, config, arrays, images)
    if len(outcomes) < 2:
        output.print_missing(console, missing)
        console.print(
            "The demo compares frameworks, so it needs at least two of them.", style="red"
        )
        return False

    to_reference = [compare_outcomes(outcome, expected, expected) for outcome in outcomes]
    between = [compare_outcomes(*pair, expected) for pair in combinations(outcomes, 2)]
    console.print(output.headline(arrays, labels, outcomes))
    console.print()
    output.print_samples(console, images, labels, expected, outcomes)
    output.print_table(console, labels, expected, outcomes, to_reference)
    agree = output.print_verdict(console, expected, outcomes, to_reference, between)
    output.print_missing(console, missing)
    console.print(output.next_steps())
    return agree and not missing
