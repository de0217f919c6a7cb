"""Arrays in a file that were not read yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

import numpy as np

from weights.convert import reorder


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

    def reorder(self, source: str, target: str) -> StoredArray:
        """The same values with their axes in another order, as `weights.convert.reorder` says."""
        sizes = dict(zip(source.split(), self.shape, strict=True))
        shape = tuple(sizes[name] for name in target.split())
        return StoredArray(shape, self.dtype, lambda: reorder(self.read(), source, target))


def read_arrays(arrays: Mapping[str, StoredArray]) -> dict[str, np.ndarray]:
    """The values of all of them, read on the available cores."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        return dict(zip(arrays, pool.map(lambda each: each.read(), arrays.values()), strict=True))
