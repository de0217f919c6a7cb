"""Batch norm with the semantics that the three implementations share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from jax_impl.layers import CHANNELS, COLS, ROWS, average, checked, like, widened
from weights.checks import check_statistics

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class BatchNorm(nnx.Module):
    """Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2).

    x: (batch, height, width, channels) -> the same shape: (x - mean) / sqrt(variance + eps) * scale
    + bias. In training mean and variance are the batch's, over batch and positions, the variance
    biased (divided by n), and the running ones become decay * running + (1 - decay) * batch's, with
    the unbiased variance (divided by n - 1). In evaluation they are the running ones.
    initial_scale: what the scale starts with. Computed in float32 at least, in which the running
    ones are held too; what comes out is of the dtype of x. The parameters are of param_dtype, by
    default dtype.
    Raises ValueError in training with n = 1.

    Not nnx.BatchNorm, which keeps the biased variance, computes it as E[x^2] - E[x]^2, and holds
    statistics in float32 whatever the dtype of the module.
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
        dtype = checked(param_dtype or dtype)
        statistics = jnp.promote_types(dtype, jnp.float32)
        self.eps = eps
        self.decay = decay
        self.use_running_average = False  # the attribute that train() and eval() set
        self.scale = nnx.Param(jnp.full(channels, initial_scale, dtype))
        self.bias = nnx.Param(jnp.zeros(channels, dtype))
        self.mean = nnx.BatchStat(jnp.zeros(channels, statistics))
        self.var = nnx.BatchStat(jnp.ones(channels, statistics))

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        dtype, x = x.dtype, x.astype(self.mean.dtype)
        if self.use_running_average:
            mean, variance = self.mean[...], self.var[...]
        else:
            mean = jnp.squeeze(average(x, 0, ROWS, COLS), (0, ROWS, COLS))
            variance = average(
                jnp.square(x - mean), 0, ROWS, COLS
            )  # two passes: exact for large means
            variance = jnp.squeeze(variance, (0, ROWS, COLS))
            self._update(mean, variance, x.shape[0] * x.shape[1] * x.shape[2])
        y = (x - mean) * (self.scale[...] / jnp.sqrt(variance + self.eps)) + self.bias[...]
        return y.astype(dtype)

    def _update(
        self, mean: Float[Array, " channels"], variance: Float[Array, " channels"], n: int
    ) -> None:
        check_statistics(n)
        mean, variance = jax.lax.stop_gradient((mean, variance))
        self.mean[...] = self.decay * self.mean[...] + (1 - self.decay) * mean
        self.var[...] = self.decay * self.var[...] + (1 - self.decay) * unbiased(variance, n)


def unbiased(variance: Float[Array, " channels"], n: int) -> Float[Array, " channels"]:
    """The variance of n values divided by n - 1, from that divided by n: what PyTorch keeps, and
    Flax and Keras do not.
    """
    return variance * (n / (n - 1))


class LayerNorm(nnx.Module):
    """Layer normalization over the channels of each position (Ba et al. 2016, equation 3).

    x: (batch, height, width, channels) -> the same shape: (x - mean) / sqrt(variance + eps) * scale
    + bias, mean and biased variance over the channels. Computed in float32 at least; what comes out
    is of the dtype of x. The parameters are of param_dtype, by default dtype.

    Not nnx.LayerNorm, which computes the variance as E[x^2] - E[x]^2 unless told otherwise.
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
        dtype = checked(param_dtype or dtype)
        self.eps = eps
        self.scale = nnx.Param(jnp.ones(channels, dtype))
        self.bias = nnx.Param(jnp.zeros(channels, dtype))

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        wide = widened(x)
        centred = wide - average(wide, CHANNELS)
        variance = average(jnp.square(centred), CHANNELS)
        return like(x, centred / jnp.sqrt(variance + self.eps) * self.scale[...] + self.bias[...])
