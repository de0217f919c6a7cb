"""The residual bottleneck with attention."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.attention import AttentionModule
from jax_impl.convolution import make_convolution
from jax_impl.inputs import check_images, check_paths
from jax_impl.layers import cast_like, relu
from jax_impl.normalization import make_norm
from jax_impl.shapes import Maps, NewMaps
from jax_impl.shortcut import antialias, make_drop_path, make_shortcut
from weights.config import BottleneckConfig


class ResidualBottleneckWithAttention(nnx.Module):
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
    dtype: to compute in, and of the output. param_dtype: of the parameters, dtype by default.
        Statistics are float32 at least.
    rngs: the source of initial values and of dropout, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for inputs of another rank or number of channels, for sizes at which main path
        and shortcut differ, and for float64 where JAX is not set up for it.
    """

    def __init__(
        self,
        config: BottleneckConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        channels, width = config.in_channels, config.out_channels
        first, hidden = config.first_channels, config.hidden_channels
        sizes: Any = config  # complete, and all sizes are pairs
        stride, kernel, dilation = config.main_stride, sizes.kernel_size, sizes.dilation[0]
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        conv_options = {**options, "bias": config.conv_bias}
        self.config = sizes
        self.in_channels = config.in_channels
        self.conv1 = make_convolution(channels, first, (1, 1), stride["conv1"], **conv_options)
        self.bn1 = make_norm(config, first, **options)
        self.conv2 = make_convolution(
            first, hidden, kernel, stride["conv2"], sizes.padding, dilation, config.groups,
            **conv_options,
        )  # fmt: skip
        self.bn2 = make_norm(config, hidden, **options)
        self.conv3 = make_convolution(hidden, width, **conv_options)
        self.bn3 = make_norm(config, width, 0 if config.zero_init else 1, **options)
        self.attention = AttentionModule(
            width, config.attention, config.attention_options, **options
        )
        self.drop_path = make_drop_path(config, **options)
        self.shortcut = make_shortcut(config, **options)

    @classmethod
    def from_config(
        cls, config: BottleneckConfig, **options: Any
    ) -> ResidualBottleneckWithAttention:
        """The block of a config. options: dtype, param_dtype and rngs."""
        return cls(config, **options)

    def __call__(self, x: Maps) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = relu(y)
        y = antialias(y, self.config.antialias, self.config.stride) if self.config.pools else y
        y = self.conv3(y)
        y = self.bn3(y)
        y = relu(y) if self.config.relu_before_attention else y
        y = self.attention(y)
        y = self.drop_path(y)
        x = self.shortcut(x)
        check_paths(y, x)
        y = y + cast_like(x, y)
        return relu(y)
