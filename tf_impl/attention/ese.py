"""Effective squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.layers import GATES, Conv2d, apply_gate, global_average, scale
from tf_impl.shapes import Maps
from weights.checks import one_of


@keras.saving.register_keras_serializable("resattn")
class EffectiveSqueezeExcite(keras.layers.Layer):
    """Channel attention by one layer of full width (Lee & Park 2020, CenterMask, section 3.3).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in [0, 1].
    channels: of the input.
    The options and their errors: `weights.attention.effective_squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        gate: str = "hard_sigmoid",
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.arguments = {"channels": channels, "gate": gate}
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.gate = one_of("gate", gate, GATES)
        self.fc = Conv2d(channels, channels, **options, name="fc")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        gate = global_average(x)
        gate = self.fc(gate)
        gate = apply_gate(gate, self.gate)
        return scale(x, gate)
