"""What convolutions and poolings move over an image, and which averages their totals are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from resattn.reading.form import (
    Axis,
    FixedArray,
    ImageValues,
    Operand,
    Primitive,
    axis_of,
    label_of,
    size_of,
)

REFLECTED = "the image reflected"  # what a map is padded with
BLUR_FILTER = np.outer((1, 2, 1), (1, 2, 1)) / 16
REDUCTIONS: dict[str, Callable[..., Any]] = {"window total": np.sum, "window average": np.mean}


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling; each field has one entry for each of `dims`.

    dims: those that it moves along. size, stride, dilation: in entries of the input. padding:
    before and after. fill: what was padded with before the operation, "" if nothing was. along:
    the names of the axes that it moves along, where these are compared.
    """

    dims: Sequence[int]
    size: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[tuple[int, int]]
    dilation: Sequence[int]
    fill: str = ""
    along: Sequence[str] = ()

    def absorb(self, x: ImageValues) -> Window:
        """This window with the margins, strides and dilation that were prepared for it in x."""
        assert {*x.margins, *x.strides} <= {*self.dims}
        margins = [x.margins.get(dim, (0, 0, "")) for dim in self.dims]
        sides = zip(self.padding, margins, strict=True)
        steps = zip(self.dims, self.stride, strict=True)
        return replace(
            self,
            stride=[stride * x.strides.get(dim, 1) for dim, stride in steps],
            padding=[(low + had[0], high + had[1]) for (low, high), had in sides],
            dilation=x.dilation or self.dilation,
            fill="".join(sorted({margin[2] for margin in margins})),
        )

    def slide(self, axes: Sequence[Axis]) -> list[Axis]:
        """The axes of the output; one that keeps its size stays as it is."""
        found = list(axes)
        sides = zip(self.dims, self.size, self.stride, self.padding, self.dilation, strict=True)
        for dim, size, stride, margin, dilation in sides:
            before = size_of(axes[dim])
            after = (before + sum(margin) - dilation * (size - 1) - 1) // stride + 1
            if after != before:
                found[dim] = axis_of(label_of(axes[dim]), after)
        return found

    def covers(self, axes: Sequence[Axis]) -> bool:
        """Whether the window is as large as the image, and not just because the image is tiny."""
        sizes = [size_of(axes[dim]) for dim in self.dims]
        padded = any(map(any, self.padding)) or set(self.dilation) != {1}
        return list(self.size) == sizes and min(sizes, default=0) > 3 and not padded

    def margins(self, rank: int) -> list[tuple[int, int]]:
        """The padding of every dim."""
        margins = dict(zip(self.dims, self.padding, strict=True))
        return [margins.get(dim, (0, 0)) for dim in range(rank)]

    def describe(self) -> str:
        """Kernel, stride, padding and dilation in words, as the beginning of a list."""
        words = [f" {_by(self.size)}"]
        if set(self.stride) != {1}:
            words.append(f"stride {_by(self.stride)}")
        if any(map(any, self.padding)):
            around = " all around" if self.fill == "around" else ""
            words.append(f"padding {_by(map(_side, self.padding))}{around}")
        if self.fill not in ("", "0", "around"):
            words.append(f"padded with {self.fill}")
        if set(self.dilation) != {1}:
            words.append(f"dilation {_by(self.dilation)}")
        if self.along:
            words.append(f"along {', '.join(self.along)}")
        return ", ".join(words)


def _by(sizes: Iterable[object]) -> str:
    return "x".join(map(str, sizes))


def _side(margin: tuple[int, int]) -> str:
    before, after = margin
    return str(before) if before == after else f"{before}+{after}"


def pooling(
    dims: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Window:
    """The window of a pooling, which is not dilated."""
    return Window(dims, size, stride, padding, [1] * len(size))


def symmetric(sides: Sequence[int]) -> list[tuple[int, int]]:
    return [(side, side) for side in sides]


def same_for_all(kernel: FixedArray, sides: Sequence[int]) -> FixedArray:
    """The one filter that a fixed kernel has for all channels. sides: its dims along the image."""
    assert kernel.value is not None
    order = (*(dim for dim in range(kernel.value.ndim) if dim not in sides), *sides)
    value = kernel.value.transpose(order)
    flat = value.reshape(-1, *value.shape[-len(sides) :])
    assert np.all(flat == flat[:1]), "every channel has its own fixed filter"
    return FixedArray(flat[0], flat[0].shape)


def pool_array(x: np.ndarray, kind: str, window: Window) -> np.ndarray:
    """The totals or averages of an array over a window, with zeros for padding."""
    wide = np.pad(x, window.margins(x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(wide, tuple(window.size), tuple(window.dims))
    strides = dict(zip(window.dims, window.stride, strict=True))
    kept = tuple(slice(None, None, strides.get(dim, 1)) for dim in range(x.ndim))
    last = tuple(range(-len(window.size), 0))
    return np.asarray(REDUCTIONS[kind](windows[kept], axis=last))


def average_by(total: Primitive, divisor: FixedArray) -> str | None:
    """Which average a window's total or average is when it is divided; None if it is none.

    "average_around" is the average of those pixels that are in the image.
    """
    if total.op == "window total" and divisor.number == prod(total.settings["window"].size):
        return "window average"
    if total.op in REDUCTIONS and _counts_pixels(total, divisor):
        padded = any(map(any, total.settings["window"].padding))
        return "average_around" if padded else "window average"
    return None


def _counts_pixels(total: Primitive, divisor: FixedArray) -> bool:
    """Whether a divisor is the number (for an average, the part) of the pixels in each window that
    are in the image.
    """
    if divisor.value is None:
        return False
    ones = np.ones(total.settings["shape"])
    expected = _varying(pool_array(ones, total.op, total.settings["window"]))
    found = _varying(divisor.value)
    return found.shape == expected.shape and np.allclose(found, expected)


def _varying(array: np.ndarray) -> np.ndarray:
    """An array without the axes along which it is constant: its rows and cols in every layout."""
    for dim in reversed(range(array.ndim)):
        if np.all(array == array.take([0], dim)):
            array = array.take(0, dim)
    return array


def padding_around(
    parts: Sequence[Operand], dim: int
) -> tuple[ImageValues, list[tuple[int, int]], float]:
    """What values between constants of one number are padded with: the values, the margins of each
    dim, and the number.
    """
    (at,) = (at for at, part in enumerate(parts) if isinstance(part, ImageValues))
    x, numbers = parts[at], {part.number for part in parts if isinstance(part, FixedArray)}
    number = numbers.pop()
    assert isinstance(x, ImageValues)
    assert number is not None, "values of the image beside other arrays"
    assert not numbers, "values of the image beside several numbers"
    before, after = (
        sum(each.shape[dim] for each in side) for side in (parts[:at], parts[at + 1 :])
    )
    margins = [(0, 0)] * len(x.shape)
    margins[dim] = (before, after)
    return x, margins, number


def wrap_around(parts: Sequence[ImageValues], dim: int) -> ImageValues | None:
    """Values between their own end and their own beginning: they are padded all around."""
    wholes = [at for at, part in enumerate(parts) if part.producer.op != "part"]
    if len(wholes) != 1 or len(parts) == 1:
        return None
    (middle,) = wholes
    whole, ends = parts[middle], [*parts[:middle], *parts[middle + 1 :]]
    if any(part.producer.inputs != (whole.producer,) for part in ends):
        return None
    before = sum(part.producer.settings["size"] for part in parts[:middle])
    after = sum(part.producer.settings["size"] for part in parts[middle + 1 :])
    heads = [part.producer.settings["start"] for part in parts[:middle]]
    tails = [part.producer.settings["start"] for part in parts[middle + 1 :]]
    had = whole.margins.get(dim, (0, 0, "around"))
    begins = heads in ([], [size_of(whole.axes[dim]) - before])
    if not begins or tails not in ([], [0]) or had[2] != "around":
        return None
    margin = (had[0] + before, had[1] + after, "around")
    return replace(whole, margins={**whole.margins, dim: margin})


def reflect_around(parts: Sequence[ImageValues], dim: int) -> ImageValues | None:
    """Values between what is beside their edges, reversed: they are padded with the image
    reflected.
    """
    pieces = [_piece(part) for part in parts]
    wholes = [at for at, piece in enumerate(pieces) if piece is None]
    if len(wholes) != 1 or len(parts) not in (2, 3):
        return None
    (middle,) = wholes
    whole = parts[middle]
    size = size_of(whole.axes[dim])
    margins = [0, 0]
    for at, piece in enumerate(pieces):
        if piece is None:
            continue
        producer, reversed_ = piece
        width, start = producer.settings["size"], producer.settings["start"]
        if producer.inputs != (whole.producer,) or producer.settings["whole"] != size:
            return None
        if start != (1 if at < middle else size - 1 - width) or (width > 1) != reversed_:
            return None
        margins[at > middle] = width
    had = whole.margins.get(dim, (0, 0, REFLECTED))
    if had[2] != REFLECTED or any(
        one and other for one, other in zip(had[:2], margins, strict=True)
    ):
        return None
    margin = (had[0] + margins[0], had[1] + margins[1], REFLECTED)
    return replace(whole, margins={**whole.margins, dim: margin})


def _piece(x: ImageValues) -> tuple[Primitive, bool] | None:
    """The part of an axis that values are, and whether it is reversed; None if they are none."""
    if x.producer.op == "part":
        return x.producer, False
    inputs = x.producer.inputs
    return (inputs[0], True) if x.producer.op == "reversal" and inputs[0].op == "part" else None
