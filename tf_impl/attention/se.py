"""Squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.layers import GATES, Conv2d, apply_gate, global_average, relu, scale
from tf_impl.shapes import Maps
from weights.attention import hidden_width
from weights.checks import one_of


@keras.saving.register_keras_serializable("resattn")
class SqueezeExcite(keras.layers.Layer):
    """Channel attention by squeeze-and-excitation (Hu et al. 2018, section 3).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        divisor: int = 1,
        minimum: int | None = None,
        gate: str = "sigmoid",
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
            "divisor": divisor,
            "minimum": minimum,
            "gate": gate,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        hidden = hidden_width(channels, reduction, hidden_channels, divisor, minimum)
        self.gate = one_of("gate", gate, GATES)
        self.fc1 = Conv2d(channels, hidden, **options, name="fc1")
        self.fc2 = Conv2d(hidden, channels, **options, name="fc2")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        gate = global_average(x)
        gate = self.fc1(gate)
        gate = relu(gate)
        gate = self.fc2(gate)
        gate = apply_gate(gate, self.gate)
        return scale(x, gate)
