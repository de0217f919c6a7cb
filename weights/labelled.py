"""Images with labels, as training takes them: checked before any device gets a part of them."""

from __future__ import annotations

import numpy as np

from weights.checks import quote
from weights.config import Config, NetworkConfig
from weights.errors import ArgumentError


def count_classes(config: Config) -> int:
    """How many numbers the loss takes for an image: classes, or channels of what has no classes."""
    if not isinstance(config, NetworkConfig):
        return config.out_channels
    return config.classes or config.widths[-1]


def check_labelled(images: np.ndarray, labels: np.ndarray, config: Config) -> np.ndarray:
    """The labels as int64.

    images: (examples, channels, height, width). labels: (examples,), from 0 to classes - 1.
    Raises ArgumentError for others. Frameworks do not: some leave such an image out of the loss.
    """
    given = np.asarray(labels)
    if given.dtype.kind not in "iu":
        raise ArgumentError(f"labels: expected integers, got {given.dtype.name}")
    if given.shape != (len(images),):
        raise ArgumentError(
            f"labels: expected one for each of the {len(images)} images, got the shape "
            f"{given.shape}"
        )
    if not len(given):
        raise ArgumentError("images: expected at least one, got none")
    classes = count_classes(config)
    wrong = given[(given < 0) | (given >= classes)] if given.size else given
    if wrong.size:
        raise ArgumentError(
            f"labels: expected integers from 0 to {classes - 1}, one of {classes} classes, got "
            f"{quote(wrong[0].item())}"
        )
    return given.astype(np.int64)
