"""Concurrent spatial and channel squeeze-and-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tf_impl.attention.se import SqueezeExcite
from tf_impl.layers import Conv2d, greater, scaled, sigmoid
from weights.attention import hidden_width
from weights.checks import one_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


class SpatialSqueezeExcite(keras.layers.Layer):
    """A gate for each position, from its channels: x: (batch, height, width, channels) -> the same
    shape.
    """

    def __init__(self, channels: int, **options: Any):
        super().__init__(**options)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.conv = Conv2d(channels, 1, **options, name="conv")
        self.built = True

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        gate = self.conv(x)
        return scaled(x, sigmoid(gate))


@keras.saving.register_keras_serializable("resattn")
class ConcurrentSqueezeExcite(keras.layers.Layer):
    """Spatial and channel squeeze-and-excitation, one beside the other (Roy et al. 2018, section
    2).

    x: (batch, height, width, channels) -> the same shape: the sum, or the greater, of x with a gate
    for each channel and x with a gate for each position.
    channels: of the input. The options and their errors:
    `weights.attention.concurrent_squeeze_excite`.
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
        self.options = {
            "channels": channels,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "fusion": fusion,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
        self.fusion = one_of("fusion", fusion, ("sum", "maximum"))
        self.cSE = SqueezeExcite(channels, hidden_channels=hidden, **options, name="cSE")
        self.sSE = SpatialSqueezeExcite(channels, **options, name="sSE")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        channel = self.cSE(x)
        spatial = self.sSE(x)
        return channel + spatial if self.fusion == "sum" else greater(channel, spatial)
