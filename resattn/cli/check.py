"""`resattn check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from resattn.cli.arguments import (
    AllOption,
    CheckBatchOption,
    CheckDtypeOption,
    CheckedFileArgument,
    CheckSizeOption,
    ConfigOption,
    DevicesOption,
    ExpectedOption,
    FrameworksOption,
    GridOption,
    InputsOption,
    NamingOption,
    ReportHtmlOption,
    ReportJsonOption,
    SeedOption,
    TraceOption,
    frameworks_from,
    height_and_width,
    images,
    model_or_block,
    names,
    write_json,
)
from resattn.cli.check_forms import LOW, Request, cross_check, grid_check, low_check, trace_check
from resattn.cli.terminal import status

if TYPE_CHECKING:
    from resattn.tracing.findings import Trace
    from weights import Report


def check(
    file: CheckedFileArgument = None,
    config: ConfigOption = None,
    naming: NamingOption = None,
    frameworks: FrameworksOption = None,
    devices: DevicesOption = "cpu",
    dtype: CheckDtypeOption = None,
    size: CheckSizeOption = None,
    batch: CheckBatchOption = 8,
    seed: SeedOption = 0,
    inputs: InputsOption = None,
    every: AllOption = False,
    trace: TraceOption = False,
    expected: ExpectedOption = None,
    grid: GridOption = False,
    as_json: ReportJsonOption = None,
    as_html: ReportHtmlOption = None,
) -> None:
    """Load the weights into each framework and compare outputs, statistics and gradients. Exit
    status 1 if they differ.

    Everything is compared with a float64 NumPy oracle and between the frameworks. Without FILE and
    --config it takes the block 64 to 128 channels with stride 2.
    """
    from weights.errors import ArgumentError

    dtypes = ("float32", "float64", *LOW)
    if dtype is not None and dtype not in dtypes:
        raise ArgumentError(f"--dtype: expected one of {', '.join(dtypes)}, got {dtype!r}")
    described, arrays = model_or_block(file, config, naming)
    options = {
        "frameworks": frameworks_from(frameworks, described),
        "devices": names(devices),
        "dtype": dtype,
        "inputs": None if inputs is None else images("--inputs", inputs),
        "size": None if size is None else height_and_width(size),
        "batch": batch,
        "seed": seed,
    }
    request = Request(described, arrays, every, options)
    reports: dict[str, Report] = {}
    found: Trace | None = None
    if dtype in LOW:
        if trace or expected is not None or grid or as_html is not None:
            raise ArgumentError(
                f"--dtype {dtype}: can be had without --trace, --expected, --grid and --html only"
            )
        reports = {described.describe(): low_check(request)}
    elif grid and (trace or expected is not None):
        raise ArgumentError("--grid: can be had without --trace and --expected only")
    elif trace or expected is not None:
        found = trace_check(request, expected)
    elif grid:
        reports = grid_check(request)
    else:
        reports = {described.describe(): cross_check(request)}
    outcomes = [found] if found else list(reports.values())
    if as_json is not None:
        plain = [outcome.to_dict() for outcome in outcomes]
        write_json(as_json, plain if grid else plain[0])
    if as_html is not None:
        write_page(as_html, request, reports, found)
    if not all(outcome.ok for outcome in outcomes):
        raise typer.Exit(1)


def write_page(
    path: Path, request: Request, reports: dict[str, Report], found: Trace | None
) -> None:
    """Writes the page of a check, for which it makes what was not asked for in the terminal: the
    trace, the cross-check.
    """
    from resattn.checking.backends import flags
    from resattn.checking.crosscheck import crosscheck
    from resattn.reporting.page import Page, drawing, write
    from resattn.tracing.trace import trace_frameworks

    config, arrays, options = request.config, request.arrays, request.options
    with status("page") as show_step:
        if found is None:
            found = trace_frameworks(config, arrays, **options, progress=show_step)
        if not reports:
            reports = {config.describe(): crosscheck(config, arrays, **options, progress=show_step)}
        command = ["resattn", *sys.argv[1:]]
        settings = flags(options["frameworks"], options["dtype"] or "float32")
        write(path, Page(reports, found, drawing(config, found), command, settings))
    typer.echo(f"Wrote {path}.")
