"""Efficient channel attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl import axes
from tf_impl.layers import Conv1d, global_average, scale, sigmoid
from tf_impl.shapes import Maps
from weights.attention import attention_parameters, eca_kernel_size


@keras.saving.register_keras_serializable("resattn")
class EfficientChannel(keras.layers.Layer):
    """Channel attention by a 1-d convolution over channels (Wang et al. 2020, section 3.2).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.efficient_channel`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        padding: str = "zero",
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.arguments = {
            "channels": channels,
            "kernel_size": kernel_size,
            "gamma": gamma,
            "beta": beta,
            "padding": padding,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        settings = {"kernel_size": kernel_size, "gamma": gamma, "beta": beta, "padding": padding}
        attention_parameters("eca", channels, settings)
        self.conv = Conv1d(
            eca_kernel_size(channels, kernel_size, gamma, beta), padding, **options, name="conv"
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        averages = global_average(x)
        gate = ops.reshape(averages, (ops.shape(x)[0], x.shape[axes.CHANNELS], 1))
        gate = self.conv(gate)
        gate = sigmoid(gate)
        gate = ops.reshape(gate, ops.shape(averages))
        return scale(x, gate)
