"""Non-local block."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.inputs import check_maps
from jax_impl.layers import (
    Conv2d,
    flatten_positions,
    softmax,
    swap_axes,
    unflatten_positions,
)
from jax_impl.normalization import make_batch_norm
from jax_impl.pooling import max_pool_2x2
from jax_impl.shapes import Maps
from weights.attention import attention_parameters, hidden_width


class NonLocal(nnx.Module):
    """A weighted mean over all positions, added to each (Wang et al. 2018, Non-local, section 3).

    The weights are the paper's embedded Gaussian.

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input. The options and their errors: `weights.attention.non_local`.
    Raises ValueError with `subsample` for maps of fewer than 2 rows or columns.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        subsample: bool = False,
        scale: bool = False,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        folded: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        settings = {
            "subsample": subsample,
            "scale": scale,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("nonlocal", channels, settings)
        hidden = hidden_width(channels, reduction, hidden_channels, kind="nonlocal")
        self.subsample = subsample
        self.scale = hidden**-0.5 if scale else 1.0
        self.theta = Conv2d(channels, hidden, **options)
        self.phi = Conv2d(channels, hidden, **options)
        self.g = Conv2d(channels, hidden, **options)
        self.conv_out = Conv2d(hidden, channels, **options)
        self.bn = make_batch_norm(channels, bn_eps, bn_decay, folded, 0, **options)

    def __call__(self, x: Maps) -> Maps:
        rows, cols = x.shape[axes.ROWS], x.shape[axes.COLS]
        query, key, value = self.theta(x), self.phi(x), self.g(x)
        if self.subsample:
            check_maps(x, "nonlocal with subsample", least=(2, 1))
            key, value = max_pool_2x2(key), max_pool_2x2(value)
        logits = flatten_positions(query) @ swap_axes(flatten_positions(key), -2, -1)
        logits = logits if self.scale == 1 else logits * self.scale
        weights = softmax(logits)
        y = unflatten_positions(weights @ flatten_positions(value), rows, cols)
        y = self.conv_out(y)
        y = self.bn(y)
        return x + y
