"""NumPy's .npz archives, without pickles; bfloat16 as bits, with names beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weights.convert import BFLOAT16, Arrays
from weights.errors import WeightsError
from weights.files.atomic import write_atomically
from weights.files.content import Content, strip_prefix

CONFIG = "resattn"  # the entry that holds the config
_ORIGIN = "resattn.origin"  # the entry that says where weights came from
BITS = "resattn.bfloat16"  # the entry that names the arrays whose uint16 are the bits of bfloat16


def write(
    path: Path, text: str | None, arrays: Mapping[str, np.ndarray], origin: str | None = None
) -> None:
    """text: the config's JSON; None for a file of another library. origin: where they came from,
    JSON.
    """
    held: dict[str, Any] = {} if text is None else {CONFIG: np.array(text)}
    held |= {} if origin is None else {_ORIGIN: np.array(origin)}
    held |= _bits(arrays)
    write_atomically(path, lambda temporary: np.savez(temporary, **held))


def read(path: Path, part: str | None = None) -> Content:
    """The config and the arrays. part: as in `strip_prefix`. Raises what `read_all` raises."""
    arrays = read_all(path)
    text, origin = (arrays.pop(entry, None) for entry in (CONFIG, _ORIGIN))
    said = [None if each is None else str(each) for each in (text, origin)]
    return strip_prefix(Content(said[0], arrays, said[1]), path.name, part)


def read_all(path: Path) -> Arrays:
    """The arrays. Raises WeightsError for a file that is not whole, or holds other things."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return _from_bits({name: file[name] for name in file.files})
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            f"{path.name}: is not a whole .npz file of plain arrays ({error})", []
        ) from None


def _bits(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """What NumPy can write: it has no bfloat16, and would write bytes without saying of what."""
    named = [name for name, array in arrays.items() if array.dtype == BFLOAT16]
    written = {
        name: array.view(np.uint16) if name in named else array for name, array in arrays.items()
    }
    return {BITS: np.array(named), **written} if named else written


def _from_bits(arrays: Arrays) -> Arrays:
    """Inverse of `_bits`. Raises ValueError for bits that are not 16 each."""
    named = arrays.pop(BITS, np.array([], str)).tolist()
    wrong = [name for name in named if name not in arrays or arrays[name].dtype != np.uint16]
    if wrong:
        raise ValueError(f"{', '.join(map(str, wrong))}: expected the bits of bfloat16, as uint16")
    return {
        name: array.view(BFLOAT16) if name in named else array for name, array in arrays.items()
    }
