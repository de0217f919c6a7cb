"""The shortcuts of published networks, and what else their blocks share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.attention import Identity
from jax_impl.convolution import make_convolution
from jax_impl.normalization import make_norm
from jax_impl.pooling import average_pool, blur_pool, subsample
from jax_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.checks import Pair
from weights.config import BlockConfig


class AverageShortcut(nnx.Sequential):
    """An average pooling with the stride, then layers without one (He et al. 2018, Bag of Tricks,
    figure 2c).

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ..., out_channels).
    """

    def __init__(self, stride: Pair, *layers: nnx.Module):
        super().__init__(*layers)
        self.stride = stride

    def __call__(self, x: Maps) -> NewMaps:  # type: ignore[override]
        y = average_pool(x, self.stride, ceil=True)
        return super().__call__(y)


class Subsample(nnx.Module):
    """`subsample` as a module.

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ..., channels).
    """

    def __init__(self, stride: Pair, channels: int):
        self.stride = stride
        self.channels = channels

    def __call__(self, x: Maps) -> NewMaps:
        return subsample(x, self.stride, self.channels)


class DropPath(nnx.Dropout):
    """Stochastic depth: in training, each image's map becomes 0 with probability `rate` and is else
    divided by 1 - rate (Huang et al. 2016, Deep Networks with Stochastic Depth).

    x: (batch, height, width, channels) -> the same shape.
    """

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        super().__init__(rate, broadcast_dims=(axes.ROWS, axes.COLS, axes.CHANNELS), rngs=rngs)

    def __call__(self, x: Maps) -> Maps:  # type: ignore[override]
        return super().__call__(x)


def make_shortcut(
    config: BlockConfig,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """The shortcut that a config asks for."""
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    channels, width, stride = config.in_channels, config.out_channels, config.stride
    if config.shortcut_form == "subsample":
        return Subsample(stride, width)
    if not config.projects:
        return Identity(channels, **options)
    pools = config.shortcut_form == "average"
    rows, cols = kernel = config.shortcut_kernel
    dilation = 1 if kernel == (1, 1) else config.dilation[0]
    layers = (
        make_convolution(
            channels, width, kernel, (1, 1) if pools else stride, (rows // 2, cols // 2), dilation,
            bias=config.conv_bias, **options,
        ),
        make_norm(config, width, **options),
    )  # fmt: skip
    return AverageShortcut(stride, *layers) if pools else nnx.Sequential(*layers)


def make_drop_path(
    config: BlockConfig,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """Stochastic depth where a config asks for it."""
    if config.drop_path:
        return DropPath(config.drop_path, rngs=rngs)
    return Identity(config.out_channels, dtype=dtype, param_dtype=param_dtype, rngs=rngs)


def antialias(x: Maps, kind: str, stride: Pair) -> ResizedMaps:
    """The pooling that has the stride of a main path. kind: "average" or "blur"."""
    return average_pool(x, stride, ceil=False) if kind == "average" else blur_pool(x, stride)
