"""Orbax checkpoints of Flax NNX states: folders.

A folder of ours has, beside Orbax's files, `resattn.json`, an object with the texts of the label;
its arrays have the nested names of Flax NNX.

Orbax writes. TensorStore, which Orbax installs, reads alone: so a checkpoint does not decide what
is opened, and needs no devices such as those that wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weights.config import Config
from weights.errors import (
    ArgumentError,
    FileError,
    MissingFileError,
    MissingFramework,
    WeightsError,
)
from weights.fields import parse_json
from weights.files.content import Header
from weights.files.folders import folder_size, write_folder_atomically
from weights.files.label import ENTRIES, Label
from weights.files.limits import MOST_ARRAYS, check_claim
from weights.files.orbax_arrays import ArrayStore, MalformedCheckpointError, nested
from weights.files.trees import header_of, map_leaves, nest
from weights.stored import StoredArray

_METADATA = "_METADATA"  # Orbax's file with the names
LABEL = "resattn.json"
_MANIFEST = "manifest.ocdbt"  # of the database that Orbax puts all arrays into by default
_JSON_BYTES = 128 << 20
_DEPTH, _KEY = 64, 1000
# Types of values that are arrays. Others, such as texts, are left out.
_ARRAY_TYPES = ("jax.Array", "np.ndarray", "scalar")
_STEP = re.compile(r"(?:.*_)?(\d{1,18})")


def read(path: Path) -> Header:
    """The names, shapes and dtypes, and the label.

    path: what Orbax saved: one item, or the folder of a CheckpointManager, of whose steps the
    latest is taken.
    Raises WeightsError for a checkpoint that is not whole, ArgumentError for a folder of several
    or without any, MissingFileError, FileError, MissingFramework.
    """
    if not path.is_dir():
        raise MissingFileError(f"{path}: there is no such folder")
    try:
        size = folder_size(path)
        item = _find_item(path)
        metadata = _mapping(item / _METADATA)
        keys = _keys(metadata)
        store = ArrayStore(
            item,
            path.name,
            database=bool(metadata.get("use_ocdbt", (item / _MANIFEST).is_file())),
            zarr3=bool(metadata.get("use_zarr3")),
        )
        found = store.arrays(keys)
        tree = nested({keys[name]: array for name, array in found.items()})
        held = _mapping(item / LABEL) if (item / LABEL).is_file() else {}
    except MalformedCheckpointError as error:
        raise WeightsError(f"{path.name}: is not a whole Orbax checkpoint ({error})", []) from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None
    claimed = sum(array.nbytes for array in found.values())
    check_claim(claimed, size, path.name, compressed=True)
    label = {entry: text for entry in ENTRIES if isinstance(text := held.get(entry), str)}
    return header_of(tree, path.name, label)


def write(
    path: Path, label: Label, arrays: Mapping[str, np.ndarray | StoredArray], config: Config | None
) -> None:
    """Canonical arrays as a state of Flax NNX; those of another library (config None) by their
    names. Needs Orbax. An Orbax checkpoint at `path` is replaced, any other folder is not.
    """
    checkpoint = _orbax()
    tree = map_leaves(nest(config, arrays), lambda array: array.read())

    def write_to(folder: Path) -> None:
        with checkpoint.Checkpointer(checkpoint.PyTreeCheckpointHandler()) as checkpointer:
            try:
                # As arrays of NumPy: they have no sharding, so any device restores them, and
                # float64 stays float64 also where JAX has it disabled.
                checkpointer.save(folder, tree)
            except ValueError as error:  # of TensorStore, which has no other class for a full disk
                raise OSError(ascii(str(error))[1:-1][:300]) from error
        if config is not None:
            (folder / LABEL).write_text(json.dumps(dict(label)), encoding="utf-8")

    write_folder_atomically(path, write_to, _is_item)


def _orbax() -> Any:
    try:
        from orbax import checkpoint
    except ModuleNotFoundError as error:
        raise MissingFramework(
            "writing Orbax checkpoints needs Orbax: pip install orbax-checkpoint", name=error.name
        ) from None
    return checkpoint


def _is_item(folder: Path) -> bool:
    return (folder / _METADATA).is_file() or not any(folder.iterdir())


def _find_item(path: Path) -> Path:
    """The folder with the arrays. Raises ArgumentError where there is none, or not just one."""
    if (path / _METADATA).is_file():
        return path
    folders = [each for each in sorted(path.iterdir()) if each.is_dir()]
    steps = {int(match[1]): each for each in folders if (match := _STEP.fullmatch(each.name))}
    if steps:
        latest = steps[max(steps)]
        if (latest / _METADATA).is_file():
            return latest
        folders = [each for each in sorted(latest.iterdir()) if each.is_dir()]
    items = [each for each in folders if (each / _METADATA).is_file()]
    chosen = [each for each in items if each.name == "default"] or items
    if len(chosen) == 1:
        return chosen[0]
    if items:
        names = ", ".join(ascii(each.relative_to(path).as_posix())[1:-1] for each in items)
        raise ArgumentError(
            f"{path.name}: holds several checkpoints: {names[:300]}; give the folder of one"
        )
    raise ArgumentError(
        f"{path.name}: is no Orbax checkpoint: expected a folder with the file {_METADATA}, or one "
        "of a CheckpointManager"
    )


def _mapping(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file. Raises MalformedCheckpointError."""
    if path.stat().st_size > _JSON_BYTES:
        raise MalformedCheckpointError(f"its {path.name} has over {_JSON_BYTES} bytes")
    try:
        values = parse_json(path.read_text(encoding="utf-8"), path.name, _JSON_BYTES)
    except ValueError as error:  # no text, no JSON, or a number of too many digits
        raise MalformedCheckpointError(f"{path.name}: {ascii(str(error))[1:-1][:200]}") from None
    if not isinstance(values, dict):
        raise MalformedCheckpointError(f"its {path.name} is no JSON object")
    return values


def _keys(metadata: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """For the stored name of each array the keys that lead to it."""
    tree = metadata.get("tree_metadata")
    if not isinstance(tree, dict) or len(tree) > 2 * MOST_ARRAYS:
        raise MalformedCheckpointError(f"its {_METADATA} does not say which arrays there are")
    found: dict[str, tuple[str, ...]] = {}
    for entry in tree.values():
        try:
            keys = tuple(each["key"] for each in entry["key_metadata"])
            kind = entry["value_metadata"]["value_type"]
        except (TypeError, KeyError):
            keys, kind = (), None
        if not (0 < len(keys) <= _DEPTH) or not all(
            isinstance(each, str) and each and len(each) <= _KEY for each in keys
        ):
            raise MalformedCheckpointError(f"its {_METADATA} has an array without a name")
        name = ".".join(keys)
        if name in found:
            raise MalformedCheckpointError(f"it has two arrays named {ascii(name)[:100]}")
        if kind in _ARRAY_TYPES:
            found[name] = keys
    if len(found) > MOST_ARRAYS:
        raise MalformedCheckpointError(f"it has more than {MOST_ARRAYS} arrays")
    return found
