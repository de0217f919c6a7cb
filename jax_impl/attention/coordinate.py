"""Coordinate attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

from jax_impl.layers import (
    COLS,
    ROWS,
    Conv2d,
    average,
    concatenate,
    hard_swish,
    parted,
    scaled,
    sigmoid,
    swapped,
)
from jax_impl.normalization import BatchNorm
from weights.attention import attention_parameters, hidden_width

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class Coordinate(nnx.Module):
    """A gate for each row and one for each column (Hou et al. 2021, Coordinate Attention, section
    3.2).

    x: (batch, height, width, channels) -> the same shape, each value scaled by the gates of its row
        and its column.
    channels: of the input. The options and their errors: `weights.attention.coordinate`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        minimum: int = 8,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        attention_parameters("coordinate", channels, {"bn_eps": bn_eps, "bn_decay": bn_decay})
        hidden = hidden_width(
            channels, reduction, hidden_channels, minimum=minimum, kind="coordinate"
        )
        self.conv1 = Conv2d(channels, hidden, **options)
        self.bn1 = BatchNorm(hidden, bn_eps, bn_decay, **options)
        self.conv_h = Conv2d(hidden, channels, **options)
        self.conv_w = Conv2d(hidden, channels, **options)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        rows = average(x, COLS)
        cols = swapped(average(x, ROWS), ROWS, COLS)
        y = concatenate([rows, cols], ROWS)
        y = self.conv1(y)
        y = self.bn1(y)
        y = hard_swish(y)
        rows, cols = parted(y, x.shape[ROWS], ROWS)
        rows = sigmoid(self.conv_h(rows))
        cols = sigmoid(self.conv_w(swapped(cols, ROWS, COLS)))
        return scaled(scaled(x, cols), rows)
