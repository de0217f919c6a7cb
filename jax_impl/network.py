"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.block import ResidualBlockWithAttention
from jax_impl.inputs import check_images
from jax_impl.layers import Conv2d, Linear, global_average, max_pool, relu
from jax_impl.normalization import BatchNorm
from jax_impl.shapes import Logits, Maps, NewMaps
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
        self.pools = config.stem_pool

    def __call__(self, x: Maps) -> NewMaps:
        y = self.conv(x)
        y = self.bn(y)
        y = relu(y)
        return max_pool(y) if self.pools else y


class ResidualAttentionNetwork(nnx.Module):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, height, width, in_channels) -> (batch, classes), logits.
    dtype: to compute in, and of the output. param_dtype: of the parameters, dtype by default.
        Statistics are float32 at least.
    rngs: the source of initial values, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for inputs of another rank or number of channels, and for float64
        where JAX is not set up for it.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.config = config
        self.in_channels = config.in_channels
        self.stem = Stem(config, **options)
        self.stages = nnx.Sequential(
            *(
                nnx.Sequential(
                    *(ResidualBlockWithAttention.from_config(block, **options) for block in blocks)
                )
                for blocks in config.stages()
            )
        )
        self.classifier = Linear(config.widths[-1], config.classes, **options)

    @classmethod
    def from_config(cls, config: NetworkConfig, **options: Any) -> ResidualAttentionNetwork:
        """The network of a config. options: dtype, param_dtype and rngs."""
        return cls(config, **options)

    def __call__(self, x: Maps) -> Logits:
        check_images(x, self.in_channels)
        y = self.stem(x)
        y = self.stages(y)
        y = jnp.squeeze(global_average(y), axis=(1, 2))
        return self.classifier(y)
