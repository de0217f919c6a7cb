"""Squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.layers import GATES, Conv2d, apply_gate, global_average, relu, scale
from jax_impl.shapes import Maps
from weights.attention import hidden_width
from weights.checks import one_of


class SqueezeExcite(nnx.Module):
    """Channel attention by squeeze-and-excitation (Hu et al. 2018, section 3).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        divisor: int = 1,
        minimum: int | None = None,
        gate: str = "sigmoid",
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        hidden = hidden_width(channels, reduction, hidden_channels, divisor, minimum)
        self.gate = one_of("gate", gate, GATES)
        self.fc1 = Conv2d(channels, hidden, **options)
        self.fc2 = Conv2d(hidden, channels, **options)

    def __call__(self, x: Maps) -> Maps:
        gate = global_average(x)
        gate = self.fc1(gate)
        gate = relu(gate)
        gate = self.fc2(gate)
        gate = apply_gate(gate, self.gate)
        return scale(x, gate)
