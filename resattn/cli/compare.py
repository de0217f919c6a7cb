"""`resattn compare`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    AllOption,
    ArchitectureOption,
    ConfigOption,
    PartOption,
    ReportHtmlOption,
    ReportJsonOption,
    read_source,
    write_json,
)
from resattn.cli.terminal import find_width, print_line, print_report, status
from resattn.cli.words import say

if TYPE_CHECKING:
    from resattn.recording.comparison import Comparison

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN", help="Two or more files of `resattn record`."),
]
RunWeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="The weights file of the runs, to find the cause of a difference. --config, --as and "
        "--part are about it.",
    ),
]


def compare(
    runs: RunsArgument,
    weights: RunWeightsOption = None,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    every: AllOption = False,
    as_json: ReportJsonOption = None,
    as_html: ReportHtmlOption = None,
) -> None:
    """Compare recorded runs, without any framework: their environments, stages and training.

    Shows first what differs between the environments, then the first stage that differs, and why.
    The exit status is 1 if the runs differ. What counts as a difference is what rounding does not
    explain, as in `resattn check --trace`.
    """
    from resattn.recording.compare import compare as compare_runs
    from weights.errors import ArgumentError

    if weights is None and (config or architecture or part):
        raise ArgumentError(
            say("--config, --as, --part: are about the file in --weights; name it, too")
        )
    _, arrays = read_source(weights, config, architecture, part)
    with status(say("compare")) as show_step:
        found = compare_runs(*runs, arrays=arrays, progress=show_step)
    print_report(found.lines(every, find_width()))
    if as_json is not None:
        write_json(as_json, found.to_dict())
    if as_html is not None:
        write_comparison_page(as_html, found)
    if not found.ok:
        raise typer.Exit(1)


def write_comparison_page(path: Path, found: Comparison) -> None:
    """Writes the page in --html: what failed first, every stage on the drawing of the model."""
    from resattn.reporting.page import Page
    from resattn.reporting.rendering import write_html
    from resattn.reporting.stages import drawing

    lines = tuple(line.strip() for line in found.list_environment(False) if line)
    page = Page(
        reports={},
        trace=replace(found.trace, environment=lines),
        drawing=drawing(found.config, found.trace),
        command=["resattn", *sys.argv[1:]],
        subject=f"{', '.join(found.names)}: {found.title}",
        faults=(*found.apart, *found.doubts, *map(str, found.partings)),
        losses=found.losses,
    )
    write_html(path, page.html())
    print_line(say("Wrote {file}.", file=path))
