"""The values of arrays in HDF5 files."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weights.errors import WeightsError
from weights.files.limits import MappedFile, map_file
from weights.stored import in_native_order


@dataclass(frozen=True)
class Region:
    """A part of a file, or of bytes in memory, in which an HDF5 file is.

    content: the file, which stays the one that was opened, or the bytes. start, size: where in it.
    """

    content: MappedFile | bytes = field(repr=False)
    start: int
    size: int

    @classmethod
    def of(cls, path: Path) -> Region:
        """A whole file. Raises WeightsError for an empty one, FileError."""
        held = map_file(path)
        return cls(held, 0, len(held))

    def read(self, offset: int, size: int) -> bytes:
        """Some of the bytes, or fewer at the end."""
        size = min(size, self.size - offset)
        if offset < 0 or size <= 0 or not self.is_whole():
            return b""
        return self.content[self.start + offset : self.start + offset + size]

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """An array in the region, read-only unless it is copied for another byte order. None if the
        region ends before.
        """
        count = math.prod(shape)
        if not 0 <= offset <= self.size - count * dtype.itemsize or not self.is_whole():
            return None
        flat = np.frombuffer(self.content, dtype, count, self.start + offset)
        return in_native_order(flat.reshape(shape))

    def is_whole(self) -> bool:
        """Whether the file has not become shorter."""
        return isinstance(self.content, bytes) or self.content.is_whole()


@dataclass(frozen=True)
class Chunk:
    """A part of an array. place: the index of its first value. skipped: bits of filters."""

    place: tuple[int, ...]
    address: int
    size: int
    skipped: int


@dataclass(frozen=True)
class Dataset:
    """An array in a file.

    dtype: as it is stored. address: of its values, None where they are in `chunks` or where there
    are none. stored: how many bytes its values take in the file. content: values in the header.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any]
    address: int | None
    stored: int
    content: bytes | None = None
    chunk_shape: tuple[int, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    filters: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_values(region: Region, dataset: Dataset, source: str) -> np.ndarray:
    """The values of an array in native byte order, where they are in the file if they are there as
    a whole. Raises WeightsError.
    """
    if dataset.nbytes and not dataset.chunks and dataset.content is None:
        found = region.view(dataset.address or 0, dataset.shape, dataset.dtype)
        if found is None:
            raise WeightsError(f"{source}: became shorter while it was read", [])
        return found
    values = np.empty(dataset.shape, dataset.dtype)
    for chunk in dataset.chunks:
        _place(values, dataset, chunk, _unfiltered(region, dataset, chunk, source))
    if dataset.content is not None:
        values.reshape(-1).view(np.uint8)[:] = np.frombuffer(dataset.content, np.uint8)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _place(values: np.ndarray, dataset: Dataset, chunk: Chunk, content: bytes) -> None:
    part = np.frombuffer(content, dataset.dtype).reshape(dataset.chunk_shape)
    where = tuple(
        slice(first, first + size)
        for first, size in zip(chunk.place, dataset.chunk_shape, strict=True)
    )
    target = values[where]
    target[...] = part[tuple(slice(size) for size in target.shape)]


def _unfiltered(region: Region, dataset: Dataset, chunk: Chunk, source: str) -> bytes:
    """The bytes of a part of an array."""
    size = math.prod(dataset.chunk_shape) * dataset.dtype.itemsize
    content = region.read(chunk.address, chunk.size)
    broken = WeightsError(f"{source}: is not a whole HDF5 file: a compressed part is broken", [])
    for number, name in reversed(list(enumerate(dataset.filters))):
        if chunk.skipped >> number & 1:
            continue
        if name == "fletcher32":
            content, expected = content[:-4], content[-4:]
            if _fletcher32(content) != int.from_bytes(expected, "little"):
                raise broken
        elif name == "shuffle":
            whole = len(content) // dataset.dtype.itemsize * dataset.dtype.itemsize
            bytes_of_values = np.frombuffer(content[:whole], np.uint8)
            by_place = bytes_of_values.reshape(dataset.dtype.itemsize, -1)
            content = by_place.T.tobytes() + content[whole:]
        else:
            try:
                content = zlib.decompressobj().decompress(content, size + 4)
            except zlib.error:
                raise broken from None
    if len(content) != size:
        raise broken
    return content


def _fletcher32(content: bytes) -> int:
    """The checksum of HDF5: of big-endian words of 16 bits, modulo 65535, of which 0 is 65535."""
    words = np.frombuffer(content + b"\0" * (len(content) % 2), ">u2").astype(np.uint64)
    first = int(words.sum(dtype=np.uint64))
    places = np.arange(len(words), 0, -1, dtype=np.uint64)
    second = int((words * places % 65535).sum(dtype=np.uint64))
    low = first % 65535 or (65535 if first else 0)
    high = second % 65535 or (65535 if second else 0)
    return high << 16 | low
