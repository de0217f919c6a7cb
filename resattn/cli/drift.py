"""`resattn drift`."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resattn.cli.arguments import (
    ConfigOption,
    FrameworksOption,
    SeedOption,
    parse_frameworks,
    read_source,
    write_json,
)
from resattn.cli.bench import parse_counts
from resattn.cli.quiet import choose_devices
from resattn.cli.targets import WRITTEN
from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from resattn.training.drift import Trajectory
    from weights.config import Config
    from weights.recipe import Optimizer, Recipe

RecipeOption = Annotated[
    str,
    typer.Option(
        help="An optimizer for the recipe of the digits (sgd, adam or adamw), or a whole "
        "recipe as JSON, as weights.Recipe.to_json writes it."
    ),
]

DeviceCountsOption = Annotated[
    str,
    typer.Option(
        help="On how many devices each framework trains, each batch in parts: one number, or "
        "several as in 1,2,4, for a run on each."
    ),
]
DriftDtypeOption = Annotated[str, typer.Option(help="The dtype to compute in: float32 or float64.")]
OracleOption = Annotated[bool, typer.Option(help="Also train the NumPy oracle.")]
DriftJsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the differences after each step to this file."),
    WRITTEN,
]
DriftPlotOption = Annotated[
    Path | None,
    typer.Option(
        "--to",
        help="Also draw the losses and the differences after each step: a .svg, .png or .pdf file.",
    ),
    WRITTEN,
]
DriftHtmlOption = Annotated[
    Path | None,
    typer.Option("--html", help="Also write a page with these curves and their numbers."),
    WRITTEN,
]
DriftStepsOption = Annotated[int, typer.Option(help="Number of training steps.", min=1)]
StatisticsOption = Annotated[
    str,
    typer.Option(
        help="Of batch norms on several devices: global (of the whole batch) or local (of the part "
        "that a device has)."
    ),
]


def drift(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A weights file to start from. Without it the weights are random."
        ),
    ] = None,
    config: ConfigOption = None,
    recipe: RecipeOption = "sgd",
    frameworks: FrameworksOption = None,
    dtype: DriftDtypeOption = "float32",
    steps: DriftStepsOption = 100,
    devices: DeviceCountsOption = "1",
    statistics: StatisticsOption = "global",
    oracle: OracleOption = False,
    seed: SeedOption = 0,
    as_json: DriftJsonOption = None,
    to: DriftPlotOption = None,
    as_html: DriftHtmlOption = None,
) -> None:
    """Train the same weights by the same recipe in each framework, and show how far they drift
    apart.

    The data are the handwritten digits of scikit-learn, or random images if the model does not take
    digits. In float64 the exit status is 1 if parameters, statistics or moments differ by more than
    1e-9; on several devices it then says which of them does what else. Without FILE and --config
    the model is the network of the demo.
    """
    from resattn.checking.draws import random_arrays
    from resattn.training.train_digits import DIGITS_CONFIG

    check_pictures(to, as_html)
    described, arrays = read_source(file, config)
    described = described or DIGITS_CONFIG
    compared = parse_frameworks(frameworks, described)
    counts = parse_counts("--devices", devices)
    check_options(compared, counts, oracle, dtype)
    provide(compared, max(counts))
    arrays = random_arrays(described, dtype, seed) if arrays is None else arrays
    settings = {"devices": counts, "statistics": statistics, "oracle": oracle}
    run = (parse_recipe(recipe, steps), compared, dtype, steps)
    outcome = train_in_each(described, arrays, *run, settings)
    print_line("\n".join(outcome.lines(min(get_terminal_size().columns, 100) - 16)))
    if as_json is not None:
        write_json(as_json, outcome.to_dict())
    write_pictures(outcome, to, as_html)
    if not outcome.ok:
        raise typer.Exit(1)


def train_in_each(
    config: Config,
    arrays: dict[str, np.ndarray],
    recipe: Recipe,
    frameworks: tuple[str, ...],
    dtype: str,
    steps: int,
    settings: dict[str, Any],
) -> Trajectory:
    """Trains in each framework. settings: the other arguments of `resattn.training.drift`."""
    from resattn.checking.progress import ProgressLine
    from resattn.training import drift as training

    pictures, labels = load_training_data(config, recipe.batch_size)
    with status(say("train")) as show_step:
        return training.drift(
            config,
            arrays,
            recipe,
            frameworks,
            dtype,
            steps,
            images=pictures,
            labels=labels,
            progress=lambda step: show_step(
                ProgressLine(say("step {step} of {steps}", step=step, steps=steps), step / steps)
            ),
            **settings,
        )


def check_pictures(to: Path | None, as_html: Path | None) -> None:
    """Raises ArgumentError for a suffix of `to` that cannot be drawn, MissingFramework without what
    draws it.
    """
    from resattn.reporting.plots import check_plot, check_plotting

    if to is not None:
        check_plot(to)
    if as_html is not None:
        check_plotting(as_html.name)


def write_pictures(outcome: Trajectory, to: Path | None, as_html: Path | None) -> None:
    """Writes the curves to the file in --to, and the page in --html."""
    from resattn.reporting.drift_page import DriftPage, collect_curves
    from resattn.reporting.plots import save_plot
    from resattn.reporting.rendering import write_html

    if to is not None:
        save_plot(collect_curves(outcome), to)
        print_line(say("Wrote {file}.", file=to))
    if as_html is not None:
        write_html(as_html, DriftPage(outcome, ["resattn", *sys.argv[1:]]).html())
        print_line(say("Wrote {file}.", file=as_html))


def provide(frameworks: tuple[str, ...], count: int) -> None:
    """Makes the CPU be as many devices, in the frameworks that must know it when they start."""
    from weights.live import part

    if count > 1:
        with choose_devices():
            for framework in frameworks:
                part(framework, "distributed").provide_devices(count)


def check_options(
    frameworks: tuple[str, ...], counts: tuple[int, ...], oracle: bool, dtype: str
) -> None:
    """Raises ArgumentError if there is nothing to compare, and for an unknown dtype."""
    from weights.errors import ArgumentError

    if len(frameworks) * len(counts) + oracle < 2:
        raise ArgumentError(
            say(
                "--frameworks: expected two or more to compare, got {names!r}; name "
                "another one, or add --oracle",
                names=", ".join(frameworks),
            )
        )
    if dtype not in ("float32", "float64"):
        raise ArgumentError(say("--dtype: expected float32 or float64, got {dtype!r}", dtype=dtype))


def parse_recipe(text: str, steps: int) -> Recipe:
    """The value of --recipe: an optimizer for the recipe of the digits, or a recipe as JSON."""
    from resattn.training.train_digits import OPTIMIZER
    from resattn.training.train_digits import recipe as digits_recipe
    from weights import Adam, AdamW, Recipe
    from weights.checks import quote
    from weights.errors import ArgumentError
    from weights.fields import parse_json

    optimizers: dict[str, Optimizer] = {
        "sgd": OPTIMIZER,
        "adam": Adam(1e-3, weight_decay=5e-4),
        "adamw": AdamW(1e-3, weight_decay=5e-2),
    }
    if text in optimizers:
        return digits_recipe(steps, optimizers[text])
    try:
        values = parse_json(text, "--recipe")
    except ArgumentError as error:
        raise ArgumentError(
            say(
                "--recipe: expected one of {known} or JSON, got {text} ({reason})",
                known=", ".join(optimizers),
                text=quote(text),
                reason=error,
            )
        ) from None
    if not isinstance(values, dict):
        raise ArgumentError(say("--recipe: expected an object, got {text}", text=quote(text)))
    return Recipe.from_dict(values)


def load_training_data(config: Config, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels: the digits if the model takes them, else ten batches of random ones."""
    import numpy as np

    from resattn.checking.draws import random_input
    from resattn.training.digits import split
    from weights import NetworkConfig
    from weights.graph import probe_size

    classes = config.classes if isinstance(config, NetworkConfig) else config.out_channels
    if config.in_channels == 1 and classes == 10 and config.input_size in (None, (8, 8)):
        data = split()
        return data.training_images, data.training_labels
    pictures = random_input(config, probe_size(config), 10 * batch, "float32")
    return pictures, np.random.default_rng(0).integers(0, classes, len(pictures))
