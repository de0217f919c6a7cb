"""Concurrent spatial and channel squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.attention.se import SqueezeExcite
from tf_impl.layers import Conv2d, scale, sigmoid
from tf_impl.maxima import greater
from tf_impl.shapes import Maps
from weights.attention import hidden_width
from weights.checks import one_of


class SpatialSqueezeExcite(keras.layers.Layer):
    """One gate per position, from its channels.

    x: (batch, height, width, channels) -> the same shape, each position scaled by its gate.
    """

    def __init__(self, channels: int, **keras_options: Any):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.conv = Conv2d(channels, 1, **options, name="conv")
        self.built = True

    def call(self, x: Maps) -> Maps:
        gate = self.conv(x)
        return scale(x, sigmoid(gate))


@keras.saving.register_keras_serializable("resattn")
class ConcurrentSqueezeExcite(keras.layers.Layer):
    """Spatial and channel squeeze-and-excitation in parallel (Roy et al. 2018, section 2).

    x: (batch, height, width, channels) -> the same shape: the sum or the maximum of x scaled by
        channel and x scaled by position.
    channels: of the input.
    The options and their errors: `weights.attention.concurrent_squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        fusion: str = "sum",
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.arguments = {
            "channels": channels,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "fusion": fusion,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
        self.fusion = one_of("fusion", fusion, ("sum", "maximum"))
        self.cSE = SqueezeExcite(channels, hidden_channels=hidden, **options, name="cSE")
        self.sSE = SpatialSqueezeExcite(channels, **options, name="sSE")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        channel = self.cSE(x)
        spatial = self.sSE(x)
        return channel + spatial if self.fusion == "sum" else greater(channel, spatial)
