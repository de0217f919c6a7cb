"""Items of MessagePack, found without copying their bytes.

The format: https://github.com/msgpack/msgpack/blob/master/spec.md. The library of that name copies
what it reads; here a value is only where it is, so that a file can be read without its arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_ITEMS = 500_000  # items that a file may hold, those within arrays left out
_DEPTH = 64
_KEY = 1000  # bytes of a key
_TEXT = 16 << 20  # bytes of a text


class Span(NamedTuple):
    """Bytes of a file. code: of an extension type; None for a plain byte string."""

    start: int
    size: int
    code: int | None = None


class MalformedError(Exception):
    """The bytes are not an item, or more than this project reads."""


# Single items: the struct of their value.
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
# Items with a length: their kind, and the struct of the length.
_SIZED = {
    0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I"),
    0xC7: ("extension", ">B"), 0xC8: ("extension", ">H"), 0xC9: ("extension", ">I"),
    0xD9: ("text", ">B"), 0xDA: ("text", ">H"), 0xDB: ("text", ">I"),
    0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class Items:
    """Items from `start` to `end` in a buffer, one after another."""

    def __init__(self, buffer: Any, start: int, end: int, items: int = _ITEMS):
        self._buffer = buffer
        self._position = start
        self._end = end
        self._left = items

    def only(self) -> Any:
        """The one item there is. Raises MalformedError for anything else.

        Maps have texts as keys, numbers written out; byte strings and extensions are a Span.
        """
        found = self._item(0)
        if self._position != self._end:
            raise MalformedError(f"{self._end - self._position} bytes follow after its end")
        return found

    def _take(self, size: int) -> int:
        """The position of the next bytes, which are then passed."""
        start = self._position
        if size > self._end - start:
            raise MalformedError(f"it ends at byte {self._end}, within an item")
        self._position = start + size
        return start

    def _number(self, form: str) -> Any:
        return struct.unpack_from(form, self._buffer, self._take(struct.calcsize(form)))[0]

    def _item(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise MalformedError("it has more items than any weights have")
        code = self._number(">B")
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            return self._number(_NUMBERS[code])
        if code == 0xC1:
            raise MalformedError("byte C1 begins no item")
        kind, size = self._kind(code)
        if kind == "map":
            return self._map(size, depth + 1)
        if kind == "list":
            self._claim(size, 1, depth + 1)
            return [self._item(depth + 1) for _ in range(size)]
        if kind == "text":
            return self._text(size, _TEXT)
        extension = self._number(">b") if kind == "extension" else None
        return Span(self._take(size), size, extension)

    def _kind(self, code: int) -> tuple[str, int]:
        """What an item with a length is, and its length."""
        if code < 0x90:
            return "map", code & 0x0F
        if code < 0xA0:
            return "list", code & 0x0F
        if code < 0xC0:
            return "text", code & 0x1F
        if code in _SIZED:
            kind, form = _SIZED[code]
            return kind, self._number(form)
        return "extension", 1 << (code - 0xD4)  # 0xD4 to 0xD8

    def _claim(self, size: int, each: int, depth: int) -> None:
        """Raises MalformedError where so many entries of so many items cannot be there."""
        if depth > _DEPTH:
            raise MalformedError(f"it is nested deeper than {_DEPTH} levels")
        if size * each > self._end - self._position:
            raise MalformedError(f"it claims {size} entries and has fewer bytes")
        if size * each > self._left:
            raise MalformedError(f"it claims {size} entries, more than any weights have")

    def _map(self, size: int, depth: int) -> dict[str, Any]:
        self._claim(size, 2, depth)
        found: dict[str, Any] = {}
        for _ in range(size):
            key = self._key(depth)
            if key in found:
                raise MalformedError(f"it has the key {ascii(key)[:100]} twice in one map")
            found[key] = self._item(depth)
        return found

    def _key(self, depth: int) -> str:
        key = self._item(depth)
        if isinstance(key, str) and len(key) <= _KEY:
            return key
        if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
            return str(key)
        raise MalformedError(
            f"expected texts of at most {_KEY} characters and positions as keys, got "
            f"{ascii(key)[:100]}"
        )

    def _text(self, size: int, limit: int) -> str:
        if size > limit:
            raise MalformedError(f"it has a text of {size} bytes")
        start = self._take(size)
        try:
            return bytes(self._buffer[start : start + size]).decode()
        except UnicodeDecodeError:
            raise MalformedError("it has a text that is no UTF-8") from None


def pack_item(value: Any) -> bytes:
    """A text or a number from 0 that has at most 64 bits, as an item."""
    if isinstance(value, str):
        return pack_text(value)
    for limit, code, form in ((8, 0xCC, "B"), (16, 0xCD, "H"), (32, 0xCE, "I")):
        if value < 0x80:
            return struct.pack(">B", value)
        if value < 1 << limit:
            return struct.pack(f">B{form}", code, value)
    return struct.pack(">BQ", 0xCF, value)


def pack_text(text: str) -> bytes:
    content = text.encode()
    if len(content) < 32:
        return struct.pack(">B", 0xA0 | len(content)) + content
    return _sized(len(content), (0xD9, 0xDA, 0xDB)) + content


def pack_map(size: int) -> bytes:
    """What is before the keys and values of a map."""
    if size < 16:
        return struct.pack(">B", 0x80 | size)
    return _sized(size, (None, 0xDE, 0xDF))


def pack_list(values: Any) -> bytes:
    """A list of fewer than 16 items."""
    return struct.pack(">B", 0x90 | len(values)) + b"".join(map(pack_item, values))


def pack_bytes(size: int) -> bytes:
    """What is before a byte string of that size."""
    return _sized(size, (0xC4, 0xC5, 0xC6))


def pack_extension(size: int, code: int) -> bytes:
    """What is before the content of an extension type."""
    if size in (1, 2, 4, 8, 16):
        return struct.pack(">Bb", 0xD4 + size.bit_length() - 1, code)
    return _sized(size, (0xC7, 0xC8, 0xC9)) + struct.pack(">b", code)


def _sized(size: int, codes: tuple[int | None, int, int]) -> bytes:
    for code, form, limit in zip(codes, "BHI", (8, 16, 32), strict=True):
        if code is not None and size < 1 << limit:
            return struct.pack(f">B{form}", code, size)
    raise ValueError(f"{size} is more than an item can hold")


def pack_tree(tree: Mapping[Any, Any], pack_leaf: Any) -> Iterator[Any]:
    """The bytes of nested maps, in pieces. pack_leaf: gives the pieces of any other value."""
    yield pack_map(len(tree))
    for key, value in tree.items():
        yield pack_item(key)
        yield from pack_tree(value, pack_leaf) if isinstance(value, Mapping) else pack_leaf(value)
