"""Batch norm and weights of the images where a batch is divided over devices.

What is traced sees the part of one device (`jax.shard_map`). Sums over devices go through the axis
`MESH_AXIS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jax_impl import axes
from jax_impl.layers import average, count_positions
from jax_impl.shapes import AnyValues, ChannelVector, Maps, Values
from weights.shards import Division

MESH_AXIS = "devices"


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
    """(images of this device,): 1 for the images of the batch and 0 for those that fill it up, in
    the dtype of `like`.
    """
    first = jax.lax.axis_index(MESH_AXIS) * division.size
    return (first + jnp.arange(division.size) < division.examples).astype(like.dtype)


def batch_moments(x: Maps, division: Division) -> BatchMoments:
    """The moments of a divided batch: of all its images or of this shard, as `Shards` says.

    x: (size, height, width, channels), the images of this device. A shard that has no images of the
    batch is normalised with the moments of those that fill it up, so that it computes nothing
    infinite.
    Raises ArgumentError where a variance is not defined.
    """
    positions = count_positions(x)
    division.check_counts(positions)
    weights = example_weights(x, division)
    own = weights.sum()
    if division.shards.is_local:
        weights = jnp.where(own > 0, weights, 1)
        mean = _sum_images(x, weights / weights.sum())
        variance = _sum_images(jnp.square(x - mean), weights / weights.sum())
        count = own * positions
        unbiased = variance * (count / jnp.maximum(count - 1, 1))
        part = own / division.examples
        running = jax.lax.psum((part * mean, part * unbiased), MESH_AXIS)
    else:
        weights = weights / division.examples
        mean = jax.lax.psum(_sum_images(x, weights), MESH_AXIS)
        # Two passes: exact for large means.
        variance = jax.lax.psum(_sum_images(jnp.square(x - mean), weights), MESH_AXIS)
        values = division.examples * positions
        running = mean, variance * (values / (values - 1))
    return BatchMoments(mean, variance, *jax.lax.stop_gradient(running))


def _sum_images(x: Maps, weights: Values) -> ChannelVector:
    """The sum over the images of weight * mean over the positions."""
    means = average(x, [axes.ROWS, axes.COLS])
    return jnp.squeeze((means * weights[:, None, None, None]).sum(axis=axes.BATCH), axis=(0, 1))
