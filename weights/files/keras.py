"""Keras' .keras files: a whole model, which `keras.models.load_model` reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from weights.config import Config
from weights.files.atomic import write_atomically
from weights.live import adapter, build


def write(path: Path, config: Config, arrays: Mapping[str, np.ndarray]) -> None:
    """A network, or a model of one block. Needs Keras."""
    model = build(config, arrays, "tf")
    write_atomically(path, lambda temporary: adapter("tf").write_file(temporary, model))
