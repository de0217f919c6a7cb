"""Efficient channel attention."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.layers import Conv1d, global_average, scale, sigmoid
from jax_impl.shapes import Maps
from weights.attention import attention_parameters, eca_kernel_size


class EfficientChannel(nnx.Module):
    """Channel attention by a 1-d convolution over channels (Wang et al. 2020, section 3.2).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.efficient_channel`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        padding: str = "zero",
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        settings = {"kernel_size": kernel_size, "gamma": gamma, "beta": beta, "padding": padding}
        attention_parameters("eca", channels, settings)
        self.conv = Conv1d(eca_kernel_size(channels, kernel_size, gamma, beta), padding, **options)

    def __call__(self, x: Maps) -> Maps:
        averages = global_average(x)
        gate = averages.reshape(x.shape[0], x.shape[axes.CHANNELS], 1)
        gate = self.conv(gate)
        gate = sigmoid(gate)
        gate = gate.reshape(averages.shape)
        return scale(x, gate)
