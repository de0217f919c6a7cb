"""The forms of `resattn check`: each makes a comparison and prints it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resattn.cli.arguments import read_stages
from resattn.cli.terminal import find_width, print_line, print_report, status
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from resattn.tracing.findings import Trace
    from weights import Report
    from weights.config import Config

# The low precisions of --dtype: regime and format, as in `resattn.checking.precision`.
LOW_FORMATS = {
    "bfloat16": ("low", "bfloat16"),
    "float16": ("low", "float16"),
    "mixed_bfloat16": ("mixed", "bfloat16"),
    "mixed_float16": ("mixed", "float16"),
}


@dataclass(frozen=True)
class Request:
    """What to compare, and how.

    arrays: None for random ones. every: whether to print every tensor or stage. options: the other
    arguments of `crosscheck`.
    """

    config: Config
    arrays: dict[str, np.ndarray] | None
    every: bool
    options: dict[str, Any]


def cross_check(request: Request) -> Report:
    """Makes and prints the cross-check."""
    from resattn.checking.crosscheck import crosscheck

    with status(say("cross-check")) as show_step:
        report = crosscheck(request.config, request.arrays, **request.options, progress=show_step)
    print_report(report.styled_lines(request.every, width=find_width()))
    return report


def low_check(request: Request) -> Report:
    """Makes and prints the check in a low precision."""
    from resattn.checking.precision import precision, styled_table

    options = dict(request.options)
    dtype = options.pop("dtype")
    regime, form = LOW_FORMATS[dtype]
    given = {**options, "formats": (form,), "regimes": (regime,)}
    with status(say("check in {dtype}", dtype=dtype)) as show_step:
        report = precision(request.config, request.arrays, **given, progress=show_step)
    if request.every or not report.ok:
        print_report(report.styled_lines(request.every, width=find_width()))
    else:
        plain = [(line, "") for line in (report.title, *report.environment, "")]
        verdict = (report.verdict(), "good" if report.ok else "bad")
        print_report([*plain, *styled_table(report), ("", ""), verdict])
        print_report((say("note: {note}", note=note), "") for note in report.notes)
    return report


def grid_check(request: Request) -> dict[str, Report]:
    """Cross-checks blocks of every stride and with other channels, and prints a line for each.

    Returns the reports by a name of the block.
    Raises ArgumentError when the config is not that of a block.
    """
    from resattn.checking.cases import user_grid
    from resattn.checking.crosscheck import crosscheck
    from resattn.checking.progress import StepCounter
    from weights import BlockConfig
    from weights.checks import pair_of
    from weights.errors import ArgumentError

    config, options = request.config, request.options
    if not isinstance(config, BlockConfig):
        raise ArgumentError(
            say(
                "--grid: expected the config of a block, got {config} from --config",
                config=config.describe(),
            )
        )
    reports: dict[str, Report] = {}
    with status(say("cross-check")) as show_step:
        blocks = user_grid(config)
        tell = StepCounter(show_step, len(blocks))
        for block, size in blocks:
            rows, cols = pair_of("stride", block.stride)
            name = say(
                "{in_channels} to {out_channels}, stride {rows} x {cols}",
                in_channels=block.in_channels,
                out_channels=block.out_channels,
                rows=rows,
                cols=cols,
            )
            tell(name)
            reports[name] = crosscheck(block, **{**options, "size": size})
    print_grid(reports, request.every)
    return reports


def print_grid(reports: dict[str, Report], every: bool) -> None:
    """Prints a line for each report with its worst comparison in the format that decides."""
    from weights.compare import format_times

    for name, report in reports.items():
        worst = report.worst(dtype=report.dtypes[0])
        words = say("ok") if report.ok else say("OVER: {row}", row=worst)
        times = format_times(worst.times)
        numbers = say(
            "{relative:.1e}, {times} what rounding explains, {quantity}",
            relative=worst.relative,
            times=times,
            quantity=say(worst.quantity),
        )
        print_line(f"  {name:24}  {numbers}, {words}", "" if report.ok else "bad")
        for row in report.rows if every else ():
            print_line(f"    {row}")
    if all(report.ok for report in reports.values()):
        count = sum(len(report.rows) for report in reports.values())
        print_line(say("The same functions: {count} comparisons.", count=count), "good")


def trace_check(request: Request, expected: Path | None) -> Trace:
    """Makes and prints the trace. expected: the file in --expected."""
    from resattn.recognition.endings import last_stage
    from resattn.tracing.trace import trace_frameworks

    config, arrays = request.config, request.arrays
    options = {name: value for name, value in request.options.items() if value is not None}
    if expected is not None:
        options["expected"] = read_stages(expected, last_stage(config))
        options["expected_name"] = f"expected ({expected.name})"
    with status(say("trace")) as show_step:
        report = trace_frameworks(config, arrays, **options, progress=show_step)
    print_report(report.lines(request.every, find_width()))
    return report


def reduce_check(request: Request, expected: Path | None, target: Path) -> Trace:
    """Makes and prints the trace, and writes the smallest problem that still shows what it found.

    expected: the file in --expected. Raises ArgumentError for what is no script.
    """
    import numpy as np

    from resattn.checking.backends import backends
    from resattn.checking.draws import random_arrays, random_input
    from resattn.reducing.reduction import reduce_trace
    from weights.errors import ArgumentError
    from weights.files.atomic import write_atomically
    from weights.graph import probe_size

    if target.suffix != ".py":
        raise ArgumentError(say("--reduce: expected a .py file, got {target}", target=target))
    config, options = request.config, dict(request.options)
    held = (array.dtype for array in (request.arrays or {}).values())
    dtype = options["dtype"] or np.result_type(np.float32, *held).name
    arrays = request.arrays or random_arrays(config, dtype, options["seed"])
    if options["inputs"] is None and expected is None:
        size, batch = options.pop("size") or probe_size(config), options.pop("batch") or 4
        options["inputs"] = random_input(config, size, batch, dtype, options["seed"])
    found = trace_check(Request(config, arrays, request.every, options), expected)
    if found.ok:
        print_line(say("There is nothing to reduce."), "good")
        return found
    with status(say("reduce")) as show_step:
        show_step(say("make it smaller"))
        framework = backends(options["frameworks"], options["devices"])[0].framework
        reduction = reduce_trace(found, config, arrays, options["inputs"], framework, dtype)
    write_atomically(target, lambda path: path.write_text(reduction.script, encoding="utf-8"))
    print_line(
        say(
            "Wrote {file}: {stage} in {lines} lines, {numbers} numbers.",
            file=target,
            stage=reduction.finding.stage,
            lines=len(reduction.script.splitlines()),
            numbers=reduction.count,
        )
    )
    return found
