"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from jax_impl.block import ResidualBlockWithAttention
from jax_impl.layers import Conv2d, Linear, global_average, max_pool, relu
from jax_impl.normalization import BatchNorm
from weights.checks import check_input
from weights.config import NetworkConfig

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class Stem(nnx.Module):
    """What stands before the blocks: convolution, batch norm, relu, and a 3x3 maximum pooling if
    the config has one.

    x: (batch, height, width, in_channels) -> (batch, ..., stem_channels), sizes divided by the
    strides and rounded up.
    """

    def __init__(self, config: NetworkConfig, **options: Any):
        kernel, padding = (
            config.stem_kernel_size,
            tuple(size // 2 for size in config.stem_kernel_size),
        )
        self.conv = Conv2d(
            config.in_channels,
            config.stem_channels,
            kernel,
            config.stem_stride,
            padding,
            bias=config.conv_bias,
            **options,
        )
        self.bn = BatchNorm(config.stem_channels, config.bn_eps, config.bn_decay, **options)
        self.pools = config.stem_pool

    def __call__(
        self, x: Float[Array, "batch height width in_channels"]
    ) -> Float[Array, "batch rows cols channels"]:
        y = self.conv(x)
        y = self.bn(y)
        y = relu(y)
        return max_pool(y) if self.pools else y


class ResidualAttentionNetwork(nnx.Module):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, height, width, in_channels) -> (batch, classes), not normalised (logits).
    dtype: to compute in, and of what comes out. param_dtype: of the parameters, by default dtype;
    statistics are float32 at least. rngs: gives the initial values, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for inputs of another rank or number of channels,
    and for float64 where JAX is not set up for it.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.config = config
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
        """The network that a config describes. options: dtype, param_dtype and rngs."""
        return cls(config, **options)

    def __call__(
        self, x: Float[Array, "batch height width in_channels"]
    ) -> Float[Array, "batch classes"]:
        check_input(x.shape, "batch height width channels", self.config.in_channels)
        y = self.stem(x)
        y = self.stages(y)
        y = jnp.squeeze(global_average(y), axis=(1, 2))
        return self.classifier(y)
