"""Triplet attention."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl import axes
from tf_impl.attention.cbam import SpatialGate
from tf_impl.layers import average, concatenate, scale, swap_axes
from tf_impl.maxima import maximum
from tf_impl.shapes import MapPairs, Maps
from weights.attention import attention_parameters


@keras.saving.register_keras_serializable("resattn")
class Triplet(keras.layers.Layer):
    """Three gates, each over two of the three axes (Misra et al. 2021, section 3.2).

    x: (batch, height, width, channels) -> the same shape, the mean of the branches.
    channels: of the input. The options and their errors: `weights.attention.triplet`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        spatial: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        folded: bool = False,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.arguments = {
            "channels": channels,
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        settings = {
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("triplet", channels, settings)
        self.cw = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options, name="cw")
        self.hc = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options, name="hc")
        self.hw = (
            SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options, name="hw")
            if spatial
            else None
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        turned = swap_axes(x, axes.CHANNELS, axes.ROWS)
        gate = self.cw(z_pool(turned), training=training)
        over_rows = swap_axes(scale(turned, gate), axes.CHANNELS, axes.ROWS)
        turned = swap_axes(x, axes.CHANNELS, axes.COLS)
        gate = self.hc(z_pool(turned), training=training)
        over_cols = swap_axes(scale(turned, gate), axes.CHANNELS, axes.COLS)
        if self.hw is None:
            return (over_rows + over_cols) / 2
        gate = self.hw(z_pool(x), training=training)
        return (over_rows + over_cols + scale(x, gate)) / 3


def z_pool(x: Maps) -> MapPairs:
    """The maximum and the mean over the channels, as two maps."""
    return concatenate([maximum(x, [axes.CHANNELS]), average(x, [axes.CHANNELS])], axes.CHANNELS)
