"""How errors are distributed, and whether classifiers agree. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from weights.language import mark, say

QUANTILES = (0.5, 0.9, 0.99, 1.0)
# Lower ends of the classes of magnitude, relative to the greatest magnitude of a tensor.
MAGNITUDES = (0.1, 0.01, 0.001, 0.0)


@dataclass(frozen=True)
class Distribution:
    """The errors of all values of a quantity.

    actual, expected: whose. dtype: the format of the computation. quantiles: of the absolute
    errors over their tensor's greatest magnitude, for `QUANTILES`; the last is the smallest
    tolerance that would pass. by_magnitude: the root mean square of these errors for each class of
    `MAGNITUDES`, None where no value has that magnitude. times: the greatest distance of a tensor
    in units of what rounding explains.
    """

    quantity: str
    dtype: str
    actual: str
    expected: str
    quantiles: tuple[float, ...]
    by_magnitude: tuple[float | None, ...]
    times: float

    def cells(self) -> tuple[str, ...]:
        """The numbers as text."""
        magnitudes = ("-" if each is None else f"{each:.0e}" for each in self.by_magnitude)
        return *(f"{each:.0e}" for each in self.quantiles), *magnitudes


HEADS = (
    *(mark("quantity"), mark("format"), mark("of")),
    *(mark("median"), "90 %", "99 %", mark("greatest")),
    *(">= 0.1", ">= 0.01", ">= 0.001", mark("smaller")),
)


def describe_errors(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, float]],
) -> tuple[tuple[float, ...], tuple[float | None, ...]]:
    """The quantiles of errors and their root mean squares by magnitude, as in `Distribution`.

    pairs: of tensors, each the actual one, the expected one, and what errors are relative to.
    """
    errors = []
    counts, squares = np.zeros((2, len(MAGNITUDES)))
    for actual, expected, scale in pairs:
        whole = scale if scale > 0 else 1.0
        wide = expected.astype(np.float64, copy=False).ravel()
        error = np.abs(actual.ravel() - wide) / whole
        magnitude, place = np.abs(wide) / whole, np.zeros(len(wide), np.intp)
        for least in MAGNITUDES[:-1]:
            place += magnitude < least
        counts += np.bincount(place, minlength=len(counts))
        squares += np.bincount(place, np.square(error), minlength=len(counts))
        errors.append(error)
    quantiles = np.quantile(np.concatenate(errors), QUANTILES, overwrite_input=True)
    by_magnitude = (
        float(np.sqrt(total / number)) if number else None
        for total, number in zip(squares, counts, strict=True)
    )
    return tuple(map(float, quantiles)), tuple(by_magnitude)


@dataclass(frozen=True)
class Agreement:
    """Whether a classifier says the same as the oracle about some images.

    first: the number of images with the same most likely class. five: those with the same five
    most likely classes, in any order. divergence: the mean Kullback-Leibler divergence of the
    classes' probabilities from the oracle's, in nats.
    """

    actual: str
    dtype: str
    images: int
    first: int
    five: int
    divergence: float

    def __str__(self) -> str:
        return say(
            "{model}, {dtype}: the most likely class is the same for {first} of {images} "
            "images, the five most likely for {five}; KL divergence {divergence:.1e} nats",
            model=self.actual,
            dtype=self.dtype,
            first=self.first,
            images=self.images,
            five=self.five,
            divergence=self.divergence,
        )


def agree(logits: np.ndarray, expected: np.ndarray, actual: str, dtype: str) -> Agreement:
    """Compares the logits of a classifier with those of the oracle, (image, class) both."""
    one, other = _log_softmax(logits), _log_softmax(expected)
    divergence = float((np.exp(other) * (other - one)).sum(axis=1).mean())
    first = int((one.argmax(axis=1) == other.argmax(axis=1)).sum())
    count = min(5, one.shape[1])
    five = [
        set(np.argsort(-row)[:count]) == set(np.argsort(-against)[:count])
        for row, against in zip(one, other, strict=True)
    ]
    return Agreement(actual, dtype, len(one), first, sum(five), max(divergence, 0.0))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    logs: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def tabulate(distributions: Sequence[Distribution]) -> list[tuple[str, ...]]:
    """The rows of a table, its heads first."""
    rows = [(say(each.quantity), each.dtype, each.actual, *each.cells()) for each in distributions]
    return [tuple(map(say, HEADS)), *rows]
