"""safetensors in several files, with an index that says which array is in which.

The index is {"metadata": {...}, "weight_map": {name of an array: name of a file}}, as the
libraries of the Hugging Face hub write it.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weights.config import Config
from weights.errors import MissingFileError, WeightsError
from weights.fields import parse_json
from weights.files.atomic import refusals, resolve_target, sole_writer, write_atomically
from weights.files.content import Header
from weights.files.hub import INDEX
from weights.files.label import Finish, Label
from weights.files.limits import MOST_HEADER, check_count, map_file
from weights.files.safetensors import from_metadata, read_shard, to_metadata, to_pieces
from weights.stored import StoredArray

SHARD_BYTES = 1 << 30  # of values in a file, unless one array has more
_UNNAMED = "new"  # instead of the CRC-32 in the name of a file, until that is known
_METADATA, _MAP = "metadata", "weight_map"


def write(
    path: Path,
    label: Label,
    arrays: Mapping[str, np.ndarray | StoredArray],
    config: Config | None = None,
    finish: Finish | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """The files are complete before the index names them, and their names say what they hold: until
    the new index is in place, the old one with its files is whole. Then old files are removed.
    """
    path = resolve_target(path)  # where a link points to, and refuses a folder that does not exist
    with sole_writer(path.parent):  # another one would remove these files
        _write(path, label, finish, _groups(arrays, shard_bytes), arrays)


def _write(
    path: Path,
    label: Label,
    finish: Finish | None,
    groups: list[list[str]],
    arrays: Mapping[str, np.ndarray | StoredArray],
) -> None:
    stem = path.name[: -len(INDEX)]
    shards: dict[str, str] = {}
    sums: dict[str, str] = {}
    before = _files_of(path)
    try:
        for number, names in enumerate(groups, start=1):
            start = f"{stem}-{number:05d}-of-{len(groups):05d}"
            file = _write_shard(
                path, start, {name: arrays[name] for name in names}, sums if finish else None
            )
            shards |= dict.fromkeys(names, file)
        if finish is not None:
            label = finish(sums)
        said: dict[str, Any] = {"total_size": sum(array.nbytes for array in arrays.values())}
        index = {_METADATA: {**said, **to_metadata(label)}, _MAP: shards}
        text = json.dumps(index, indent=1)
        write_atomically(path, lambda target: target.write_text(text, encoding="utf-8"))
    except BaseException:
        _remove(path, set(shards.values()) - before)
        raise
    # Also what killed writers left. Only names like these: an index of a stranger can name any.
    ours = re.compile(
        rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}-([0-9a-f]{{8}}|{_UNNAMED})\.safetensors"
    )
    there = {each.name for each in path.parent.iterdir() if ours.fullmatch(each.name)}
    _remove(path, there - set(shards.values()))


def _write_shard(
    path: Path,
    start: str,
    arrays: Mapping[str, np.ndarray | StoredArray],
    sums: dict[str, str] | None,
) -> str:
    """Writes one file beside `path`, and names it by the CRC-32 of its bytes. Returns the name.

    sums: gets the checksums of the arrays.
    """
    found = 0

    def write_to(temporary: Path) -> None:
        nonlocal found
        with temporary.open("wb") as target:
            for piece in to_pieces({"format": "pt"}, arrays, sums):
                found = zlib.crc32(piece, found)
                target.write(piece)

    unnamed = path.with_name(f"{start}-{_UNNAMED}.safetensors")
    write_atomically(unnamed, write_to)
    name = f"{start}-{found:08x}.safetensors"
    with refusals(path):
        unnamed.replace(path.with_name(name))
    return name


def _remove(path: Path, names: set[str]) -> None:
    for name in names:
        path.with_name(name).unlink(missing_ok=True)


def read(path: Path) -> Header:
    """Raises WeightsError for an index that does not fit its files, MissingFileError where one of
    them is missing.
    """
    metadata, files = _read_index(path)
    arrays: dict[str, StoredArray] = {}
    faults = []
    names: dict[str, set[str]] = {}
    for name, file in files.items():
        names.setdefault(file, set()).add(name)
    for file, named in names.items():
        shard = path.with_name(file)
        if not os.path.isfile(shard):
            raise MissingFileError(
                f"{path.name}: names {file}, and there is no such file beside it; get all files of "
                "the checkpoint"
            )
        held, _ = read_shard(shard)
        faults += [f"{ascii(name)[:100]}: not in {file}" for name in named - set(held)]
        faults += [f"{ascii(name)[:100]}: in {file} alone" for name in set(held) - named]
        arrays |= held
    if faults:
        raise WeightsError(f"{path.name}: its files are not those that it describes:", faults)
    return Header(arrays, from_metadata(metadata))


def _read_index(path: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """What an index says of all, and the file of each array."""
    held = map_file(path)
    if len(held) > 4 * MOST_HEADER:
        raise WeightsError(f"{path.name}: an index has at most {4 * MOST_HEADER:,} bytes", [])
    values = parse_json(held[:].decode("utf-8", errors="replace"), path.name, 4 * MOST_HEADER)
    files = values.get(_MAP) if isinstance(values, dict) else None
    metadata = values.get(_METADATA, {}) if isinstance(values, dict) else None
    if not isinstance(files, dict) or not files or not isinstance(metadata, dict):
        raise WeightsError(
            f'{path.name}: is no index of safetensors files: expected a "{_MAP}"', []
        )
    check_count(len(files), path.name)
    strange = [file for file in files.values() if not _is_beside(file)]
    if strange:
        raise WeightsError(
            f"{path.name}: names {ascii(strange[0])[:100]}, and expected are names of .safetensors "
            "files in the same folder",
            [],
        )
    return metadata, files


def _is_beside(file: object) -> bool:
    """Whether it is the plain name of a safetensors file."""
    plain = isinstance(file, str) and file.isprintable() and not set(file) & set("/\\:")
    return plain and str(file).endswith(".safetensors") and not str(file).startswith(".")


def _groups(arrays: Mapping[str, np.ndarray | StoredArray], most: int) -> list[list[str]]:
    """The names of the arrays of each file, in their order."""
    groups: list[list[str]] = []
    room = -1
    for name, array in arrays.items():
        if room < array.nbytes:
            groups.append([])
            room = most
        groups[-1].append(name)
        room -= array.nbytes
    return groups


def _files_of(path: Path) -> set[str]:
    """The files of the index that is there now."""
    try:
        return set(_read_index(path)[1].values())
    except (OSError, ValueError):
        return set()
