"""`resattn check`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from resattn.cli.arguments import (
    AllOption,
    ArchitectureOption,
    CheckBatchOption,
    CheckDevicesOption,
    CheckDtypeOption,
    CheckedFileArgument,
    CheckSizeOption,
    ConfigOption,
    ExpectedOption,
    FrameworksOption,
    GoldenOption,
    GridOption,
    InputsOption,
    PartOption,
    ReduceOption,
    ReportHtmlOption,
    ReportJsonOption,
    SeedOption,
    TraceOption,
    list_given_options,
    parse_framework_names,
    parse_frameworks,
    parse_names,
    parse_size,
    read_images,
    read_model_or_block,
    read_source,
    write_json,
)
from resattn.cli.check_card import CardOption, EmbedOption, card_check
from resattn.cli.check_device import device_check
from resattn.cli.check_forms import (
    LOW_FORMATS,
    Request,
    cross_check,
    grid_check,
    low_check,
    reduce_check,
    trace_check,
)
from resattn.cli.check_golden import golden_check
from resattn.cli.live import ChannelsOption, ChoiceOption, ModelOption, OnlyOption
from resattn.cli.live_forms import LiveRequest, check_live, find_live
from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    from resattn.checking.verdict import Verdict
    from resattn.tracing.findings import Trace
    from weights import Report

EXACT = ("float32", "float64")
NOT_WITH_GOLDEN = (
    *("FILE", "--config", "--as", "--part", "--size", "--batch", "--seed", "--inputs"),
    *("--trace", "--expected", "--grid", "--html", "--card"),
)
NOT_WITH_GRID = ("FILE", "--as", "--part", "--size", "--inputs", "--trace", "--expected")
NOT_WITH_LOW = ("--trace", "--expected", "--grid", "--html")
NOT_WITH_LIVE = ("--expected", "--grid", "--html", "--reduce", "--card")
NOT_WITH_REDUCE = ("--grid", "--html", "--golden")
NOT_WITH_CARD = ("--dtype", "--trace", "--expected", "--grid", "--html", "--reduce")
NOT_WITH_EMBED = ("--config", "--as", "--part")  # a file that needs them has no place for a card
# With --devices these ask for a verdict on a device; anything else says what to check on it.
OF_A_VERDICT = {"--devices", "--frameworks", "--json", "--force"}
NEEDED = {"--card": "FILE", "--embed": "--card"}


def check(
    context: typer.Context,
    file: CheckedFileArgument = None,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    frameworks: FrameworksOption = None,
    devices: CheckDevicesOption = "cpu",
    dtype: CheckDtypeOption = None,
    size: CheckSizeOption = None,
    batch: CheckBatchOption = None,
    seed: SeedOption = 0,
    inputs: InputsOption = None,
    every: AllOption = False,
    trace: TraceOption = False,
    expected: ExpectedOption = None,
    model: ModelOption = None,
    channels: ChannelsOption = None,
    only: OnlyOption = None,
    choice: ChoiceOption = None,
    grid: GridOption = False,
    golden: GoldenOption = False,
    reduced: ReduceOption = None,
    as_json: ReportJsonOption = None,
    as_html: ReportHtmlOption = None,
    card: CardOption = None,
    embed: EmbedOption = False,
) -> None:
    """Load the weights into each framework and compare outputs, statistics and gradients.

    Each framework is compared with a NumPy oracle in float64 and with the others. Exit status 1 if
    they differ. Without FILE and --config: the block from 64 to 128 channels with stride 2.

    A model of your own, as FILE or in --model, is recognised and compared stage by stage: as FILE
    with ours of the same weights, in --model with the weights in FILE.

    With --device and nothing to check: a verdict on the device, see docs/gpu.md.
    """
    given = list_given_options(context)
    check_combination(given, dtype)
    options = gather_options(frameworks, devices, dtype, inputs, size, batch, seed)
    live = find_live(given, file, model, NOT_WITH_LIVE)
    if golden or asks_for_verdict(given, devices):
        check_installation(options, golden, every, as_json)
    elif live is not None:
        target = (None, None) if model is None else read_source(file, config, architecture, part)
        request = LiveRequest(live, options["size"], channels, only, choice)
        finish([check_live(request, target, options, every)], as_json, False)
    else:
        described, arrays = read_model_or_block(file, config, architecture, part)
        options["frameworks"] = parse_frameworks(frameworks, described)
        asked = Request(described, arrays, every, options)
        outcomes: list[Report | Trace]
        if reduced is not None:
            outcomes = [reduce_check(asked, expected, reduced)]
        elif card is not None:
            outcomes = [card_check(context, asked)]
        else:
            outcomes = run_forms(asked, trace, expected, grid, as_html)
        finish(outcomes, as_json, grid)


def check_installation(
    options: dict[str, Any], golden: bool, every: bool, as_json: Path | None
) -> None:
    """What needs no file and no config: the golden vectors, or a verdict on a device."""
    given, devices = options["frameworks"], options["devices"]
    chosen = None if given is None else parse_framework_names(given)
    if golden:
        finish(golden_check(chosen, devices, options["dtype"] or "float64", every), as_json, True)
    else:
        finish([device_check(devices[0], chosen)], as_json, False)


def asks_for_verdict(given: list[str], devices: str) -> bool:
    """Whether the options name one device and nothing to check on it."""
    one = len(parse_names("--devices", devices)) == 1
    return one and "--devices" in given and OF_A_VERDICT.issuperset(given)


def gather_options(
    frameworks: str | None,
    devices: str,
    dtype: str | None,
    inputs: Path | None,
    size: str | None,
    batch: int | None,
    seed: int,
) -> dict[str, Any]:
    """The arguments of `crosscheck` from the values of the options; "frameworks" stays as it is."""
    return {
        "frameworks": frameworks,
        "devices": parse_names("--devices", devices),
        "dtype": dtype,
        "inputs": None if inputs is None else read_images("--inputs", inputs),
        "size": None if size is None else parse_size(size),
        "batch": batch,
        "seed": seed,
    }


def run_forms(
    asked: Request, trace: bool, expected: Path | None, grid: bool, as_html: Path | None
) -> list[Report | Trace]:
    """Makes and prints the comparisons that the options ask for, and writes the page in --html."""
    found = trace_check(asked, expected) if trace or expected is not None else None
    reports: dict[str, Report] = {}
    if grid:
        reports = grid_check(asked)
    elif found is None:
        form = low_check if asked.options["dtype"] in LOW_FORMATS else cross_check
        reports = {asked.config.describe(): form(asked)}
    if as_html is not None:
        write_check_page(as_html, asked, reports, found)
    return [found] if found else list(reports.values())


def check_combination(given: list[str], dtype: str | None) -> None:
    """Raises ArgumentError for an unknown dtype, and for options that exclude each other.

    given: the arguments and options on the command line.
    """
    from weights.errors import ArgumentError

    if dtype not in (None, *EXACT, *LOW_FORMATS):
        known = ", ".join((*EXACT, *LOW_FORMATS))
        raise ArgumentError(
            say("--dtype: expected one of {known}, got {found!r}", known=known, found=dtype)
        )
    low = f"--dtype {dtype}"
    if dtype in LOW_FORMATS:
        given = [*given, low]
    excluded = {
        "--golden": (*NOT_WITH_GOLDEN, low),
        "--grid": NOT_WITH_GRID,
        low: (*NOT_WITH_LOW, "--reduce"),
        "--reduce": NOT_WITH_REDUCE,
        "--card": NOT_WITH_CARD,
        "--embed": NOT_WITH_EMBED,
    }
    for option, others in excluded.items():
        found = [other for other in others if other in given]
        if option in given and found:
            raise ArgumentError(
                say(
                    "{option}: cannot be combined with {others}",
                    option=option,
                    others=", ".join(found),
                )
            )
    for option, needed in NEEDED.items():
        if option in given and needed not in given:
            raise ArgumentError(
                say("{option}: needs {needed}, which was not given", option=option, needed=needed)
            )


def finish(
    outcomes: Sequence[Report | Trace | Verdict], as_json: Path | None, several: bool
) -> None:
    """Writes the file in --json, a list if `several`. Exits with status 1 if a check failed."""
    if as_json is not None:
        plain = [outcome.to_dict() for outcome in outcomes]
        write_json(as_json, plain if several else plain[0])
    if not all(outcome.ok for outcome in outcomes):
        raise typer.Exit(1)


def write_check_page(
    path: Path, request: Request, reports: dict[str, Report], found: Trace | None
) -> None:
    """Writes the page in --html, which shows a cross-check and a trace; makes the missing one."""
    from resattn.checking.backends import flags
    from resattn.checking.crosscheck import crosscheck
    from resattn.reporting.page import Page
    from resattn.reporting.rendering import write_html
    from resattn.reporting.stages import drawing
    from resattn.tracing.trace import trace_frameworks

    config, arrays, options = request.config, request.arrays, request.options
    with status(say("page")) as show_step:
        if found is None:
            given = {name: value for name, value in options.items() if value is not None}
            found = trace_frameworks(config, arrays, **given, progress=show_step)
        if not reports:
            reports = {config.describe(): crosscheck(config, arrays, **options, progress=show_step)}
        command = ["resattn", *sys.argv[1:]]
        settings = flags(options["frameworks"], options["dtype"] or "float64")
        page = Page(reports, found, drawing(config, found), command, settings)
        write_html(path, page.html())
    print_line(say("Wrote {file}.", file=path))
