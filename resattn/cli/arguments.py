"""The options that several commands share, and the functions that read their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from weights.config import Config

# Arguments and options of several commands.

SourceArgument = Annotated[
    Path, typer.Argument(help="A .safetensors, .npz, .pt, .pth or .th file.")
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="What the weights are of, for files that do not say it: a preset (resnet18, resnet34, "
        "resnet20, with se- in front for squeeze-and-excitation), a JSON file, or JSON text.",
    ),
]
NamingOption = Annotated[
    str | None,
    typer.Option(
        "--naming",
        help="The library that named the parameters, if not we: torchvision or cifar-resnet.",
    ),
]
FrameworksOption = Annotated[
    str | None,
    typer.Option(help="Which to compare, separated by commas; by default torch,jax,tf."),
]
SeedOption = Annotated[int, typer.Option(help="Of the random weights and images.", min=0)]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]

# Options of `check`, which has too many to declare them in its signature.

CheckedFileArgument = Annotated[
    Path | None, typer.Argument(help="A weights file; without one, random weights are used.")
]
DevicesOption = Annotated[
    str, typer.Option(help="On which devices, separated by commas: cpu, cuda.")
]
CheckDtypeOption = Annotated[
    str | None,
    typer.Option(
        help="float32 or float64 (by default that of the weights); or bfloat16, float16, "
        "mixed_bfloat16, mixed_float16, judged in units of the format's eps."
    ),
]
CheckSizeOption = Annotated[
    str | None, typer.Option(help="Height and width of the random images, as in 32x33.")
]
CheckBatchOption = Annotated[int, typer.Option(help="How many random images.", min=1)]
InputsOption = Annotated[
    Path | None,
    typer.Option(help="A .npy file of images (batch, channels, height, width) to use instead."),
]
AllOption = Annotated[
    bool,
    typer.Option("--all", help="Show every tensor or stage, not only the worst of each quantity."),
]
TraceOption = Annotated[
    bool,
    typer.Option(
        "--trace", help="Compare stage by stage, and say which is the first to differ, and why."
    ),
]
ExpectedOption = Annotated[
    Path | None,
    typer.Option(
        help="Your own outputs for --inputs, traced to the cause if they differ: a .npy file of "
        "the output, or a .npz file of stages by name (conv1, bn1, ..., output)."
    ),
]
GridOption = Annotated[
    bool,
    typer.Option(
        "--grid",
        help="Check 15 blocks of other strides and channels, with the attention of --config's "
        "block.",
    ),
]
GoldenOption = Annotated[
    bool,
    typer.Option(
        "--golden",
        help="Compute the stored problems of this package in the installed frameworks and compare "
        "with the stored answers.",
    ),
]
ReportJsonOption = Annotated[
    Path | None, typer.Option("--json", help="Also write the whole report to this file.")
]
ReportHtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html", help="Also write it as a page: what failed first, a heat map, every stage."
    ),
]


# The functions that read values.


def config_from(text: str | None) -> Config | None:
    """A preset's name, a JSON file or JSON text -> the config."""
    from weights.config import PRESETS, config_from_json, preset
    from weights.errors import ArgumentError
    from weights.files.store import config_file

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
    file: Path | None, config: str | None, naming: str | None = None
) -> tuple[Config | None, dict[str, np.ndarray] | None]:
    """The config of a command's FILE and --config, None without them, and the arrays of FILE."""
    from weights.errors import ArgumentError
    from weights.files.store import read

    described = config_from(config)
    if file is None:
        if naming is not None:
            raise ArgumentError("--naming: names what is in a file, but no file was given")
        return described, None
    return read(file, described, naming)


def model_or_block(
    file: Path | None, config: str | None, naming: str | None
) -> tuple[Config, dict[str, np.ndarray] | None]:
    """As `model_given`; without FILE and --config the block 64 to 128 channels with stride 2."""
    from weights import BlockConfig

    described, arrays = model_given(file, config, naming)
    return described or BlockConfig(64, 128, 3, 2), arrays


def frameworks_from(text: str | None, config: Config) -> tuple[str, ...]:
    """The value of --frameworks; by default all that have what the config describes."""
    from weights.attention import ATTENTION
    from weights.config import own_kinds
    from weights.frameworks import LAYOUTS

    if text is not None:
        return names("--frameworks", text)
    kinds = [ATTENTION[kind] for kind in own_kinds(config)]
    return tuple(name for name in LAYOUTS if all(name in kind.modules for kind in kinds))


def given_options(context: typer.Context) -> list[str]:
    """The arguments and options of a command that are on the command line, as "FILE", "--size"."""
    return [
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
        for parameter in context.command.params
        if (source := context.get_parameter_source(str(parameter.name)))
        and source.name == "COMMANDLINE"
    ]


def names(option: str, text: str) -> tuple[str, ...]:
    """The names in the value of an option, separated by commas, each once."""
    from weights.errors import ArgumentError

    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise ArgumentError(f"{option}: expected names separated by commas, got {text!r}")
    return found


def height_and_width(text: str) -> tuple[int, int]:
    """The value of --size: "32x33" -> (32, 33)."""
    from weights.errors import ArgumentError

    height, _, width = text.partition("x")
    if not all(side.isascii() and side.isdigit() and int(side) for side in (height, width)):
        raise ArgumentError(f"--size: expected HEIGHTxWIDTH as in 32x33, got {text!r}")
    return int(height), int(width)


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object in the value of an option."""
    from weights.errors import ArgumentError

    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{option}: expected JSON, got {text!r} ({error})") from None
    if not isinstance(values, dict):
        raise ArgumentError(
            f"{option}: expected an object of option names and values, got {text!r}"
        )
    return values


def images(option: str, path: Path) -> np.ndarray:
    """The array in a .npy file. option: the one that names the file, for messages.

    Raises MissingFileError, and FileError for a file that cannot be read.
    """
    import numpy as np

    from weights.errors import FileError, MissingFileError

    if not path.is_file():
        raise MissingFileError(f"{option} {path}: there is no such file")
    try:
        with path.open("rb") as handle:
            return np.lib.format.read_array(handle, allow_pickle=False)
    except OSError as error:
        raise FileError(f"{option} {path}: cannot be read ({error.strerror})") from None
    except (ValueError, EOFError) as error:
        raise FileError(f"{option} {path}: is not a .npy file of plain numbers ({error})") from None


def stages_in(path: Path, last: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, or that of a .npy file as the last stage."""
    from weights.errors import MissingFileError
    from weights.files.store import read_npz

    if path.suffix.lower() != ".npz":
        return {last: images("--expected", path)}
    if not path.is_file():
        raise MissingFileError(f"--expected {path}: there is no such file")
    return read_npz(path)


def write_json(path: Path, values: Any) -> None:
    """Writes values to the file of --json."""
    from weights.files.store import write_atomically

    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
