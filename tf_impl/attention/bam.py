"""Bottleneck attention module."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.layers import Conv2d, add, global_average, relu, scale, sigmoid
from tf_impl.normalization import make_batch_norm
from tf_impl.shapes import ChannelValues, Maps, PositionValues
from weights.attention import attention_parameters, hidden_width


class ChannelBranch(keras.layers.Layer):
    """One logit per channel, from the averages of all channels.

    x: (batch, height, width, channels) -> (batch, 1, 1, channels).
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        bn_eps: float,
        bn_decay: float,
        folded: bool,
        **keras_options: Any,
    ):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.fc_0 = Conv2d(channels, hidden_channels, **options, name="fc_0")
        self.bn_1 = make_batch_norm(
            hidden_channels, bn_eps, bn_decay, folded, **options, name="bn_1"
        )
        self.fc_final = Conv2d(hidden_channels, channels, **options, name="fc_final")
        self.built = True

    def call(self, x: Maps, training: bool | None = None) -> ChannelValues:
        y = global_average(x)
        y = self.fc_0(y)
        y = self.bn_1(y, training=training)
        y = relu(y)
        return self.fc_final(y)


class SpatialBranch(keras.layers.Layer):
    """One logit per position, from its surroundings: two dilated 3x3 convolutions between 1x1 ones.

    x: (batch, height, width, channels) -> (batch, height, width, 1).
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        dilation: int,
        bn_eps: float,
        bn_decay: float,
        folded: bool,
        **keras_options: Any,
    ):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        hidden, spread = hidden_channels, (dilation, dilation)
        self.conv_reduce0 = Conv2d(channels, hidden, **options, name="conv_reduce0")
        self.bn_reduce0 = make_batch_norm(
            hidden, bn_eps, bn_decay, folded, **options, name="bn_reduce0"
        )
        self.conv_di_0 = Conv2d(
            hidden, hidden, (3, 3), (1, 1), spread, spread, **options, name="conv_di_0"
        )
        self.bn_di_0 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options, name="bn_di_0")
        self.conv_di_1 = Conv2d(
            hidden, hidden, (3, 3), (1, 1), spread, spread, **options, name="conv_di_1"
        )
        self.bn_di_1 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options, name="bn_di_1")
        self.conv_final = Conv2d(hidden, 1, **options, name="conv_final")
        self.built = True

    def call(self, x: Maps, training: bool | None = None) -> PositionValues:
        y = self.conv_reduce0(x)
        y = self.bn_reduce0(y, training=training)
        y = relu(y)
        y = self.conv_di_0(y)
        y = self.bn_di_0(y, training=training)
        y = relu(y)
        y = self.conv_di_1(y)
        y = self.bn_di_1(y, training=training)
        y = relu(y)
        return self.conv_final(y)


@keras.saving.register_keras_serializable("resattn")
class BAM(keras.layers.Layer):
    """Channel and spatial attention in parallel (Park et al. 2018, BAM, section 3.1).

    x: (batch, height, width, channels) -> the same shape, each value scaled by 1 + a gate in
        (0, 1).
    channels: of the input. The options and their errors: `weights.attention.bam`.
    Raises ValueError in training with one image: the channel branch normalises over images.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        dilation: int = 4,
        fusion: str = "sum",
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
            "dilation": dilation,
            "fusion": fusion,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        settings = {
            "dilation": dilation,
            "fusion": fusion,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("bam", channels, settings)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.fusion = fusion
        self.channel_att = ChannelBranch(
            channels, hidden, bn_eps, bn_decay, folded, **options, name="channel_att"
        )
        self.spatial_att = SpatialBranch(
            channels, hidden, dilation, bn_eps, bn_decay, folded, **options, name="spatial_att"
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        channel = self.channel_att(x, training=training)
        spatial = self.spatial_att(x, training=training)
        logits = add(channel, spatial) if self.fusion == "sum" else scale(channel, spatial)
        return x * (1 + sigmoid(logits))
