"""A reader of HDF5 files in plain Python: of the part of the format in which Keras writes.

The HDF5 library reads what a file tells it to, in C: other files, plugins, terabytes. One flipped
bit can make it run for ever (1.14.6, on an attribute). What is needed here is little: groups,
arrays and attributes as "HDF5 File Format Specification Version 3.0" (The HDF Group) lays them out
by default. Whatever else a file has is refused by name. Every byte that is read counts against a
limit, so that no file can make the reader run for ever.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NoReturn

import numpy as np

from weights.convert import BFLOAT16
from weights.errors import WeightsError
from weights.files.hdf5_values import Chunk, Dataset, Region

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 2**64 - 1  # an address of nothing
# What reading the structure of a file may cost: bytes, and for each entry as much as some bytes.
_LEAST, _MOST = 2**20, 2**27
_ENTRY = 64
_LONGEST = 1024  # bytes of a name
_OBJECTS = 100_000  # groups and arrays
_CHUNKS = 100_000  # of all arrays
_SIZE = 2**48  # of an array
_MESSAGE = {
    "dataspace": 0x01,
    "link info": 0x02,
    "datatype": 0x03,
    "link": 0x06,
    "external files": 0x07,
    "layout": 0x08,
    "filters": 0x0B,
    "attribute": 0x0C,
    "continuation": 0x10,
    "symbol table": 0x11,
    "attribute info": 0x15,
}
_NAMES = {number: name for name, number in _MESSAGE.items()}
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
# The bits of exponent and mantissa, and the bias, of each float.
_FLOATS: dict[np.dtype, tuple[int, int, int]] = {
    BFLOAT16: (8, 7, 127),
    np.dtype(np.float16): (5, 10, 15),
    np.dtype(np.float32): (8, 23, 127),
    np.dtype(np.float64): (11, 52, 1023),
}


@dataclass(frozen=True)
class Group:
    """A group. children: the address of each, by name."""

    attributes: Mapping[str, Any]
    children: Mapping[str, int]


class Parser:
    """Reads the structure of an HDF5 file.

    source: the name of the file, for errors. root: the address of the group that holds all others.
    Every method raises WeightsError for what is broken, and for what is refused.
    """

    def __init__(self, region: Region, source: str):
        self.source = source
        self._region = region
        self._left = min(_LEAST + 8 * region.size, _MOST)
        self._seen: set[int] = set()
        self._chunks = 0
        self._heaps: dict[int, dict[int, bytes]] = {}
        self.root = self._superblock()

    def node(self, address: int) -> Group | Dataset:
        """The group or the array at an address. Each can be asked for once."""
        if address in self._seen:
            self.damaged("two names lead to one group or array in it")
        if len(self._seen) >= _OBJECTS:
            self.refuse(f"it has more than {_OBJECTS:,} groups and arrays")
        self._seen.add(address)
        messages = list(self._messages(address))
        found = dict(messages)
        attributes = self._attributes(messages)
        if "layout" in found:
            return self._dataset(found, attributes)
        return Group(attributes, self._children(messages))

    def refuse(self, reason: str) -> NoReturn:
        """Raises the error for what is no part of a file that Keras writes."""
        raise WeightsError(
            f"{self.source}: cannot be read: {reason}; load it in Keras with the model that it "
            "belongs to, and save that with model.save_weights",
            [],
        )

    def damaged(self, reason: str) -> NoReturn:
        """Raises the error for a broken file."""
        raise WeightsError(f"{self.source}: is not a whole HDF5 file: {reason}", [])

    def _take(self, offset: int, size: int) -> bytes:
        if offset + size > self._region.size:
            self.damaged("it refers to bytes after its end")
        self._pay(size)
        content = self._region.read(offset, size)
        if len(content) != size:
            self.damaged("it became shorter while it was read")
        return content

    def _pay(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            self.refuse("it has too many groups, names and attributes")

    def _unpack(self, layout: str, content: bytes, offset: int = 0) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(f"<{layout}", content, offset)
        except (struct.error, OverflowError):  # a length or an address of up to 2**64
            self.damaged("an entry in it is too short")

    def _expect(self, signature: bytes, content: bytes, place: str) -> None:
        if not content.startswith(signature):
            self.damaged(f"there is no {place} where one should be")

    def _superblock(self) -> int:
        head = self._region.read(0, 96)
        if not head.startswith(SIGNATURE):
            raise WeightsError(f"{self.source}: is not an HDF5 file", [])
        version = head[8] if len(head) > 8 else 0
        if version > 1:
            self.refuse("it is in a newer layout of HDF5 (libver)")
        head = self._take(0, 96 + 4 * version)
        if head[13:15] != b"\x08\x08":
            self.refuse("its addresses have another size than 8 bytes")
        base, _, end, _, _, root = self._unpack("QQQQQQ", head, 24 + 4 * version)
        if base:
            self.refuse("it does not begin at its first byte")
        if end > self._region.size:
            self.damaged(f"it has {self._region.size:,} bytes and should have {end:,}")
        return int(root)

    def _messages(self, address: int) -> Iterator[tuple[str, bytes]]:
        """The messages of an object header that matter here."""
        head = self._take(address, 16)
        if head.startswith(b"OHDR"):
            self.refuse("it has groups or arrays in a newer layout of HDF5 (libver, track_order)")
        version, count, size = head[0], *self._unpack("H", head, 2), *self._unpack("I", head, 8)
        if version != 1:
            self.damaged("there is no group or array where one should be")
        blocks = [(address + 16, size)]
        while blocks and count > 0:
            block = self._take(*blocks.pop(0))
            offset = 0
            while offset + 8 <= len(block) and count > 0:
                kind, length, flags = self._unpack("HHB", block, offset)
                body = block[offset + 8 : offset + 8 + length]
                if len(body) != length:
                    self.damaged("an entry in it is too short")
                self._pay(_ENTRY)
                offset, count = offset + 8 + length, count - 1
                name = _NAMES.get(kind)
                if name == "continuation":
                    blocks.append(self._unpack("QQ", body))
                elif name is not None:
                    if flags & 2:
                        self.refuse("it has types that several arrays share")
                    yield name, body
        if count > 0:
            self.damaged("a header in it is too short")

    def _children(self, messages: list[tuple[str, bytes]]) -> dict[str, int]:
        found: dict[str, int] = {}
        pairs: Iterator[tuple[str, int]]
        for kind, body in messages:
            if kind == "symbol table":
                tree, heap = self._unpack("QQ", body)
                pairs = self._symbols(tree, self._heap_of_names(heap))
            elif kind == "link":
                pairs = iter([self._link(body)])
            elif kind == "link info" and self._dense(body, 8):
                self.refuse("it has groups in a newer layout of HDF5 (libver, track_order)")
            else:
                continue
            for name, address in pairs:
                if name in found or not name or "/" in name:
                    self.damaged("a group has an empty name, or two of one name")
                found[name] = address
        return found

    def _dense(self, body: bytes, counter: int) -> bool:
        """Whether links or attributes are in a heap. counter: the size of the one before it."""
        (flags,) = self._unpack("xB", body)
        (address,) = self._unpack("Q", body, 2 + (counter if flags & 1 else 0))
        return bool(address != _UNDEFINED)

    def _heap_of_names(self, address: int) -> bytes:
        head = self._take(address, 32)
        self._expect(b"HEAP", head, "list of names")
        size, _, start = self._unpack("QQQ", head, 8)
        return self._take(start, size)

    def _symbols(self, address: int, names: bytes, level: int | None = None) -> Iterator[Any]:
        """The names and addresses in a B-tree of a group."""
        for child, depth in self._tree(address, 0, "Q", level):
            if depth > 0:
                yield from self._symbols(child[1], names, depth - 1)
                continue
            head = self._take(child[1], 8)
            self._expect(b"SNOD", head, "table of names")
            (count,) = self._unpack("H", head, 6)
            table = self._take(child[1] + 8, 40 * count)
            for number in range(count):
                name, target, kind = self._unpack("QQI", table, 40 * number)
                if kind == 2:
                    self.refuse("it has links by name")
                self._pay(_ENTRY)
                text, end, _ = names[name : name + _LONGEST].partition(b"\0")
                if not end:
                    self.damaged("a name in it is too long or has no end")
                yield self._text(text), target

    def _tree(
        self, address: int, kind: int, key: str, level: int | None
    ) -> Iterator[tuple[tuple[Any, ...], int]]:
        """The entries of a node of a B-tree, each with the key before it, and the node's level."""
        head = self._take(address, 24)
        self._expect(b"TREE", head, "tree")
        found, depth, count = self._unpack("BBH", head, 4)
        if found != kind or (depth != level if level is not None else depth > 8):
            self.damaged("a tree in it has another kind or depth than it should have")
        step = struct.calcsize(f"<{key}Q")
        body = self._take(address + 24, step * count)
        for number in range(count):
            yield self._unpack(f"{key}Q", body, step * number), depth

    def _link(self, body: bytes) -> tuple[str, int]:
        version, flags = self._unpack("BB", body)
        if version != 1:
            self.damaged("a link in it has no known version")
        offset = 2
        if flags & 8:
            if body[offset : offset + 1] != b"\0":
                self.refuse("it has links by name or to other files")
            offset += 1
        offset += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        (size,) = self._unpack("BHIQ"[flags & 3], body, offset)
        offset += 1 << (flags & 3)
        name = body[offset : offset + size]
        return self._text(name), *self._unpack("Q", body, offset + size)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError:
            self.damaged(f"a name in it is no text: {content[:60]!a}")

    def _attributes(self, messages: list[tuple[str, bytes]]) -> dict[str, Any]:
        """The attributes that are texts or lists of them; others are left out."""
        found: dict[str, Any] = {}
        for kind, body in messages:
            if kind == "attribute info" and self._dense(body, 2):
                self.refuse("it has attributes in a newer layout of HDF5 (libver)")
            if kind == "attribute":
                name, value = self._attribute(body)
                if value is not None:
                    found[name] = value
        return found

    def _attribute(self, body: bytes) -> tuple[str, Any]:
        version, shared, *sizes = self._unpack("BBHHH", body)
        if version not in (1, 2, 3):
            self.damaged("an attribute in it has no known version")
        if version > 1 and shared:
            self.refuse("it has types that several arrays share")
        offset = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(body[offset : offset + size])
            offset += -(-size // 8) * 8 if version == 1 else size
        name, datatype, dataspace = parts
        shape = self._shape(dataspace)
        if shape is None:
            return "", None
        texts = self._texts(datatype, math.prod(shape), body[offset:])
        label = self._text(name.rstrip(b"\0"))
        return label, texts if texts is None or shape else texts[0]

    def _texts(self, datatype: bytes, count: int, body: bytes) -> list[str] | None:
        """Texts of fixed or of varying size. None for another type."""
        kind, size = datatype[:1], *self._unpack("I", datatype, 4)
        if kind and kind[0] & 15 == 3:  # of fixed size
            if not size or size * count > len(body):
                self.damaged("an attribute in it is too short")
            parts = (body[size * number : size * (number + 1)] for number in range(count))
            return [self._text(part.split(b"\0")[0].rstrip(b" ")) for part in parts]
        if not kind or kind[0] & 15 != 9 or datatype[1] & 15 != 1:
            return None
        if 16 * count > len(body):
            self.damaged("an attribute in it is too short")
        found = []
        for number in range(count):
            size, heap, index = self._unpack("IQI", body, 16 * number)
            content = self._heap(heap).get(index) if size else b""
            if content is None or len(content) < size:
                self.damaged("an attribute in it refers to a text that is not there")
            self._pay(size)
            found.append(self._text(content[:size].split(b"\0")[0]))
        return found

    def _heap(self, address: int) -> dict[int, bytes]:
        """The texts of a global heap, by their index."""
        if address not in self._heaps:
            head = self._take(address, 16)
            self._expect(b"GCOL", head, "collection of texts")
            (size,) = self._unpack("Q", head, 8)
            body = self._take(address + 16, max(size, 16) - 16)
            found: dict[int, bytes] = {}
            offset = 0
            while offset + 16 <= len(body):
                self._pay(_ENTRY)
                index, length = (
                    *self._unpack("H", body, offset),
                    *self._unpack("Q", body, offset + 8),
                )
                if not index:
                    break  # free space up to the end
                found[index] = body[offset + 16 : offset + 16 + length]
                offset += 16 + -(-length // 8) * 8
            self._heaps[address] = found
        return self._heaps[address]

    def _shape(self, body: bytes) -> tuple[int, ...] | None:
        """The shape of a dataspace. None for one that holds nothing."""
        version, rank, _, kind = self._unpack("BBBB", body)
        if version not in (1, 2) or rank > 32:
            self.damaged("a shape in it has no known version")
        if version == 2 and kind == 2:
            return None
        return self._unpack(f"{rank}Q", body, 8 if version == 1 else 4)

    def _dtype(self, body: bytes, attributes: Mapping[str, Any]) -> np.dtype:
        kind, *bits, size = self._unpack("BBBxI", body)
        kind &= 15
        order: Literal["<", ">"] = ">" if bits[0] & 1 else "<"
        if kind == 0 and size in (1, 2, 4, 8) and self._unpack("HH", body, 8) == (0, 8 * size):
            return np.dtype(f"{order}{'i' if bits[0] & 8 else 'u'}{size}")
        if kind == 1 and bits[0] & 0x7E == 0x20 and bits[1] == 8 * size - 1:
            form = self._unpack("HHBBBBI", body, 8)
            for dtype, (exponent, mantissa, bias) in _FLOATS.items():
                if form == (0, 8 * dtype.itemsize, mantissa, exponent, 0, mantissa, bias):
                    return dtype if dtype == BFLOAT16 else dtype.newbyteorder(order)
        if kind != 5 or size != 2 or attributes.get("dtype") != "bfloat16":
            self.refuse(f"it has arrays of other values than numbers (type {kind}, {size} bytes)")
        bfloat16: np.dtype = BFLOAT16
        return bfloat16

    def _dataset(self, found: Mapping[str, bytes], attributes: Mapping[str, Any]) -> Dataset:
        if not {"datatype", "dataspace"} <= set(found):
            self.damaged("an array in it has no shape or no type")
        if "external files" in found:
            self.refuse("it has arrays whose values are in other files")
        shape = self._shape(found["dataspace"])
        if shape is None:
            self.refuse("it has arrays without a shape")
        if math.prod(max(side, 1) for side in shape) >= _SIZE:
            self.refuse("it has arrays of impossible sizes")
        dtype = self._dtype(found["datatype"], attributes)
        made = Dataset(shape, dtype, attributes, None, 0)
        layout = found["layout"]
        version, kind = self._unpack("BBx", layout)
        if version != 3 and not (version == 4 and kind < 2):
            self.refuse("it has arrays in another layout of HDF5 (libver, virtual or very old)")
        if kind == 0:
            (size,) = self._unpack("H", layout, 2)
            made = replace(made, content=layout[4 : 4 + size], stored=size)
        elif kind == 1:
            address, size = self._unpack("QQ", layout, 2)
            made = replace(made, address=address, stored=size)
        elif kind == 2:
            return self._chunked(made, layout, found.get("filters"))
        else:
            self.refuse("it has arrays that are made of others")
        if "filters" in found or made.nbytes != made.stored:
            self.damaged(f"an array of {made.nbytes:,} bytes has {made.stored:,} in the file")
        if made.address in (0, _UNDEFINED) and made.nbytes:  # at 0 is how the file begins
            self.damaged("an array has no values")
        if made.address and made.nbytes and made.address + made.nbytes > self._region.size:
            self.damaged("the values of an array are outside of it")
        return made

    def _chunked(self, made: Dataset, layout: bytes, filters: bytes | None) -> Dataset:
        rank = layout[2] - 1
        if rank != len(made.shape) or rank < 1:
            self.damaged("an array has parts of another rank")
        address, *sizes = self._unpack(f"Q{rank + 1}I", layout, 3)
        *shape, itemsize = sizes
        fits = all(0 < part <= side for part, side in zip(shape, made.shape, strict=True))
        if itemsize != made.dtype.itemsize or not fits:
            self.damaged("an array has parts of another type or of no possible size")
        counts = [-(-side // part) for side, part in zip(made.shape, shape, strict=True)]
        self._chunks += math.prod(counts)
        if self._chunks > _CHUNKS:
            self.refuse(f"its arrays are in more than {_CHUNKS:,} parts")
        grid = {
            tuple(int(each) for each in np.multiply(place, shape)) for place in np.ndindex(*counts)
        }
        parts = iter(()) if address == _UNDEFINED else self._parts(address, rank)
        chunks = tuple(islice(parts, len(grid) + 1))  # a small file can list millions
        if len(chunks) != len(grid) or {chunk.place for chunk in chunks} != grid:
            self.damaged("an array has parts without values")
        if any(chunk.address + chunk.size > self._region.size for chunk in chunks):
            self.damaged("the values of an array are outside of it")
        return replace(
            made,
            stored=sum(chunk.size for chunk in chunks),
            chunk_shape=tuple(shape),
            chunks=chunks,
            filters=() if filters is None else self._filters(filters),
        )

    def _parts(self, address: int, rank: int, level: int | None = None) -> Iterator[Chunk]:
        for entry, depth in self._tree(address, 1, f"II{rank + 1}Q", level):
            size, skipped, *place, target = entry
            if depth > 0:
                yield from self._parts(target, rank, depth - 1)
            else:
                yield Chunk(tuple(place[:-1]), target, size, skipped)

    def _filters(self, body: bytes) -> tuple[str, ...]:
        version, count = self._unpack("BB", body)
        offset = 8 if version == 1 else 2
        found = []
        for _ in range(count):
            (number,) = self._unpack("H", body, offset)
            if version not in (1, 2) or number not in _FILTERS:
                known = ", ".join(_FILTERS.values())
                self.refuse(f"its arrays are compressed by filter {number}; read are {known}")
            length, _, values = self._unpack("HHH", body, offset + 2)
            if version == 2:  # filters below 256 have no name there
                _, values = self._unpack("HH", body, offset + 2)
                length, offset = 0, offset - 2
            offset += 8 + -(-length // 8) * 8 + 4 * (values + (values % 2 if version == 1 else 0))
            found.append(_FILTERS[number])
        return tuple(found)
