"""The residual block with attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from jax_impl.attention import AttentionModule, Identity
from jax_impl.layers import Conv2d, like, relu
from jax_impl.normalization import BatchNorm
from weights.checks import check_input
from weights.config import BlockConfig, Pair

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class ResidualBlockWithAttention(nnx.Module):
    """Residual block (He et al. 2015, figure 2) with an attention module in front of the sum (Hu et
    al. 2018, figure 3).

        y = relu(bn1(conv1(x)))         conv1: kernel_size, stride, padding y =
                                        attention(bn2(conv2(y)))    conv2: kernel_size, stride 1,
                                        padding relu(y + shortcut(x))           shortcut: a 1x1
                                        convolution with stride and a batch norm, or nothing where
                                        in_channels is out_channels and stride is 1

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ceil(width / stride),
    out_channels). The arguments are those of `weights.BlockConfig`, which says what they mean and
    which values it takes.
    dtype: to compute in, and of what comes out. param_dtype: of the parameters, by default dtype;
    statistics are float32 at least. rngs: gives the initial values, as usual in Flax: nnx.Rngs(0).
    Raises ValueError for arguments that make no block, and for inputs of another rank or number of
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
        kernel, stride, padding = config.kernel_size, config.stride, config.padding
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.config = config
        self.conv1 = Conv2d(
            in_channels, out_channels, kernel, stride, padding, bias=conv_bias, **options
        )
        self.bn1 = BatchNorm(out_channels, bn_eps, bn_decay, **options)
        self.conv2 = Conv2d(
            out_channels, out_channels, kernel, (1, 1), padding, bias=conv_bias, **options
        )
        self.bn2 = BatchNorm(out_channels, bn_eps, bn_decay, **options)
        self.attention = AttentionModule(
            out_channels, attention, config.attention_options, **options
        )
        if config.projects:
            self.shortcut = nnx.Sequential(
                Conv2d(in_channels, out_channels, (1, 1), stride, bias=conv_bias, **options),
                BatchNorm(out_channels, bn_eps, bn_decay, **options),
            )
        else:
            self.shortcut = Identity(in_channels, **options)

    @classmethod
    def from_config(cls, config: BlockConfig, **options: Any) -> ResidualBlockWithAttention:
        """The block that a config describes. options: dtype, param_dtype and rngs."""
        return cls(**config.to_dict(), **options)

    def __call__(
        self, x: Float[Array, "batch height width in_channels"]
    ) -> Float[Array, "batch rows cols out_channels"]:
        check_input(x.shape, "batch height width channels", self.config.in_channels)
        y = self.conv1(x)
        y = self.bn1(y)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = self.attention(y)
        y = y + like(y, self.shortcut(x))
        return relu(y)
