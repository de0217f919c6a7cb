"""Effective squeeze-and-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tf_impl.layers import GATES, Conv2d, global_average, scaled
from weights.checks import one_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class EffectiveSqueezeExcite(keras.layers.Layer):
    """Channel attention by one layer of full width (Lee & Park 2020, CenterMask, section 3.3).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate from 0 to
        1.
    channels: of the input. The options and their errors:
    `weights.attention.effective_squeeze_excite`.
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
        self.options = {"channels": channels, "gate": gate}
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.gate = one_of("gate", gate, GATES)
        self.fc = Conv2d(channels, channels, **options, name="fc")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        gate = global_average(x)
        gate = self.fc(gate)
        gate = GATES[self.gate](gate)
        return scaled(x, gate)
