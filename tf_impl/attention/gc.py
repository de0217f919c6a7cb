"""Global context."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.layers import (
    Conv2d,
    add,
    flatten_positions,
    global_average,
    relu,
    scale,
    sigmoid,
    softmax,
    swap_axes,
    unflatten_positions,
)
from tf_impl.normalization import LayerNorm
from tf_impl.shapes import Maps
from weights.attention import attention_parameters, hidden_width


class ContextTransform(keras.layers.Layer):
    """Two 1x1 convolutions with a layer norm and a relu between them.

    x: (batch, height, width, channels) -> the same shape.
    """

    def __init__(self, channels: int, hidden_channels: int, ln_eps: float, **keras_options: Any):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.fc1 = Conv2d(channels, hidden_channels, **options, name="fc1")
        self.norm = LayerNorm(hidden_channels, ln_eps, **options, name="norm")
        self.fc2 = Conv2d(hidden_channels, channels, **options, name="fc2")
        self.built = True

    def call(self, x: Maps) -> Maps:
        y = self.fc1(x)
        y = self.norm(y)
        y = relu(y)
        return self.fc2(y)


@keras.saving.register_keras_serializable("resattn")
class GlobalContext(keras.layers.Layer):
    """One context for all positions, added or as a scale (Cao et al. 2019, GCNet, section 3.4).

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input. The options and their errors: `weights.attention.global_context`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        pooling: str = "attention",
        fusion: str = "add",
        ln_eps: float = 1e-5,
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
            "pooling": pooling,
            "fusion": fusion,
            "ln_eps": ln_eps,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        attention_parameters(
            "gc", channels, {"pooling": pooling, "fusion": fusion, "ln_eps": ln_eps}
        )
        hidden = hidden_width(channels, reduction, hidden_channels, kind="gc")
        self.conv_attn = (
            Conv2d(channels, 1, **options, name="conv_attn") if pooling == "attention" else None
        )
        self.mlp_scale = (
            ContextTransform(channels, hidden, ln_eps, **options, name="mlp_scale")
            if fusion != "add"
            else None
        )
        self.mlp_add = (
            ContextTransform(channels, hidden, ln_eps, **options, name="mlp_add")
            if fusion != "scale"
            else None
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        if self.conv_attn is None:
            context = global_average(x)
        else:
            logits = flatten_positions(self.conv_attn(x))
            weights = softmax(swap_axes(logits, -2, -1))
            context = unflatten_positions(weights @ flatten_positions(x), 1, 1)
        if self.mlp_scale is not None:
            x = scale(x, sigmoid(self.mlp_scale(context)))
        if self.mlp_add is not None:
            x = add(x, self.mlp_add(context))
        return x
