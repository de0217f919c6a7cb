"""Batch norm and weights of the images where a batch is divided over devices.

A traced function sees the whole batch, with the images that fill the last shards up. XLA divides it
over the devices, and makes sums over the batch of the shards' sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl import axes
from jax_impl.layers import average, count_positions
from jax_impl.shapes import AnyValues, ChannelVector, Maps, Values
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
def divided(model: nnx.Module, division: Division) -> Iterator[None]:
    """Within it every batch norm of the model knows how its batches are divided."""
    norms = [node for _, node in nnx.iter_graph(model) if hasattr(node, "division")]
    for norm in norms:
        norm.division = division
    try:
        yield
    finally:
        for norm in norms:
            norm.division = None


def example_weights(like: AnyValues, division: Division) -> Values:
    """(images,): 1 for the images of the batch and 0 for those that fill it up, in the dtype of
    `like`.
    """
    return jnp.asarray(division.weights, like.dtype)


def batch_moments(x: Maps, division: Division) -> BatchMoments:
    """The moments of a divided batch: of all its images or of each shard, as `Shards` says.

    x: (padded, height, width, channels). A shard that has no images of the batch is normalised with
    the moments of those that fill it up, so that it computes nothing infinite.
    Raises ArgumentError where a variance is not defined.
    """
    positions = count_positions(x)
    division.check_counts(positions)
    groups = division.shards.count if division.shards.is_local else 1
    # One group of images for each set of moments: (groups, images of each, height, width, channels)
    grouped = x.reshape(groups, -1, *x.shape[axes.ROWS :])
    own = division.weights.reshape(groups, -1)
    counts = own.sum(axis=1)
    own[counts == 0] = 1
    mean = _average_images(grouped, own)
    variance = _average_images(jnp.square(grouped - mean), own)  # two passes, as in BatchNorm
    parts = jnp.asarray(counts / counts.sum(), x.dtype)
    values = np.maximum(counts * positions, 2)  # a shard without images has the part 0
    factors = jnp.asarray(values / (values - 1), x.dtype)
    means, variances = jax.lax.stop_gradient(
        (mean.reshape(groups, -1), variance.reshape(groups, -1))
    )
    return BatchMoments(
        _to_images(mean, grouped, x),
        _to_images(variance, grouped, x),
        parts @ means,
        (parts * factors) @ variances,
    )


def _average_images(grouped: AnyValues, own: np.ndarray) -> AnyValues:
    """The means over images and positions of each group, (groups, 1, 1, 1, channels).

    own: (groups, images), the weights of the images.
    """
    by_image = average(grouped, [axes.ROWS + 1, axes.COLS + 1])
    weights = jnp.asarray(own / own.sum(axis=1, keepdims=True), grouped.dtype)
    return (by_image * weights[..., None, None, None]).sum(axis=1, keepdims=True)


def _to_images(moments: AnyValues, grouped: AnyValues, x: Maps) -> AnyValues:
    """The moments of each image's group: one for all images, or one for each."""
    if len(moments) == 1:
        return moments[0]
    shape = (*grouped.shape[:2], *moments.shape[2:])
    return jnp.broadcast_to(moments, shape).reshape(len(x), *moments.shape[2:])
