"""The command line. Frameworks, and whatever else takes its time, are imported when a command needs
them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from weights.errors import ArgumentError, MissingFileError

if TYPE_CHECKING:
    import numpy as np

    from resattn.drawing.scene import Scene
    from resattn.tracing.trace import Trace
    from weights import Report
    from weights.attention import Kind
    from weights.config import Config
    from weights.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Residual blocks with attention: port weights between PyTorch, Flax and Keras, check that they compute the same.",
)

# What --dtype says besides float32 and float64: how it is done, and in which format.
LOW = {
    "bfloat16": ("low", "bfloat16"),
    "float16": ("low", "float16"),
    "mixed_bfloat16": ("mixed", "bfloat16"),
    "mixed_float16": ("mixed", "float16"),
}

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="What the weights are of, for files that do not say it: a preset (resnet18, resnet34, resnet20, with se- in "
        "front for squeeze-and-excitation), a JSON file, or JSON text.",
    ),
]
NamingOption = Annotated[
    str | None,
    typer.Option(
        "--naming",
        help="The library that named the parameters, if not we: torchvision or cifar-resnet.",
    ),
]


def main() -> None:
    """The entry point. What the user can mend is one message and exit status 2; a failed check is
    exit status 1.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        typer.secho(f"resattn: {shortened(str(error))}", fg=typer.colors.RED, err=True)
        sys.exit(2)


def shortened(message: str, most: int = 20) -> str:
    """The first lines of a message, and how many more there are: a checkpoint of another network
    has hundreds of faults.
    """
    lines = message.splitlines()
    return "\n".join(
        lines[:most] + [f"  and {len(lines) - most} more" for _ in lines[most : most + 1]]
    )


@app.callback()
def before(
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            help="A Python module to import first, such as one with attention kinds of your own.",
        ),
    ] = None,
) -> None:
    for module in modules or []:
        import_module_or_file(module)


@app.command()
def port(
    source: Annotated[Path, typer.Argument(help="A .safetensors, .npz, .pt, .pth or .th file.")],
    target: Annotated[
        Path, typer.Argument(help="A .safetensors, .npz, .pt, .pth or .keras file to write.")
    ],
    config: ConfigOption = None,
    naming: NamingOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the target if it exists.")
    ] = False,
) -> None:
    """Write the weights in SOURCE in the format that the suffix of TARGET names, bit for bit."""
    from weights.files.formats import read, write

    if target.exists() and not force:
        raise ArgumentError(f"{target}: exists already; pass --force to replace it")
    described, arrays = read(source, config_from(config), naming)
    with status(f"writing {target.name}"):
        write(target, described, arrays)
    typer.echo(f"{source.name} -> {target.name}: {summary(described, arrays)}")
    if target.suffix != ".keras":
        typer.echo(f"Next: resattn check {target}")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .safetensors, .npz, .pt, .pth or .th file.")],
    config: ConfigOption = None,
    naming: NamingOption = None,
) -> None:
    """Say what a weights file holds: its config, and every parameter with its shape, dtype and
    range.
    """
    from weights.compare import columns
    from weights.files.formats import read
    from weights.schema import schema

    described, arrays = read(file, config_from(config), naming)
    typer.echo(f"{file.name}: {summary(described, arrays)}")
    typer.echo(f"config: {described.to_json()}\n")
    table = [("parameter", "shape", "axes", "dtype", "least", "greatest", "mean")]
    doubts = []
    for parameter in schema(described):
        array = arrays[parameter.name]
        numbers = (
            f"{value:.3g}" for value in (array.min(), array.max(), array.mean(dtype="float64"))
        )
        shape = " x ".join(map(str, parameter.shape))
        table.append((parameter.name, shape, parameter.axes, array.dtype.name, *numbers))
        doubts += doubtful(parameter.name, parameter.role, array)
    typer.echo("\n".join(columns(table)))
    for doubt in doubts:
        typer.secho(f"warning: {doubt}", fg=typer.colors.YELLOW)


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="A weights file; without one, random weights are used.")
    ] = None,
    config: ConfigOption = None,
    naming: NamingOption = None,
    frameworks: Annotated[
        str | None,
        typer.Option(help="Which to compare, separated by commas; by default torch,jax,tf."),
    ] = None,
    devices: Annotated[
        str, typer.Option(help="On which devices, separated by commas: cpu, cuda.")
    ] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32 or float64 (by default that of the weights); or bfloat16, float16, mixed_bfloat16, mixed_float16, "
            "judged in units of the format's eps."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Height and width of the random images, as in 32x33.")
    ] = None,
    batch: Annotated[int, typer.Option(help="How many random images.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of the random weights and images.", min=0)] = 0,
    inputs: Annotated[
        Path | None,
        typer.Option(help="A .npy file of images (batch, channels, height, width) to use instead."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Show every tensor or stage, not only the worst of each quantity."
        ),
    ] = False,
    trace: Annotated[
        bool,
        typer.Option(
            "--trace", help="Compare stage by stage, and say which is the first to differ, and why."
        ),
    ] = False,
    expected: Annotated[
        Path | None,
        typer.Option(
            help="Your own outputs for --inputs, traced to the cause if they differ: a .npy file of the output, or a .npz "
            "file of stages by name (conv1, bn1, ..., output)."
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Check 15 blocks of other strides and channels, with the attention of --config's block.",
        ),
    ] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write the whole report to this file.")
    ] = None,
    as_html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Also write it as a page: what failed first, a heat map, every stage."
        ),
    ] = None,
) -> None:
    """Load the weights into each framework and compare outputs, statistics and gradients. Exit
    status 1 if they differ.

    Everything is compared with a float64 NumPy oracle and between the frameworks. Without FILE and
    --config it takes the block 64 to 128 channels with stride 2.
    """
    from weights import BlockConfig
    from weights.files.atomic import write_atomically

    described, arrays = model_given(file, config, naming)
    options = {
        "frameworks": known_to(described) if frameworks is None else names(frameworks),
        "devices": names(devices),
        "dtype": dtype,
        "inputs": None if inputs is None else images("--inputs", inputs),
        "size": None if size is None else height_and_width(size),
        "batch": batch,
        "seed": seed,
    }
    config_checked = described or BlockConfig(64, 128, 3, 2)
    reports: dict[str, Report] = {}
    found: Trace | None = None
    if dtype in LOW:
        if trace or expected is not None or grid or as_html is not None:
            raise ArgumentError(
                f"--dtype {dtype}: can be had without --trace, --expected, --grid and --html only"
            )
        reports = {
            config_checked.describe(): low_checked(config_checked, arrays, every, dtype, options)
        }
    elif grid and (trace or expected is not None):
        raise ArgumentError("--grid: can be had without --trace and --expected only")
    elif trace or expected is not None:
        found = traced(config_checked, arrays, expected, every, options)
    elif grid:
        reports = grid_checked(config_checked, arrays, every, options)
    else:
        reports = {config_checked.describe(): crosschecked(config_checked, arrays, every, options)}
    outcomes = [found] if found else list(reports.values())
    if as_json is not None:
        plain = [outcome.to_dict() for outcome in outcomes]
        content = json.dumps(plain if grid else plain[0], indent=1) + "\n"
        write_atomically(as_json, lambda temporary: temporary.write_text(content))
    if as_html is not None:
        write_page(as_html, config_checked, arrays, reports, found, options)
    if not all(outcome.ok for outcome in outcomes):
        raise typer.Exit(1)


def crosschecked(
    config: Config, arrays: dict[str, np.ndarray] | None, every: bool, options: dict[str, object]
) -> Report:
    """Makes and prints the cross-check."""
    from resattn.checking.crosscheck import crosscheck

    with status("cross-check") as tell:
        report = crosscheck(config, arrays, **options, progress=tell)
    for line in report.lines(every):
        bad = "OVER" in line or line.startswith("FAILED")
        typer.secho(
            line,
            fg=typer.colors.RED if bad else typer.colors.GREEN if line.startswith("All ") else None,
        )
    return report


def low_checked(
    config: Config,
    arrays: dict[str, np.ndarray] | None,
    every: bool,
    dtype: str,
    options: dict[str, object],
) -> Report:
    """Makes and prints the check of a low precision."""
    from resattn.checking.precision import precision, table

    regime, form = LOW[dtype]
    given = {name: value for name, value in options.items() if name != "dtype"}
    with status(f"check in {dtype}") as tell:
        report = precision(
            config, arrays, formats=(form,), regimes=(regime,), **given, progress=tell
        )
    lines = (
        [*report.lines(every)]
        if every or not report.ok
        else [report.title, *report.environment, "", *table(report)]
    )
    for line in lines:
        bad = "OVER" in line or line.startswith("FAILED")
        typer.secho(line, fg=typer.colors.RED if bad else None)
    if report.ok:
        typer.secho(
            f"All {len(report.rows)} comparisons are within their bound.", fg=typer.colors.GREEN
        )
    return report


def grid_checked(
    config: Config, arrays: dict[str, np.ndarray] | None, every: bool, options: dict[str, object]
) -> dict[str, Report]:
    """Cross-checks of blocks of every stride and channel configuration, by their names; prints a
    line for each.
    """
    from resattn.checking.cases import user_grid
    from resattn.checking.crosscheck import crosscheck
    from weights import BlockConfig

    if arrays is not None or not isinstance(config, BlockConfig):
        raise ArgumentError(
            "--grid: makes blocks of its own, so it takes no file, and of --config only a block"
        )
    if options["size"] or options["inputs"] is not None:
        raise ArgumentError(
            "--grid: makes images of its own sizes, so it takes neither --size nor --inputs"
        )
    reports: dict[str, Report] = {}
    with status("cross-check") as tell:
        for block, size in user_grid(config):
            name = f"{block.in_channels} to {block.out_channels}, stride {' x '.join(map(str, block.stride))}"
            tell(name)
            reports[name] = crosscheck(block, **{**options, "size": size})
    for name, report in reports.items():
        worst = max(report.rows, key=lambda row: row.excess)
        words = "ok" if report.ok else f"OVER: {worst}"
        color = None if report.ok else typer.colors.RED
        typer.secho(
            f"  {name:24}  {worst.relative:.1e} of {worst.tolerance:.0e}, {worst.quantity}, "
            f"{words}",
            fg=color,
        )
        for row in report.rows if every else ():
            typer.echo(f"    {row}")
    if all(report.ok for report in reports.values()):
        count = sum(len(report.rows) for report in reports.values())
        typer.secho(f"All {count} comparisons are within their tolerance.", fg=typer.colors.GREEN)
    return reports


def write_page(
    path: Path,
    config: Config,
    arrays: dict[str, np.ndarray] | None,
    reports: dict[str, Report],
    found: Trace | None,
    options: dict[str, object],
) -> None:
    """Writes the page of a check, for which it makes what was not asked for in the terminal: the
    trace, the cross-check.
    """
    from resattn.checking.backends import flags
    from resattn.checking.crosscheck import crosscheck
    from resattn.reporting.page import Page, drawing, write
    from resattn.tracing.trace import trace_frameworks

    with status("page") as tell:
        if found is None:
            found = trace_frameworks(config, arrays, **options, progress=tell)
        if not reports:
            reports = {config.describe(): crosscheck(config, arrays, **options, progress=tell)}
        command = ["resattn", *sys.argv[1:]]
        write(
            path,
            Page(
                reports,
                found,
                drawing(config, found),
                command,
                flags(options["frameworks"], options["dtype"] or "float32"),
            ),
        )
    typer.echo(f"Wrote {path}.")


def traced(
    config: Config,
    arrays: dict[str, np.ndarray] | None,
    expected: Path | None,
    every: bool,
    options: dict[str, object],
) -> Trace:
    """Makes and prints the trace."""
    from resattn.tracing.trace import last_stage, trace_frameworks

    given = None if expected is None else stages_in(expected, last_stage(config))
    with status("trace") as tell:
        report = trace_frameworks(config, arrays, expected=given, **options, progress=tell)
    for line, kind in report.lines(every):
        typer.secho(line, fg={"bad": typer.colors.RED, "good": typer.colors.GREEN}.get(kind))
    return report


@app.command()
def drift(
    file: Annotated[
        Path | None,
        typer.Argument(help="A weights file to begin with; without one, random weights."),
    ] = None,
    config: ConfigOption = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="sgd, adam or adamw (on the digits' schedule), or a recipe as JSON (weights.Recipe.to_json)."
        ),
    ] = "sgd",
    frameworks: Annotated[
        str | None,
        typer.Option(help="Which to compare, separated by commas; by default torch,jax,tf."),
    ] = None,
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
    from resattn.training.drift import drift as trained
    from resattn.training.train_digits import CONFIG
    from weights.files.atomic import write_atomically
    from weights.files.formats import read

    described, arrays = config_from(config), None
    if file is not None:
        described, arrays = read(file, described)
    described = described or CONFIG
    arrays = random_arrays(described, dtype, seed) if arrays is None else arrays
    compared = known_to(described) if frameworks is None else names(frameworks)
    if len(compared) + oracle < 2:
        raise ArgumentError(
            "--frameworks: drift is between two; name another framework, or add --oracle"
        )
    if dtype not in ("float32", "float64"):
        raise ArgumentError(f"--dtype: expected float32 or float64, got {dtype!r}")
    chosen = recipe_from(recipe, steps)
    pictures, labels = training_data(described, chosen.batch_size)
    with status("train") as tell:
        outcome = trained(
            described,
            arrays,
            chosen,
            compared,
            dtype,
            steps,
            images=pictures,
            labels=labels,
            oracle=oracle,
            progress=lambda step: tell(f"step {step} of {steps}"),
        )
    typer.echo("\n".join(outcome.lines(min(get_terminal_size().columns, 100) - 16)))
    if as_json is not None:
        content = json.dumps(outcome.to_dict(), indent=1) + "\n"
        write_atomically(as_json, lambda temporary: temporary.write_text(content))
    if not outcome.ok:
        raise typer.Exit(1)


def recipe_from(text: str, steps: int) -> Recipe:
    """The name of an optimizer, with the rates that train the digits, or a recipe as JSON."""
    from weights import SGD, Adam, AdamW, Cosine, Recipe

    optimizers = {
        "sgd": SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        "adam": Adam(1e-3, weight_decay=5e-4),
        "adamw": AdamW(1e-3, weight_decay=5e-2),
    }
    if text in optimizers:
        return Recipe(optimizers[text], Cosine(steps), label_smoothing=0.1)
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


@app.command()
def attention(
    kind: Annotated[
        str | None,
        typer.Argument(help="One kind, to be told about its options; without it, all are listed."),
    ] = None,
    channels: Annotated[
        int, typer.Option(help="Width of the block that holds the module.", min=1)
    ] = 256,
    size: Annotated[
        str, typer.Option(help="Height and width of the map that comes to it, as in 14x14.")
    ] = "14x14",
    options: Annotated[
        str | None, typer.Option(help="Options of KIND as JSON, as in '{\"kernel_size\": 3}'.")
    ] = None,
) -> None:
    """List the attention kinds: what each does, its source, and what it costs. With KIND: its
    options and parameters.
    """
    from textwrap import fill

    from weights.attention import ATTENTION, attention_parameters
    from weights.compare import columns

    sides = height_and_width(size)
    if kind is None:
        if options is not None:
            raise ArgumentError("--options: are those of one KIND, but none was given")
        table = [("kind", "parameters", "multiply-adds", "what it does")]
        table += [
            (name, *costs(name, channels, sides), sentence(described))
            for name, described in ATTENTION.items()
        ]
        typer.echo(
            f"{channels} channels, maps of {sides[0]} x {sides[1]}, options at their defaults:\n"
        )
        typer.echo("\n".join(folded(table)))
        typer.echo(
            "\nMultiply-adds for one image: convolutions, linear layers and matrix products."
        )
        if any("-" in row[1:3] for row in table):
            typer.echo(
                "-: it cannot be made with so many channels, or whoever registered it has not said."
            )
        typer.echo("Next: resattn attention cbam (source, options and parameters of one kind)")
        return
    given = json_options(options)
    chosen = {**fixed_size(kind, sides, given), **given}
    parameters = attention_parameters(kind, channels, chosen)
    described = ATTENTION[kind]
    numbers, products = costs(kind, channels, sides, given)
    width = get_terminal_size().columns
    typer.echo(fill(f"{kind}: {described.summary}", width, break_on_hyphens=False))
    typer.echo(f"source: {described.source or 'none given'}")
    typer.echo(
        f"at {channels} channels and maps of {size}: {numbers} parameters, {products} "
        "multiply-adds\n"
    )
    if described.options:
        values = {**described.options, **chosen}
        line = ", ".join(f"{name}={shown(value)}" for name, value in values.items())
        typer.echo(fill(f"options: {line}", width, break_on_hyphens=False))
        typer.echo(
            fill(" ".join(described.explanation.split()), width, break_on_hyphens=False) + "\n"
        )
    rows = [(p.name, " x ".join(map(str, p.shape)), p.axes) for p in parameters]
    typer.echo(
        "\n".join(columns([("parameter", "shape", "axes"), *rows])) if rows else "no parameters"
    )


def sentence(described: Kind) -> str:
    """What a kind does, and in brackets whose it is."""
    authors = described.source.split(",")[0]
    return f"{described.summary} ({authors})" if authors else described.summary


def json_options(text: str | None) -> dict[str, object]:
    try:
        options = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ArgumentError(f"--options: expected JSON, got {text!r} ({error})") from None
    if not isinstance(options, dict):
        raise ArgumentError(
            f"--options: expected an object of option names and values, got {text!r}"
        )
    return options


def fixed_size(kind: str, size: tuple[int, int], given: dict[str, object]) -> dict[str, object]:
    """The size of the map, for a kind that cannot do without."""
    from inspect import Parameter

    from weights.attention import ATTENTION

    known = ATTENTION[kind].options if kind in ATTENTION else {}
    whole = kind == "ge" and given.get("gather") == "convolution" and given.get("extent") is None
    return {"size": size} if whole or known.get("size") is Parameter.empty else {}


def shown(default: object) -> str:
    from inspect import Parameter

    return "(must be given)" if default is Parameter.empty else str(default)


def costs(
    kind: str, channels: int, size: tuple[int, int], given: dict[str, object] | None = None
) -> tuple[str, str]:
    """Numbers of parameters and of multiply-adds, for people; a dash where the kind cannot be made
    or nobody has said.
    """
    from weights.graph import multiply_adds, parameter_count

    options = {**fixed_size(kind, size, given or {}), **(given or {})}
    try:
        numbers, products = (
            parameter_count(kind, channels, options),
            multiply_adds(kind, channels, size, options),
        )
    except ValueError:
        return "-", "-"
    return f"{numbers:,}", "-" if products is None else f"{products:,}"


def folded(table: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table, numbers to the right, its last column folded to the width of the
    terminal.
    """
    from textwrap import wrap

    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    indent = sum(widths) + 2 * len(widths) + 2
    lines = []
    for name, *numbers, words in table:
        head = "  ".join(
            [
                name.ljust(widths[0]),
                *(number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)),
            ]
        )
        width = max(30, get_terminal_size().columns - indent)
        parts = wrap(words, width, break_on_hyphens=False) or [""]
        lines += [f"  {head}  {parts[0]}", *(" " * indent + part for part in parts[1:])]
    return lines


@app.command()
def explain(
    file: Annotated[
        Path | None, typer.Argument(help="A weights file; what it holds is explained.")
    ] = None,
    config: ConfigOption = None,
    naming: NamingOption = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of the images, as in 32x33; by default 32x32, or 224x224 for ImageNet's networks."
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(help="How many images, for the memory and for batch norm in training.", min=1),
    ] = 8,
    dtype: Annotated[
        str, typer.Option(help="Of the activations: float16, float32 or float64.")
    ] = "float32",
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
    code: Annotated[
        str | None,
        typer.Option(
            help="Show the lines of this implementation beside what they compute: torch, jax or tf."
        ),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write all of it to this file.")
    ] = None,
) -> None:
    """Tell what a block or a network computes, step by step, what it costs, and what a port of it
    must get right.

    Without FILE and --config it takes the block 64 to 128 channels with stride 2.
    """
    from resattn.explaining.explanation import explain as explained
    from weights import BlockConfig
    from weights.files.atomic import write_atomically

    described, _ = model_given(file, config, naming)
    sides = None if size is None else height_and_width(size)
    told = explained(described or BlockConfig(64, 128, 3, 2), sides, batch, dtype, code)
    for line, style in told.lines(get_terminal_size().columns, language):
        typer.secho(line, **EXPLAIN_STYLES.get(style, {}))
    if as_json is not None:
        text = json.dumps(told.to_dict(language), indent=1, ensure_ascii=False)
        write_atomically(
            as_json, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8")
        )


EXPLAIN_STYLES: dict[str, dict[str, object]] = {
    "title": {"bold": True, "fg": typer.colors.CYAN},
    "heading": {"bold": True, "fg": typer.colors.MAGENTA},
    "step": {"bold": True},
    "code": {"fg": typer.colors.GREEN},
}


@app.command()
def draw(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A weights file, to draw what it is of; without one, --config says what."
        ),
    ] = None,
    config: ConfigOption = None,
    naming: NamingOption = None,
    block: Annotated[
        str | None, typer.Option(help="One block of a network, as in stages.1.0.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of the image, as in 224x224: shapes are then numbers, not formulas."
        ),
    ] = None,
    opened: Annotated[
        bool | None,
        typer.Option(
            "--open/--closed", help="Show the attention module step by step, or as one box."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="A .svg, .png, .mmd (Mermaid) or .md (Markdown) file to write; without it, the terminal."
        ),
    ] = None,
    dark: Annotated[
        bool | None,
        typer.Option(
            "--dark/--light",
            help="For pages of that colour; by default .svg follows the page, .png is light.",
        ),
    ] = None,
    scale: Annotated[
        float, typer.Option(help="How much larger than natural size a .png is.", min=0.1, max=10)
    ] = 2,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Draw a block with its attention, or a network, as its config says it is. Without FILE and
    --config: as `check`.
    """
    from resattn.drawing.pictures import block_of, save, scene_of
    from weights import BlockConfig

    described, _ = model_given(file, config, naming)
    shown, sides = (
        described or BlockConfig(64, 128, 3, 2),
        None if size is None else height_and_width(size),
    )
    if block is not None:
        shown, sides = block_of(shown, block, sides)
    if opened is not None and not isinstance(shown, BlockConfig):
        raise ArgumentError(
            "--open, --closed: are for one block; choose one of the network with --block, as in "
            "--block stages.0.0"
        )
    picture = scene_of(shown, sides, opened is not False)
    if to is None:
        draw_on_terminal(picture)
        return
    save(picture, to, dark, scale, force)
    typer.echo(f"{to}: {shown.describe()}")


def draw_on_terminal(picture: Scene) -> None:
    """In colour where there is any, in ASCII where the terminal's encoding has no more."""
    from resattn.drawing.terminal import COLOURS, lines, plain

    drawn = lines(picture)
    try:
        plain(drawn).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        drawn = lines(picture, ascii_only=True)
    for line in drawn:
        parts = []
        for words, form in line:
            colour = COLOURS.get(form.split(" ")[0])
            # None where there is nothing to say: what is not dim would no longer be bold.
            bold, dim = "name" in form or None, form == "quiet" or None
            parts.append(typer.style(words, fg=colour, bold=bold, dim=dim) if form else words)
        typer.echo("".join(parts).rstrip())


@app.command()
def demo() -> None:
    """Port a small trained network to all three frameworks and classify real handwritten digits in
    each.
    """
    from resattn.cli.demo import run

    if not run():
        raise typer.Exit(1)


def import_module_or_file(name: str) -> None:
    """A module by its name, from this folder or among what is installed, or a .py file."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise MissingFileError(f"--import {name}: there is no such file")
        spec = importlib.util.spec_from_file_location(Path(name).stem, name)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return
    sys.path.insert(0, os.getcwd())
    if importlib.util.find_spec(name) is None:
        raise ArgumentError(
            f"--import {name}: there is no such module in this folder or among what is installed"
        )
    importlib.import_module(name)


def config_from(text: str | None) -> Config | None:
    """A preset's name, a JSON file or JSON text -> the config."""
    from weights.config import PRESETS, config_from_json, preset
    from weights.files.formats import config_file

    if text is None:
        return None
    if text in PRESETS:
        return preset(text)
    if text.lstrip().startswith("{"):
        return config_from_json(text, "--config")
    if Path(text).suffix == ".json":
        return config_file(text)
    raise ArgumentError(
        f"--config: expected a preset ({', '.join(PRESETS)}), a .json file or JSON text, got "
        f"{text!r}"
    )


def model_given(
    file: Path | None, config: str | None, naming: str | None
) -> tuple[Config | None, dict[str, np.ndarray] | None]:
    """The config of a command's FILE and --config, None without them, and the arrays of FILE."""
    from weights.files.formats import read

    described = config_from(config)
    if file is None:
        if naming is not None:
            raise ArgumentError("--naming: names what is in a file, but no file was given")
        return described, None
    return read(file, described, naming)


def names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def known_to(config: Config | None) -> tuple[str, ...]:
    """The frameworks that have what a config describes: all, but for attention kinds that were
    registered for some.
    """
    from weights.attention import ATTENTION
    from weights.config import own_kinds
    from weights.frameworks import FRAMEWORKS

    if config is None:
        return tuple(FRAMEWORKS)
    kinds = [ATTENTION[kind] for kind in own_kinds(config)]
    return tuple(name for name in FRAMEWORKS if all(name in kind.modules for kind in kinds))


def height_and_width(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not all(side.isascii() and side.isdigit() and int(side) for side in (height, width)):
        raise ArgumentError(f"--size: expected HEIGHTxWIDTH as in 32x33, got {text!r}")
    return int(height), int(width)


def images(option: str, path: Path) -> np.ndarray:
    """The array in a .npy file."""
    import numpy as np

    if not path.is_file():
        raise MissingFileError(f"{option} {path}: there is no such file")
    try:
        with path.open("rb") as handle:
            return np.lib.format.read_array(handle, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArgumentError(
            f"{option} {path}: is not a .npy file of plain numbers ({error})"
        ) from None


def stages_in(path: Path, last: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, or that of a .npy file as the last stage."""
    from weights.files.npz import read_all

    if path.suffix.lower() != ".npz":
        return {last: images("--expected", path)}
    if not path.is_file():
        raise MissingFileError(f"--expected {path}: there is no such file")
    return read_all(path)


def summary(config: Config, arrays: dict[str, np.ndarray]) -> str:
    """One line: what it is, how many arrays and numbers, of which dtype."""
    dtypes = ", ".join(sorted({array.dtype.name for array in arrays.values()}))
    return f"{config.describe()}; {len(arrays)} arrays, {sum(array.size for array in arrays.values()):,} numbers, {dtypes}"


def doubtful(name: str, role: str, array: np.ndarray) -> list[str]:
    """What no trained network should hold."""
    import numpy as np

    doubts = []
    if not np.isfinite(array).all():
        doubts.append(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are not finite"
        )
    if role == "norm variance" and (array < 0).any():
        doubts.append(f"{name} holds negative variances")
    return doubts


@contextmanager
def status(line: str) -> Iterator:
    """A spinner on the terminal while something takes its time, and a function that changes what it
    says.
    """
    from rich.console import Console

    with Console(stderr=True).status(line) as spinner:
        yield lambda step: spinner.update(f"{line}: {step}")


if __name__ == "__main__":
    main()
