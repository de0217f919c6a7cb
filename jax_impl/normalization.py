"""Norms with the semantics that the three implementations share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.inputs import check_batch
from jax_impl.layers import average, cast_like, check_dtype, widen
from jax_impl.shapes import ChannelVector, Maps
from jax_impl.shards import batch_moments
from weights.config import Config
from weights.shards import Division
from weights.stages import stage


@stage
class BatchNorm(nnx.Module):
    """Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2).

    In training it normalises with the mean and the biased variance of the batch (divided by n),
    over batch and positions. Running statistics become decay * running + (1 - decay) * batch's,
    with the unbiased variance (divided by n - 1). In evaluation it normalises with the running
    statistics.

    x: (batch, height, width, channels) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * scale + bias. Computed in float32 at least.
    initial_scale: the initial value of the scale.
    param_dtype: of the parameters, dtype by default. Running statistics are float32 at least.
    Raises ValueError in training with n = 1.

    Not nnx.BatchNorm: it keeps the biased variance, computes it as E[x^2] - E[x]^2, and holds
    statistics in float32 in a float64 module.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        initial_scale: float = 1,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        dtype = check_dtype(param_dtype or dtype)
        statistics = jnp.promote_types(dtype, jnp.float32)
        self.eps = eps
        self.decay = decay
        self.use_running_average = False  # the attribute that train() and eval() set
        self.division: Division | None = None  # of the batch over devices, see shards.py
        self.scale = nnx.Param(jnp.full(channels, initial_scale, dtype))
        self.bias = nnx.Param(jnp.zeros(channels, dtype))
        self.mean = nnx.BatchStat(jnp.zeros(channels, statistics))
        self.var = nnx.BatchStat(jnp.ones(channels, statistics))

    def __call__(self, x: Maps) -> Maps:
        dtype, x = x.dtype, x.astype(self.mean.dtype)
        if self.use_running_average:
            mean, variance = self.mean[...], self.var[...]
        elif self.division is not None:
            mean, variance, *running = batch_moments(x, self.division)
            self._update(*running)
        else:
            check_batch(x)
            over = [axes.BATCH, axes.ROWS, axes.COLS]
            mean = jnp.squeeze(average(x, over), over)
            variance = average(jnp.square(x - mean), over)  # two passes: exact for large means
            variance = jnp.squeeze(variance, over)
            unbiased = unbias_variance(variance, x.size // x.shape[axes.CHANNELS])
            self._update(*jax.lax.stop_gradient((mean, unbiased)))
        y = (x - mean) * (self.scale[...] / jnp.sqrt(variance + self.eps)) + self.bias[...]
        return y.astype(dtype)

    def _update(self, mean: ChannelVector, unbiased: ChannelVector) -> None:
        self.mean[...] = self.decay * self.mean[...] + (1 - self.decay) * mean
        self.var[...] = self.decay * self.var[...] + (1 - self.decay) * unbiased


def unbias_variance(variance: ChannelVector, n: int) -> ChannelVector:
    """variance * n / (n - 1): divided by n - 1 instead of n.

    PyTorch keeps the unbiased variance, Flax and Keras the biased one.
    """
    return variance * (n / (n - 1))


@stage
class GroupNorm(nnx.Module):
    """Group normalization over the positions and channels of each group (Wu & He 2018, equations 1,
    2 and 7).

    x: (batch, height, width, channels) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * scale + bias, with the mean and the biased variance of the group.
        Computed in float32 at least.
    initial_scale: the initial value of the scale.
    param_dtype: of the parameters, dtype by default.

    Not nnx.GroupNorm: it computes the variance as E[x^2] - E[x]^2 by default.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        eps: float = 1e-5,
        initial_scale: float = 1,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        dtype = check_dtype(param_dtype or dtype)
        self.groups = groups
        self.eps = eps
        self.scale = nnx.Param(jnp.full(channels, initial_scale, dtype))
        self.bias = nnx.Param(jnp.zeros(channels, dtype))

    def __call__(self, x: Maps) -> Maps:
        *sizes, channels = x.shape
        grouped = widen(x).reshape(*sizes, self.groups, channels // self.groups)
        over = [axes.ROWS, axes.COLS, axes.CHANNELS + 1]  # channels are two axes now
        centred = grouped - average(grouped, over)
        variance = average(jnp.square(centred), over)  # two passes: exact for large means
        y = (centred / jnp.sqrt(variance + self.eps)).reshape(x.shape)
        return cast_like(y * self.scale[...] + self.bias[...], x)


def make_batch_norm(
    channels: int,
    eps: float,
    decay: float,
    folded: bool,
    initial_scale: float = 1,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """A batch norm; nothing where it is folded into the convolution before it."""
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    if folded:
        return nnx.Sequential()
    return BatchNorm(channels, eps, decay, initial_scale, **options)


def make_norm(
    config: Config,
    channels: int,
    initial_scale: float = 1,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """The norm that a config asks for."""
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    if config.norm == "group":
        return GroupNorm(channels, config.norm_groups, config.bn_eps, initial_scale, **options)
    folded = config.norm == "folded"
    return make_batch_norm(
        channels, config.bn_eps, config.bn_decay, folded, initial_scale, **options
    )


@stage
class LayerNorm(nnx.Module):
    """Layer normalization over the channels of each position (Ba et al. 2016, equation 3).

    x: (batch, height, width, channels) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * scale + bias, with the mean and the biased variance of the channels.
        Computed in float32 at least.
    param_dtype: of the parameters, dtype by default.

    Not nnx.LayerNorm: it computes the variance as E[x^2] - E[x]^2 by default.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        dtype = check_dtype(param_dtype or dtype)
        self.eps = eps
        self.scale = nnx.Param(jnp.ones(channels, dtype))
        self.bias = nnx.Param(jnp.zeros(channels, dtype))

    def __call__(self, x: Maps) -> Maps:
        wide = widen(x)
        centred = wide - average(wide, [axes.CHANNELS])
        variance = average(jnp.square(centred), [axes.CHANNELS])
        y = centred / jnp.sqrt(variance + self.eps) * self.scale[...] + self.bias[...]
        return cast_like(y, x)
