"""The options that several commands share, and the functions that read their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resattn.cli.targets import WRITTEN, WRITTEN_IN_PLACE
from resattn.cli.terminal import print_line
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from weights.config import Config
    from weights.files.formats import CheckpointHeader

# Arguments and options of several commands.

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="The block or network, for a file that holds no config: a preset (resnet18, 34, 50, "
        "101, 152 or 20, some also with se- in front for squeeze-and-excitation), a JSON file, or "
        'JSON text, as in \'{"in_channels": 64, "out_channels": 128, "stride": 2}\'.',
    ),
]
ArchitectureOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="The published network that the file holds, as timm, torchvision or Keras call it, "
        "where its names and shapes fit several: resnet50, resnetblur50, ...",
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="Which network to take where the file holds several: a key, such as model_ema, or a "
        "prefix of names, such as backbone.",
    ),
]
DialectOption = Annotated[
    str | None,
    typer.Option(
        "--naming",
        "--to-dialect",  # its name before
        help="Write the names and axis orders of another library, which then loads the file "
        "strictly: timm, torchvision, legacy-senet, cifar-resnet, keras-applications or keras-hub.",
    ),
]
ShardSizeOption = Annotated[
    int | None,
    typer.Option(
        "--shard-size",
        help="Megabytes of values in each file of a TARGET that is a .safetensors.index.json.",
        min=1,
    ),
]
FoldOption = Annotated[
    bool,
    typer.Option(
        "--fold",
        help="Multiply every batch norm into the convolution before it, for inference: the same "
        "output in evaluation, up to rounding.",
    ),
]
FrameworksOption = Annotated[
    str | None,
    typer.Option(
        help="The frameworks to compare, separated by commas: torch, jax, tf. Default: all of them."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the random weights and images.", min=0)]

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A weights file: .safetensors (or its .index.json), .npz, .pt, .pth, .th, .bin, .h5, "
        # Backslashes, since Rich reads [/file] as the end of a style.
        ".keras or .msgpack; an Orbax checkpoint; or hf://owner/name\\[/file]\\[@revision].",
    ),
]
TargetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="TARGET",
        help="The file to write: .safetensors, .safetensors.index.json, .npz, .pt, .weights.h5, "
        ".keras, .msgpack or .orbax.",
    ),
    WRITTEN_IN_PLACE,
]

# Options of `check`. It has too many to declare them in its signature.

CheckedFileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A weights file. Without it the weights are random."),
]
DevicesOption = Annotated[
    str, typer.Option(help="The devices to compute on, separated by commas: cpu, cuda.")
]
CheckDevicesOption = Annotated[
    str,
    typer.Option(
        "--devices",
        "--device",
        help="The devices to compute on, separated by commas: cpu, cuda. One device and nothing to "
        "check, as in `resattn check --device cuda`: a verdict on the device itself, from every "
        "framework that is installed, every attention kind and every format.",
    ),
]
CheckDtypeOption = Annotated[
    str | None,
    typer.Option(
        help="The format to compute in, alone: float64, float32, bfloat16, float16, mixed_bfloat16 "
        "or mixed_float16. Default: float64, which decides whether it is the same function, then "
        "the format of the weights, which shows how precise each framework is."
    ),
]
CheckSizeOption = Annotated[
    str | None, typer.Option(help="Height and width of the random images, as in 32x33.")
]
CheckBatchOption = Annotated[
    int | None,
    typer.Option(help="Number of random images. Default: 8 for a block, 2 for a network.", min=1),
]
InputsOption = Annotated[
    Path | None,
    typer.Option(
        help="A .npy file of images, of shape (batch, channels, height, width), to use instead of "
        "random ones."
    ),
]
AllOption = Annotated[
    bool,
    typer.Option("--all", help="Show every tensor or stage, not only the worst of each quantity."),
]
TraceOption = Annotated[
    bool,
    typer.Option(
        "--trace", help="Compare stage by stage, and say which stage differs first, and why."
    ),
]
ExpectedOption = Annotated[
    Path | None,
    typer.Option(
        help="Your own outputs for the images in --inputs: a .npy file of the output, or a .npz "
        "file of stages by name (conv1, bn1, ..., output). If they differ, the trace names "
        "the cause."
    ),
]
GridOption = Annotated[
    bool,
    typer.Option(
        "--grid",
        help="Check 15 blocks with other strides and channels. Their attention is that of the "
        "block in --config.",
    ),
]
GoldenOption = Annotated[
    bool,
    typer.Option(
        "--golden",
        help="Check this installation: compute the problems that are stored in the package, and "
        "compare with the stored answers. Default: in the frameworks that are installed.",
    ),
]
ReduceOption = Annotated[
    Path | None,
    typer.Option(
        "--reduce",
        help="Where stages differ, write the smallest problem that still shows it to this .py "
        "file: a script in one framework, for an issue tracker.",
    ),
    WRITTEN,
]
ReportJsonOption = Annotated[
    Path | None, typer.Option("--json", help="Also write the whole report to this file."), WRITTEN
]
ReportHtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Also write the report as a page: the first failure, a heat map, every stage.",
    ),
    WRITTEN,
]


# Functions that read the values.


def read_config(text: str | None) -> Config | None:
    """The value of --config, a preset's name, a JSON file or JSON text -> the config."""
    from weights.config_json import config_from_json
    from weights.errors import ArgumentError
    from weights.files.formats import config_file
    from weights.presets import PRESETS, preset

    if text is None:
        return None
    if text in PRESETS:
        return preset(text)
    if text.lstrip().startswith("{"):
        return config_from_json(text, "--config")
    if Path(text).suffix == ".json":
        return config_file(text)
    raise ArgumentError(
        say(
            "--config: expected a preset ({known}), a .json file or JSON text, got {text!r}",
            known=", ".join(PRESETS),
            text=text,
        )
    )


def find_source(
    source: Path, config: str | None, architecture: str | None, part: str | None
) -> CheckpointHeader:
    """What the header of SOURCE says, with --config, --as and --part. Prints what was done to read
    it.
    """
    from weights.files.formats import read_header

    found = read_header(source, read_config(config), architecture, part)
    for note in found.notes:
        print_line(f"{source.name}: {note}")
    return found


def read_source(
    file: Path | None,
    config: str | None,
    architecture: str | None = None,
    part: str | None = None,
) -> tuple[Config | None, dict[str, np.ndarray] | None]:
    """The config and the arrays of FILE, read with --config, --as and --part.

    Without FILE there are no arrays; without FILE and --config there is no config.
    """
    from weights.errors import ArgumentError
    from weights.files.formats import read

    described = read_config(config)
    if file is None:
        for option, value in (("--as", architecture), ("--part", part)):
            if value is not None:
                raise ArgumentError(
                    say(
                        "{option}: says what is in a file, so it needs FILE, which was not given",
                        option=option,
                    )
                )
        return described, None
    return read(file, described, architecture, part)


def read_model_or_block(
    file: Path | None,
    config: str | None,
    architecture: str | None = None,
    part: str | None = None,
) -> tuple[Config, dict[str, np.ndarray] | None]:
    """As `read_source`. Without FILE and --config: the block from 64 to 128 channels, stride 2."""
    from weights import BlockConfig

    described, arrays = read_source(file, config, architecture, part)
    return described or BlockConfig(64, 128, 3, 2), arrays


def parse_frameworks(text: str | None, config: Config) -> tuple[str, ...]:
    """The value of --frameworks. Default: every framework that can build the config.

    An attention kind of the user may be registered for some frameworks alone.
    """
    from weights.attention import ATTENTION
    from weights.config import own_kinds
    from weights.frameworks import FRAMEWORKS

    if text is not None:
        return parse_framework_names(text)
    kinds = [ATTENTION[kind] for kind in own_kinds(config)]
    return tuple(name for name in FRAMEWORKS if all(name in kind.modules for kind in kinds))


def parse_framework_names(text: str) -> tuple[str, ...]:
    """The value of --frameworks: "pytorch,keras" -> ("torch", "tf")."""
    from weights.errors import ArgumentError
    from weights.frameworks import framework_key

    try:
        return tuple(dict.fromkeys(map(framework_key, parse_names("--frameworks", text))))
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("framework:", "--frameworks:", 1)) from None


def list_given_options(context: typer.Context) -> list[str]:
    """The arguments and options on the command line, as "FILE" and "--size", without --lang. What
    describes a config counts as --config.
    """
    from resattn.cli.config_options import CONFIG_OPTIONS

    names = [
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
        for parameter in context.command.params
        if (source := context.get_parameter_source(str(parameter.name)))
        and source.name == "COMMANDLINE"
        and parameter.name != "lang"
    ]
    described = any(f"--{name}" in names for name in CONFIG_OPTIONS)
    return [*names, *(["--config"] if described and "--config" not in names else [])]


def parse_names(option: str, text: str) -> tuple[str, ...]:
    """The names in the value of an option, separated by commas, each once."""
    from weights.errors import ArgumentError

    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise ArgumentError(
            say(
                "{option}: expected names separated by commas, got {text!r}",
                option=option,
                text=text,
            )
        )
    return found


def parse_size(text: str) -> tuple[int, int]:
    """The value of --size: "32x33" -> (32, 33)."""
    from weights.errors import ArgumentError

    height, _, width = text.partition("x")
    if not all(side.isascii() and side.isdigit() and int(side) for side in (height, width)):
        raise ArgumentError(
            say("--size: expected HEIGHTxWIDTH as in 32x33, got {text!r}", text=text)
        )
    return int(height), int(width)


def parse_json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object in the value of an option."""
    from weights.errors import ArgumentError
    from weights.fields import parse_json

    values = parse_json(text, option)
    if not isinstance(values, dict):
        raise ArgumentError(
            say(
                "{option}: expected an object of option names and values, got {text!r}",
                option=option,
                text=text,
            )
        )
    return values


def read_images(option: str, path: Path) -> np.ndarray:
    """The array in a .npy file. option: the option that named the file, for messages.

    Raises MissingFileError, and FileError for a file that cannot be read.
    """
    from weights.errors import FileError, MissingFileError, WeightsError
    from weights.files.npy import read_npy

    if not path.is_file():
        raise MissingFileError(
            say("{option} {file}: there is no such file", option=option, file=path)
        )
    try:
        return read_npy(path)
    except WeightsError as error:
        raise FileError(
            say(
                "{option} {file}: is not a .npy file of plain numbers ({reason})",
                option=option,
                file=path,
                reason=error,
            )
        ) from None


def read_stages(path: Path, last: str) -> dict[str, np.ndarray]:
    """The value of --expected: the arrays of a .npz file by name.

    The array of a .npy file is that of the last stage. last: the name of that stage.
    Raises MissingFileError, FileError and WeightsError for files that cannot be read.
    """
    from weights.errors import MissingFileError
    from weights.files.npz import read_all

    if path.suffix.lower() != ".npz":
        return {last: read_images("--expected", path)}
    if not path.is_file():
        raise MissingFileError(say("--expected {file}: there is no such file", file=path))
    return read_all(path)


def write_json(path: Path, values: Any) -> None:
    """Writes the values to the file in --json."""
    from weights.files.atomic import write_atomically

    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
