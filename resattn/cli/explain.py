"""`resattn explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    PartOption,
    list_given_options,
    parse_size,
    read_model_or_block,
    write_json,
)
from resattn.cli.live import LIVE_HELP, ChannelsOption, ChoiceOption
from resattn.cli.live_forms import LiveRequest, explain_live, find_live
from resattn.cli.targets import WRITTEN
from resattn.cli.terminal import choose_width, print_line
from resattn.cli.words import say

_BatchOption = Annotated[
    int,
    typer.Option(help="Number of images, for the memory and for batch norm in training.", min=1),
]

ExplainSizeOption = Annotated[
    str | None,
    typer.Option(
        help="Height and width of the images, as in 32x33. Default: 32x32, or 224x224 for "
        "networks for ImageNet."
    ),
]
CodeOption = Annotated[
    str | None,
    typer.Option(help="Also show the lines of code that compute each step: torch, jax or tf."),
]
BriefOption = Annotated[
    bool, typer.Option("--brief", help="One line for each operation, without the reasons.")
]
ExplainOnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Explain one block of a network, as in stages.1.0, with the size that its images "
        "have there. Of a model of your own: the path of the part that is meant.",
    ),
]
ExplainJsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the explanation to this file."),
    WRITTEN,
]


def explain(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help=f"A weights file. Its config is explained. {LIVE_HELP}"
        ),
    ] = None,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    size: ExplainSizeOption = None,
    batch: _BatchOption = 8,
    dtype: Annotated[
        str, typer.Option(help="The dtype of the activations: float16, float32 or float64.")
    ] = "float32",
    brief: BriefOption = False,
    code: CodeOption = None,
    channels: ChannelsOption = None,
    only: ExplainOnlyOption = None,
    choice: ChoiceOption = None,
    as_json: ExplainJsonOption = None,
) -> None:
    """Explain what a block or a network computes, step by step.

    The explanation ends with what the model costs and what a port of it must get right. Without
    FILE and --config the model is the block from 64 to 128 channels with stride 2.

    A model of your own is explained as it is executed, and recognised.
    """
    from resattn.drawing.pictures import block_of
    from resattn.explaining import explanation
    from weights.errors import ArgumentError
    from weights.graph import default_size
    from weights.language import current_language

    spoken = current_language()
    if brief and code is not None:
        raise ArgumentError(say("--brief: has no lines of code; leave --code or --brief out"))
    live = find_live(list_given_options(context), file, excluded=("--code",), shared=("--only",))
    sides = None if size is None else parse_size(size)
    if live is not None:
        request = LiveRequest(live, sides, channels, only, choice)
        plain = explain_live(request, batch, dtype, spoken, brief)
        if as_json is not None:
            write_json(as_json, plain)
        return
    described, _ = read_model_or_block(file, config, architecture, part)
    if only is not None:
        described, sides = block_of(described, only, sides or default_size(described))
    explained = explanation.explain(described, sides, batch, dtype, code)
    for line, style in explained.lines(choose_width(brief), spoken, brief):
        print_line(line, style)
    if as_json is not None:
        write_json(as_json, explained.to_dict(spoken))
