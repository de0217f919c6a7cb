"""`resattn inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import ArchitectureOption, ConfigOption, PartOption, read_config
from resattn.cli.terminal import print_line

if TYPE_CHECKING:
    import numpy as np

    from weights.config import Config


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors, .npz, .pt, .pth or .th file.")
    ],
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
) -> None:
    """Show a weights file: its config, and the shape, dtype and range of each parameter."""
    from weights.compare import columns
    from weights.files.formats import read_checkpoint
    from weights.schema import schema

    found = read_checkpoint(file, read_config(config), architecture, part)
    described, arrays = found.config, found.arrays
    print_line(f"{file.name}: {summarize(described, arrays)}")
    for note in found.notes:
        print_line(note)
    for key, value in found.origin.items():
        if isinstance(value, (str, int, float)):
            print_line(f"origin: {key} {value}")
    print_line(f"config: {described.to_json()}\n")
    table = [("parameter", "shape", "axes", "dtype", "least", "greatest", "mean")]
    doubts = []
    for parameter in schema(described):
        array = arrays[parameter.name]
        least, greatest, mean = array.min(), array.max(), array.mean(dtype="float64")
        shape = " x ".join(map(str, parameter.shape))
        numbers = (f"{least:.3g}", f"{greatest:.3g}", f"{mean:.3g}")
        table.append((parameter.name, shape, parameter.axes, array.dtype.name, *numbers))
        doubts += find_doubts(parameter.name, parameter.role, array)
    print_line("\n".join(columns(table)))
    for doubt in doubts:
        print_line(f"warning: {doubt}", "warning")


def summarize(config: Config, arrays: dict[str, np.ndarray]) -> str:
    """One line: the model, the numbers of arrays and of values, the dtypes."""
    dtypes = ", ".join(sorted({array.dtype.name for array in arrays.values()}))
    count = sum(array.size for array in arrays.values())
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
