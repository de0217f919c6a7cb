"""Convolutional block attention module."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.layers import (
    Bottleneck,
    Conv2d,
    average,
    concatenate,
    global_average,
    scale,
    sigmoid,
)
from jax_impl.maxima import maximum
from jax_impl.normalization import make_batch_norm
from jax_impl.shapes import MapPairs, Maps, PositionValues
from weights.attention import attention_parameters, hidden_width


class SpatialGate(nnx.Module):
    """One gate per position: convolution, batch norm, sigmoid.

    x: two maps, (batch, height, width, 2) -> (batch, height, width, 1), in (0, 1).
    """

    def __init__(
        self, kernel_size: int, bn_eps: float, bn_decay: float, folded: bool, **options: Any
    ):
        padding = (kernel_size // 2, kernel_size // 2)
        self.conv = Conv2d(
            2, 1, (kernel_size, kernel_size), (1, 1), padding, bias=folded, **options
        )
        self.bn = make_batch_norm(1, bn_eps, bn_decay, folded, **options)

    def __call__(self, x: MapPairs) -> PositionValues:
        y = self.conv(x)
        y = self.bn(y)
        return sigmoid(y)


class CBAM(nnx.Module):
    """Channel attention, then spatial attention (Woo et al. 2018, CBAM, section 3).

    x: (batch, height, width, channels) -> the same shape, scaled by one gate per channel, then by
        one gate per position.
    channels: of the input. The options and their errors: `weights.attention.cbam`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        kernel_size: int = 7,
        bias: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        folded: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        settings = {
            "kernel_size": kernel_size,
            "bias": bias,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("cbam", channels, settings)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.channel = Bottleneck(channels, hidden, bias=bias, **options)
        self.spatial = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options)

    def __call__(self, x: Maps) -> Maps:
        of_averages = self.channel(global_average(x))
        of_maxima = self.channel(maximum(x, [axes.ROWS, axes.COLS]))
        x = scale(x, sigmoid(of_averages + of_maxima))
        averages, maxima = average(x, [axes.CHANNELS]), maximum(x, [axes.CHANNELS])
        pooled = concatenate([averages, maxima], axes.CHANNELS)
        gate = self.spatial(pooled)
        return scale(x, gate)
