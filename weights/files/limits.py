"""What every format is held to: how a file is opened, and how much it may claim."""

from __future__ import annotations

import math
import mmap
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, cast

import numpy as np

from weights.errors import FileError, WeightsError
from weights.language import say
from weights.stored import in_native_order

MOST_ARRAYS = 100_000  # in a file; networks of 1,000 layers have 7,000
MOST_HEADER = 1 << 24  # bytes of names, shapes and offsets, and of each text
_RATIO, _FREE = 100, 1 << 26  # how far a compressed file may unpack, and from how many bytes on


class MappedFile(mmap.mmap):
    """A file in memory that is read only where it is touched, and by any thread.

    Python closes it with the last array that reads from it.
    """

    def seekable(self) -> bool:  # zipfile asks for it, and Python 3.11 does not have it
        return True

    def is_whole(self) -> bool:
        """Whether the file has not become shorter since: the system ends a process that reads what
        is gone.
        """
        return bool(self.size() >= len(self))

    def check_whole(self, source: str) -> None:
        """Raises WeightsError for a file that is not whole any more."""
        if not self.is_whole():
            raise WeightsError(say("{file}: became shorter while it was read", file=source), [])

    def view(self, start: int, shape: tuple[int, ...], dtype: np.dtype, source: str) -> np.ndarray:
        """An array in the file, in C order, without a copy; with one if its byte order is not that
        of this machine.
        """
        self.check_whole(source)
        count = math.prod(shape)
        if not count:
            return np.empty(shape, dtype.newbyteorder("="))
        return in_native_order(np.frombuffer(self, dtype, count, start).reshape(shape))


def map_file(path: Path) -> MappedFile:
    """A file, to be read. Raises WeightsError for an empty one, FileError where that is refused."""
    try:
        with path.open("rb") as file:
            return MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise WeightsError(
            say("{file}: is not a whole file: it is empty", file=path.name), []
        ) from None
    except OSError as error:
        raise FileError(
            say("{file}: cannot be read ({reason})", file=path, reason=error.strerror or error)
        ) from None


def check_count(count: int, source: str) -> None:
    """Raises WeightsError for more arrays than any network has."""
    if count > MOST_ARRAYS:
        raise WeightsError(
            say(
                "{file}: has {count:,} arrays; a weights file has at most {most:,}",
                file=source,
                count=count,
                most=MOST_ARRAYS,
            ),
            [],
        )


def check_claim(claimed: int, held: int, source: str, *, compressed: bool = False) -> None:
    """Raises WeightsError for a file that claims more bytes of values than it can hold.

    compressed: whether it may hold them in less.
    """
    most = max(held * _RATIO, _FREE) if compressed else held
    if claimed > most:
        less = say(", less than 1/{count} of them", count=_RATIO) if compressed else ""
        raise WeightsError(
            say(
                "{file}: claims {claimed:,} bytes of values and has {held:,} "
                "bytes{less}; it was damaged, or made to fill the memory",
                file=source,
                claimed=claimed,
                held=held,
                less=less,
            ),
            [],
        )


def open_zip(path: Path, kind: str) -> zipfile.ZipFile:
    """A zip archive, its directory read and its sizes checked. kind: what to call it in an error.

    Raises WeightsError for a file that is no whole zip archive, and for one with encrypted or
    doubled members, or that claims more than it can hold.
    """
    held = map_file(path)
    start, size, end = _directory(held)
    if size > MOST_HEADER:
        raise WeightsError(
            say(
                "{file}: its directory is larger than {most:,} bytes",
                file=path.name,
                most=MOST_HEADER,
            ),
            [],
        )
    if start + size != end:
        # Python would read the directory before its end, and PyTorch the one at its start.
        raise WeightsError(
            say(
                "{file}: is not a whole {kind}: its directory is not in place",
                file=path.name,
                kind=kind,
            ),
            [],
        )
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], held))  # it reads, seeks and tells
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, IndexError) as error:
        reason = ascii(str(error))[1:-1][:200]
        raise WeightsError(
            say(
                "{file}: is not a whole {kind} ({reason})", file=path.name, kind=kind, reason=reason
            ),
            [],
        ) from None
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(names) < len(members) or any(member.flag_bits & 0x1 for member in members):
        raise WeightsError(say("{file}: has doubled or encrypted members", file=path.name), [])
    check_count(len(members), path.name)
    compressed = is_compressed(members)
    claimed = sum(member.file_size for member in members)
    check_claim(claimed, len(held), path.name, compressed=compressed)
    return archive


def find_stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: str) -> int:
    """Where the bytes of a member that is not compressed are in the file.

    Raises WeightsError where they are not as the directory says.
    """
    held = cast(MappedFile, archive.fp)
    first = member.header_offset + 30
    head = held[first - 30 : first]
    encoded = member.filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")
    name, extra = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
    start = first + name + extra
    if (
        head[:4] != b"PK\3\4"
        or held[first : first + name] != encoded
        or member.file_size != member.compress_size
        or start + member.file_size > len(held)
    ):
        raise WeightsError(
            say(
                "{file}: is not a whole archive: {member} is not in the place or of "
                "the size that its directory says",
                file=source,
                member=ascii(member.filename)[:100],
            ),
            [],
        )
    return start


def is_compressed(members: Collection[zipfile.ZipInfo]) -> bool:
    """Whether one of them is."""
    return any(member.compress_type != zipfile.ZIP_STORED for member in members)


def _directory(held: MappedFile) -> tuple[int, int, int]:
    """What the end of a zip archive says of its directory: its start and its size; and where it
    must end.
    """
    end = held.rfind(b"PK\5\6", max(0, len(held) - (1 << 16) - 22))
    if end < 0:
        return 0, 0, 0  # zipfile has the words for it
    start, wide = end - 76, held[max(0, end - 20) : end - 16] == b"PK\6\7"
    if wide and start >= 0:  # with 64 bits, and then those count
        fields = (held[start + 48 : start + 56], held[start + 40 : start + 48])
        return int.from_bytes(fields[0], "little"), int.from_bytes(fields[1], "little"), start
    fields = (held[end + 16 : end + 20], held[end + 12 : end + 16])
    return int.from_bytes(fields[0], "little"), int.from_bytes(fields[1], "little"), end
