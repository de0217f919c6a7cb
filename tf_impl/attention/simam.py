"""SimAM."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl import axes
from tf_impl.inputs import check_maps
from tf_impl.layers import average, cast_like, count_positions, sigmoid, widen
from tf_impl.shapes import Maps
from weights.checks import positive


@keras.saving.register_keras_serializable("resattn")
class SimAM(keras.layers.Layer):
    """One gate per value, from its distance to its channel's mean (Yang et al. 2021, section 3.2).

    The gate is sigmoid((x - mean)^2 / (4 (variance + e_lambda)) + 1/2). The variance is divided by
    positions - 1 and computed in two passes: the mean is subtracted first.

    x: (batch, height, width, channels) -> the same shape, each value scaled by its gate.
    channels: of the input. The options and their errors: `weights.attention.simam`.
    Raises ValueError for maps of one position. In a graph of unknown size they give NaN instead.
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
        self.arguments = {"channels": channels, "e_lambda": e_lambda}
        self.e_lambda = positive("e_lambda", e_lambda)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        check_maps(x, "simam", least=(1, 2))
        wide = widen(x)
        count = count_positions(wide)
        centred = wide - average(wide, [axes.ROWS, axes.COLS])
        squares = centred * centred
        variance = average(squares, [axes.ROWS, axes.COLS]) * (count / (count - 1))
        energy = squares / (4 * (variance + self.e_lambda)) + 0.5
        return x * cast_like(sigmoid(energy), x)
