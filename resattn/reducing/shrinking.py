"""Making a failing case smaller: Zeller and Hildebrandt 2002, "Simplifying and isolating
failure-inducing input", in the order of Hypothesis: structure first, then values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from resattn.oracle.node import Array
from resattn.reducing.case import ArrayChange, FailingCase

BUDGET = 1500  # cases that are tried at most
SMALL = 64  # an array of so many numbers is also simplified number by number
# Kinds whose output in a channel depends on that channel alone.
BY_CHANNEL = (
    *("batch_norm", "relu", "sigmoid", "hard_sigmoid", "hard_swish", "sum", "product", "pad"),
    *("max_pool", "average_pool", "average", "maximum", "blur_pool"),
)


def shrink(
    case: FailingCase, fails: Callable[[FailingCase], bool], budget: int = BUDGET
) -> FailingCase:
    """The smallest case found that still fails. fails: whether a case fails in the same way."""
    tried, again = 0, True
    while again:
        again = False
        for candidate in list_simpler(case):
            if candidate.complexity >= case.complexity:
                continue
            tried += 1
            if tried > budget:
                return case
            if fails(candidate):
                case, again = candidate, True
                break
    return case


def list_simpler(case: FailingCase) -> Iterator[FailingCase]:
    """Simpler cases, those that leave out most first."""
    yield from _take_images(case)
    yield from _take_channels(case)
    yield from _take_pixels(case)
    yield from _simplify_settings(case)
    yield from _simplify_values(case)


def list_parts(size: int) -> Iterator[list[int]]:
    """Parts of an axis, the smallest first: single entries, halves, all but a few."""
    if size < 2:
        return
    yield from ([place] for place in range(size) if size <= 16 or place in (0, size // 2, size - 1))
    places, chunk = list(range(size)), size // 2
    while chunk:
        for start in range(0, size, chunk):
            kept = places[:start] + places[start + chunk :]
            if kept:
                yield kept
        chunk = chunk // 2 if size <= 32 or chunk > size // 16 else 0


def _take(axis: int, places: list[int], size: int) -> ArrayChange:
    """Part of an axis; an array that is broadcast along it is left as it is."""

    def take(array: Array) -> Array:
        fits = array.ndim > axis and array.shape[axis] == size
        return array.take(places, axis) if fits else array

    return take


def _take_images(case: FailingCase) -> Iterator[FailingCase]:
    count = len(case.inputs[0])
    for kept in list_parts(count):
        yield case.apply(dict.fromkeys(case.names, _take(0, kept, count)))


def _take_channels(case: FailingCase) -> Iterator[FailingCase]:
    kind = case.right.kind
    if kind in BY_CHANNEL:
        size = max(x.shape[1] for x in case.inputs)
        for kept in list_parts(size):
            changes = dict.fromkeys(case.names, _take(1, kept, size))
            leaves = dict.fromkeys(case.right.parameters, _take(0, kept, size))
            yield case.apply({**changes, **leaves})
    elif kind in ("convolution", "linear") and (case.right["groups"] or 1) == 1:
        outputs, inputs = case.right.parameters["weight"].shape[:2]
        for kept in list_parts(outputs):
            yield case.apply(dict.fromkeys(("weight", "bias"), _take(0, kept, outputs)))
        for kept in list_parts(inputs):
            yield case.apply(dict.fromkeys(("x", "weight"), _take(1, kept, inputs)))


def _take_pixels(case: FailingCase) -> Iterator[FailingCase]:
    if any(x.ndim != 4 for x in case.inputs):
        return
    for axis in (2, 3):
        size = max(x.shape[axis] for x in case.inputs)
        half = size // 2
        for first, last in ((0, half), (half, size), (0, size - 1), (1, size)):
            if 0 < last - first < size:
                taken = _take(axis, list(range(first, last)), size)
                yield case.apply(dict.fromkeys(case.names, taken))


def _simplify_settings(case: FailingCase) -> Iterator[FailingCase]:
    if case.right.kind != "convolution":
        return
    cuts: list[ArrayChange] = [
        lambda weight: weight[:, :, :1, :1],
        lambda weight: weight[:, :, : max(weight.shape[2] - 1, 1)],
        lambda weight: weight[..., : max(weight.shape[3] - 1, 1)],
    ]
    for cut in cuts:
        kernel = cut(case.right.parameters["weight"]).shape[2:]
        yield case.apply({"weight": cut}).with_setting("kernel", kernel)
    for name, simple in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", 1)):
        if case.right[name] not in (None, simple):
            yield case.with_setting(name, simple)


def _simplify_values(case: FailingCase) -> Iterator[FailingCase]:
    for name, array in case.numbers.items():
        yield case.apply({name: np.zeros_like})
        yield case.apply({name: np.ones_like})
        for digits in (0, 1, 2):
            yield case.apply({name: _round(digits)})
        if array.size <= SMALL:
            for place in range(array.size):
                for value in (0.0, 1.0):
                    yield case.apply({name: _put(place, value)})


def _round(digits: int) -> ArrayChange:
    return lambda array: np.round(array, digits) + 0.0


def _put(place: int, value: float) -> ArrayChange:
    def put(array: Array) -> Array:
        changed = array.copy()
        if place < array.size:
            changed.flat[place] = value
        return changed

    return put
