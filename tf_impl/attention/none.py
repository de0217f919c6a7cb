"""No attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class Identity(keras.layers.Layer):
    """No attention: gives back its input. x: (batch, height, width, channels)."""

    def __init__(
        self,
        channels: int,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.options = {"channels": channels}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        return x
