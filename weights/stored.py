"""Arrays in a file or a model that were not read yet."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from weights.copying import Arena
from weights.errors import WeightsError

_AHEAD = 1 << 26  # bytes of arrays that wait to be written

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
    """An array that is in a file or in a model, and how to get its values.

    shape, dtype: of the values. get: gives them, either as a read-only view of the memory where
    they are, with axes in any order, or as an array that nobody else has. It can be called from any
    thread and any number of times, and raises WeightsError for values that are not whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    get: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, arena: Arena | None = None) -> np.ndarray:
        """The values as a new array in C order. arena: where to put copies."""
        array = self.get()
        if array.flags.writeable and array.flags.c_contiguous:
            return array
        return (arena or Arena(self.nbytes)).copy(array)


def as_stored(array: np.ndarray | StoredArray) -> StoredArray:
    """An array of NumPy as if it was stored. It may have any byte order and is not copied."""
    if isinstance(array, StoredArray):
        return array
    given = array
    return StoredArray(given.shape, given.dtype.newbyteorder("="), lambda: in_native_order(given))


def in_native_order(array: np.ndarray) -> np.ndarray:
    """A read-only view of an array; a new one if its byte order is not that of this machine."""
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    view = array.view()
    view.flags.writeable = False
    return view


def read_arrays(arrays: Mapping[str, StoredArray]) -> dict[str, np.ndarray]:
    """The values of all of them, read on the available cores."""
    arena = Arena(sum(each.nbytes for each in arrays.values()))
    return dict(zip(arrays, on_cores(lambda each: each.read(arena), arrays.values()), strict=True))


def get_bytes(array: np.ndarray | StoredArray) -> memoryview:
    """The bytes of the values in C order, little-endian, as most formats have them."""
    values = as_stored(array).get()
    if not values.flags.c_contiguous:
        values = Arena(values.nbytes).copy(values)
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def get_ahead(
    arrays: Mapping[str, StoredArray],
    watch: Callable[[str, memoryview], object] = lambda name, content: None,
) -> Iterator[tuple[str, memoryview]]:
    """The bytes of each array, in order. While one of them is used, the next ones are made on the
    available cores, but not more than `_AHEAD` bytes of them. watch: is called with each of them,
    on the core that made it.
    """

    def make(name: str) -> memoryview:
        content = get_bytes(arrays[name])
        watch(name, content)
        return content

    with ThreadPoolExecutor(count_cores()) as pool:
        waiting: deque[tuple[str, int, Future[memoryview]]] = deque()
        held = 0
        try:
            for name, array in arrays.items():
                while waiting and held + array.nbytes > _AHEAD:
                    made, nbytes, content = waiting.popleft()
                    held -= nbytes
                    yield made, content.result()
                waiting.append((name, array.nbytes, pool.submit(make, name)))
                held += array.nbytes
            while waiting:
                made, _, content = waiting.popleft()
                yield made, content.result()
        finally:
            for *_, content in waiting:
                content.cancel()


def on_cores(work: Callable[[Any], Any], items: Iterable[Any]) -> Generator[Any, None, None]:
    """What `work` gives for each item, in order, computed on the available cores. After an error,
    or once nobody wants more, nothing is begun, and what was begun ends.
    """
    with ThreadPoolExecutor(count_cores()) as pool:
        futures = deque(pool.submit(work, item) for item in items)
        try:
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


def count_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1
