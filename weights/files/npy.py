"""NumPy's .npy files of plain numbers or text, without pickles: the header first."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from weights.errors import WeightsError
from weights.files.limits import check_claim, map_file
from weights.language import say

_DIMENSIONS, _MOST = 32, 1 << 48  # of an array that NumPy can have


@dataclass(frozen=True)
class NpyHeader:
    """shape, dtype, is_fortran: of the array. offset: bytes before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def parse(self, values: bytes) -> np.ndarray:
        """A new array of the values, in the byte order of this machine."""
        array = np.frombuffer(values, self.dtype).reshape(
            self.shape, order="F" if self.is_fortran else "C"
        )
        return array.astype(self.dtype.newbyteorder("="), order="C")


def parse_header(file: BinaryIO, source: str) -> NpyHeader:
    """The header at the position of a file. Raises WeightsError for one that is broken, or of an
    array of anything else than numbers or text.
    """
    start = file.tell()
    try:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = reader(file)
    except Exception as error:  # NumPy parses it as Python, and raises whatever that raises
        reason = type(error).__name__ if not str(error) else ascii(str(error)[:100])
        raise WeightsError(
            say("{file}: has a broken .npy header ({reason})", file=source, reason=reason), []
        ) from None
    sizes = len(shape) <= _DIMENSIONS and all(
        type(size) is int and 0 <= size < _MOST for size in shape
    )
    if dtype.kind not in "fiucbUV" or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise WeightsError(
            say(
                "{file}: holds {dtype}, and expected is an array of numbers",
                file=source,
                dtype=ascii(str(dtype))[:60],
            ),
            [],
        )
    if not sizes or len(shape) > _DIMENSIONS:
        raise WeightsError(
            say("{file}: has an array of shape {shape}", file=source, shape=ascii(shape)[:60]), []
        )
    return NpyHeader(shape, dtype, is_fortran, file.tell() - start)


def to_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What is before the values in C order."""
    file = io.BytesIO()
    said = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue()


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file. Raises WeightsError for a file that is not whole."""
    held = map_file(path)
    header = parse_header(cast(BinaryIO, held), path.name)  # it reads and tells
    check_claim(header.nbytes, len(held) - header.offset, path.name)
    return header.parse(held[header.offset : header.offset + header.nbytes])
