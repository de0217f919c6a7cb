"""Arrays in a file that were not read yet."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from weights.errors import WeightsError

_NUMBERS = (
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
)
_DTYPES = {dtype.name: dtype for dtype in map(np.dtype, _NUMBERS)}


def dtype_named(name: str, array: str) -> np.dtype:
    """The dtype that a file calls so. array: whose it is.

    Raises WeightsError for one that NumPy and ml_dtypes do not have.
    """
    if name not in _DTYPES:
        raise WeightsError(
            f"{ascii(array)[:100]} is of dtype {ascii(name)[1:-1][:40]}, which cannot be read", []
        )
    return _DTYPES[name]


@dataclass(frozen=True)
class StoredArray:
    """What the header of a file says about an array, and how to read it.

    shape, dtype: as `read` will give it. read: reads the values from the file, a new array;
    it can be called from any thread, and raises WeightsError for values that are not whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(arrays: Mapping[str, StoredArray]) -> dict[str, np.ndarray]:
    """The values of all of them, read on the available cores."""
    with ThreadPoolExecutor(count_cores()) as pool:
        return dict(zip(arrays, pool.map(lambda each: each.read(), arrays.values()), strict=True))


def count_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1
