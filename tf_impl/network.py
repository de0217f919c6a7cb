"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl.block import ResidualBlockWithAttention
from tf_impl.inputs import check_images
from tf_impl.layers import Conv2d, Linear, Sequential, global_average, max_pool, relu
from tf_impl.normalization import BatchNorm
from tf_impl.shapes import Logits, Maps, NewMaps
from weights.config import NetworkConfig


class Stem(keras.layers.Layer):
    """The layers before the blocks: convolution, batch norm, relu and an optional 3x3 max pooling.

    x: (batch, height, width, in_channels) -> (batch, ..., stem_channels), sizes divided by the
        strides and rounded up.
    """

    def __init__(self, config: NetworkConfig, **keras_options: Any):
        super().__init__(**keras_options)
        sizes: Any = config  # complete, and all sizes are pairs
        kernel, channels = sizes.stem_kernel_size, sizes.stem_channels
        padding = (kernel[0] // 2, kernel[1] // 2)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.conv = Conv2d(
            config.in_channels,
            channels,
            kernel,
            sizes.stem_stride,
            padding,
            bias=config.conv_bias,
            **options,
        )
        self.bn = BatchNorm(channels, config.bn_eps, config.bn_decay, **options)
        self.pools = config.stem_pool
        self.built = True

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        y = self.conv(x)
        y = self.bn(y, training=training)
        y = relu(y)
        return max_pool(y) if self.pools else y


@keras.saving.register_keras_serializable("resattn")
class ResidualAttentionNetwork(keras.Model):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, height, width, in_channels) -> (batch, classes), logits.
    dtype: a dtype or a Keras dtype policy, Keras' own by default.
    name, keras_options: as for every Keras model.
    Raises ValueError for inputs of another rank or number of channels, and for float64
        where Keras runs on JAX and JAX is not set up for it.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.config = config
        self.in_channels = config.in_channels
        self.stem = Stem(config, **options, name="stem")
        self.stages = Sequential(
            *(
                Sequential(
                    *(ResidualBlockWithAttention.from_config(block, **options) for block in blocks),
                    **options,
                )
                for blocks in config.stages()
            ),
            **options,
            name="stages",
        )
        self.classifier = Linear(config.widths[-1], config.classes, **options, name="classifier")
        self.built = True  # every weight exists

    @classmethod
    def from_config(
        cls, config: NetworkConfig | dict[str, Any], **options: Any
    ) -> ResidualAttentionNetwork:
        """The network of a config, a NetworkConfig or what Keras saved. options: dtype and name."""
        if isinstance(config, NetworkConfig):
            return cls(config, **options)
        return super().from_config({**config, "config": NetworkConfig.from_dict(config["config"])})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def call(self, x: Maps, training: bool | None = None) -> Logits:
        check_images(x, self.in_channels)
        y = self.stem(x, training=training)
        y = self.stages(y, training=training)
        y = ops.squeeze(global_average(y), axis=(1, 2))
        return self.classifier(y)
