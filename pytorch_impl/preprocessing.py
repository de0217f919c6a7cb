"""From the bytes of images to the input of a network, bit for bit as in `weights.resize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytorch_impl import axes
from pytorch_impl.shapes import Maps
from weights.preprocessing import Preprocessing
from weights.resize import FRACTION_BITS, Taps, check_one_size, plan


def preprocess(images: Tensor | np.ndarray | Sequence[Any], preprocessing: Preprocessing) -> Maps:
    """The input of a network, on the device of the images.

    images: bytes (batch, height, width, 3), RGB, or a list of (height, width, 3) of one size.
    -> float32 maps with the size and channels of `preprocessing`.
    Raises ArgumentError for images that are not such bytes, or not of one size.
    """
    check_one_size(images)
    listed = isinstance(images, (list, tuple))
    x = torch.stack([torch.as_tensor(image) for image in images]) if listed else images
    x = torch.as_tensor(x)
    steps = plan(preprocessing, x.shape, x.dtype)
    x = x.permute(0, 3, 1, 2).to(torch.int32)
    for axis, along in steps.passes:
        x = _resample(x, along, {"row": axes.ROWS, "col": axes.COLS}[axis])
    x = x.index_select(axes.CHANNELS, _constant(steps.order, x))
    table, offsets = _constant(steps.table, x), _constant(steps.offsets, x)
    return torch.take(table, (x + offsets[:, None, None]).long())


def _resample(x: Tensor, along: Taps, axis: int) -> Tensor:
    """Sums the taps one by one: a product of integer matrices has no kernel on CUDA."""
    positions, weights = _constant(along.positions, x), _constant(along.weights, x)
    total = torch.full((), 1 << (FRACTION_BITS - 1), dtype=torch.int32, device=x.device)
    for position, weight in zip(positions, weights, strict=True):
        shape = (-1,) + (1,) * (x.ndim - axis - 1)
        total = total + x.index_select(axis, position) * weight.reshape(shape)
    return (total >> FRACTION_BITS).clamp(0, 255)


def _constant(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)
