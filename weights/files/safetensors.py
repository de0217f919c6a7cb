"""The canonical file: safetensors, with the config as JSON in the metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from weights.config import Config
from weights.errors import WeightsError
from weights.files import label as labels
from weights.files.atomic import write_atomically
from weights.files.content import Header
from weights.files.label import Finish, Label
from weights.files.limits import MOST_HEADER, MappedFile, check_count, map_file
from weights.language import say
from weights.stored import StoredArray, as_stored, dtype_named, get_ahead

METADATA = "resattn"  # the entry of the metadata that holds the config
_ENTRIES = {entry: entry for entry in labels.ENTRIES} | {labels.CONFIG: METADATA}

_LETTERS = {"F": "float", "I": "int", "U": "uint", "C": "complex"}
_DTYPES = {  # by the format's own names
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "BOOL": "bool",
    **{
        f"{letter}{bits}": f"{kind}{bits}"
        for letter, kind in _LETTERS.items()
        for bits in (8, 16, 32, 64)
    },
}

# As the library orders arrays in a file.
_ORDER = (
    *("bool", "uint8", "int8", "float8_e5m2", "float8_e4m3fn", "int16", "uint16", "float16"),
    *("bfloat16", "int32", "uint32", "float32", "complex64", "float64", "int64", "uint64"),
)


def write(
    path: Path,
    label: Label,
    arrays: Mapping[str, np.ndarray | StoredArray],
    config: Config | None = None,
    finish: Finish | None = None,
) -> None:
    """The same arrays make the same bytes. finish: gives the label once the checksums of the arrays
    are known, of the same size as `label`; without it `label` has them.
    """

    def write_to(temporary: Path) -> None:
        if finish is None:
            write_shard(temporary, to_metadata(label), arrays)
            return
        sums: dict[str, str] = {}
        with temporary.open("wb") as file:
            for piece in to_pieces(to_metadata(label), arrays, sums):
                file.write(piece)
            file.seek(0)
            file.write(begin_file(to_metadata(finish(sums)), arrays))

    write_atomically(path, write_to)


def to_metadata(label: Label) -> dict[str, str]:
    """What the metadata say of a file. Other libraries look for "format"."""
    return {_ENTRIES[entry]: text for entry, text in label.items()} or {"format": "pt"}


def from_metadata(metadata: Mapping[str, Any]) -> Label:
    """Inverse of `to_metadata`."""
    found = labels.find_entries({entry: metadata.get(name) for entry, name in _ENTRIES.items()})
    return found if labels.CONFIG in found or labels.CHECKSUMS in found else {}


def write_shard(
    path: Path, metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray | StoredArray]
) -> None:
    """Writes a file, one array after another."""
    with path.open("wb") as file:
        for piece in to_pieces(metadata, arrays):
            file.write(piece)


def to_pieces(
    metadata: Mapping[str, str],
    arrays: Mapping[str, np.ndarray | StoredArray],
    sums: dict[str, str] | None = None,
) -> Iterator[bytes | memoryview]:
    """The bytes of a file, those that the library writes, except for the metadata: it writes their
    entries in an order that changes from run to run. The library needs all arrays at once.
    sums: gets the checksums of the arrays.
    """

    def watch(name: str, content: memoryview) -> None:
        if sums is not None:
            sums[name] = labels.checksum_of(stored[name], content)

    yield begin_file(metadata, arrays)
    stored = _in_order(arrays)
    for _, content in get_ahead(stored, watch):
        yield content


def begin_file(
    metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray | StoredArray]
) -> bytes:
    """What a file begins with, before the values of the arrays."""
    letters = {dtype: letter for letter, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in _in_order(arrays).items():
        place = [end, end := end + array.nbytes]
        kind = letters[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": place}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _in_order(arrays: Mapping[str, np.ndarray | StoredArray]) -> dict[str, StoredArray]:
    """In the library's order: those of larger numbers first, so that all are aligned."""
    stored = {name: as_stored(array) for name, array in arrays.items()}
    ranks = {name: -_ORDER.index(array.dtype.name) for name, array in stored.items()}
    return {name: stored[name] for name in sorted(stored, key=lambda name: (ranks[name], name))}


def read(path: Path) -> Header:
    """Raises WeightsError for a file that is broken."""
    arrays, metadata = read_shard(path)
    return Header(arrays, from_metadata(metadata))


def read_shard(path: Path) -> tuple[dict[str, StoredArray], dict[str, str]]:
    """The arrays and the metadata of one file."""
    held = map_file(path)
    size = int.from_bytes(held[:8], "little")
    if MOST_HEADER < size <= len(held):
        raise WeightsError(
            say(
                "{file}: its header has {size:,} bytes; a weights file has at most {most:,}",
                file=path.name,
                size=size,
                most=MOST_HEADER,
            ),
            [],
        )
    try:
        with safe_open(path, framework="numpy") as file:  # it checks everything in the header
            names, metadata = list(file.keys()), file.metadata() or {}
        header = json.loads(held[8 : 8 + size])
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            say(
                "{file}: is not a whole safetensors file ({reason})",
                file=path.name,
                reason=ascii(str(error))[1:-1][:200],
            ),
            [],
        ) from None
    check_count(len(names), path.name)
    try:
        return {
            name: _stored(held, 8 + size, name, header[name], path.name) for name in names
        }, metadata
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}", []) from None


def _stored(
    held: MappedFile, start: int, name: str, said: Mapping[str, Any], source: str
) -> StoredArray:
    """An array of which the header says this. start: of the values of all arrays."""
    dtype = dtype_named(_DTYPES.get(said["dtype"], said["dtype"]), name)
    shape, place = tuple(said["shape"]), start + said["data_offsets"][0]
    stored = dtype.newbyteorder("<")
    return StoredArray(shape, dtype, lambda: held.view(place, shape, stored, source))
