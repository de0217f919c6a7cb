"""NumPy's .npz archives, without pickles; bfloat16 as bits, with names beside them."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from weights.config import Config
from weights.convert import BFLOAT16, Arrays
from weights.errors import WeightsError
from weights.files import label as labels
from weights.files.atomic import write_atomically
from weights.files.content import Header
from weights.files.label import Label
from weights.files.limits import MOST_HEADER, MappedFile, check_count, find_stored, open_zip
from weights.files.npy import NpyHeader, parse_header, to_header
from weights.language import say
from weights.stored import StoredArray, as_stored, get_ahead, read_arrays

# The entries that are no arrays of a network.
_ENTRIES = {
    labels.CONFIG: "resattn",
    labels.ORIGIN: "resattn.origin",
    labels.CARD: "resattn.card",
    labels.FILE_VERSION: "resattn.version",
    labels.CHECKSUMS: "resattn.checksums",
}
_SHOWN = 6  # names that an error lists
BITS = "resattn.bfloat16"  # the entry that names the arrays whose uint16 are the bits of bfloat16


def write(
    path: Path,
    label: Label,
    arrays: Mapping[str, np.ndarray | StoredArray],
    config: Config | None = None,
) -> None:
    """The same arrays make the same bytes, those of np.savez."""
    texts = {_ENTRIES[entry]: np.array(text) for entry, text in label.items()}
    stored = {name: as_stored(each) for name, each in (texts | _bits(arrays)).items()}

    def write_to(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in get_ahead(stored):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    member.write(to_header(stored[name].shape, stored[name].dtype))
                    member.write(content)

    write_atomically(path, write_to)


def read(path: Path) -> Header:
    """Raises WeightsError for a file that is not whole, or holds other things than plain arrays."""
    archive = open_zip(path, ".npz file of plain arrays")
    label: dict[str, str] = {}
    headers: dict[str, tuple[zipfile.ZipInfo, NpyHeader]] = {}
    entries = {name: entry for entry, name in _ENTRIES.items()}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        header = _read(archive, member, path.name, parse=parse_header)
        if member.file_size != header.offset + header.nbytes:
            raise WeightsError(
                say(
                    "{file}: is not a whole .npz file of plain arrays ({name} has {size:,} "
                    "bytes, and its header says {claimed:,})",
                    file=path.name,
                    name=ascii(name)[:100],
                    size=member.file_size,
                    claimed=header.nbytes,
                ),
                [],
            )
        if name in entries:
            label[entries[name]] = _text(_unpacked(archive, member, header, path.name), path.name)
        else:
            headers[name] = member, header
    # Of a file of ours, each array has a checksum; of others the archive alone has them.
    is_checked = labels.CHECKSUMS not in label
    held = {
        name: _stored(archive, member, header, path.name, is_checked)
        if member.compress_type == zipfile.ZIP_STORED
        else _unpacked(archive, member, header, path.name)
        for name, (member, header) in headers.items()
    }
    return Header(_from_bits(held, path.name), label)


def _unpacked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: NpyHeader, source: str
) -> StoredArray:
    """An array that is read through the archive."""
    get = partial(_read, archive, member, source, parse=partial(_values, header))
    return StoredArray(header.shape, header.dtype.newbyteorder("="), get)


def _stored(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    header: NpyHeader,
    source: str,
    is_checked: bool,
) -> StoredArray:
    """An array that is not compressed, seen where it is in the file. is_checked: whether its CRC-32
    in the archive is compared before its values are given for the first time.
    """
    start, held = find_stored(archive, member, source), cast(MappedFile, archive.fp)
    done = not is_checked

    def get() -> np.ndarray:
        nonlocal done
        if not done:
            whole = held.view(start, (member.file_size,), np.dtype(np.uint8), source)
            if zlib.crc32(whole.data) != member.CRC:
                reason = f"Bad CRC-32 for file {member.filename!r}"
                raise _broken(source, reason)
            done = True
        shape = header.shape[::-1] if header.is_fortran else header.shape
        values = held.view(start + header.offset, shape, header.dtype, source)
        return values.T if header.is_fortran else values

    return StoredArray(header.shape, header.dtype.newbyteorder("="), get)


def read_all(path: Path) -> Arrays:
    """All arrays. Raises what `read` raises."""
    return read_arrays(read(path).arrays)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: str, *, parse: Any) -> Any:
    """What `parse` makes of a member. Raises WeightsError for one that is not whole."""
    cast(MappedFile, archive.fp).check_whole(source)
    try:
        with archive.open(member) as file:
            return parse(file, source)
    except WeightsError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError) as error:
        raise _broken(source, str(error)) from None


def _broken(source: str, reason: str) -> WeightsError:
    return WeightsError(
        say(
            "{file}: is not a whole .npz file of plain arrays ({reason})",
            file=source,
            reason=ascii(reason)[1:-1][:200],
        ),
        [],
    )


def _values(header: NpyHeader, file: BinaryIO, source: str) -> np.ndarray:
    return header.parse(file.read()[header.offset :])  # to its end, which checks the CRC-32


def _text(array: StoredArray, source: str) -> str:
    if array.dtype.kind != "U" or array.ndim or array.nbytes > 4 * MOST_HEADER:
        raise WeightsError(say("{file}: what it says about itself is no text", file=source), [])
    return str(array.read()[()])


def _bits(arrays: Mapping[str, np.ndarray | StoredArray]) -> dict[str, np.ndarray | StoredArray]:
    """What NumPy can write: it has no bfloat16, and would write bytes without saying of what."""
    named = {name for name, array in arrays.items() if array.dtype == BFLOAT16}
    written = {
        name: _to_uint16(as_stored(array)) if name in named else array
        for name, array in arrays.items()
    }
    names = [name for name in arrays if name in named]
    return {BITS: np.array(names), **written} if named else written


def _from_bits(held: Mapping[str, StoredArray], source: str) -> dict[str, StoredArray]:
    """Inverse of `_bits`."""
    found = dict(held)
    names = found.pop(BITS, None)
    if names is None:
        return found
    if names.dtype.kind != "U" or names.ndim != 1 or names.nbytes > 4 * MOST_HEADER:
        raise WeightsError(
            say("{file}: its {name} is no list of names", file=source, name=BITS), []
        )
    check_count(math.prod(names.shape), source)
    named = names.read().tolist()
    wrong = [name for name in named if name not in found or found[name].dtype != np.uint16]
    if wrong:
        raise WeightsError(
            say(
                "{file}: is not a whole .npz file of plain arrays; expected the bits "
                "of bfloat16, as uint16:",
                file=source,
            ),
            [ascii(name)[:100] for name in wrong[:_SHOWN]],
        )
    for name in named:
        found[name] = _from_uint16(found[name])
    return found


def _to_uint16(array: StoredArray) -> StoredArray:
    return StoredArray(array.shape, np.dtype(np.uint16), lambda: array.get().view(np.uint16))


def _from_uint16(array: StoredArray) -> StoredArray:
    return StoredArray(array.shape, BFLOAT16, lambda: array.get().view(BFLOAT16))
