"""SimAM."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.inputs import check_maps
from jax_impl.layers import average, cast_like, count_positions, sigmoid, widen
from jax_impl.shapes import Maps
from weights.checks import positive


class SimAM(nnx.Module):
    """One gate per value, from its distance to its channel's mean (Yang et al. 2021, section 3.2).

    The gate is sigmoid((x - mean)^2 / (4 (variance + e_lambda)) + 1/2). The variance is divided by
    positions - 1 and computed in two passes: the mean is subtracted first.

    x: (batch, height, width, channels) -> the same shape, each value scaled by its gate.
    channels: of the input. The options and their errors: `weights.attention.simam`.
    Raises ValueError for maps of one position.
    """

    def __init__(
        self,
        channels: int,
        e_lambda: float = 1e-4,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.e_lambda = positive("e_lambda", e_lambda)

    def __call__(self, x: Maps) -> Maps:
        check_maps(x, "simam", least=(1, 2))
        wide = widen(x)
        count = count_positions(wide)
        centred = wide - average(wide, [axes.ROWS, axes.COLS])
        squares = centred * centred
        variance = average(squares, [axes.ROWS, axes.COLS]) * (count / (count - 1))
        energy = squares / (4 * (variance + self.e_lambda)) + 0.5
        return x * cast_like(sigmoid(energy), x)
