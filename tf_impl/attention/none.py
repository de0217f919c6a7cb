"""No attention."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.shapes import Maps


@keras.saving.register_keras_serializable("resattn")
class Identity(keras.layers.Layer):
    """No attention: returns its input. x: (batch, height, width, channels)."""

    def __init__(
        self,
        channels: int,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.arguments = {"channels": channels}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        return x
