"""The layers of a network before its blocks."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.convolution import make_convolution
from tf_impl.layers import Conv2d, Sequential, relu
from tf_impl.normalization import BatchNorm, make_norm
from tf_impl.pooling import (
    average_pool,
    blur_pool,
    max_pool,
    max_pool_ceil,
    max_pool_dense,
    max_pool_same,
)
from tf_impl.shapes import Maps, NewMaps, ResizedMaps
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
            name="conv",
        )
        self.bn = BatchNorm(channels, config.bn_eps, config.bn_decay, **options, name="bn")
        self.pools = config.stem_pool is not None
        self.built = True

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        y = self.conv(x)
        y = self.bn(y, training=training)
        y = relu(y)
        return max_pool(y) if self.pools else y


class PublishedStem(keras.layers.Layer):
    """`Stem` with the options of published networks: one or more convolutions, each with norm and
    relu, and a pooling.

    x: (batch, height, width, in_channels) -> (batch, ..., stem_channels), sizes divided by the
        strides.
    config: `weights.NetworkConfig` says what its fields mean.
    """

    def __init__(self, config: NetworkConfig, **keras_options: Any):
        super().__init__(**keras_options)
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        kernel, channels = config.stem_kernel_size, config.in_channels
        padding = config.stem_padding or (kernel[0] // 2, kernel[1] // 2)
        conv_options = {**options, "bias": config.conv_bias}
        self.config = config
        stride = config.stem_stride
        for (conv, norm), width in zip(config.stem_names, config.stem_widths, strict=True):
            made = make_convolution(
                channels, width, kernel, stride, padding, **conv_options, name=conv
            )
            setattr(self, conv, made)
            setattr(self, norm, make_norm(config, width, **options, name=norm))
            channels, stride = width, (1, 1)
        if config.stem_pool == "convolution":
            self.pool = Sequential(
                make_convolution(
                    channels, channels, (3, 3), (2, 2), (1, 1), **conv_options, name="0"
                ),
                make_norm(config, channels, **options, name="1"),
                **options,
                name="pool",
            )
        self.built = True

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        for conv, norm in self.config.stem_names:
            x = getattr(self, conv)(x)
            x = getattr(self, norm)(x, training=training)
            x = relu(x)
        if self.config.stem_pool == "convolution":
            return relu(self.pool(x, training=training))
        return pool_maps(x, self.config.stem_pool)


def pool_maps(x: Maps, kind: str | None) -> ResizedMaps:
    """The pooling of a stem. kind: `weights.NetworkConfig`'s stem_pool, but no convolution."""
    if kind == "max":
        return max_pool(x)
    if kind == "max_ceil":
        return max_pool_ceil(x)
    if kind == "max_same":
        return max_pool_same(x)
    if kind == "average":
        return average_pool(x, (2, 2), ceil=False)
    if kind == "max_blur":
        return blur_pool(max_pool_dense(x), (2, 2))
    return x


def make_stem(config: NetworkConfig, **options: Any) -> keras.layers.Layer:
    """The stem of any config: plain, or with options."""
    if config.has_plain_stem:
        return Stem(config, **options)
    return PublishedStem(config, **options)
