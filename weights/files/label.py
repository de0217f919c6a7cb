"""What a file of ours says about itself: its config, origin, card, version and checksums."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weights.checks import printable, quote
from weights.errors import ArgumentError, WeightsError
from weights.fields import parse_json
from weights.files.limits import MOST_HEADER
from weights.language import say
from weights.stored import StoredArray, get_bytes, on_cores

# The entries of a label. Each is a text, and each format has a place for them.
CONFIG = "config"  # the config, JSON
ORIGIN = "origin"  # where the weights came from, JSON
CARD = "card"  # a `resattn.checking.card.Card` of these weights, JSON
FILE_VERSION = "version"  # a decimal number; files of version 1 do not have it
CHECKSUMS = "checksums"  # of the entries above and of each array, JSON
RECORDING = "recording"  # the key of the JSON in CONFIG of a recorded run, which is no config
ENTRIES = (CONFIG, ORIGIN, CARD, FILE_VERSION, CHECKSUMS)

LATEST = 2  # 1: without version and checksums
UNKNOWN_SUM = "0" * 8  # of an array that was not read yet, as long as any other

Label = Mapping[str, str]
Finish = Callable[[Mapping[str, str]], Label]  # checksums of the arrays -> the label with them


def make_label(
    config: str,
    arrays: Mapping[str, np.ndarray | StoredArray],
    origin: str | None = None,
    sums: Mapping[str, str] | None = None,
    card: str | None = None,
) -> dict[str, str]:
    """The label of a file with these arrays. config, origin, card: JSON. sums: those of the arrays,
    if they are known.
    """
    given = {CONFIG: config, ORIGIN: origin, CARD: card}
    label = {name: text for name, text in given.items() if text is not None}
    texts = {name: _checksum_of_text(text) for name, text in label.items()}
    said = checksums(arrays) if sums is None else {name: sums[name] for name in arrays}
    text = json.dumps({**texts, "arrays": said})
    return {**label, FILE_VERSION: str(LATEST), CHECKSUMS: text}


def find_entries(said: Mapping[Any, Any]) -> dict[str, str]:
    """The entries of a label among what a file says."""
    return {entry: text for entry in ENTRIES if isinstance(text := said.get(entry), str)}


def check_label(label: Label, source: str) -> None:
    """Raises ArgumentError for a file of a newer version, WeightsError for a label whose texts are
    not those that were written.
    """
    if FILE_VERSION not in label and CHECKSUMS not in label:
        return  # version 1
    version = label.get(FILE_VERSION, "")
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else 0
    if number > LATEST:
        raise ArgumentError(
            f"{source}: is a file of version {number}, and this resattn reads versions 1 to "
            f"{LATEST}; read it with a newer resattn"
        )
    sums = _checksums_in(label, source)
    if number < LATEST or not isinstance(sums.get("arrays"), dict):
        raise WeightsError(f"{source}: is damaged: what it says about itself is not whole", [])
    for entry in (CONFIG, ORIGIN, CARD):
        held = label.get(entry)
        if sums.get(entry) != (None if held is None else _checksum_of_text(held)):
            raise WeightsError(
                say(
                    "{file}: is damaged: its {entry} is not the one that was written (its CRC-32 "
                    "is another); get the file again",
                    file=source,
                    entry=entry,
                ),
                [],
            )


def check_arrays(
    label: Label, arrays: Mapping[str, np.ndarray | StoredArray], source: str
) -> Mapping[str, str] | None:
    """The checksums of all values. Raises WeightsError for values that are not those that were
    written, all of them together.

    Files of version 1 and of other libraries have no checksums; they pass, and None is returned.
    """
    return check_sums(label, checksums(arrays), source) if CHECKSUMS in label else None


def check_sums(label: Label, sums: Mapping[str, str], source: str) -> Mapping[str, str]:
    """The same, for checksums that were computed already."""
    written = _checksums_in(label, source)["arrays"]
    faults = [
        f"{printable(name)}: expected CRC-32 {quote(written.get(name), 40)}, got {found!r}"
        for name, found in sums.items()
        if written.get(name) != found
    ]
    if faults:
        raise WeightsError(
            say(
                "{file}: is damaged: these arrays are not the ones that were written; get the file "
                "again:",
                file=source,
            ),
            faults,
        )
    return sums


def list_written(label: Label, source: str) -> set[str]:
    """The names of the arrays that were written with a label that has checksums."""
    return set(_checksums_in(label, source)["arrays"])


def checksums(arrays: Mapping[str, np.ndarray | StoredArray]) -> dict[str, str]:
    """The CRC-32 of each array, on the available cores; see `checksum`."""
    return dict(zip(arrays, on_cores(checksum, arrays.values()), strict=True))


def checksum(array: np.ndarray | StoredArray) -> str:
    """The CRC-32 (ISO 3309, as in zip files) of dtype, shape and values, hexadecimal.

    Values count in canonical axis order, in C order, little-endian, so that the same parameter has
    the same checksum in every format.
    """
    return checksum_of(array, get_bytes(array))


def checksum_of(array: np.ndarray | StoredArray, content: memoryview) -> str:
    """The same, where the bytes of the values are known already."""
    seed = zlib.crc32(f"{array.dtype.name} {array.shape}".encode())
    return f"{zlib.crc32(content, seed):08x}"


def _checksum_of_text(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def _checksums_in(label: Label, source: str) -> Mapping[str, Any]:
    values = parse_json(label.get(CHECKSUMS, ""), f"the checksums in {source}", MOST_HEADER)
    if not isinstance(values, dict):
        raise WeightsError(f"{source}: is damaged: its checksums are no JSON object", [])
    return values
