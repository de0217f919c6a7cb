"""`resattn inspect`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    ConfigOption,
    PartOption,
    SourceArgument,
    read_config,
)
from resattn.cli.check_card import show_card
from resattn.cli.terminal import print_line

if TYPE_CHECKING:
    import numpy as np

    from weights.config import Config
    from weights.stored import StoredArray


def inspect(
    file: SourceArgument,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    values: Annotated[
        bool,
        typer.Option(
            "--values",
            help="Also read the values: their range and mean, signs of damage, and whether they "
            "are those that were written.",
        ),
    ] = False,
) -> None:
    """Show a weights file: its config, and the shape and dtype of each parameter.

    Only the header of the file is read, unless --values is given.
    """
    from weights.compare import columns
    from weights.files.formats import read_header
    from weights.files.label import CHECKSUMS
    from weights.schema import schema

    found = read_header(file, read_config(config), architecture, part)
    print_line(f"{found.source}: {summarize(found.config, found.arrays)}")
    for note in found.notes:
        print_line(note)
    for key, value in found.origin.items():
        if isinstance(value, (str, int, float)):
            # A line break in a value would make a line that looks like ours.
            print_line(f"origin: {key} {value}".replace("\n", r"\n"))
    arrays = found.read().arrays if values else None
    show_card(found, arrays)
    print_line(f"config: {found.config.to_json()}\n")
    table: list[tuple[str, ...]] = [
        ("parameter", "shape", "axes", "dtype", *(MEASURED if values else ()))
    ]
    doubts = []
    for parameter in schema(found.config):
        shape = " x ".join(map(str, parameter.shape))
        row = [parameter.name, shape, parameter.axes, found.arrays[parameter.name].dtype.name]
        if arrays is not None:
            array = arrays[parameter.name]
            measured = (array.min(), array.max(), array.mean(dtype="float64"))
            row += [f"{each:.3g}" for each in measured]
            doubts += find_doubts(parameter.name, parameter.role, array)
        table.append(tuple(row))
    print_line("\n".join(columns(table)))
    if values and CHECKSUMS in found.label:
        print_line("\nThe values are those that were written: every checksum fits.", "good")
    for doubt in doubts:
        print_line(f"warning: {doubt}", "warning")


MEASURED = ("least", "greatest", "mean")


def summarize(config: Config, arrays: Mapping[str, np.ndarray | StoredArray]) -> str:
    """One line: the model, the numbers of arrays and of values, the dtypes."""
    dtypes = ", ".join(sorted({array.dtype.name for array in arrays.values()}))
    count = sum(math.prod(array.shape) for array in arrays.values())
    return f"{config.describe()}; {len(arrays)} arrays, {count:,} numbers, {dtypes}"


def find_doubts(name: str, role: str, array: np.ndarray) -> list[str]:
    """A sentence for each sign of damage: values that are not finite, negative variances."""
    import numpy as np

    doubts = []
    if not np.isfinite(array).all():
        count = np.count_nonzero(~np.isfinite(array))
        doubts.append(f"{name} holds {count} values that are not finite")
    if role == "norm variance" and (array < 0).any():
        doubts.append(f"{name} holds negative variances")
    return doubts
