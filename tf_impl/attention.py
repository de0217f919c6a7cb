"""The attention modules, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from tf_impl.layers import Conv2d, global_average, relu, sigmoid
from weights.attention import attention_parameters, hidden_width

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class Identity(keras.layers.Layer):
    """No attention: gives back its input. x: (batch, height, width, channels)."""

    def __init__(self, channels: int, *, dtype: Any = None, name: str | None = None, **keras_options: Any):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.options = {"channels": channels}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        return x


@keras.saving.register_keras_serializable("resattn")
class SqueezeExcite(keras.layers.Layer):
    """Channel attention by squeeze-and-excitation (Hu et al. 2018, section 3).

    x: (batch, height, width, channels) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. reduction: channels / hidden width (16 by default), or hidden_channels: the hidden width
    itself; see `weights.attention.hidden_width`.
    Raises ValueError when both are given or one is not a positive integer.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.options = {"channels": channels, "reduction": reduction, "hidden_channels": hidden_channels}
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.fc1 = Conv2d(channels, hidden, **options, name="fc1")
        self.fc2 = Conv2d(hidden, channels, **options, name="fc2")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        gate = global_average(x)
        gate = self.fc1(gate)
        gate = relu(gate)
        gate = self.fc2(gate)
        gate = sigmoid(gate)
        return x * gate


ATTENTION: dict[str, type[keras.layers.Layer]] = {"none": Identity, "se": SqueezeExcite}


def AttentionModule(  # noqa: N802  (a name users rely on; it makes a module as a class would)
    channels: int,
    kind: str = "se",
    options: Mapping[str, Any] | None = None,
    *,
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> keras.layers.Layer:
    """A new attention module of a kind of `ATTENTION`, with that kind's options.

    Raises ValueError for a kind or an option that does not exist, and what the module raises.
    """
    attention_parameters(kind, channels, options or {})
    return ATTENTION[kind](channels, **(options or {}), dtype=dtype, name=name, **keras_options)
