"""Concurrent spatial and channel squeeze-and-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from jax_impl.attention.se import SqueezeExcite
from jax_impl.layers import Conv2d, greater, scaled, sigmoid
from weights.attention import hidden_width
from weights.checks import one_of

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class SpatialSqueezeExcite(nnx.Module):
    """A gate for each position, from its channels: x: (batch, height, width, channels) -> the same
    shape.
    """

    def __init__(self, channels: int, **options: Any):
        self.conv = Conv2d(channels, 1, **options)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        gate = self.conv(x)
        return scaled(x, sigmoid(gate))


class ConcurrentSqueezeExcite(nnx.Module):
    """Spatial and channel squeeze-and-excitation, one beside the other (Roy et al. 2018, section
    2).

    x: (batch, height, width, channels) -> the same shape: the sum, or the greater, of x with a gate
    for each channel and x with a gate for each position.
    channels: of the input. The options and their errors:
    `weights.attention.concurrent_squeeze_excite`.
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
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
        self.fusion = one_of("fusion", fusion, ("sum", "maximum"))
        self.cSE = SqueezeExcite(channels, hidden_channels=hidden, **options)
        self.sSE = SpatialSqueezeExcite(channels, **options)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        channel = self.cSE(x)
        spatial = self.sSE(x)
        return channel + spatial if self.fusion == "sum" else greater(channel, spatial)
