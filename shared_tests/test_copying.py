"""Copies in blocks: bit for bit what np.copyto does, for any shapes, dtypes and orders of axes."""

import time
from itertools import permutations

import ml_dtypes
import numpy as np
import pytest

from weights.copying import Arena, copy_values
from weights.stored import as_stored, get_ahead, get_bytes, on_cores

SHAPES = [
    (), (7,), (0, 4, 300), (513, 257), (31, 1, 5, 5), (300, 70, 9), (130, 1, 300),
    (290, 130, 3, 3), (2, 3, 4, 5, 600),
]  # fmt: skip
DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64", "complex128", "uint8"]


def draw(shape, dtype):
    """Any bits."""
    raw = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), "uint8")
    return raw.view(dtype)[..., 0]


def assert_copied(target, source):
    copy_values(target, source)
    assert target.tobytes() == source.tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_order_of_axes(shape, dtype):
    array = draw(shape, dtype)
    for order in list(permutations(range(array.ndim)))[:24]:
        moved = array.transpose(order)
        assert_copied(np.empty(moved.shape, dtype), moved)
        assert_copied(np.empty(shape, dtype).transpose(order), np.ascontiguousarray(moved))


def test_parts_and_repetitions_of_arrays():
    array = draw((400, 300, 3, 3), "float32")
    for part in (array[::2, ::-1], array[:, 5:290, 1:], np.broadcast_to(array[:1], array.shape)):
        moved = part.transpose(2, 3, 1, 0)
        assert_copied(np.empty(moved.shape, "float32"), moved)
        wide = np.zeros((*moved.shape[:-1], 2 * moved.shape[-1]), "float32")
        assert_copied(wide[..., ::2], moved)
        assert not wide[..., 1::2].any()


def test_other_byte_orders():
    array = draw((300, 200), "float32")
    swapped = array.astype(">f4")
    assert_copied(np.empty((200, 300), "float32"), np.ascontiguousarray(swapped.T, "float32"))
    target = np.empty((200, 300), "float32")
    copy_values(target, swapped.T)
    assert target.tobytes() == array.T.tobytes()
    assert bytes(get_bytes(swapped)) == array.tobytes()


def test_arrays_of_an_arena_are_apart_and_aligned():
    shapes = [(size,) for size in (0, 1, 1000, 5_000_000, 3, 1_000_000, 2_000_000)]
    arena = Arena(4 * sum(size for (size,) in shapes))
    arrays = on_cores(lambda shape: arena.empty(shape, np.dtype("float32")), shapes)
    for number, array in enumerate(made := list(arrays)):
        assert array.ctypes.data % 64 == 0 or not array.size
        array[...] = number
    for number, array in enumerate(made):
        assert array.shape == shapes[number]
        assert (array == number).all()


def test_what_is_made_ahead_comes_in_order():
    """More bytes than wait at a time."""
    arrays = {str(size): np.full((size, 1 << 18), size, "float64") for size in range(1, 10)}
    found = {name: content[:8] for name, content in get_ahead(
        {name: as_stored(array) for name, array in arrays.items()})}  # fmt: skip
    assert list(found) == list(arrays)
    assert all(np.frombuffer(start, "float64") == int(name) for name, start in found.items())


def test_an_error_on_a_core_ends_the_work():
    begun = []

    def work(number):
        begun.append(number)
        if number == 3:
            raise ValueError("the fourth")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="the fourth"):
        list(on_cores(work, range(10_000)))
    assert len(begun) < 10_000
