"""What the tests of recordings share: models, mistakes in them, and changes of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resattn.checking.backends import Backend, precise
from resattn.checking.draws import random_arrays, random_input
from resattn.recording.record import record
from resattn.recording.run import Run
from weights import BlockConfig, NetworkConfig
from weights.config import Config
from weights.files import label, safetensors
from weights.stored import read_arrays

SE = {"attention": "se", "attention_options": {"hidden_channels": 4}}
RECORDED_BLOCK = BlockConfig(4, 4, 3, 2, **SE)
RECORDED_NETWORK = NetworkConfig(
    in_channels=3, classes=5, widths=(4, 6), depths=(2, 1), stem_pool=True, **SE
)
SIDES = (25, 22)  # so large that stages of both are sampled


def draw_recorded(config: Config, dtype: str = "float32") -> np.ndarray:
    return random_input(config, SIDES, 3, dtype)


def record_ours(
    framework: str, config: Config = RECORDED_BLOCK, dtype: str = "float32", **options: Any
) -> Run:
    """A run of ours with random weights. options: of `record`; arrays: what the model holds."""
    right = random_arrays(config, dtype)
    with precise((framework,), dtype):
        model = Backend(framework, "cpu").build(config, options.pop("held", right))
        inputs = options.pop("inputs", draw_recorded(config, dtype))
        return record(model, inputs, **{"arrays": right, "config": config, **options})


def rewrite_said(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes what a recording says of itself, with checksums that fit."""
    header = safetensors.read(path)
    values = json.loads(header.label[label.CONFIG])
    change(values["recording"])
    arrays = {name: array.copy() for name, array in read_arrays(header.arrays).items()}
    safetensors.write(path, label.make_label(json.dumps(values), arrays), arrays)


def rewrite_arrays(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Changes the arrays of a recording, with checksums that fit."""
    header = safetensors.read(path)
    arrays = {name: array.copy() for name, array in read_arrays(header.arrays).items()}
    change(arrays)
    text = header.label[label.CONFIG]
    safetensors.write(path, label.make_label(text, arrays), arrays)
