"""Convolutional block attention module."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl import axes
from tf_impl.layers import (
    Bottleneck,
    Conv2d,
    average,
    concatenate,
    global_average,
    scale,
    sigmoid,
)
from tf_impl.maxima import maximum
from tf_impl.normalization import make_batch_norm
from tf_impl.shapes import MapPairs, Maps, PositionValues
from weights.attention import attention_parameters, hidden_width


class SpatialGate(keras.layers.Layer):
    """One gate per position: convolution, batch norm, sigmoid.

    x: two maps, (batch, height, width, 2) -> (batch, height, width, 1), in (0, 1).
    """

    def __init__(
        self, kernel_size: int, bn_eps: float, bn_decay: float, folded: bool, **keras_options: Any
    ):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        padding = (kernel_size // 2, kernel_size // 2)
        self.conv = Conv2d(
            2, 1, (kernel_size, kernel_size), (1, 1), padding, bias=folded, **options, name="conv"
        )
        self.bn = make_batch_norm(1, bn_eps, bn_decay, folded, **options, name="bn")
        self.built = True

    def call(self, x: MapPairs, training: bool | None = None) -> PositionValues:
        y = self.conv(x)
        y = self.bn(y, training=training)
        return sigmoid(y)


@keras.saving.register_keras_serializable("resattn")
class CBAM(keras.layers.Layer):
    """Channel attention, then spatial attention (Woo et al. 2018, CBAM, section 3).

    x: (batch, height, width, channels) -> the same shape, scaled by one gate per channel, then by
        one gate per position.
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
        folded: bool = False,
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
            "kernel_size": kernel_size,
            "bias": bias,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        settings = {
            "kernel_size": kernel_size,
            "bias": bias,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("cbam", channels, settings)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.channel = Bottleneck(channels, hidden, bias=bias, **options, name="channel")
        self.spatial = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options, name="spatial")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        of_averages = self.channel(global_average(x))
        of_maxima = self.channel(maximum(x, [axes.ROWS, axes.COLS]))
        x = scale(x, sigmoid(of_averages + of_maxima))
        averages, maxima = average(x, [axes.CHANNELS]), maximum(x, [axes.CHANNELS])
        pooled = concatenate([averages, maxima], axes.CHANNELS)
        gate = self.spatial(pooled, training=training)
        return scale(x, gate)
