"""Real data that needs no download: the 8x8 handwritten digits that come with scikit-learn, split
and normalised.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from weights.errors import MissingFramework

HELD_OUT_EACH = 45  # of every digit, a quarter of the 174 to 183 that there are
SEED = 0

# Of the training part, after scaling to [0, 1]. Constants, so that trained weights always meet the
# images they know.
MEAN = 0.30622
STD = 0.37682
BACKGROUND = -MEAN / STD  # what an empty pixel becomes


class MissingData(MissingFramework):
    """The package that holds the digits is not installed. The message is one line that says what to
    install.
    """


class Split(NamedTuple):
    """Images: float32 (batch, 1, 8, 8), normalised. Labels: int64 (batch,), 0 to 9."""

    training_images: np.ndarray
    training_labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray


def split() -> Split:
    """The digits, always split alike: 1,347 for training and 450 held out, of the latter 45 of
    every digit.

    Raises MissingData when scikit-learn is not installed.
    """
    images, labels = _load()
    held_out = _drawn(labels)
    return Split(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def intensity(images: np.ndarray) -> np.ndarray:
    """Normalised images -> the ink in each pixel, from 0 to 1."""
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


def _drawn(labels: np.ndarray) -> np.ndarray:
    """Which images are held out. RandomState, since NumPy promises that its numbers never
    change.
    """
    random = np.random.RandomState(SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[random.permutation(np.flatnonzero(labels == digit))[:HELD_OUT_EACH]] = True
    return held_out
