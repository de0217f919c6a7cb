"""`resattn bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.arguments import (
    DevicesOption,
    parse_framework_names,
    parse_names,
)
from resattn.cli.targets import WRITTEN
from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

GroupsOption = Annotated[
    str | None,
    typer.Option(
        help="What to measure, separated by commas: blocks, networks, deploy (of those, or both), "
        "training, attention, converter, commands. Default: everything."
    ),
]
BenchFrameworksOption = Annotated[
    str,
    typer.Option(help="The frameworks to measure, separated by commas: torch, jax, tf."),
]
BatchesOption = Annotated[
    str, typer.Option("--batch", help="Numbers of images for the blocks, separated by commas.")
]
ReferencesOption = Annotated[
    bool,
    typer.Option(
        "--references/--no-references",
        help="Also measure ONNX Runtime, timm, the obvious native implementations and a matrix "
        "product.",
    ),
]
RoundsOption = Annotated[
    int | None,
    typer.Option(
        help="How often to measure each function, but commands 3 times at most. Default: 15, with "
        "--quick 3.",
        min=1,
    ),
]
MarkdownOption = Annotated[
    Path | None, typer.Option(help="Also write the tables to this file, as Markdown."), WRITTEN
]
PictureOption = Annotated[
    Path | None,
    typer.Option(help="Also draw the models to this file: .svg, for light and dark, or .png."),
    WRITTEN,
]

TimingsJsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Also write machine and timings to this file."),
    WRITTEN,
]


def bench(
    groups: GroupsOption = None,
    frameworks: BenchFrameworksOption = "torch,jax,tf",
    devices: DevicesOption = "cpu",
    batch: BatchesOption = "1,8",
    rounds: RoundsOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small models and few rounds: does it run?")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also measure resnet50, and its check.")
    ] = False,
    references: ReferencesOption = True,
    as_json: TimingsJsonOption = None,
    markdown: MarkdownOption = None,
    picture: PictureOption = None,
) -> None:
    """Measure how fast blocks and networks are, beside other implementations.

    Each framework runs in a process of its own, one at a time, with as many threads as there are
    cores. In every round each function has a turn of 0.2 seconds at least; the result is the median
    of the rounds, and the quartiles. Outputs are compared with the oracle before anything is
    measured. What is not installed is left out, and the tables say so.

    For figures to keep, let the machine do nothing else.
    """
    from resattn.benchmarks.chart import check_chart, save_chart
    from resattn.benchmarks.groups import GROUPS
    from resattn.benchmarks.runner import BenchPlan, run_bench
    from resattn.benchmarks.tables import format_tables
    from weights.files.atomic import write_atomically

    if picture is not None:
        check_chart(picture)
    plan = BenchPlan(
        GROUPS if groups is None else parse_names("--groups", groups),
        parse_framework_names(frameworks),
        parse_names("--devices", devices),
        parse_counts("--batch", batch),
        rounds=rounds or (3 if quick else 15),
        seconds=0.02 if quick else 0.2,
        quick=quick,
        full=full,
        references=references,
    )
    with status("bench") as show_step:
        report = run_bench(plan, show_step)
    tables = format_tables(report)
    print_line(tables)
    texts = ((as_json, report.to_json()), (markdown, f"{tables}\n"))
    writers = [
        partial(write_atomically, path, partial(Path.write_text, data=text, encoding="utf-8"))
        for path, text in texts if path is not None
    ]  # fmt: skip
    if picture is not None:
        writers.append(partial(save_chart, report, picture))
    call_all(writers)


def call_all(writers: Iterable[Callable[[], object]]) -> None:
    """Calls each, even if another one fails. Then raises the first error, with the words of all."""
    from weights.errors import ResattnError

    failures: list[ResattnError] = []
    for write in writers:
        try:
            write()
        except ResattnError as error:
            failures.append(error)
    if failures:
        raise type(failures[0])("; ".join(map(str, failures))) from failures[0]


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers in the value of an option, separated by commas."""
    from weights.errors import ArgumentError

    names = parse_names(option, text)
    if not all(name.isascii() and name.isdigit() for name in names):
        raise ArgumentError(
            say(
                "{option}: expected whole numbers separated by commas, got {text!r}",
                option=option,
                text=text,
            )
        )
    return tuple(map(int, names))
