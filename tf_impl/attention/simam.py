"""SimAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tf_impl.layers import COLS, ROWS, average, like, position_count, sigmoid, widened
from weights.checks import check_map, positive

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class SimAM(keras.layers.Layer):
    """A gate for each value from its squared distance to its channel's mean (Yang et al. 2021,
    SimAM, section 3.2).

    x: (batch, height, width, channels) -> the same shape, scaled by sigmoid((x - mean)^2 / (4
    (variance + e_lambda)) + 1/2), the variance divided by positions - 1 and computed in two passes,
    the mean taken away first.
    channels: of the input. The options and their errors: `weights.attention.simam`.
    Raises ValueError for maps of one position, which in a graph of unknown size give NaN instead.
    """

    def __init__(
        self,
        channels: int,
        e_lambda: float = 1e-4,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.options = {"channels": channels, "e_lambda": e_lambda}
        self.e_lambda = positive("e_lambda", e_lambda)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        check_map("simam", ops.shape(x)[ROWS], ops.shape(x)[COLS], least=(1, 2))
        wide = widened(x)
        count = position_count(wide)
        centred = wide - average(wide, ROWS, COLS)
        squares = centred * centred
        variance = average(squares, ROWS, COLS) * (count / (count - 1))
        energy = squares / (4 * (variance + self.e_lambda)) + 0.5
        return x * like(x, sigmoid(energy))
