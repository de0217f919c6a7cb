"""`resattn attach`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    PartOption,
    SeedOption,
    SourceArgument,
    TargetArgument,
    find_source,
    parse_names,
)
from resattn.cli.inspect import summarize
from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from weights.attach import Attached
    from weights.config import Config

    Model = tuple[Config, dict[str, np.ndarray]]


KindOption = Annotated[
    str, typer.Option("--attention", help="The attention kind; see `resattn attention`.")
]
OptionsOption = Annotated[
    str | None,
    typer.Option(
        help="Options of the kind as JSON, as in '{\"reduction\": 8}', or a list of one object "
        "for each stage."
    ),
]
StagesOption = Annotated[
    str | None,
    typer.Option(
        help="The stages that get attention, as in 2,3, counted from 0 as in the names of the "
        "parameters. Default: all of them."
    ),
]


def attach(
    source: SourceArgument,
    target: TargetArgument,
    kind: KindOption,
    options: OptionsOption = None,
    stages: StagesOption = None,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    seed: SeedOption = 0,
) -> None:
    """Add attention to a trained network that has none, without changing its output.

    Every array of SOURCE is kept; only the last norm of each block is multiplied by a factor, which
    is printed. The new modules begin with gates or terms that leave the output as it is, and learn
    from the first step.
    """
    from weights.attach import attach as attach_to
    from weights.attach import attachments
    from weights.files.formats import write
    from weights.language import in_english

    found = find_source(source, config, architecture, part).read()
    kinds, given = parse_stages(kind, parse_options(options), stages, found.config)
    new, arrays = attach_to(found.config, found.arrays, kinds, given, seed)
    lines = describe(found.arrays, arrays, attachments(found.config, new))
    for line in lines:
        print_line(line)
    with status(say("comparing the outputs")):
        line, kept = compare_outputs((found.config, found.arrays), (new, arrays))
    print_line(line, "good" if kept else "warning")
    earlier = [found.origin["attention"]] if "attention" in found.origin else []
    origin = {
        **found.origin,
        "attention": "; ".join([*earlier, *in_english(lines), f"seed {seed}"]),
    }
    with status(say("writing {file}", file=target.name)):
        write(target, new, arrays, origin=origin)
    print_line(f"{source.name} -> {target.name}: {summarize(new, arrays)}")
    if target.suffix != ".keras":
        print_line(say("Next: resattn check {target}", target=target))


def parse_options(text: str | None) -> Any:
    """The value of --options: an object, or a list of one object for each stage."""
    from weights.checks import quote
    from weights.errors import ArgumentError
    from weights.fields import parse_json

    if text is None:
        return None
    try:
        value = parse_json(text, "--options")
    except ArgumentError:
        value = None
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        raise ArgumentError(
            say(
                "--options: expected a JSON object, or a list of one for each stage, got {text}",
                text=quote(text),
            )
        )
    return value


def parse_stages(kind: str, options: Any, stages: str | None, config: Config) -> tuple[Any, Any]:
    """The kind and the options of each stage; as they are where there is no --stages."""
    from weights.config import NetworkConfig
    from weights.errors import ArgumentError

    if stages is None:
        return kind, options
    if not isinstance(config, NetworkConfig):
        raise ArgumentError(say("--stages: a block has none; leave it out"))
    names = [str(stage) for stage in range(len(config.depths))]
    chosen = parse_names("--stages", stages)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ArgumentError(
            say(
                "--stages: expected some of {known}, got {found}",
                known=", ".join(names),
                found=", ".join(unknown),
            )
        )
    kinds = tuple(kind if name in chosen else "none" for name in names)
    if isinstance(options, tuple):
        return kinds, options
    return kinds, tuple(options if name in chosen else None for name in names)


def describe(
    before: dict[str, np.ndarray], after: dict[str, np.ndarray], blocks: tuple[Attached, ...]
) -> list[str]:
    """What was attached where, and what that needed; one line a kind, then one a factor."""
    from weights.language import join_texts

    new = [array.size for name, array in after.items() if name not in before]
    kinds = ", ".join(dict.fromkeys(each.block.attention for each in blocks))
    names = [each.name for each in blocks if each.name]
    many = (
        say("{count} blocks ({first} to {last})", count=len(names), first=names[0], last=names[-1])
        if names
        else say("the block")
    )
    where = names[0] if len(names) == 1 else many
    lines = [
        say(
            "attached {kinds} to {where}: {count} new arrays, {numbers:,} numbers",
            kinds=kinds,
            where=where,
            count=len(new),
            numbers=sum(new),
        )
    ]
    for start in dict.fromkeys(each.start for each in blocks):
        norms = dict.fromkeys(e.block.last_layer for e in blocks if e.start == start)
        of_them = join_texts(norms, say(" and "))
        if start.factor == 1:
            lines.append(
                say("the attention begins as the identity; no array of the source changes")
            )
            continue
        whole = float(start.factor).is_integer()
        factor = (
            f"{start.factor:g}" if whole else say("{factor:.6g} (rounded)", factor=start.factor)
        )
        lines.append(
            say(
                "the attention begins as a product with {factor:.3g}, so weight and "
                "bias of {norms} before it are multiplied by {number}",
                factor=1 / start.factor,
                norms=of_them,
                number=factor,
            )
        )
    if not all(each.start.exact for each in blocks):
        lines.append(say("the output is unchanged up to rounding; this kind cannot be exact"))
    return list(dict.fromkeys(lines))


def compare_outputs(before: Model, after: Model) -> tuple[str, bool]:
    """How far both outputs are apart, as a sentence, and whether no more than rounding.

    In float64 by the oracle, of two random images of a small size, in evaluation and in training.
    """
    import numpy as np

    from resattn.checking.draws import random_input
    from resattn.oracle import evaluation
    from weights.graph import probe_size

    size = probe_size(after[0])
    x = random_input(before[0], size, 2, "float64")
    worst, greatest = 0.0, 0.0
    for training in (False, True):
        one, other = (
            evaluation.run(config, arrays, x, training=training).output
            for config, arrays in (before, after)
        )
        worst = max(worst, float(np.abs(one - other).max()))
        greatest = max(greatest, float(np.abs(one).max()))
    images = say(
        "2 random images of {rows} x {cols}, in evaluation and in training",
        rows=size[0],
        cols=size[1],
    )
    if worst == 0:
        return say(
            "compared in float64: the same output bit for bit, for {images}", images=images
        ), True
    kept = worst <= 1e-5 * greatest
    relative = worst / greatest if greatest else float("inf")
    return (
        say(
            "compared in float64: the outputs differ by at most {relative:.1e} of "
            "the greatest, for {images}",
            relative=relative,
            images=images,
        )
    ), kept
