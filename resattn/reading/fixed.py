"""Operands that are the same for every image: constants, parameters and the places of maxima.

Constants are computed, because divisors, positions and margins are read from them. Of parameters
and places only the shape is kept up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from resattn.reading.form import Constant, Held, Operand, Place, first_of, merge_held
from resattn.reading.functions import FUNCTIONS

Fixed = Held | Constant | Place


def move_fixed(x: Fixed, move: Callable[[np.ndarray], np.ndarray], shape: Sequence[int]) -> Operand:
    if isinstance(x, Constant):
        return Constant(None if x.value is None else move(x.value), tuple(shape))
    return replace(x, shape=tuple(shape))


def pad_fixed(x: Fixed, margins: Sequence[tuple[int, int]], fill: float | str) -> Constant:
    """Padded with zeros; anything else is not worth computing."""
    shape = tuple(size + sum(margin) for size, margin in zip(x.shape, margins, strict=True))
    if not isinstance(x, Constant) or x.value is None or fill != 0:
        return Constant(None, shape)
    return Constant(np.pad(x.value, margins), shape)


def take_fixed(x: Constant, where: Operand, dim: int | None) -> Constant:
    """The entries at constant positions along an axis."""
    if x.value is None or not isinstance(where, Constant) or where.value is None:
        return Constant(None, where.shape)
    return Constant(np.take(x.value, where.value, dim), where.shape)


def compute_fixed(name: str, operands: list[Operand], shape: tuple[int, ...]) -> Operand:
    """A function of parameters and constants, value by value."""
    constants = [operand for operand in operands if isinstance(operand, Constant)]
    held = merge_held([operand for operand in operands if isinstance(operand, Held)])
    if held is not None:
        numbers = {found.number for found in constants if found.number is not None}
        return replace(held, numbers=held.numbers | numbers, shape=shape)
    arrays = [found.value for found in constants if found.value is not None]
    known = len(arrays) == len(constants)
    return Constant(np.asarray(FUNCTIONS[name](*arrays)) if known else None, shape)


def concatenate_fixed(parts: Sequence[Operand], dim: int) -> Operand:
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    held = first_of(parts, Held) or first_of(parts, Place)
    if held is not None:
        return replace(held, shape=tuple(shape))
    arrays = [part.value for part in parts if isinstance(part, Constant) and part.value is not None]
    known = len(arrays) == len(parts)
    return Constant(np.concatenate(arrays, dim) if known else None, tuple(shape))
