"""The residual block with attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.attention import AttentionModule, Identity
from jax_impl.inputs import check_images
from jax_impl.layers import Conv2d, cast_like, relu
from jax_impl.normalization import BatchNorm
from jax_impl.shapes import Maps, NewMaps
from weights.checks import Pair
from weights.config import BlockConfig


class ResidualBlockWithAttention(nnx.Module):
    """Residual block with an attention module before the sum.

    He et al. 2015, figure 2, and Hu et al. 2018, figure 3.

        y = relu(bn1(conv1(x)))          conv1: kernel_size, stride, padding
        y = attention(bn2(conv2(y)))     conv2: kernel_size, stride 1, padding
        relu(y + shortcut(x))            shortcut: the identity, or a 1x1 convolution with stride
                                         and a batch norm if channels or size change

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
        out_channels).
    `weights.BlockConfig` says what the arguments mean and which values they take.
    dtype: to compute in, and of the output. param_dtype: of the parameters, dtype by default.
        Statistics are float32 at least.
    rngs: the source of initial values, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for arguments that make no block, for inputs of another rank or number of
        channels, and for float64 where JAX is not set up for it.
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
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        config = BlockConfig(
            in_channels, out_channels, kernel_size, stride, padding,
            attention, attention_options, conv_bias, bn_eps, bn_decay,
        )  # fmt: skip
        kernel, strides, margins = config.kernel_size, config.stride, config.padding
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        conv_options = {**options, "bias": conv_bias}
        self.config = config
        self.in_channels = config.in_channels
        self.conv1 = Conv2d(in_channels, out_channels, kernel, strides, margins, **conv_options)
        self.bn1 = BatchNorm(out_channels, bn_eps, bn_decay, **options)
        self.conv2 = Conv2d(out_channels, out_channels, kernel, (1, 1), margins, **conv_options)
        self.bn2 = BatchNorm(out_channels, bn_eps, bn_decay, **options)
        self.attention = AttentionModule(
            out_channels, attention, config.attention_options, **options
        )
        if config.projects:
            self.shortcut: nnx.Module = nnx.Sequential(
                Conv2d(in_channels, out_channels, (1, 1), strides, **conv_options),
                BatchNorm(out_channels, bn_eps, bn_decay, **options),
            )
        else:
            self.shortcut = Identity(in_channels, **options)

    @classmethod
    def from_config(cls, config: BlockConfig, **options: Any) -> ResidualBlockWithAttention:
        """The block of a config. options: dtype, param_dtype and rngs.

        Raises ValueError for options of published networks, see `build_block`.
        """
        return cls(**config.plain, **options)

    def __call__(self, x: Maps) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = self.attention(y)
        y = y + cast_like(self.shortcut(x), y)
        return relu(y)
