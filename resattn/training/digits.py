"""The 8x8 handwritten digits of scikit-learn, split and normalised. They need no download."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from weights.errors import MissingFramework

HELD_OUT_EACH = 45  # of each digit; about a quarter, because there are 174 to 183
SEED = 0

# Mean and deviation of the training part, scaled to [0, 1]. They are constants so that the images
# always suit the trained weights.
MEAN = 0.30622
STD = 0.37682
BACKGROUND = -MEAN / STD  # the value of an empty pixel


class MissingData(MissingFramework):
    """scikit-learn, which contains the digits, is not installed."""


class Split(NamedTuple):
    """Images: float32 (batch, 1, 8, 8), normalised. Labels: int64 (batch,), 0 to 9."""

    training_images: np.ndarray
    training_labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray


def split() -> Split:
    """The digits in the same split every time: 1,347 for training and 450 held out, 45 of each.

    Raises MissingData if scikit-learn is not installed.
    """
    images, labels = _load()
    held_out = _select_held_out(labels)
    return Split(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def intensity(images: np.ndarray) -> np.ndarray:
    """The ink in each pixel, from 0 to 1. images: normalised."""
    return np.clip(images * STD + MEAN, 0, 1)


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingData(
            f"the digits come with scikit-learn, which is not installed ({error.name} was not "
            "found): pip install scikit-learn",
            name=error.name,
        ) from None
    data = load_digits()
    images = (data.images[:, None] / 16 - MEAN) / STD
    return images.astype(np.float32), data.target.astype(np.int64)


def _select_held_out(labels: np.ndarray) -> np.ndarray:
    """Which images are held out. NumPy promises that the numbers of RandomState never change."""
    random = np.random.RandomState(SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[random.permutation(np.flatnonzero(labels == digit))[:HELD_OUT_EACH]] = True
    return held_out
