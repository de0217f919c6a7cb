"""Batch norm and weights of the images where a batch is divided over devices.

Each device runs the model on its shard. Sums over the batch go through the engine: tf.distribute on
TensorFlow, XLA on JAX.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tf_impl import axes
from tf_impl.bridge.replicas import replica_index, sum_over_replicas
from tf_impl.layers import average
from tf_impl.shapes import AnyValues, ChannelVector, Maps, Values
from weights.shards import Division


class BatchMoments(NamedTuple):
    """Mean and variance of each channel of a batch that is divided over devices.

    mean, variance: what the batch is normalised with, broadcast to it; the variance is biased.
    running_mean, running_variance: what the running statistics take a part of, equal on every
        device and without gradient; the variance is unbiased.
    """

    mean: AnyValues
    variance: AnyValues
    running_mean: ChannelVector
    running_variance: ChannelVector


@contextmanager
def divided(model: keras.layers.Layer, division: Division) -> Iterator[None]:
    """Within it every batch norm of the model knows how its batches are divided."""
    norms = [layer for layer in model._flatten_layers() if hasattr(layer, "division")]
    for norm in norms:
        norm.division = division
    try:
        yield
    finally:
        for norm in norms:
            norm.division = None


def example_weights(like: AnyValues, division: Division) -> Values:
    """(images,): 1 for the images of the batch that are seen here and 0 for those that fill it up,
    in the dtype of `like`.
    """
    return ops.reshape(_seen_here(_by_shard(division), like), (-1,))


def batch_moments(x: Maps, division: Division) -> BatchMoments:
    """The moments of a divided batch: of all its images or of each shard, as `Shards` says.

    x: (images seen here, height, width, channels). A shard that has no images of the batch is
    normalised with the moments of those that fill it up, so that it computes nothing infinite.
    Raises ArgumentError where a variance is not defined.
    """
    positions = x.shape[axes.ROWS] * x.shape[axes.COLS]
    division.check_counts(positions)
    of_division = _moments_of_shards if division.shards.is_local else _moments_of_batch
    return of_division(x, division, positions)


def _moments_of_batch(x: Maps, division: Division, positions: int) -> BatchMoments:
    weights = _by_shard(division)

    def mean_of(values: Maps) -> AnyValues:
        sums = ops.sum(_sums_of_shards(values, weights), axis=0)
        return sum_over_replicas(sums) / division.examples

    mean = mean_of(x)
    variance = mean_of(ops.square(x - mean))  # two passes: exact for large means
    n = division.examples * positions
    held_mean, held_variance = (ops.reshape(each, (-1,)) for each in (mean, variance))
    return BatchMoments(
        mean, variance, ops.stop_gradient(held_mean), ops.stop_gradient(held_variance) * n / (n - 1)
    )


def _moments_of_shards(x: Maps, division: Division, positions: int) -> BatchMoments:
    weights = _by_shard(division)
    own = weights.sum(axis=1)
    weights[own == 0] = 1
    counts = weights.sum(axis=1)

    def mean_of(values: Maps) -> AnyValues:
        sums = _sums_of_shards(values, weights)
        return sums / ops.reshape(_seen_here(counts, x), (-1, 1, 1, 1))

    def spread(moments: AnyValues) -> AnyValues:
        """Those of its shard for each image."""
        return ops.repeat(moments, division.size, axis=axes.BATCH)

    def combine(moments: AnyValues, parts: np.ndarray) -> ChannelVector:
        """The sum of each shard's moments times its part."""
        by_shard = ops.stop_gradient(ops.reshape(moments, (-1, x.shape[axes.CHANNELS])))
        parts = ops.reshape(_seen_here(parts, x), (-1, 1))
        return sum_over_replicas(ops.sum(by_shard * parts, axis=0))

    mean = mean_of(x)
    variance = mean_of(ops.square(x - spread(mean)))
    n = np.maximum(own * positions, 2)  # a shard without images has no part
    parts = own / division.examples
    return BatchMoments(
        spread(mean),
        spread(variance),
        combine(mean, parts),
        combine(variance, parts * n / (n - 1)),
    )


def _by_shard(division: Division) -> np.ndarray:
    """(shards, images of each): the weights of the images."""
    return division.weights.reshape(division.shards.count, division.size)


def _seen_here(values: np.ndarray, like: AnyValues) -> AnyValues:
    """The values of the shards that are seen here: one of several devices sees its own."""
    held = ops.convert_to_tensor(values, dtype=keras.backend.standardize_dtype(like.dtype))
    index: Any = replica_index()
    return held if index is None else ops.expand_dims(ops.take(held, index, axis=0), 0)


def _sums_of_shards(values: Maps, weights: np.ndarray) -> AnyValues:
    """The averages over positions, added up over the images of each shard: (shards seen here, 1, 1,
    channels).

    weights: (shards, images of each), of the images.
    """
    by_image = average(values, [axes.ROWS, axes.COLS])
    seen = _seen_here(weights, values)
    weighted = by_image * ops.reshape(seen, (-1, 1, 1, 1))
    grouped = ops.reshape(weighted, (*seen.shape, 1, 1, values.shape[axes.CHANNELS]))
    return ops.sum(grouped, axis=1)
