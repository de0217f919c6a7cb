"""The residual block with attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from tf_impl.attention import AttentionModule, Identity
from tf_impl.layers import Conv2d, Sequential, like, relu
from tf_impl.normalization import BatchNorm
from weights.checks import check_input
from weights.config import BlockConfig, Pair

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


@keras.saving.register_keras_serializable("resattn")
class ResidualBlockWithAttention(keras.layers.Layer):
    """Residual block (He et al. 2015, figure 2) with an attention module in front of the sum (Hu et
    al. 2018, figure 3).

        y = relu(bn1(conv1(x)))         conv1: kernel_size, stride, padding y =
                                        attention(bn2(conv2(y)))    conv2: kernel_size, stride 1,
                                        padding relu(y + shortcut(x))           shortcut: a 1x1
                                        convolution with stride and a batch norm, or nothing where
                                        in_channels is out_channels and stride is 1

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
    out_channels). The arguments are those of `weights.BlockConfig`, which says what they mean and
    which values it takes.
    dtype: a dtype or a Keras dtype policy, by default Keras' own. name, keras_options: as for every
        Keras layer.
    Raises ValueError for arguments that make no block, and for inputs of another rank or number of
    channels, and for float64 where JAX (as Keras' backend) is not set up for it.
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
        kernel, stride, padding = config.kernel_size, config.stride, config.padding
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.config = config
        self.conv1 = Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            bias=conv_bias,
            **options,
            name="conv1",
        )
        self.bn1 = BatchNorm(out_channels, bn_eps, bn_decay, **options, name="bn1")
        self.conv2 = Conv2d(
            out_channels,
            out_channels,
            kernel,
            (1, 1),
            padding,
            bias=conv_bias,
            **options,
            name="conv2",
        )
        self.bn2 = BatchNorm(out_channels, bn_eps, bn_decay, **options, name="bn2")
        self.attention = AttentionModule(
            out_channels, attention, config.attention_options, **options, name="attention"
        )
        if config.projects:
            self.shortcut = Sequential(
                Conv2d(
                    in_channels, out_channels, (1, 1), stride, bias=conv_bias, **options, name="0"
                ),
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
        """The block that a config describes, a BlockConfig or what Keras saved. options: dtype and
        name.
        """
        if isinstance(config, BlockConfig):
            return cls(**config.to_dict(), **options)
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.config.to_dict()}

    def call(
        self, x: Float[KerasTensor, "batch height width in_channels"], training: bool | None = None
    ) -> Float[KerasTensor, "batch rows cols out_channels"]:
        check_input(x.shape, "batch height width channels", self.config.in_channels)
        y = self.conv1(x)
        y = self.bn1(y, training=training)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y, training=training)
        y = self.attention(y, training=training)
        y = y + like(y, self.shortcut(x, training=training))
        return relu(y)
