"""Flax's msgpack files, as `flax.serialization` writes them: nested maps with arrays in them.

| entry of a file of ours | |
| --- | --- |
| config, origin, card, version, checksums | texts: the label |
| state | nested maps in the names of Flax NNX, for `nnx.update(model, state)` |

An array is an extension of type 1 (a scalar of NumPy: 3) with a list: shape, name of the dtype,
values in C order. Arrays of over a GiB are maps of flat parts. Nothing needs to be installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.config import Config
from weights.convert import BFLOAT16
from weights.errors import WeightsError
from weights.files.atomic import write_atomically
from weights.files.content import Header
from weights.files.label import Label
from weights.files.limits import MOST_ARRAYS, MappedFile, map_file
from weights.files.msgpack_items import (
    Items,
    MalformedError,
    Span,
    pack_bytes,
    pack_extension,
    pack_list,
    pack_map,
    pack_text,
    pack_tree,
)
from weights.files.trees import STATE, header_of, map_leaves, nest
from weights.stored import StoredArray, as_stored, get_bytes

# By the names that Flax writes. Never np.dtype(text of a file), which makes objects of some.
FLAX_DTYPES = {
    "bfloat16": BFLOAT16,
    **{
        name: np.dtype(name)
        for name in (
            *("float16", "float32", "float64", "complex64", "complex128", "bool"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    },
}
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # Flax's extension types
_CHUNKED = "__msgpack_chunked_array__"
_CHUNK = 1 << 30  # bytes of an array that Flax, too, writes in one piece
_DIMENSIONS = 15


@dataclass(frozen=True)
class _Packed:
    """An array in the file: its values are in these spans, one after another."""

    shape: tuple[int, ...]
    dtype: np.dtype
    spans: tuple[Span, ...]


def read(path: Path) -> Header:
    """The names, shapes and dtypes, and the label. Raises WeightsError, FileError."""
    try:
        buffer = map_file(path)
        tree = _unpack(buffer)
    except MalformedError as error:
        raise _malformed(path.name, str(error)) from None
    return header_of(map_leaves(tree, lambda leaf: _store(buffer, path.name, leaf)), path.name)


def write(
    path: Path, label: Label, arrays: Mapping[str, np.ndarray | StoredArray], config: Config | None
) -> None:
    """Canonical arrays as a state of Flax NNX; those of another library (config None) by their
    names. The same arrays make the same bytes.
    """
    tree = nest(config, arrays)
    if config is not None:
        tree = {**label, STATE: tree}

    def write_to(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for piece in pack_tree(tree, _pack_leaf):
                file.write(piece)

    write_atomically(path, write_to)


def _malformed(source: str, reason: str) -> WeightsError:
    return WeightsError(f"{source}: is not a whole msgpack file of Flax ({reason})", [])


def _unpack(buffer: MappedFile) -> dict[str, Any]:
    """The nested maps of a file, with `_Packed` for arrays. Raises MalformedError."""
    tree = Items(buffer, 0, len(buffer)).only()
    if not isinstance(tree, dict):
        raise MalformedError("expected a map of names to arrays")
    count = 0

    def convert(value: Any) -> Any:
        nonlocal count
        if isinstance(value, list):
            value = {str(position): each for position, each in enumerate(value)}
        if isinstance(value, dict):
            held = {key: convert(each) for key, each in value.items()}
            return _join(held) if _CHUNKED in held else held
        if isinstance(value, Span) and value.code in (_ARRAY, _SCALAR):
            count += 1
            if count > MOST_ARRAYS:
                raise MalformedError(f"it has more than {MOST_ARRAYS} arrays")
            return _unpack_array(buffer, value)
        if isinstance(value, Span) and value.code not in (None, _COMPLEX):
            raise MalformedError(f"it has an extension of type {value.code}, which Flax has not")
        return value

    found: dict[str, Any] = convert(tree)
    if not isinstance(found, dict):
        raise MalformedError("expected a map of names to arrays")
    return found


def _unpack_array(buffer: MappedFile, span: Span) -> _Packed:
    parts = Items(buffer, span.start, span.start + span.size, 32).only()
    if not (isinstance(parts, list) and len(parts) == 3):
        raise MalformedError("an array is not a list of shape, dtype and values")
    shape, name, values = parts
    if isinstance(name, Span) and name.size < 20:  # as bytes
        name = bytes(buffer[name.start : name.start + name.size]).decode("ascii", "replace")
    if not isinstance(name, str) or name not in FLAX_DTYPES:
        raise MalformedError(
            f"it has an array of dtype {ascii(name)[:40]}; expected one of {', '.join(FLAX_DTYPES)}"
        )
    if not isinstance(values, Span) or values.code is not None:
        raise MalformedError("the values of an array are no byte string")
    dtype = FLAX_DTYPES[name]
    return _Packed(_shape(shape, values.size, dtype), dtype, (values,))


def _shape(shape: Any, size: int, dtype: np.dtype) -> tuple[int, ...]:
    """The shape of an array that has `size` bytes."""
    sizes = shape if isinstance(shape, list) else [None]
    if len(sizes) > _DIMENSIONS or not all(
        isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in sizes
    ):
        raise MalformedError(f"it has an array of shape {ascii(shape)[:100]}")
    if math.prod(sizes) * dtype.itemsize != size or max(sizes, default=0) >= 1 << 40:
        raise MalformedError(
            f"an array of shape {tuple(sizes)} and dtype {dtype.name} has {size} bytes"
        )
    return tuple(sizes)


def _join(held: Mapping[str, Any]) -> _Packed:
    """An array that was written in parts."""
    shape, chunks = held.get("shape"), held.get("chunks")
    if not (isinstance(shape, dict) and isinstance(chunks, dict) and chunks):
        raise MalformedError("an array in parts has no shape or no parts")
    sizes, parts = (
        [each.get(str(position)) for position in range(len(each))] for each in (shape, chunks)
    )
    packed = [part for part in parts if isinstance(part, _Packed) and len(part.shape) == 1]
    dtypes = {part.dtype for part in packed}
    if len(packed) != len(parts) or len(dtypes) != 1:
        raise MalformedError("the parts of an array are not flat arrays of one dtype")
    spans = tuple(span for part in packed for span in part.spans)
    dtype = dtypes.pop()
    return _Packed(_shape(sizes, sum(span.size for span in spans), dtype), dtype, spans)


def _store(buffer: MappedFile, source: str, leaf: Any) -> Any:
    if not isinstance(leaf, _Packed):
        return leaf
    return StoredArray(leaf.shape, leaf.dtype, lambda: _values(buffer, source, leaf))


def _values(buffer: MappedFile, source: str, packed: _Packed) -> np.ndarray:
    little = packed.dtype.newbyteorder("<")
    if len(packed.spans) == 1 and buffer.is_whole():
        return buffer.view(packed.spans[0].start, packed.shape, little, source)
    array = np.empty(math.prod(packed.shape), little)
    view = array.view(np.uint8)
    done = 0
    if not buffer.is_whole():
        raise _malformed(source, "it became shorter while it was read")
    for span in packed.spans:
        view[done : done + span.size] = np.frombuffer(buffer, np.uint8, span.size, span.start)
        done += span.size
    return array.astype(packed.dtype, copy=False).reshape(packed.shape)


def _pack_leaf(value: Any) -> Iterator[Any]:
    if isinstance(value, str):
        yield pack_text(value)
    elif value.nbytes <= _CHUNK:
        yield from _pack_array(value)
    else:
        yield from _pack_parts(value)


def _pack_array(array: StoredArray) -> Iterator[Any]:
    if array.dtype.name not in FLAX_DTYPES:
        raise WeightsError(f"Flax's msgpack has no arrays of dtype {array.dtype.name}", [])
    start = (
        b"\x93" + pack_list(array.shape) + pack_text(array.dtype.name) + pack_bytes(array.nbytes)
    )
    yield pack_extension(len(start) + array.nbytes, _ARRAY)
    yield start
    yield get_bytes(array)


def _pack_parts(array: StoredArray) -> Iterator[Any]:
    """An array in flat parts, since an extension has less than 4 GiB, and Flax's 1 GiB."""
    flat, step = array.read().reshape(-1), _CHUNK // array.dtype.itemsize
    parts = [as_stored(flat[start : start + step]) for start in range(0, flat.size, step)]
    yield pack_map(3) + pack_text(_CHUNKED) + b"\xc3"
    yield pack_text("shape") + pack_map(array.ndim)
    for position, size in enumerate(array.shape):
        yield pack_text(str(position)) + pack_list([size])[1:]
    yield pack_text("chunks") + pack_map(len(parts))
    for position, part in enumerate(parts):
        yield pack_text(str(position))
        yield from _pack_array(part)
