"""The layers of a network before its blocks."""

from __future__ import annotations

from typing import Any

from flax import nnx

from jax_impl.convolution import make_convolution
from jax_impl.layers import Conv2d, relu
from jax_impl.normalization import BatchNorm, make_norm
from jax_impl.pooling import (
    average_pool,
    blur_pool,
    max_pool,
    max_pool_ceil,
    max_pool_dense,
    max_pool_same,
)
from jax_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.config import NetworkConfig


class Stem(nnx.Module):
    """The layers before the blocks: convolution, batch norm, relu and an optional 3x3 max pooling.

    x: (batch, height, width, in_channels) -> (batch, ..., stem_channels), sizes divided by the
        strides and rounded up.
    """

    def __init__(self, config: NetworkConfig, **options: Any):
        sizes: Any = config  # complete, and all sizes are pairs
        kernel, channels = sizes.stem_kernel_size, sizes.stem_channels
        padding = (kernel[0] // 2, kernel[1] // 2)
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
        self.pools = config.stem_pool is not None

    def __call__(self, x: Maps) -> NewMaps:
        y = self.conv(x)
        y = self.bn(y)
        y = relu(y)
        return max_pool(y) if self.pools else y


class PublishedStem(nnx.Module):
    """`Stem` with the options of published networks: one or more convolutions, each with norm and
    relu, and a pooling.

    x: (batch, height, width, in_channels) -> (batch, ..., stem_channels), sizes divided by the
        strides.
    config: `weights.NetworkConfig` says what its fields mean.
    """

    def __init__(self, config: NetworkConfig, **options: Any):
        kernel, channels = config.stem_kernel_size, config.in_channels
        padding = config.stem_padding or (kernel[0] // 2, kernel[1] // 2)
        conv_options = {**options, "bias": config.conv_bias}
        self.config = config
        stride = config.stem_stride
        for (conv, norm), width in zip(config.stem_names, config.stem_widths, strict=True):
            made = make_convolution(channels, width, kernel, stride, padding, **conv_options)
            setattr(self, conv, made)
            setattr(self, norm, make_norm(config, width, **options))
            channels, stride = width, (1, 1)
        if config.stem_pool == "convolution":
            self.pool = nnx.Sequential(
                make_convolution(channels, channels, (3, 3), (2, 2), (1, 1), **conv_options),
                make_norm(config, channels, **options),
            )

    def __call__(self, x: Maps) -> NewMaps:
        for conv, norm in self.config.stem_names:
            x = getattr(self, conv)(x)
            x = getattr(self, norm)(x)
            x = relu(x)
        if self.config.stem_pool == "convolution":
            return relu(self.pool(x))
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


def make_stem(config: NetworkConfig, **options: Any) -> nnx.Module:
    """The stem of any config: plain, or with options."""
    if config.has_plain_stem:
        return Stem(config, **options)
    return PublishedStem(config, **options)
