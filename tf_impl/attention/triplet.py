"""Triplet attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tf_impl.attention.cbam import SpatialGate
from tf_impl.layers import CHANNELS, COLS, ROWS, average, concatenate, maximum, scaled, swapped
from weights.attention import attention_parameters

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class Triplet(keras.layers.Layer):
    """Three gates, each over two of the three axes (Misra et al. 2021, Rotate to Attend, section
    3.2).

    x: (batch, height, width, channels) -> the same shape, the mean of its branches.
    channels: of the input. The options and their errors: `weights.attention.triplet`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        spatial: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.options = {
            "channels": channels,
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        given = {
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        attention_parameters("triplet", channels, given)
        self.cw = SpatialGate(kernel_size, bn_eps, bn_decay, **options, name="cw")
        self.hc = SpatialGate(kernel_size, bn_eps, bn_decay, **options, name="hc")
        self.hw = (
            SpatialGate(kernel_size, bn_eps, bn_decay, **options, name="hw") if spatial else None
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch height width channels"]:
        turned = swapped(x, CHANNELS, ROWS)
        gate = self.cw(z_pool(turned), training=training)
        over_rows = swapped(scaled(turned, gate), CHANNELS, ROWS)
        turned = swapped(x, CHANNELS, COLS)
        gate = self.hc(z_pool(turned), training=training)
        over_cols = swapped(scaled(turned, gate), CHANNELS, COLS)
        if self.hw is None:
            return (over_rows + over_cols) / 2
        gate = self.hw(z_pool(x), training=training)
        return (over_rows + over_cols + scaled(x, gate)) / 3


def z_pool(
    x: Float[KerasTensor, "batch height width channels"],
) -> Float[KerasTensor, "batch height width 2"]:
    """Maximum and average over the channels."""
    return concatenate([maximum(x, CHANNELS), average(x, CHANNELS)], CHANNELS)
