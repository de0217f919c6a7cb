"""Convolutional block attention module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tf_impl.layers import (
    CHANNELS,
    COLS,
    ROWS,
    Bottleneck,
    Conv2d,
    average,
    concatenate,
    global_average,
    maximum,
    scaled,
    sigmoid,
)
from tf_impl.normalization import BatchNorm
from weights.attention import attention_parameters, hidden_width

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


class SpatialGate(keras.layers.Layer):
    """A gate for each position: convolution, batch norm, sigmoid.

    x: two maps, (batch, height, width, 2) -> (batch, height, width, 1), in (0, 1).
    """

    def __init__(self, kernel_size: int, bn_eps: float, bn_decay: float, **options: Any):
        super().__init__(**options)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        padding = (kernel_size // 2, kernel_size // 2)
        self.conv = Conv2d(
            2, 1, (kernel_size, kernel_size), (1, 1), padding, bias=False, **options, name="conv"
        )
        self.bn = BatchNorm(1, bn_eps, bn_decay, **options, name="bn")
        self.built = True

    def call(
        self, x: Float[KerasTensor, "batch height width 2"], training: bool | None = None
    ) -> Float[KerasTensor, "batch height width 1"]:
        y = self.conv(x)
        y = self.bn(y, training=training)
        return sigmoid(y)


@keras.saving.register_keras_serializable("resattn")
class CBAM(keras.layers.Layer):
    """Channel attention, then spatial attention (Woo et al. 2018, CBAM, section 3).

    x: (batch, height, width, channels) -> the same shape, scaled by a gate for each channel and one
        for each position.
    channels: of the input. The options and their errors: `weights.attention.cbam`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        kernel_size: int = 7,
        bias: bool = True,
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
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "kernel_size": kernel_size,
            "bias": bias,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        given = {"kernel_size": kernel_size, "bias": bias, "bn_eps": bn_eps, "bn_decay": bn_decay}
        attention_parameters("cbam", channels, given)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.channel = Bottleneck(channels, hidden, bias=bias, **options, name="channel")
        self.spatial = SpatialGate(kernel_size, bn_eps, bn_decay, **options, name="spatial")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch height width channels"]:
        of_averages = self.channel(global_average(x))
        of_maxima = self.channel(maximum(x, ROWS, COLS))
        x = scaled(x, sigmoid(of_averages + of_maxima))
        pooled = concatenate([average(x, CHANNELS), maximum(x, CHANNELS)], CHANNELS)
        gate = self.spatial(pooled, training=training)
        return scaled(x, gate)
