"""The canonical file: safetensors, with the config as JSON in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from weights.config import Config
from weights.errors import WeightsError
from weights.files import label as labels
from weights.files.atomic import write_atomically
from weights.files.content import Header
from weights.files.label import Label
from weights.files.limits import MOST_HEADER, check_count, map_file
from weights.stored import StoredArray, dtype_named

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


def write(
    path: Path, label: Label, arrays: Mapping[str, np.ndarray], config: Config | None = None
) -> None:
    """The same arrays make the same bytes."""
    content = to_bytes(to_metadata(label), arrays)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def to_metadata(label: Label) -> dict[str, str]:
    """What the metadata say of a file. Other libraries look for "format"."""
    return {_ENTRIES[entry]: text for entry, text in label.items()} or {"format": "pt"}


def from_metadata(metadata: Mapping[str, Any]) -> Label:
    """Inverse of `to_metadata`."""
    found = labels.find_entries({entry: metadata.get(name) for entry, name in _ENTRIES.items()})
    return found if labels.CONFIG in found or labels.CHECKSUMS in found else {}


def to_bytes(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> bytes:
    """A file. The library writes entries of the metadata in an order that changes from run to run,
    so they are added here, in theirs.
    """
    content = save(dict(arrays))
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    text = json.dumps({"__metadata__": dict(metadata), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


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
            f"{path.name}: its header has {size:,} bytes; a weights file has at most "
            f"{MOST_HEADER:,}",
            [],
        )
    try:
        file: Any = safe_open(path, framework="numpy")  # closed with the last array that reads it
        names, metadata = file.keys(), file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path.name}: is not a whole safetensors file ({ascii(str(error))[1:-1][:200]})", []
        ) from None
    check_count(len(names), path.name)
    try:
        return {name: _stored(file, name) for name in names}, metadata
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}", []) from None


def _stored(file: Any, name: str) -> StoredArray:
    held = file.get_slice(name)
    dtype = held.get_dtype()
    return StoredArray(
        tuple(held.get_shape()),
        dtype_named(_DTYPES.get(dtype, dtype), name),
        partial(file.get_tensor, name),
    )
