"""Triplet attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

from jax_impl.attention.cbam import SpatialGate
from jax_impl.layers import CHANNELS, COLS, ROWS, average, concatenate, maximum, scaled, swapped
from weights.attention import attention_parameters

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class Triplet(nnx.Module):
    """Three gates, each over two of the three axes (Misra et al. 2021, Rotate to Attend, section
    3.2).

    x: (batch, height, width, channels) -> the same shape, the mean of its branches.
    channels: of the input. The options and their errors: `weights.attention.triplet`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        spatial: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        given = {
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        attention_parameters("triplet", channels, given)
        self.cw = SpatialGate(kernel_size, bn_eps, bn_decay, **options)
        self.hc = SpatialGate(kernel_size, bn_eps, bn_decay, **options)
        self.hw = SpatialGate(kernel_size, bn_eps, bn_decay, **options) if spatial else None

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        turned = swapped(x, CHANNELS, ROWS)
        gate = self.cw(z_pool(turned))
        over_rows = swapped(scaled(turned, gate), CHANNELS, ROWS)
        turned = swapped(x, CHANNELS, COLS)
        gate = self.hc(z_pool(turned))
        over_cols = swapped(scaled(turned, gate), CHANNELS, COLS)
        if self.hw is None:
            return (over_rows + over_cols) / 2
        gate = self.hw(z_pool(x))
        return (over_rows + over_cols + scaled(x, gate)) / 3


def z_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width 2"]:
    """Maximum and average over the channels."""
    return concatenate([maximum(x, CHANNELS), average(x, CHANNELS)], CHANNELS)
