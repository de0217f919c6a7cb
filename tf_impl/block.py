"""The residual block with attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tf_impl.attention import AttentionModule, Identity
from tf_impl.inputs import check_images
from tf_impl.layers import Conv2d, Sequential, cast_like, relu
from tf_impl.normalization import BatchNorm
from tf_impl.shapes import Maps, NewMaps
from weights.checks import Pair
from weights.config import BlockConfig


@keras.saving.register_keras_serializable("resattn")
class ResidualBlockWithAttention(keras.layers.Layer):
    """Residual block with an attention module before the sum.

    He et al. 2015, figure 2, and Hu et al. 2018, figure 3.

        y = relu(bn1(conv1(x)))          conv1: kernel_size, stride, padding
        y = attention(bn2(conv2(y)))     conv2: kernel_size, stride 1, padding
        relu(y + shortcut(x))            shortcut: the identity, or a 1x1 convolution with stride
                                         and a batch norm if channels or size change

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
        out_channels).
    `weights.BlockConfig` says what the arguments mean and which values they take.
    dtype: a dtype or a Keras dtype policy, Keras' own by default.
    name, keras_options: as for every Keras layer.
    Raises ValueError for arguments that make no block, for inputs of another rank or number of
        channels, and for float64 where Keras runs on JAX and JAX is not set up for it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 3,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        *,
        attention: str = "se",
        attention_options: Mapping[str, Any] | None = None,
        conv_bias: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        config = BlockConfig(
            in_channels, out_channels, kernel_size, stride, padding,
            attention, attention_options, conv_bias, bn_eps, bn_decay,
        )  # fmt: skip
        kernel, strides, margins = config.kernel_size, config.stride, config.padding
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        conv_options = {**options, "bias": conv_bias}
        self.config = config
        self.in_channels = config.in_channels
        self.conv1 = Conv2d(
            in_channels, out_channels, kernel, strides, margins, **conv_options, name="conv1"
        )
        self.bn1 = BatchNorm(out_channels, bn_eps, bn_decay, **options, name="bn1")
        self.conv2 = Conv2d(
            out_channels, out_channels, kernel, (1, 1), margins, **conv_options, name="conv2"
        )
        self.bn2 = BatchNorm(out_channels, bn_eps, bn_decay, **options, name="bn2")
        self.attention = AttentionModule(
            out_channels, attention, config.attention_options, **options, name="attention"
        )
        if config.projects:
            self.shortcut: keras.layers.Layer = Sequential(
                Conv2d(in_channels, out_channels, (1, 1), strides, **conv_options, name="0"),
                BatchNorm(out_channels, bn_eps, bn_decay, **options, name="1"),
                **options,
                name="shortcut",
            )
        else:
            self.shortcut = Identity(in_channels, **options, name="shortcut")
        self.built = True  # every weight exists

    @classmethod
    def from_config(
        cls, config: BlockConfig | dict[str, Any], **options: Any
    ) -> ResidualBlockWithAttention:
        """The block of a config, a BlockConfig or what Keras saved. options: dtype and name.

        Raises ValueError for options of published networks, see `build_block`.
        """
        if isinstance(config, BlockConfig):
            return cls(**config.plain, **options)
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.config.to_dict()}

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y, training=training)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y, training=training)
        y = self.attention(y, training=training)
        y = y + cast_like(self.shortcut(x, training=training), y)
        return relu(y)
