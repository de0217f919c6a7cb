"""Copies of arrays at the speed of memory, whatever the orders of their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from threading import Lock

import numpy as np

# Measured on all kernels of a ResNet-152, in bytes copied by one core in a second, as a part of
# what np.copyto reaches on equal orders: OIHW -> HWIO 0.23, and 0.14 with np.copyto alone; back
# 0.23 and 0.12.
_SIDE = 256  # elements of a block along the axes that are fastest in the source and in the target
_BLOCK = 1 << 18  # bytes of a block: it stays in the second level of the cache
_PAD = 64  # bytes between rows of a block, so that a column is not in one set of the cache
_SMALL = 1 << 15  # bytes of an array that is in the cache as a whole
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

_CHUNK = 1 << 24  # bytes of memory that arrays share
_OWN = 1 << 20  # bytes of an array up to which it has memory of its own, and keeps no piece alive
_ALIGNMENT = 64  # of arrays that XLA and TensorFlow use without a copy


def copy_values(target: np.ndarray, source: np.ndarray) -> None:
    """Copies values into an array of the same shape. Like np.copyto, but arrays whose axes have
    different orders in memory are copied in blocks that fit into the cache.
    """
    kind = source.dtype
    word = _WORDS.get(kind.itemsize)
    if kind != target.dtype or word is None or kind.hasobject or target.nbytes <= _SMALL:
        np.copyto(target, source)
        return
    # As bits: NumPy's loops over bfloat16 are slower. Axes of size 1 have no order.
    long = tuple(slice(None) if size > 1 else 0 for size in source.shape)
    source, target = source.view(word)[long], target.view(word)[long]
    order = sorted(range(source.ndim), key=lambda axis: -abs(source.strides[axis]))
    source, target = source.transpose(order), target.transpose(order)
    fastest = min(range(target.ndim), key=lambda axis: abs(target.strides[axis]))
    if fastest == target.ndim - 1:
        np.copyto(target, source)
    else:
        _copy_blocks(target, source, fastest)


def _copy_blocks(target: np.ndarray, source: np.ndarray, fastest: int) -> None:
    """The axes are in the order of the source. fastest: the one with the least step in the target.

    Each block is copied twice: as it is into the cache, and from there in the other order.
    """
    sizes = _block_sizes(source.shape, source.itemsize, fastest)
    steps, step = [0] * len(sizes), source.itemsize
    is_padded = False
    for axis in reversed(range(len(sizes))):
        steps[axis] = step
        step *= sizes[axis]
        if not is_padded and step >= 4 * _PAD:
            step, is_padded = step + _PAD, True
    held = np.ndarray(sizes, source.dtype, np.empty(step, np.uint8), 0, tuple(steps))
    starts = [range(0, all_, size) for all_, size in zip(source.shape, sizes, strict=True)]
    for corner in product(*starts):
        where = tuple(slice(at, at + size) for at, size in zip(corner, sizes, strict=True))
        piece = source[where]
        block = held[tuple(slice(size) for size in piece.shape)]
        np.copyto(block, piece)
        np.copyto(target[where], block)


def _block_sizes(shape: Sequence[int], itemsize: int, fastest: int) -> tuple[int, ...]:
    sizes = [1] * len(shape)
    for axis in (len(shape) - 1, fastest):
        sizes[axis] = min(shape[axis], _SIDE)
    room = _BLOCK // itemsize // math.prod(sizes)
    rest = [axis for axis in range(len(shape) - 1) if axis != fastest]
    for axis in sorted(rest, key=lambda axis: shape[axis]):  # a kernel of 3x3 as a whole
        sizes[axis] = max(1, min(shape[axis], room))
        room //= sizes[axis]
    return tuple(sizes)


class Arena:
    """Memory for many arrays, from any thread: a few large pieces, since the system hands out large
    pages several times as fast as it does small ones. A piece is freed with the last array in it.
    """

    def __init__(self, nbytes: int):
        """nbytes: of all arrays that it is for."""
        self._chunk = min(_CHUNK, nbytes + 64 * _ALIGNMENT)
        self._free = np.empty(0, np.uint8)
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A new array in C order, aligned, with any values."""
        size = math.prod(shape) * dtype.itemsize
        if size <= _OWN:
            return _aligned(np.empty(size + _ALIGNMENT, np.uint8), size, shape, dtype)
        with self._lock:
            if self._room() < size:
                if 2 * size > self._chunk:
                    return _aligned(np.empty(size + _ALIGNMENT, np.uint8), size, shape, dtype)
                self._free = np.empty(self._chunk + _ALIGNMENT, np.uint8)
            start = -self._free.ctypes.data % _ALIGNMENT
            taken, self._free = self._free[: start + size], self._free[start + size :]
        return _aligned(taken, size, shape, dtype)

    def _room(self) -> int:
        return self._free.size - -self._free.ctypes.data % _ALIGNMENT

    def copy(self, array: np.ndarray) -> np.ndarray:
        """A copy in C order and in the byte order of this machine."""
        made = self.empty(array.shape, array.dtype.newbyteorder("="))
        copy_values(made, array)
        return made


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An aligned array of zeros, of which the system makes nothing before it is written to."""
    size = math.prod(shape) * dtype.itemsize
    return _aligned(np.zeros(size + _ALIGNMENT, np.uint8), size, shape, dtype)


def _aligned(memory: np.ndarray, size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
