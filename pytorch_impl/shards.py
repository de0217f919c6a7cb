"""Statistics and losses of a batch that is divided over the processes of a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from pytorch_impl import axes
from pytorch_impl.bridge.collectives import sum_over_ranks
from pytorch_impl.layers import count_positions, widen
from pytorch_impl.shapes import AnyValues, ChannelVector, Maps, Values
from weights.shards import Division


class BatchMoments(NamedTuple):
    """The statistics of a batch norm in training.

    mean, variance: what x is normalised with. They broadcast against x; the variance is biased.
    running_mean, running_variance: what the running statistics take a part of, (channels,). The
        variance is unbiased. They have no gradient and are equal on every device.
    """

    mean: Tensor
    variance: Tensor
    running_mean: ChannelVector
    running_variance: ChannelVector


@contextmanager
def divided(model: nn.Module, division: Division) -> Iterator[None]:
    """Within it, the model's batch norms know that their batch is a shard of a divided one."""
    norms: list[Any] = [module for module in model.modules() if hasattr(module, "division")]
    for norm in norms:
        norm.division = division
    try:
        yield
    finally:
        for norm in norms:
            norm.division = None


def example_weights(like: AnyValues, division: Division) -> Values:
    """The weights of the images of this process' shard, (images,): 1, or 0 for those that fill it
    up. They have the dtype and the device of `like`.
    """
    own = division.own(_rank(division))
    return (torch.arange(division.size, device=like.device) < own).to(like.dtype)


def batch_moments(x: Maps, division: Division) -> BatchMoments:
    """The statistics of a divided batch, in float32 at least.

    The mean comes first and then the mean of the squared distances from it, so that a mean that is
    large beside the deviations costs no digits.
    x: (batch, channels, height, width), the shard of this process.
    Raises ArgumentError where there are fewer than two values per channel.
    """
    division.check_counts(count_positions(x))
    return (_local_moments if division.shards.is_local else _global_moments)(widen(x), division)


def _global_moments(x: Maps, division: Division) -> BatchMoments:
    """Those of the whole batch, from two sums over all processes."""
    over = [axes.BATCH, axes.ROWS, axes.COLS]
    weights = example_weights(x, division)[:, None, None, None]
    count = division.examples * count_positions(x)
    mean = _add_up((x * weights).sum(over, keepdim=True), division) / count
    squares = (x - mean).square() * weights
    variance = _add_up(squares.sum(over, keepdim=True), division) / count
    unbiased = variance.detach() * (count / (count - 1))
    return BatchMoments(mean, variance, mean.detach().flatten(), unbiased.flatten())


def _local_moments(x: Maps, division: Division) -> BatchMoments:
    """Those of this process' own images. The running statistics take the averages of all shards'.

    A shard without images of its own is normalised with the statistics of those that fill it up, so
    that its values stay finite. They count for nothing.
    """
    over = [axes.BATCH, axes.ROWS, axes.COLS]
    own = division.own(_rank(division))
    seen = x[: own or len(x)]
    count = len(seen) * count_positions(x)
    mean = seen.mean(over, keepdim=True)
    variance = (seen - mean).square().mean(over, keepdim=True)
    unbiased = variance.detach() * (count / max(count - 1, 1))
    part = torch.stack([mean.detach().flatten(), unbiased.flatten()]) * (own / division.examples)
    running = _add_up(part, division)
    return BatchMoments(mean, variance, running[0], running[1])


def _rank(division: Division) -> int:
    """The number of this process in the group, which is that of its shard."""
    return dist.get_rank() if division.shards.count > 1 else 0


def _add_up(part: AnyValues, division: Division) -> AnyValues:
    """The sum of the parts of all processes, with its gradient."""
    return sum_over_ranks(part) if division.shards.count > 1 else part
