"""The canonical file: safetensors, with the config as JSON in the metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from weights.convert import Arrays
from weights.errors import WeightsError
from weights.files.atomic import write_atomically
from weights.files.content import Content, strip_prefix

METADATA = "resattn"  # the entry of the metadata that holds the config
_ORIGIN = "origin"  # the entry that says where weights came from
TRAINING = "training"  # the key beside the config's in which a training state says what it is
MOMENTS = "optimizer."  # what the names of a training state's moments begin with


def write(
    path: Path, text: str | None, arrays: Mapping[str, np.ndarray], origin: str | None = None
) -> None:
    """text: the config's JSON; None for a file of another library. origin: where they came from,
    JSON. The same arrays make the same bytes.
    """
    metadata = {"format": "pt"} if text is None else {METADATA: text}
    metadata |= {} if origin is None else {_ORIGIN: origin}
    content = to_bytes(dict(arrays), metadata=metadata)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read(path: Path, part: str | None = None) -> Content:
    """The config and the model's arrays. part: as in `strip_prefix`.

    What an optimizer keeps in a training state is left out.
    Raises WeightsError for a file that is broken.
    """
    text, training, arrays = read_all(path)
    if training is not None:
        arrays = {name: each for name, each in arrays.items() if not name.startswith(MOMENTS)}
    return strip_prefix(Content(text, arrays, _metadata(path).get(_ORIGIN)), path.name, part)


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def read_all(path: Path) -> tuple[str | None, Any, Arrays]:
    """The config (JSON text, or None), what it says of training (None: nothing), all arrays."""
    try:
        text = _metadata(path).get(METADATA)
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        # AttributeError: a dtype that NumPy does not have, such as 8-bit floats
        raise WeightsError(
            f"{path.name}: is not a whole safetensors file of float arrays ({error})", []
        ) from None
    return *_without_training(text), arrays


def _without_training(text: str | None) -> tuple[str | None, Any]:
    """The config's JSON as a model file has it, and what is beside it under "training"."""
    try:
        values = json.loads(text or "")
    except (json.JSONDecodeError, RecursionError):
        return text, None  # not a config either, which is for its reader to say
    if not isinstance(values, dict) or TRAINING not in values:
        return text, None
    training = values.pop(TRAINING)
    return json.dumps(values), training
