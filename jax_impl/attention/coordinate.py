"""Coordinate attention."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.layers import (
    Conv2d,
    average,
    concatenate,
    hard_swish,
    scale,
    sigmoid,
    split_at,
    swap_axes,
)
from jax_impl.normalization import make_batch_norm
from jax_impl.shapes import Maps
from weights.attention import attention_parameters, hidden_width


class Coordinate(nnx.Module):
    """One gate per row and one per column (Hou et al. 2021, Coordinate Attention, section 3.2).

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
        folded: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        attention_parameters(
            "coordinate", channels, {"bn_eps": bn_eps, "bn_decay": bn_decay, "folded": folded}
        )
        hidden = hidden_width(
            channels, reduction, hidden_channels, minimum=minimum, kind="coordinate"
        )
        self.conv1 = Conv2d(channels, hidden, **options)
        self.bn1 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options)
        self.conv_h = Conv2d(hidden, channels, **options)
        self.conv_w = Conv2d(hidden, channels, **options)

    def __call__(self, x: Maps) -> Maps:
        rows = average(x, [axes.COLS])
        cols = swap_axes(average(x, [axes.ROWS]), axes.ROWS, axes.COLS)
        y = concatenate([rows, cols], axes.ROWS)
        y = self.conv1(y)
        y = self.bn1(y)
        y = hard_swish(y)
        rows, cols = split_at(y, x.shape[axes.ROWS], axes.ROWS)
        rows = sigmoid(self.conv_h(rows))
        cols = sigmoid(self.conv_w(swap_axes(cols, axes.ROWS, axes.COLS)))
        return scale(scale(x, cols), rows)
