"""Keras' .keras files: a whole model, which `keras.models.load_model` reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from weights.config import Config
from weights.errors import ArgumentError
from weights.files.atomic import write_atomically
from weights.files.label import Label
from weights.live import adapter, build


def write(
    path: Path, label: Label, arrays: Mapping[str, np.ndarray], config: Config | None
) -> None:
    """A network, or a model of one block. Needs Keras."""
    if config is None:
        raise ArgumentError(f"dialect: {path.name}: .keras files hold models of ours alone")
    model = build(config, arrays, "tf")
    write_atomically(path, lambda temporary: adapter("tf").write_file(temporary, model))
