"""Concurrent spatial and channel squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.attention.se import SqueezeExcite
from jax_impl.layers import Conv2d, scale, sigmoid
from jax_impl.maxima import greater
from jax_impl.shapes import Maps
from weights.attention import hidden_width
from weights.checks import one_of


class SpatialSqueezeExcite(nnx.Module):
    """One gate per position, from its channels.

    x: (batch, height, width, channels) -> the same shape, each position scaled by its gate.
    """

    def __init__(self, channels: int, **options: Any):
        self.conv = Conv2d(channels, 1, **options)

    def __call__(self, x: Maps) -> Maps:
        gate = self.conv(x)
        return scale(x, sigmoid(gate))


class ConcurrentSqueezeExcite(nnx.Module):
    """Spatial and channel squeeze-and-excitation in parallel (Roy et al. 2018, section 2).

    x: (batch, height, width, channels) -> the same shape: the sum or the maximum of x scaled by
        channel and x scaled by position.
    channels: of the input.
    The options and their errors: `weights.attention.concurrent_squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        fusion: str = "sum",
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
        self.fusion = one_of("fusion", fusion, ("sum", "maximum"))
        self.cSE = SqueezeExcite(channels, hidden_channels=hidden, **options)
        self.sSE = SpatialSqueezeExcite(channels, **options)

    def __call__(self, x: Maps) -> Maps:
        channel = self.cSE(x)
        spatial = self.sSE(x)
        return channel + spatial if self.fusion == "sum" else greater(channel, spatial)
