"""What a model of a user's own computed, as the oracle takes it: in at least float32, without the
padding that a layer of its own adds in front of the first convolution, and without the stages that
another stride made larger or smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np

from weights.config import BlockConfig, BottleneckConfig, Config
from weights.graph import IMAGE
from weights.language import say
from weights.stages import Recording

Offset = tuple[int, int]


def take_received(recording: Recording, x: np.ndarray, config: Config) -> Recording:
    """A recording with wide values, and with the input of the first stage before its padding.

    x: the images that the model was given.
    """
    wide = replace(
        recording,
        values=_widen_all(recording.values),
        slopes=_widen_all(recording.slopes),
        statistics=_widen_all(recording.statistics),
    )
    if recording.received is None:
        return wide
    received = _widen(recording.received)
    return replace(wide, received=_strip_padding(wide, received, x, config))


def _widen_all(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _widen(array) for name, array in arrays.items()}


def _widen(array: np.ndarray) -> np.ndarray:
    """float16 and bfloat16 as float32, which holds all their values."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _strip_padding(
    recording: Recording, received: np.ndarray, x: np.ndarray, config: Config
) -> np.ndarray:
    """The part of the first stage's input that a layer padded: the images themselves, or what is
    inside a frame of zeros. All of it if nothing was padded.
    """
    if received.ndim != 4 or received.shape == x.shape:
        return received
    inside = list(_crops(received, x.shape))
    for offset in inside:
        if np.array_equal(_crop(received, offset, x.shape), _cast(x, received)):
            return x
    for offset in inside:  # the model also changed the images
        if _is_framed(received, offset, x.shape):
            return _crop(received, offset, x.shape)
    stage = "conv1" if isinstance(config, BlockConfig) else f"stem.{config.stem_names[0][0]}"
    margin, output = _first_padding(config), recording.values.get(stage)
    height, width = received.shape[2] - 2 * margin[0], received.shape[3] - 2 * margin[1]
    shape = (*received.shape[:2], height, width)
    fits = output is not None and output.shape[2:] == _first_size(config, (height, width))
    if fits and _is_framed(received, margin, shape):
        return _crop(received, margin, shape)
    return received


def _cast(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    return x.astype(like.dtype)


def _crops(received: np.ndarray, shape: tuple[int, ...]) -> Iterator[Offset]:
    """The places at which an array can hold one of another shape, those in the middle first."""
    rows, cols = received.shape[2] - shape[2], received.shape[3] - shape[3]
    if received.shape[:2] != shape[:2] or not 0 <= max(rows, cols) <= 8 or min(rows, cols) < 0:
        return
    offsets = product(range(rows + 1), range(cols + 1))
    yield from sorted(offsets, key=lambda each: abs(2 * each[0] - rows) + abs(2 * each[1] - cols))


def _crop(array: np.ndarray, offset: Offset, shape: tuple[int, ...]) -> np.ndarray:
    top, left = offset
    return array[:, :, top : top + shape[2], left : left + shape[3]]


def _is_framed(array: np.ndarray, offset: Offset, shape: tuple[int, ...]) -> bool:
    """Whether nothing but zeros is outside of a part, and there is an outside."""
    rest = array.copy()
    _crop(rest, offset, shape)[...] = 0
    return rest.shape != shape and min(shape) > 0 and not rest.any()


def _first_padding(config: Config) -> Offset:
    rows, cols = _first_kernel(config)
    return rows // 2, cols // 2


def _first_kernel(config: Config) -> Offset:
    if isinstance(config, BottleneckConfig):
        return 1, 1
    return config.kernel_size if isinstance(config, BlockConfig) else config.stem_kernel_size


def _first_size(config: Config, size: Offset) -> Offset:
    """The size of the first convolution's output."""
    stride = config.main_stride["conv1"] if isinstance(config, BlockConfig) else config.stem_stride
    rows, cols = (-(-extent // step) for extent, step in zip(size, stride, strict=True))
    return rows, cols


def leave_out_resized(
    recording: Recording, right: Recording, config: Config
) -> tuple[Recording, list[str]]:
    """A recording without the stages whose size shows a stride of the config at another place, and
    its notes. If no other stage is left, the recording itself.
    """
    notes = list(recording.notes)
    strides = {block.stride for block in config.blocks()} - {(1, 1)}
    found = [
        name
        for name, array in recording.values.items()
        if name in right.values and _is_resized(array.shape, right.values[name].shape, strides)
    ]
    if not found or not set(recording.values) - {*found, IMAGE}:
        return recording, notes
    values, slopes = (
        {name: array for name, array in arrays.items() if name not in found}
        for arrays in (recording.values, recording.slopes)
    )
    notes.append(
        say(
            "{names}: of another size than they should be, as with a stride at another "
            "place; not compared",
            names=", ".join(found),
        )
    )
    return replace(recording, values=values, slopes=slopes), notes


def _is_resized(actual: tuple[int, ...], right: tuple[int, ...], strides: set[Offset]) -> bool:
    """Whether one of two maps is as large as the other becomes by one of the strides."""
    if len(actual) != 4 or actual[:2] != right[:2] or actual == right:
        return False
    return any(
        small[2:] == tuple(-(-side // step) for side, step in zip(large[2:], stride, strict=True))
        for stride in strides
        for small, large in ((actual, right), (right, actual))
    )
