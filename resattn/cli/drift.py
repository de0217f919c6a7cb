"""`resattn drift`."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    ConfigOption,
    FrameworksOption,
    frameworks_from,
    model_given,
    write_json,
)
from resattn.cli.terminal import status

if TYPE_CHECKING:
    import numpy as np

    from weights.config import Config
    from weights.recipe import Optimizer, Recipe


def drift(
    file: Annotated[
        Path | None,
        typer.Argument(help="A weights file to begin with; without one, random weights."),
    ] = None,
    config: ConfigOption = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="sgd, adam or adamw (on the digits' schedule), or a recipe as JSON "
            "(weights.Recipe.to_json)."
        ),
    ] = "sgd",
    frameworks: FrameworksOption = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    steps: Annotated[int, typer.Option(help="How many training steps.", min=1)] = 100,
    oracle: Annotated[bool, typer.Option(help="Train the NumPy oracle, too.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random weights.", min=0)] = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write every step to this file.")
    ] = None,
) -> None:
    """Train the same weights by the same recipe in each framework and show how far they drift
    apart, step by step.

    On the handwritten digits that come with scikit-learn, or on random images where a model does
    not take those. In float64 exit status 1 if parameters differ by more than 1e-9.
    """
    from resattn.checking.draws import random_arrays
    from resattn.training import drift as training
    from resattn.training.train_digits import CONFIG

    described, arrays = model_given(file, config)
    described = described or CONFIG
    compared = frameworks_from(frameworks, described)
    check_options(compared, oracle, dtype)
    arrays = random_arrays(described, dtype, seed) if arrays is None else arrays
    chosen = recipe_from(recipe, steps)
    pictures, labels = training_data(described, chosen.batch_size)
    with status("train") as show_step:
        outcome = training.drift(
            described,
            arrays,
            chosen,
            compared,
            dtype,
            steps,
            images=pictures,
            labels=labels,
            oracle=oracle,
            progress=lambda step: show_step(f"step {step} of {steps}"),
        )
    typer.echo("\n".join(outcome.lines(min(get_terminal_size().columns, 100) - 16)))
    if as_json is not None:
        write_json(as_json, outcome.to_dict())
    if not outcome.ok:
        raise typer.Exit(1)


def check_options(frameworks: tuple[str, ...], oracle: bool, dtype: str) -> None:
    """Raises ArgumentError for options that leave nothing to compare."""
    from weights.errors import ArgumentError

    if len(frameworks) + oracle < 2:
        raise ArgumentError(
            "--frameworks: drift is between two; name another framework, or add --oracle"
        )
    if dtype not in ("float32", "float64"):
        raise ArgumentError(f"--dtype: expected float32 or float64, got {dtype!r}")


def recipe_from(text: str, steps: int) -> Recipe:
    """The name of an optimizer, with the rates that train the digits, or a recipe as JSON."""
    from resattn.training.train_digits import OPTIMIZER
    from resattn.training.train_digits import recipe as digits_recipe
    from weights import Adam, AdamW, Recipe
    from weights.errors import ArgumentError

    optimizers: dict[str, Optimizer] = {
        "sgd": OPTIMIZER,
        "adam": Adam(1e-3, weight_decay=5e-4),
        "adamw": AdamW(1e-3, weight_decay=5e-2),
    }
    if text in optimizers:
        return digits_recipe(steps, optimizers[text])
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        raise ArgumentError(
            f"--recipe: expected one of {', '.join(optimizers)} or JSON, got {text!r}"
        ) from None
    if not isinstance(values, dict):
        raise ArgumentError(f"--recipe: expected an object, got {text!r}")
    return Recipe.from_dict(values)


def training_data(config: Config, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels: the digits where the model takes them, else random ones, as many as ten
    batches.
    """
    import numpy as np

    from resattn.checking.crosscheck import default_size
    from resattn.checking.draws import random_input
    from resattn.training.digits import split
    from weights import NetworkConfig

    classes = config.classes if isinstance(config, NetworkConfig) else config.out_channels
    if config.in_channels == 1 and classes == 10 and config.input_size in (None, (8, 8)):
        data = split()
        return data.training_images, data.training_labels
    pictures = random_input(config, default_size(config), 10 * batch, "float32")
    return pictures, np.random.default_rng(0).integers(0, classes, len(pictures))
