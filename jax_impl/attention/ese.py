"""Effective squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.layers import GATES, Conv2d, apply_gate, global_average, scale
from jax_impl.shapes import Maps
from weights.checks import one_of


class EffectiveSqueezeExcite(nnx.Module):
    """Channel attention by one layer of full width (Lee & Park 2020, CenterMask, section 3.3).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in [0, 1].
    channels: of the input.
    The options and their errors: `weights.attention.effective_squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        gate: str = "hard_sigmoid",
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.gate = one_of("gate", gate, GATES)
        self.fc = Conv2d(channels, channels, **options)

    def __call__(self, x: Maps) -> Maps:
        gate = global_average(x)
        gate = self.fc(gate)
        gate = apply_gate(gate, self.gate)
        return scale(x, gate)
