"""The residual block as published networks change it, and the block of any config."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.attention import AttentionModule
from tf_impl.block import ResidualBlockWithAttention
from tf_impl.bottleneck import ResidualBottleneckWithAttention
from tf_impl.convolution import make_convolution
from tf_impl.inputs import check_images, check_paths
from tf_impl.layers import cast_like, relu
from tf_impl.normalization import make_norm
from tf_impl.shapes import Maps, NewMaps
from tf_impl.shortcut import antialias, make_drop_path, make_shortcut
from weights.config import BlockConfig, BottleneckConfig


@keras.saving.register_keras_serializable("resattn")
class ResidualBlockVariant(keras.layers.Layer):
    """`ResidualBlockWithAttention` with the options of published networks.

    The same members and parameters. Between them there may be an antialiasing pooling after the
    first relu, a relu before the attention, another norm, padding or shortcut.

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
        out_channels).
    config: `weights.BlockConfig` says what its fields mean.
    dtype: a dtype or a Keras dtype policy, Keras' own by default.
    name, keras_options: as for every Keras layer.
    Raises ValueError for inputs of another rank or number of channels, for sizes at which main path
        and shortcut differ, and for float64 where Keras runs on JAX and JAX is not set
        up for it.
    """

    def __init__(
        self,
        config: BlockConfig,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        channels, width = config.in_channels, config.out_channels
        stride, kernel, padding = config.main_stride, config.kernel_size, config.padding
        first, others = config.dilation
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        conv_options = {**options, "bias": config.conv_bias}
        self.config = config
        self.in_channels = config.in_channels
        self.conv1 = make_convolution(
            channels, width, kernel, stride["conv1"], padding, first, **conv_options, name="conv1"
        )
        self.bn1 = make_norm(config, width, **options, name="bn1")
        self.conv2 = make_convolution(
            width, width, kernel, (1, 1), padding, others, **conv_options, name="conv2"
        )
        self.bn2 = make_norm(config, width, 0 if config.zero_init else 1, **options, name="bn2")
        self.attention = AttentionModule(
            width, config.attention, config.attention_options, **options, name="attention"
        )
        self.drop_path = make_drop_path(config, **options, name="drop_path")
        self.shortcut = make_shortcut(config, **options, name="shortcut")
        self.built = True  # every weight exists

    @classmethod
    def from_config(
        cls, config: BlockConfig | dict[str, Any], **options: Any
    ) -> ResidualBlockVariant:
        """The block of a config, or of what Keras saved. options: dtype and name."""
        if isinstance(config, BlockConfig):
            return cls(config, **options)
        return super().from_config({**config, "config": BlockConfig.from_dict(config["config"])})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y, training=training)
        y = relu(y)
        y = antialias(y, self.config.antialias, self.config.stride) if self.config.pools else y
        y = self.conv2(y)
        y = self.bn2(y, training=training)
        y = relu(y) if self.config.relu_before_attention else y
        y = self.attention(y, training=training)
        y = self.drop_path(y, training=training)
        x = self.shortcut(x, training=training)
        check_paths(y, x)
        y = y + cast_like(x, y)
        return relu(y)


def build_block(config: BlockConfig, **options: Any) -> keras.layers.Layer:
    """The block of any config: plain, with options, or a bottleneck. options: dtype and name."""
    if isinstance(config, BottleneckConfig):
        return ResidualBottleneckWithAttention.from_config(config, **options)
    if config.is_plain:
        return ResidualBlockWithAttention.from_config(config, **options)
    return ResidualBlockVariant.from_config(config, **options)
