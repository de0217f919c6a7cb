"""SimAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

from jax_impl.layers import COLS, ROWS, average, like, position_count, sigmoid, widened
from weights.checks import check_map, positive

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class SimAM(nnx.Module):
    """A gate for each value from its squared distance to its channel's mean (Yang et al. 2021,
    SimAM, section 3.2).

    x: (batch, height, width, channels) -> the same shape, scaled by sigmoid((x - mean)^2 / (4
    (variance + e_lambda)) + 1/2), the variance divided by positions - 1 and computed in two passes,
    the mean taken away first.
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

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        check_map("simam", x.shape[ROWS], x.shape[COLS], least=(1, 2))
        wide = widened(x)
        count = position_count(wide)
        centred = wide - average(wide, ROWS, COLS)
        squares = centred * centred
        variance = average(squares, ROWS, COLS) * (count / (count - 1))
        energy = squares / (4 * (variance + self.e_lambda)) + 0.5
        return x * like(x, sigmoid(energy))
