"""Operands that are the same for every image: constants, parameters and the places of maxima.

Constants are computed, because divisors, positions and margins are read from them. Of parameters
and places only the shape is kept up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from resattn.reading.form import FixedArray, Held, Operand, Place, first_of, merge_held
from resattn.reading.functions import FUNCTIONS

Fixed = Held | FixedArray | Place
FIXED_REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "average": np.mean,
    "maximum": np.max,
    "total": np.sum,
}


def move_fixed(x: Fixed, move: Callable[[np.ndarray], np.ndarray], shape: Sequence[int]) -> Operand:
    if isinstance(x, FixedArray):
        return FixedArray(None if x.value is None else move(x.value), tuple(shape))
    return replace(x, shape=tuple(shape))


def pad_fixed(x: Fixed, margins: Sequence[tuple[int, int]], fill: float | str) -> FixedArray:
    """Padded with zeros; anything else is not worth computing."""
    shape = tuple(size + sum(margin) for size, margin in zip(x.shape, margins, strict=True))
    if not isinstance(x, FixedArray) or x.value is None or fill != 0:
        return FixedArray(None, shape)
    return FixedArray(np.pad(x.value, margins), shape)


def take_fixed(x: FixedArray, where: Operand, dim: int | None) -> FixedArray:
    """The entries at constant positions along an axis."""
    if x.value is None or not isinstance(where, FixedArray) or where.value is None:
        return FixedArray(None, where.shape)
    return FixedArray(np.take(x.value, where.value, dim), where.shape)


def compute_fixed(name: str, operands: list[Operand], shape: tuple[int, ...]) -> Operand:
    """A function of parameters and constants, value by value."""
    constants = [operand for operand in operands if isinstance(operand, FixedArray)]
    held = merge_held([operand for operand in operands if isinstance(operand, Held)])
    if held is not None:
        numbers = {found.number for found in constants if found.number is not None}
        return replace(
            held,
            numbers=held.numbers | numbers,
            shape=shape,
            functions=held.functions | {(each, name) for each in held.names},
        )
    arrays = [found.value for found in constants if found.value is not None]
    known = len(arrays) == len(constants)
    return FixedArray(np.asarray(FUNCTIONS[name](*arrays)) if known else None, shape)


def reduce_fixed(x: Fixed, kind: str, dims: Sequence[int], shape: tuple[int, ...]) -> Operand:
    """The "average", "maximum" or "total" of parameters and constants over axes."""
    if isinstance(x, Held):
        functions = x.functions | {(name, kind) for name in x.names}
        return replace(x, shape=shape, functions=functions)
    if isinstance(x, FixedArray):
        value = None if x.value is None else FIXED_REDUCTIONS[kind](x.value, axis=tuple(dims))
        return FixedArray(None if value is None else value.reshape(shape), shape)
    return replace(x, shape=shape)


def concatenate_fixed(parts: Sequence[Operand], dim: int) -> Operand:
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    held = first_of(parts, Held) or first_of(parts, Place)
    if held is not None:
        return replace(held, shape=tuple(shape))
    arrays = [
        part.value for part in parts if isinstance(part, FixedArray) and part.value is not None
    ]
    known = len(arrays) == len(parts)
    return FixedArray(np.concatenate(arrays, dim) if known else None, tuple(shape))
