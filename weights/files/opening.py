"""What a file of any format holds, by its own names: before anything is known of the network."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from weights.convert import Arrays
from weights.errors import ArgumentError, FileError
from weights.fields import parse_json
from weights.files import hub
from weights.files import label as labels
from weights.files.atomic import existing
from weights.files.content import Content, Header, name_parts, unwrap
from weights.files.hub import INDEX
from weights.files.label import check_label
from weights.files.limits import MOST_HEADER, check_claim, check_count, open_zip
from weights.language import mark, say
from weights.stored import read_arrays

# The modules of `weights.files`. They are imported when they are needed.
FILE_FORMATS = {
    ".safetensors": "safetensors",
    INDEX: "sharded",
    ".npz": "npz",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".th": "pytorch",
    ".bin": "pytorch",
    ".weights.h5": "hdf5",
    ".h5": "hdf5",
    ".keras": "keras",
    ".msgpack": "msgpack",
    ".orbax": "orbax",
}
_SUFFIXES = tuple(FILE_FORMATS)
# Formats whose label can be written last, with the checksums of what was written.
SUMMED_WHILE_WRITTEN = (".safetensors", INDEX)


def read_own_arrays(path: str | os.PathLike[str], part: str | None = None) -> Arrays:
    """The arrays of a file by its own names and in its own axis orders, for a model of a user's own
    whose names these are.

    part: as in `weights.read_checkpoint`, whose errors it raises for a file that cannot be read.
    """
    content, _, _ = open_content(path, part)
    return read_arrays(content.arrays)


def open_content(
    path: str | os.PathLike[str], part: str | None
) -> tuple[Content, Path, dict[str, str]]:
    """What the header of a file says, without the wrappers of trainers; the file; and where a hub
    has it, its repository and revision.
    """
    header, source, address = _read_header(path)
    check_label(header.label, source.name)
    _refuse_recording(header, source.name)
    content = unwrap(_without_training(header), source.name, part)
    check_count(len(content.arrays), source.name)
    if header.nbytes is not None:
        claimed = sum(array.nbytes for array in content.arrays.values())
        check_claim(claimed, header.nbytes, source.name)
    return content, source, address


def list_networks(path: str | os.PathLike[str]) -> list[str]:
    """The values of `part` that `open_content` takes for a file with several networks; none where
    it holds one. Raises what `open_content` raises for a file that cannot be read.
    """
    header, source, _ = _read_header(path)
    return name_parts(_without_training(header), source.name)


def _read_header(path: str | os.PathLike[str]) -> tuple[Header, Path, dict[str, str]]:
    """What its format finds in a file; the file; its repository and revision on a hub."""
    source, address = _find_source(path)
    is_folder = os.path.isdir(source)
    suffix = ".orbax" if is_folder else _find_format(source)
    header = format_module(suffix).read(source if is_folder else existing(source))
    return header, source, address


def _find_format(source: Path) -> str:
    """The suffix that names the format of a file; for any other suffix, what its first bytes say:
    PyTorch's trainers write model.pth.tar and model.ckpt.
    """
    try:
        return find_suffix(source, "read")
    except ArgumentError:
        found = _recognise_format(source) if os.path.isfile(source) else None
        if found is None:
            raise
        return found


def _recognise_format(source: Path) -> str | None:
    try:
        with source.open("rb") as file:
            first = file.read(16)
    except OSError as error:
        reason = error.strerror or error
        raise FileError(
            say("{file}: cannot be read ({reason})", file=source.name, reason=reason)
        ) from None
    size = int.from_bytes(first[:8], "little")
    if first.startswith(b"\x89HDF\r\n\x1a\n"):
        return ".h5"
    if first[8:9] == b"{" and 0 < size < source.stat().st_size:
        return ".safetensors"
    if first[:1] == b"\x80" and first[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return ".pth"  # a pickle, as PyTorch wrote before version 1.6
    if not first.startswith(b"PK\3\4"):
        return None
    names = open_zip(source, "zip archive").namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return ".pt"
    if "model.weights.h5" in names:
        return ".keras"
    return ".npz" if names and all(name.endswith(".npy") for name in names) else None


def format_module(suffix: str) -> ModuleType:
    """The module of `weights.files` that reads and writes a format."""
    return import_module(f"weights.files.{FILE_FORMATS[suffix]}")


def find_suffix(path: Path, verb: str) -> str:
    """The suffix that names the format, the longest that fits: ".safetensors.index.json"."""
    fitting = [suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)]
    if fitting:
        return max(fitting, key=len)
    sentences = {
        "read": mark("{file}: cannot read {what}; expected one of {known}"),
        "write": mark("{file}: cannot write {what}; expected one of {known}"),
    }
    what, known = path.suffix or say("a file without suffix"), ", ".join(_SUFFIXES)
    raise ArgumentError(say(sentences[verb], file=path.name, what=what, known=known))


def _find_source(path: str | os.PathLike[str]) -> tuple[Path, dict[str, str]]:
    """The file or the folder to read, and its repository and revision where a hub has it.

    Of a folder that is no Orbax checkpoint, the file of weights in it.
    """
    if hub.is_hub_address(path):
        found = hub.fetch(os.fspath(path), _SUFFIXES)
        address = {"repository": found.address.repository, "revision": found.address.revision}
        return found.path, {key: value for key, value in address.items() if value}
    source = Path(path)
    names = hub.PREFERRED if os.path.isdir(source) else ()
    return next((each for name in names if (each := source / name).is_file()), source), {}


def _refuse_recording(header: Header, source: str) -> None:
    """Raises ArgumentError for a run that was recorded: its arrays are stages of a model."""
    text = header.label.get(labels.CONFIG, "")
    if f'"{labels.RECORDING}"' not in text:
        return
    said = parse_json(text, f"the config in {source}", MOST_HEADER)
    if isinstance(said, dict) and labels.RECORDING in said:
        raise ArgumentError(
            say(
                "{file}: is a recording of what a model computed, and expected is a "
                "file of weights; compare it with another recording: resattn compare",
                file=source,
            )
        )


def _without_training(header: Header) -> Header:
    """A training state as a file of the model alone."""
    if '"training"' not in header.label.get(labels.CONFIG, ""):
        return header
    from weights.files.training import MOMENTS, split_training

    model, training = split_training(header.label[labels.CONFIG])
    if model is None or training is None:
        return header
    arrays = {name: each for name, each in header.arrays.items() if not name.startswith(MOMENTS)}
    return replace(header, arrays=arrays, label={**header.label, labels.CONFIG: model})
