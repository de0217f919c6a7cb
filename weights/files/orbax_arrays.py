"""The arrays of an Orbax checkpoint: Zarr, versions 2 and 3, in a folder or in a database in it.

What is opened is decided here, not by the checkpoint: files in its folder, nothing else.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.convert import BFLOAT16
from weights.errors import MissingFramework, WeightsError
from weights.files.msgpack import FLAX_DTYPES
from weights.stored import StoredArray

# By the names that Zarr has for them. Never np.dtype(text of a file).
_DTYPES = {
    **FLAX_DTYPES,
    **{dtype.newbyteorder("<").str: dtype for dtype in FLAX_DTYPES.values() if dtype != BFLOAT16},
}
# Orbax writes zstd. Not blosc: TensorStore unpacks a piece of it whole, however much that is, and
# only then compares it with the array.
_CODECS = {"sharding_indexed", "transpose", "bytes", "zstd", "gzip", "crc32c"}
_COMPRESSORS = {"zstd", "gzip", "zlib", "bz2"}
_DIMENSIONS = 15
_METADATA_BYTES = 100_000
_ZARR, _ZARR3 = "/.zarray", "/zarr.json"  # what the names of the files with metadata end with


class MalformedCheckpointError(Exception):
    """What Orbax wrote is not whole, or more than this project reads."""


@dataclass(frozen=True)
class ArrayMetadata:
    """An array in a checkpoint. pieces: how many stored pieces its values are in."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: int


class ArrayStore:
    """The arrays in the folder of an item, by name; values are read later."""

    def __init__(self, folder: Path, source: str, *, database: bool, zarr3: bool):
        """folder: of the item. source: its name in errors. database: whether the arrays are in an
        OCDBT database, not in files. zarr3: whether they are in version 3 of Zarr.

        Raises MissingFramework, MalformedCheckpointError.
        """
        self._tensorstore = _tensorstore()
        self._source = source
        self._ending = _ZARR3 if zarr3 else _ZARR
        files = {"driver": "file", "path": f"{folder.resolve()}/"}
        self._place = {"driver": "ocdbt", "base": files} if database else files
        self._context = self._tensorstore.Context(
            {"cache_pool": {"total_bytes_limit": 100_000_000}}
        )
        try:
            self._files = self._tensorstore.KvStore.open(
                self._place, context=self._context
            ).result()
            held = [key.decode("utf-8", "replace") for key in self._files.list().result()]
        except ValueError as error:
            raise MalformedCheckpointError(_first_line(error)) from None
        self._pieces = Counter(_owner(name, zarr3) for name in held)
        self._known = set(held)

    def arrays(self, names: Iterable[str]) -> dict[str, StoredArray]:
        """What is stored under these names. Raises MalformedCheckpointError."""
        texts = {}
        for name in names:
            if name + self._ending not in self._known:
                raise MalformedCheckpointError(f"{ascii(name)[:100]} is missing")
            texts[name] = self._files.read(name + self._ending)
        return {name: self._stored(name, text) for name, text in texts.items()}

    def _stored(self, name: str, text: Any) -> StoredArray:
        try:
            content = text.result().value
            values = json.loads(content) if len(content) < _METADATA_BYTES else None
            parse = _parse_zarr3 if self._ending == _ZARR3 else _parse_zarr
            found = parse(values)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise MalformedCheckpointError(
                f"the metadata of {ascii(name)[:100]} are broken: {_first_line(error)}"
            ) from None
        if self._pieces[name] != found.pieces:
            raise MalformedCheckpointError(
                f"{ascii(name)[:100]} has {self._pieces[name]} of its {found.pieces} pieces"
            )
        return StoredArray(found.shape, found.dtype, lambda: self._values(name, found))

    def _values(self, name: str, expected: ArrayMetadata) -> np.ndarray:
        spec = {
            "driver": "zarr3" if self._ending == _ZARR3 else "zarr",
            "kvstore": {**self._place, "path": f"{name}/"}
            if "base" in self._place
            else {**self._place, "path": f"{self._place['path']}{name}/"},
            "fill_missing_data_reads": False,  # else zeros for pieces that are missing
        }
        try:
            opened = self._tensorstore.open(spec, read=True, open=True, context=self._context)
            array = np.array(opened.result().read().result(), order="C")
        except ValueError as error:
            raise WeightsError(
                f"{self._source}: the values of {ascii(name)[:100]} are not whole "
                f"({_first_line(error)})",
                [],
            ) from None
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise WeightsError(f"{self._source}: {ascii(name)[:100]} changed while it was read", [])
        return array


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ModuleNotFoundError as error:
        raise MissingFramework(
            "reading Orbax checkpoints needs TensorStore: pip install orbax-checkpoint",
            name=error.name,
        ) from None
    return tensorstore


def _owner(name: str, zarr3: bool) -> str:
    """The array that a stored piece belongs to; "" for what is no piece."""
    if name.endswith((_ZARR, _ZARR3)):
        return ""
    if zarr3:  # "name/c/0/1", without axes "name/c"
        return f"{name}/".rpartition("/c/")[0]
    return name.rpartition("/")[0]  # "name/0.1", without axes "name/0"


def _parse_zarr(values: Any) -> ArrayMetadata:
    compressor = values["compressor"]
    if values["filters"] is not None or values["zarr_format"] != 2:
        raise ValueError("it has filters, or is of another version than 2")
    if compressor is not None and compressor["id"] not in _COMPRESSORS:
        raise _unknown("compressor", compressor["id"], _COMPRESSORS)
    return _metadata(values["shape"], values["chunks"], values["dtype"])


def _parse_zarr3(values: Any) -> ArrayMetadata:
    grid = values["chunk_grid"]
    if grid["name"] != "regular" or values["zarr_format"] != 3:
        raise ValueError("its pieces are not of one size, or it is of another version than 3")
    chunks = grid["configuration"]["chunk_shape"]
    for codec in values["codecs"]:
        inner = codec.get("configuration", {}) if isinstance(codec, dict) else None
        if not isinstance(inner, dict):
            raise ValueError(f"its codec {ascii(codec)[:60]} is no object, or has no settings")
        if codec["name"] == "sharding_indexed":
            _metadata(chunks, inner["chunk_shape"], "bool")
        used = [codec, *inner.get("codecs", ()), *inner.get("index_codecs", ())]
        unknown = [each["name"] for each in used if each["name"] not in _CODECS]
        if unknown:
            raise _unknown("codec", unknown[0], _CODECS)
    return _metadata(values["shape"], chunks, values["data_type"])


def _unknown(kind: str, said: Any, known: set[str]) -> ValueError:
    return ValueError(f"its {kind} is {ascii(said)[:40]}; read are {', '.join(sorted(known))}")


def _metadata(shape: Any, chunks: Any, dtype: Any) -> ArrayMetadata:
    """Raises ValueError for sizes that Orbax does not write, and for a dtype that is not known."""
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"its dtype is {ascii(dtype)[:40]}")
    pairs = list(zip(shape, chunks, strict=True))
    if len(pairs) > _DIMENSIONS or not all(
        type(size) is type(chunk) is int and 0 <= size < 1 << 40 and 1 <= chunk <= max(size, 1)
        for size, chunk in pairs
    ):
        raise ValueError(f"its shape is {ascii(shape)[:100]}, in pieces of {ascii(chunks)[:100]}")
    return ArrayMetadata(
        tuple(shape), _DTYPES[dtype], math.prod(-(-size // chunk) for size, chunk in pairs)
    )


def _first_line(error: Exception) -> str:
    """What TensorStore says, without the specification that follows."""
    line = next(iter(str(error).splitlines()), "").split(" [tensorstore_spec=")[0]
    return ascii(line)[1:-1][:200] or type(error).__name__


def nested(arrays: Mapping[tuple[str, ...], StoredArray]) -> dict[str, Any]:
    """Arrays by their keys as nested mappings. Raises MalformedCheckpointError for an array that
    is in another.
    """
    tree: dict[str, Any] = {}
    for keys, array in arrays.items():
        node: Any = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or keys[-1] in node:
            raise MalformedCheckpointError(
                f"{ascii('.'.join(keys))[:100]} is an array and a folder"
            )
        node[keys[-1]] = array
    return tree
