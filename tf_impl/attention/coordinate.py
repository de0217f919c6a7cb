"""Coordinate attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl import axes
from tf_impl.layers import (
    Conv2d,
    average,
    concatenate,
    hard_swish,
    scale,
    sigmoid,
    split_at,
    swap_axes,
)
from tf_impl.normalization import make_batch_norm
from tf_impl.shapes import Maps
from weights.attention import attention_parameters, hidden_width


@keras.saving.register_keras_serializable("resattn")
class Coordinate(keras.layers.Layer):
    """One gate per row and one per column (Hou et al. 2021, Coordinate Attention, section 3.2).

    x: (batch, height, width, channels) -> the same shape, each value scaled by the gates of its row
        and its column.
    channels: of the input. The options and their errors: `weights.attention.coordinate`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        minimum: int = 8,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
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
            "minimum": minimum,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        attention_parameters(
            "coordinate", channels, {"bn_eps": bn_eps, "bn_decay": bn_decay, "folded": folded}
        )
        hidden = hidden_width(
            channels, reduction, hidden_channels, minimum=minimum, kind="coordinate"
        )
        self.conv1 = Conv2d(channels, hidden, **options, name="conv1")
        self.bn1 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options, name="bn1")
        self.conv_h = Conv2d(hidden, channels, **options, name="conv_h")
        self.conv_w = Conv2d(hidden, channels, **options, name="conv_w")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        rows = average(x, [axes.COLS])
        cols = swap_axes(average(x, [axes.ROWS]), axes.ROWS, axes.COLS)
        y = concatenate([rows, cols], axes.ROWS)
        y = self.conv1(y)
        y = self.bn1(y, training=training)
        y = hard_swish(y)
        rows, cols = split_at(y, ops.shape(x)[axes.ROWS], axes.ROWS)
        rows = sigmoid(self.conv_h(rows))
        cols = sigmoid(self.conv_w(swap_axes(cols, axes.ROWS, axes.COLS)))
        return scale(scale(x, cols), rows)
