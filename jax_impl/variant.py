"""The residual block as published networks change it, and the block of any config."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.attention import AttentionModule
from jax_impl.block import ResidualBlockWithAttention
from jax_impl.bottleneck import ResidualBottleneckWithAttention
from jax_impl.convolution import make_convolution
from jax_impl.inputs import check_images, check_paths
from jax_impl.layers import cast_like, relu
from jax_impl.normalization import make_norm
from jax_impl.shapes import Maps, NewMaps
from jax_impl.shortcut import antialias, make_drop_path, make_shortcut
from weights.config import BlockConfig, BottleneckConfig


class ResidualBlockVariant(nnx.Module):
    """`ResidualBlockWithAttention` with the options of published networks.

    The same members and parameters. Between them there may be an antialiasing pooling after the
    first relu, a relu before the attention, another norm, padding or shortcut.

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
        out_channels).
    config: `weights.BlockConfig` says what its fields mean.
    dtype: to compute in, and of the output. param_dtype: of the parameters, dtype by default.
        Statistics are float32 at least.
    rngs: the source of initial values and of dropout, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for inputs of another rank or number of channels, for sizes at which main path
        and shortcut differ, and for float64 where JAX is not set up for it.
    """

    def __init__(
        self,
        config: BlockConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        channels, width = config.in_channels, config.out_channels
        stride, kernel, padding = config.main_stride, config.kernel_size, config.padding
        first, others = config.dilation
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        conv_options = {**options, "bias": config.conv_bias}
        self.config = config
        self.in_channels = config.in_channels
        self.conv1 = make_convolution(
            channels, width, kernel, stride["conv1"], padding, first, **conv_options
        )
        self.bn1 = make_norm(config, width, **options)
        self.conv2 = make_convolution(width, width, kernel, (1, 1), padding, others, **conv_options)
        self.bn2 = make_norm(config, width, 0 if config.zero_init else 1, **options)
        self.attention = AttentionModule(
            width, config.attention, config.attention_options, **options
        )
        self.drop_path = make_drop_path(config, **options)
        self.shortcut = make_shortcut(config, **options)

    @classmethod
    def from_config(cls, config: BlockConfig, **options: Any) -> ResidualBlockVariant:
        """The block of a config. options: dtype, param_dtype and rngs."""
        return cls(config, **options)

    def __call__(self, x: Maps) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y)
        y = relu(y)
        y = antialias(y, self.config.antialias, self.config.stride) if self.config.pools else y
        y = self.conv2(y)
        y = self.bn2(y)
        y = relu(y) if self.config.relu_before_attention else y
        y = self.attention(y)
        y = self.drop_path(y)
        x = self.shortcut(x)
        check_paths(y, x)
        y = y + cast_like(x, y)
        return relu(y)


def build_block(config: BlockConfig, **options: Any) -> nnx.Module:
    """The block of any config: plain, with options, or a bottleneck.

    options: dtype, param_dtype and rngs.
    """
    if isinstance(config, BottleneckConfig):
        return ResidualBottleneckWithAttention.from_config(config, **options)
    if config.is_plain:
        return ResidualBlockWithAttention.from_config(config, **options)
    return ResidualBlockVariant.from_config(config, **options)
