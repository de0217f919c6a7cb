"""The shortcuts of published networks, and what else their blocks share."""

from __future__ import annotations

from typing import Any

import keras

from tf_impl.attention import Identity
from tf_impl.convolution import make_convolution
from tf_impl.layers import Sequential
from tf_impl.normalization import make_norm
from tf_impl.pooling import average_pool, blur_pool, subsample
from tf_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.checks import Pair
from weights.config import BlockConfig


class AverageShortcut(Sequential):
    """An average pooling with the stride, then layers without one (He et al. 2018, Bag of Tricks,
    figure 2c).

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ..., out_channels).
    """

    def __init__(self, stride: Pair, *layers: keras.layers.Layer, **keras_options: Any):
        super().__init__(*layers, **keras_options)
        self.stride = stride

    def call(self, x: Maps, training: bool | None = None) -> NewMaps:
        y = average_pool(x, self.stride, ceil=True)
        return super().call(y, training)


class Subsample(keras.layers.Layer):
    """`subsample` as a module.

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ..., channels).
    """

    def __init__(self, stride: Pair, channels: int, **keras_options: Any):
        super().__init__(**keras_options)
        self.stride = stride
        self.channels = channels
        self.built = True

    def call(self, x: Maps) -> NewMaps:
        return subsample(x, self.stride, self.channels)


class DropPath(keras.layers.Dropout):
    """Stochastic depth: in training, each image's map becomes 0 with probability `rate` and is else
    divided by 1 - rate (Huang et al. 2016, Deep Networks with Stochastic Depth).

    x: (batch, height, width, channels) -> the same shape.
    """

    def __init__(self, rate: float, **keras_options: Any):
        super().__init__(rate, noise_shape=(None, 1, 1, 1), **keras_options)

    def call(self, x: Maps, training: bool | None = None) -> Maps:
        return super().call(x, training)


def make_shortcut(
    config: BlockConfig,
    *,
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> keras.layers.Layer:
    """The shortcut that a config asks for."""
    options: dict[str, Any] = {"dtype": dtype, **keras_options}
    channels, width, stride = config.in_channels, config.out_channels, config.stride
    if config.shortcut_form == "subsample":
        return Subsample(stride, width, **options, name=name)
    if not config.projects:
        return Identity(channels, **options, name=name)
    pools = config.shortcut_form == "average"
    rows, cols = kernel = config.shortcut_kernel
    dilation = 1 if kernel == (1, 1) else config.dilation[0]
    layers = (
        make_convolution(
            channels, width, kernel, (1, 1) if pools else stride, (rows // 2, cols // 2), dilation,
            bias=config.conv_bias, **options, name="0",
        ),
        make_norm(config, width, **options, name="1"),
    )  # fmt: skip
    options["name"] = name
    return AverageShortcut(stride, *layers, **options) if pools else Sequential(*layers, **options)


def make_drop_path(
    config: BlockConfig,
    *,
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> keras.layers.Layer:
    """Stochastic depth where a config asks for it."""
    options: dict[str, Any] = {"dtype": dtype, "name": name, **keras_options}
    if config.drop_path:
        return DropPath(config.drop_path, **options)
    return Identity(config.out_channels, **options)


def antialias(x: Maps, kind: str, stride: Pair) -> ResizedMaps:
    """The pooling that has the stride of a main path. kind: "average" or "blur"."""
    return average_pool(x, stride, ceil=False) if kind == "average" else blur_pool(x, stride)
