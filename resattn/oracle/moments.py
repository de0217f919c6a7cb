"""What batch norms of the oracle normalise with: moments of a batch, or of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resattn.oracle.node import Array, Node, accumulated, average, concatenate, given, power, take
from weights.checks import check_statistics
from weights.shards import Division

_IMAGES_AND_POSITIONS = (0, 2, 3)


class Normalised(NamedTuple):
    """A normalised batch, and the mean and the unbiased variance for the running statistics."""

    values: Node
    mean: Array
    variance: Array


@dataclass(frozen=True)
class BatchParts:
    """How batch norms in training treat a batch in parts, as devices that share it do.

    images: the indices of the images of each part; each image is in one of them.
    is_local: whether each part is normalised with its own moments. If not, all are normalised with
        the weighted averages of the parts' means, and of the parts' mean squared distances from
        that mean. With weights by the number of images these are the moments of the whole batch.
    weights: of the parts, with a sum of 1, in these averages and, where `is_local`, in those that
        the running statistics take.
    is_detached: whether the gradient of the averages stays within a part, as when devices exchange
        sums in a way that knows no gradient. It is a mistake, which the trace looks for.
    """

    images: tuple[tuple[int, ...], ...]
    is_local: bool
    weights: tuple[float, ...]
    is_detached: bool = False


def local_parts(division: Division) -> BatchParts | None:
    """The parts of a division with local statistics; None for the whole batch."""
    if not division.shards.is_local:
        return None
    counts = [division.own(shard) for shard in range(division.shards.count)]
    starts = np.cumsum([0, *counts])
    images = [tuple(range(start, start + own)) for start, own in zip(starts, counts, strict=False)]
    filled = [each for each in images if each]
    weights = tuple(len(each) / division.examples for each in filled)
    return BatchParts(tuple(filled), True, weights)


def normalise(x: Node, eps: float, parts: BatchParts | None) -> Normalised:
    """A batch by its mean and variance over images and positions, or by those of its parts.

    x: (batch, channels, height, width). Raises ArgumentError for a variance of one value.
    """
    if parts is None:
        return _normalise_whole(x, eps)
    if not parts.is_local:
        return _normalise_together(x, eps, parts)
    each = [_normalise_whole(take(x, images, 0), eps) for images in parts.images]
    return Normalised(
        _join([part.values for part in each], parts),
        _weigh([part.mean for part in each], parts.weights),
        _weigh([part.variance for part in each], parts.weights),
    )


def _join(values: Sequence[Node], parts: BatchParts) -> Node:
    """The batch, from its parts."""
    order = np.argsort([image for images in parts.images for image in images])
    return take(concatenate(values, 0), order, 0)


def _weigh(values: Sequence[Array], weights: Sequence[float]) -> Array:
    total: Array = sum(
        (weight * value for weight, value in zip(weights, values, strict=True)), np.zeros(1)
    )
    return total


def _normalise_whole(x: Node, eps: float) -> Normalised:
    n = x.shape[0] * x.shape[2] * x.shape[3]
    check_statistics(n)
    of_batch = average(x, *_IMAGES_AND_POSITIONS)
    centred = x - of_batch
    spread = variance_of(x, centred.value, *_IMAGES_AND_POSITIONS)
    unbiased = spread.value.ravel() * n / (n - 1)
    return Normalised(centred * power(spread + eps, -0.5), of_batch.value.ravel(), unbiased)


def _normalise_together(x: Node, eps: float, parts: BatchParts) -> Normalised:
    n = x.shape[0] * x.shape[2] * x.shape[3]
    check_statistics(n)
    pieces = [take(x, images, 0) for images in parts.images]
    means = [average(piece, *_IMAGES_AND_POSITIONS) for piece in pieces]

    def combined(each: Sequence[Node], part: int) -> Node:
        """The weighted average of what the parts have, as a part sees it."""
        terms = [
            (given(value.value) if parts.is_detached and number != part else value) * weight
            for number, (value, weight) in enumerate(zip(each, parts.weights, strict=True))
        ]
        first, *rest = terms
        for term in rest:
            first = first + term
        return first

    centred = [piece - combined(means, part) for part, piece in enumerate(pieces)]
    spreads = [average(piece * piece, *_IMAGES_AND_POSITIONS) for piece in centred]
    scaled = [
        piece * power(combined(spreads, part) + eps, -0.5) for part, piece in enumerate(centred)
    ]
    unbiased = combined(spreads, 0).value.ravel() * n / (n - 1)
    return Normalised(_join(scaled, parts), combined(means, 0).value.ravel(), unbiased)


def variance_of(x: Node, centred: Array, *axes: int) -> Node:
    """The average of the squares of x less its mean.

    Its slope to the mean is a sum of all centred values and so exactly 0. Frameworks leave it out,
    and so must we: what rounding leaves of that sum would count as error.
    """
    count = np.prod([x.shape[axis] for axis in axes])
    summed = np.square(centred).sum(axis=axes, keepdims=True)
    fourth = lambda: np.square(np.square(centred)).sum(axis=axes, keepdims=True)  # noqa: E731
    variance = accumulated(summed, fourth, int(count)) / count
    return Node(variance, (x, lambda slope: slope * (2 / count) * centred))
