"""The table of arrays that `resattn inspect` shows: names, shapes, dtypes, and what is in them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resattn.cli.terminal import print_line
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from weights.stored import StoredArray

_BINS = 8
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-:=+*#"


def list_arrays(
    arrays: Mapping[str, np.ndarray | StoredArray],
    values: Mapping[str, np.ndarray] | None,
    axes: Mapping[str, str] | None = None,
) -> None:
    """Prints a table, a row for each array.

    values: to measure; None to show names, shapes and dtypes alone. axes: of the arrays, by name.
    """
    from weights.compare import columns

    heads = [say("parameter") if axes else say("array"), say("shape")]
    heads += [*([say("axes")] if axes else []), say("dtype")]
    measured = [say("least"), say("greatest"), say("mean"), say("histogram")]
    measured = measured if values is not None else []
    table = [(*heads, *measured)]
    for name, array in arrays.items():
        row = [name, " x ".join(map(str, array.shape)) or say("a number")]
        row += [axes[name]] if axes else []
        row.append(array.dtype.name)
        table.append((*row, *(_measure(values[name]) if values is not None else ())))
    print_line("\n".join(columns(table)))


def _measure(array: np.ndarray) -> tuple[str, ...]:
    """The least, greatest and mean value, and a histogram."""
    import numpy as np

    if not array.size:
        return ("", "", "", say("empty"))
    if array.dtype.kind not in "biuf" and array.dtype.name not in _LOW:
        return ("", "", "", "")
    wide = array.astype(np.float64) if array.dtype.kind != "f" or array.itemsize < 4 else array
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return ("", "", "", say("nothing finite"))
    with np.errstate(over="ignore"):
        numbers = (finite.min(), finite.max(), finite.mean(dtype=np.float64))
    return (*(f"{each:.3g}" for each in numbers), draw_histogram(finite))


_LOW = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def draw_histogram(values: np.ndarray) -> str:
    """How values are distributed between the least and the greatest, in `_BINS` bars: the tallest
    for the most frequent, a space for none. One value alone is one bar.
    """
    import numpy as np

    bars = _BARS
    try:
        bars.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        bars = _ASCII_BARS
    values = values.astype(np.float64).ravel()
    values = values / (np.abs(values).max() or 1.0)  # so that differences do not overflow
    least, greatest = values.min(), values.max()
    if least == greatest:
        return bars[-1]
    places = (values - least) / (greatest - least) * _BINS
    counts = np.bincount(np.minimum(places, _BINS - 1).astype(int), minlength=_BINS)
    heights = np.ceil(counts / counts.max() * len(bars)).astype(int)
    return "".join(" " if not height else bars[height - 1] for height in heights).ljust(_BINS)


def find_doubts(name: str, role: str, array: np.ndarray) -> list[str]:
    """A sentence for each sign of damage: values that are not finite, negative variances.

    role: of the parameter; "" if it is not known.
    """
    import numpy as np

    doubts = []
    if array.dtype.kind in "f" or array.dtype.name in _LOW:
        counts = {say("NaN"): np.count_nonzero(np.isnan(array)),
                  say("infinite"): np.count_nonzero(np.isinf(array))}  # fmt: skip
        found = say(" and ").join(f"{count:,} {what}" for what, count in counts.items() if count)
        if sum(counts.values()) == 1:
            doubts.append(say("{name} holds {found} value", name=name, found=found))
        elif found:
            doubts.append(say("{name} holds {found} values", name=name, found=found))
    if role == "norm variance" and (array < 0).any():
        doubts.append(say("{name} holds negative variances", name=name))
    return doubts
