"""What the tests of weights files share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from weights import BlockConfig, schema
from weights.config import Config
from weights.convert import Arrays, to_canonical
from weights.files.label import check_arrays, check_label, make_label
from weights.files.opening import find_suffix
from weights.files.trees import map_leaves, nest
from weights.stored import read_arrays

# Few bytes, so that every one of them can be changed.
SMALL = BlockConfig(1, 2, 1, attention="none")

FUZZED = ["b.safetensors", "b.safetensors.index.json", "b.npz", "b.pt", "b.msgpack"]
FORMATS = [*FUZZED, "b.weights.h5", "b.keras", "b.orbax"]
# The fixtures of the frameworks that write them.
NEEDED = {"b.pt": "torch", "b.orbax": "jax", "b.keras": "keras", "b.weights.h5": "keras"}


def suffix_of(name: str) -> str:
    return find_suffix(Path(name), "read")


def rewrite_metadata(path: Path, change: dict[str, str | None]) -> None:
    """Changes entries of the metadata of a safetensors file. None: takes it away."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header["__metadata__"] | change
    header["__metadata__"] = {name: text for name, text in metadata.items() if text is not None}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def save_state(
    form: ModuleType, path: Path, config: Config, arrays: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Writes a state of Flax with the module of a format. Returns the label."""
    label = make_label(config.to_json(), arrays, '{"source": "a test"}')
    form.write(path, label, arrays, config)
    return label


def nest_arrays(config: Config, arrays: Mapping[str, np.ndarray]) -> dict[Any, Any]:
    """Canonical arrays as a state of Flax."""
    return map_leaves(nest(config, arrays), lambda stored: stored.read())


def load_state(form: ModuleType, path: Path, config: Config) -> Arrays:
    """The canonical arrays, as `weights.read` finds them. Raises what it raises."""
    header = form.read(path)
    check_label(header.label, path.name)
    assert header.layout == "jax"
    arrays = to_canonical("jax", schema(config), read_arrays(header.arrays))
    check_arrays(header.label, arrays, path.name)
    return arrays
