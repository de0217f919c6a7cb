"""The residual bottleneck with attention."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.attention import AttentionModule
from tf_impl.convolution import make_convolution
from tf_impl.inputs import check_images, check_paths
from tf_impl.layers import cast_like, relu
from tf_impl.normalization import make_norm
from tf_impl.shapes import Maps, NewMaps
from tf_impl.shortcut import antialias, make_drop_path, make_shortcut
from weights.config import BottleneckConfig


@keras.saving.register_keras_serializable("resattn")
class ResidualBottleneckWithAttention(keras.layers.Layer):
    """Residual bottleneck with an attention module before the sum.

    He et al. 2015, figure 5, and Hu et al. 2018, figure 3.

        y = relu(bn1(conv1(x)))          conv1: 1x1, to the first channels
        y = relu(bn2(conv2(y)))          conv2: kernel_size, stride, groups, to the hidden channels
        y = attention(bn3(conv3(y)))     conv3: 1x1, to the output channels
        relu(y + shortcut(x))            shortcut: the identity, or a 1x1 convolution with stride
                                         and a norm if channels or size change

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
        out_channels).
    config: `weights.BottleneckConfig` says what its fields mean; published networks change where
        the stride is, the shortcut and more.
    dtype: a dtype or a Keras dtype policy, Keras' own by default.
    name, keras_options: as for every Keras layer.
    Raises ValueError for inputs of another rank or number of channels, for sizes at which main path
        and shortcut differ, and for float64 where Keras runs on JAX and JAX is not set
        up for it.
    """

    def __init__(
        self,
        config: BottleneckConfig,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        channels, width = config.in_channels, config.out_channels
        first, hidden = config.first_channels, config.hidden_channels
        sizes: Any = config  # complete, and all sizes are pairs
        stride, kernel, dilation = config.main_stride, sizes.kernel_size, sizes.dilation[0]
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        conv_options = {**options, "bias": config.conv_bias}
        self.config = sizes
        self.in_channels = config.in_channels
        self.conv1 = make_convolution(
            channels, first, (1, 1), stride["conv1"], **conv_options, name="conv1"
        )
        self.bn1 = make_norm(config, first, **options, name="bn1")
        self.conv2 = make_convolution(
            first, hidden, kernel, stride["conv2"], sizes.padding, dilation, config.groups,
            **conv_options, name="conv2",
        )  # fmt: skip
        self.bn2 = make_norm(config, hidden, **options, name="bn2")
        self.conv3 = make_convolution(hidden, width, **conv_options, name="conv3")
        self.bn3 = make_norm(config, width, 0 if config.zero_init else 1, **options, name="bn3")
        self.attention = AttentionModule(
            width, config.attention, config.attention_options, **options, name="attention"
        )
        self.drop_path = make_drop_path(config, **options, name="drop_path")
        self.shortcut = make_shortcut(config, **options, name="shortcut")
        self.built = True  # every weight exists

    @classmethod
    def from_config(
        cls, config: BottleneckConfig | dict[str, Any], **options: Any
    ) -> ResidualBottleneckWithAttention:
        """The block of a config, or of what Keras saved. options: dtype and name."""
        if isinstance(config, BottleneckConfig):
            return cls(config, **options)
        return super().from_config(
            {**config, "config": BottleneckConfig.from_dict(config["config"])}
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y, training=training)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y, training=training)
        y = relu(y)
        y = antialias(y, self.config.antialias, self.config.stride) if self.config.pools else y
        y = self.conv3(y)
        y = self.bn3(y, training=training)
        y = relu(y) if self.config.relu_before_attention else y
        y = self.attention(y, training=training)
        y = self.drop_path(y, training=training)
        x = self.shortcut(x, training=training)
        check_paths(y, x)
        y = y + cast_like(x, y)
        return relu(y)
