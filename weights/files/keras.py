"""Keras' .keras files: a whole model, which `keras.models.load_model` reads.

An archive of `metadata.json`, `config.json`, which describes the model, and `model.weights.h5`.
Read without Keras: nothing is made of what config.json describes. It is only searched for a config
of ours and for the names of layers. Written by Keras itself.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from weights.config import BlockConfig, BottleneckConfig, Config, NetworkConfig
from weights.errors import ArgumentError, WeightsError
from weights.fields import parse_json
from weights.files.atomic import write_atomically
from weights.files.content import Header
from weights.files.hdf5 import (
    architecture_named,
    draft_folder,
    read_region,
    save_in_keras,
    sign,
)
from weights.files.hdf5_values import Region
from weights.files.keras_names import names_in_config
from weights.files.label import CHECKSUMS, CONFIG, ENTRIES, Label
from weights.files.limits import MOST_HEADER, MappedFile, find_stored, open_zip
from weights.stored import StoredArray

_WEIGHTS, _CONFIG, _METADATA = "model.weights.h5", "config.json", "metadata.json"
_LABEL = "resattn"  # the key in metadata.json
_PIECE = 1 << 22  # bytes that are copied at a time
# How far a JSON member may unpack, and from how many bytes on: parsed, it takes 30 times as much.
_EXPANSION, _FREE = 100, 2**20
# Instead of the time of writing, so that equal models make equal files.
_DATE_SAVED = "1980-01-01@00:00:00"
_DATE = (1980, 1, 1, 0, 0, 0)

# Our classes, and where their config is in that of Keras.
_CLASSES: dict[str, tuple[type[BlockConfig] | type[NetworkConfig], bool]] = {
    "ResidualAttentionNetwork": (NetworkConfig, True),
    "ResidualBlockWithAttention": (BlockConfig, False),
    "ResidualBlockVariant": (BlockConfig, True),
    "ResidualBottleneckWithAttention": (BottleneckConfig, True),
}
_OF_KERAS = ("name", "trainable", "dtype")


def read(path: Path) -> Header:
    """What a .keras file holds: ours with its config, or another model.

    Raises WeightsError for a file that is broken, that is no such archive, or whose layers are not
    named; FileError where the system refuses.
    """
    archive = open_zip(path, ".keras file")
    try:
        members = _members(archive, path.name)
        config = _json(archive, members, _CONFIG, path.name)
        metadata = _json(archive, members, _METADATA, path.name)
        region = _region(archive, members, path.name)
    except WeightsError:
        raise
    except ArgumentError as error:
        raise WeightsError(str(error), []) from None
    except Exception as error:  # a broken archive raises whatever the layer that broke raises
        raise WeightsError(
            f"{path.name}: is not a whole .keras file: {str(error)[:100]!a}", []
        ) from None
    label = _label(metadata, config)
    header = read_region(region, path.name, names_in_config(config))
    own = config.get("config") if isinstance(config, dict) else None
    said = architecture_named(own.get("name")) if isinstance(own, dict) else None
    header = replace(header, label=label, architecture=said or header.architecture)
    if CHECKSUMS in label or isinstance(region.content, bytes):
        return header
    return replace(header, arrays=_check_first(header.arrays, _Check(region, members, path.name)))


def _refuse(source: str, reason: str) -> NoReturn:
    raise WeightsError(
        f"{source}: cannot be read: it {reason}, which no file that Keras writes does", []
    )


def _members(archive: ZipFile, source: str) -> dict[str, ZipInfo]:
    found = {each.filename: each for each in archive.infolist()}
    for name, each in found.items():
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            _refuse(source, f"has a member called {name[:100]!a}, outside of the archive")
        if each.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            _refuse(source, f"has a member compressed by method {each.compress_type}")
    missing = [name for name in (_METADATA, _CONFIG, _WEIGHTS) if name not in found]
    if missing:
        _refuse(source, f"has no {', '.join(missing)}")
    return found


def _content(archive: ZipFile, info: ZipInfo, most: int, source: str) -> bytes:
    """The bytes of a member, checked by its CRC-32."""
    if info.file_size > most:
        _refuse(source, f"has {info.file_size:,} bytes in {info.filename}, more than {most:,}")
    with archive.open(info) as member:
        return b"".join(iter(lambda: member.read(2**16), b""))


def _json(archive: ZipFile, members: Mapping[str, ZipInfo], name: str, source: str) -> Any:
    info = members[name]
    if info.file_size > max(_FREE, _EXPANSION * info.compress_size):
        _refuse(
            source,
            f"has {info.file_size:,} bytes in {name}, more than {_EXPANSION} times the "
            f"{info.compress_size:,} that they take in the file",
        )
    content = _content(archive, info, MOST_HEADER, source)
    return parse_json(content.decode("utf-8"), f"{name} in {source}", MOST_HEADER)


def _region(archive: ZipFile, members: Mapping[str, ZipInfo], source: str) -> Region:
    """Where the weights are in the file, or their bytes if they are compressed."""
    info = members[_WEIGHTS]
    if info.compress_type == ZIP_DEFLATED:
        content = _content(archive, info, info.file_size, source)
        return Region(content, 0, len(content))
    return Region(cast(MappedFile, archive.fp), find_stored(archive, info, source), info.file_size)


class _Check:
    """The CRC-32 of the weights in an archive, compared once, before the first array is read."""

    def __init__(self, region: Region, members: Mapping[str, ZipInfo], source: str):
        self.region, self.expected, self.source = region, members[_WEIGHTS].CRC, source
        self.found: int | None = None
        self.lock = Lock()

    def __call__(self) -> None:
        """Raises WeightsError for other bytes than those that were written."""
        with self.lock:
            if self.found is None:
                self.found = 0
                for offset in range(0, self.region.size, 2**24):
                    self.found = zlib.crc32(self.region.read(offset, 2**24), self.found)
        if self.found != self.expected:
            raise WeightsError(
                f"{self.source}: is damaged: its weights are not those that were written (their "
                "CRC-32 is another); get the file again",
                [],
            )


def _check_first(arrays: Mapping[str, Any], check: _Check) -> dict[str, Any]:
    def reading(each: StoredArray) -> StoredArray:
        def checked() -> np.ndarray:
            check()
            return each.get()

        return replace(each, get=checked)

    return {
        name: reading(each) if isinstance(each, StoredArray) else _check_first(each, check)
        for name, each in arrays.items()
    }


def _label(metadata: Any, config: Any) -> Label:
    """What we wrote into the metadata; for a model that Keras saved, the config of what is ours."""
    held = metadata.get(_LABEL) if isinstance(metadata, dict) else None
    if isinstance(held, dict):
        return {entry: text for entry in ENTRIES if isinstance(text := held.get(entry), str)}
    found = list(_configs(config))
    return {CONFIG: json.dumps(found[0])} if len(found) == 1 else {}


def _configs(config: Any) -> Iterator[dict[str, Any]]:
    """The configs of all models of ours that Keras' config describes, as `to_json` would say."""
    stack = [config]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack += each
        if not isinstance(each, dict):
            continue
        inner = each.get("config")
        kind, wrapped = _CLASSES.get(str(each.get("class_name")), (None, False))
        if kind is None or not isinstance(inner, dict):
            stack += each.values()
            continue
        values = inner.get("config") if wrapped else inner
        if isinstance(values, dict):
            kept = {key: value for key, value in values.items() if wrapped or key not in _OF_KERAS}
            yield {"model": kind.model, **kept}


def write(
    path: Path, label: Label, arrays: Mapping[str, np.ndarray | StoredArray], config: Config | None
) -> None:
    """A network, a model of one block, or a network of keras.applications. Needs Keras.

    Raises ArgumentError for networks that Keras does not have.
    """

    def write_to(temporary: Path) -> None:
        # A folder, since Keras makes its archives in memory.
        with draft_folder(temporary) as written:
            weights = written / _WEIGHTS
            save_in_keras(written, weights, arrays, config)
            texts = {name: (written / name).read_bytes() for name in (_METADATA, _CONFIG)}
            if config is not None:
                sign(weights, path.name, config, arrays, {})
            metadata = {**json.loads(texts[_METADATA]), "date_saved": _DATE_SAVED}
            metadata |= {_LABEL: dict(label)} if label else {}
            texts[_METADATA] = json.dumps(metadata).encode()
            _pack(temporary, texts, weights)

    write_atomically(path, write_to)


def _pack(path: Path, texts: Mapping[str, bytes], weights: Path) -> None:
    """Writes an archive that depends on its content alone."""
    with ZipFile(path, "w") as archive:
        for name, content in texts.items():
            archive.writestr(ZipInfo(name, _DATE), content)
        info = ZipInfo(_WEIGHTS, _DATE)
        info.file_size = weights.stat().st_size
        with weights.open("rb") as source, archive.open(info, "w") as target:
            shutil.copyfileobj(source, target, _PIECE)
