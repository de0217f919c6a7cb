"""Efficient channel attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tf_impl.layers import CHANNELS, Conv1d, global_average, scaled, sigmoid
from weights.attention import attention_parameters, eca_kernel_size

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class EfficientChannel(keras.layers.Layer):
    """Channel attention by a 1-d convolution over the channels' averages (Wang et al. 2020,
    ECA-Net, section 3.2).

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
        self.options = {
            "channels": channels,
            "kernel_size": kernel_size,
            "gamma": gamma,
            "beta": beta,
            "padding": padding,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        given = {"kernel_size": kernel_size, "gamma": gamma, "beta": beta, "padding": padding}
        attention_parameters("eca", channels, given)
        self.conv = Conv1d(
            eca_kernel_size(channels, kernel_size, gamma, beta), padding, **options, name="conv"
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        average = global_average(x)
        gate = ops.reshape(average, (ops.shape(x)[0], x.shape[CHANNELS], 1))
        gate = self.conv(gate)
        gate = sigmoid(gate)
        gate = ops.reshape(gate, ops.shape(average))
        return scaled(x, gate)
