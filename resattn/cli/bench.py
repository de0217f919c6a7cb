"""`resattn bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.arguments import DevicesOption, parse_names
from resattn.cli.terminal import print_line, status

GroupsOption = Annotated[
    str | None,
    typer.Option(
        help="What to measure, separated by commas: blocks, networks, deploy (of those, or both), "
        "training, attention, converter. Default: everything."
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
MarkdownOption = Annotated[
    Path | None, typer.Option(help="Also write the tables to this file, as Markdown.")
]
PictureOption = Annotated[
    Path | None,
    typer.Option(help="Also draw the models to this file: .svg, for light and dark, or .png."),
]


def bench(
    groups: GroupsOption = None,
    frameworks: BenchFrameworksOption = "torch,jax,tf",
    devices: DevicesOption = "cpu",
    batch: BatchesOption = "1,8",
    rounds: Annotated[int, typer.Option(help="How often to measure each function.", min=1)] = 15,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small models and 3 rounds: does it run?")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Also measure resnet50.")] = False,
    references: ReferencesOption = True,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Also write machine and timings to this file.")
    ] = None,
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
        parse_names("--frameworks", frameworks),
        parse_names("--devices", devices),
        parse_counts("--batch", batch),
        rounds=3 if quick else rounds,
        seconds=0.02 if quick else 0.2,
        quick=quick,
        full=full,
        references=references,
    )
    with status("bench") as show_step:
        report = run_bench(plan, show_step)
    tables = format_tables(report)
    print_line(tables)
    if as_json is not None:
        text = report.to_json()
        write_atomically(as_json, lambda file: file.write_text(text, encoding="utf-8"))
    if markdown is not None:
        write_atomically(markdown, lambda file: file.write_text(f"{tables}\n", encoding="utf-8"))
    if picture is not None:
        save_chart(report, picture)


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers in the value of an option, separated by commas."""
    from weights.errors import ArgumentError

    names = parse_names(option, text)
    if not all(name.isascii() and name.isdigit() for name in names):
        raise ArgumentError(f"{option}: expected whole numbers separated by commas, got {text!r}")
    return tuple(map(int, names))
