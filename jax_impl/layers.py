"""The layers that the block and the network are made of, with nothing left to a default of the framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float

relu = nnx.relu
sigmoid = nnx.sigmoid

FLOAT64_HELP = (
    "JAX computes in 32 bits unless told otherwise. Say jax.config.update('jax_enable_x64', True) before the model is "
    "made, or set the environment variable JAX_ENABLE_X64=1"
)


def checked(dtype: DTypeLike) -> DTypeLike:
    """The dtype itself. Raises ValueError for float64 where JAX would make float32 of it."""
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ValueError(f"cannot make {jnp.dtype(dtype).name} parameters: {FLOAT64_HELP}")
    return dtype


class Conv2d(nnx.Conv):
    """2-d convolution with explicit padding, initialised as in He et al. 2015 (Delving deep, section 2.2; fan out).

    x: (batch, height, width, in_channels) -> (batch, (height + 2 padding - kernel) // stride + 1, ..., out_channels).
    kernel_size, stride, padding: (height, width).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        *,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=tuple((size, size) for size in padding),
            use_bias=bias,
            dtype=dtype,
            param_dtype=checked(dtype),
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            bias_init=nnx.initializers.zeros,
            rngs=rngs,
        )


class Linear(nnx.Linear):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features). Weights start normal, variance 1 / fan in."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            out_features,
            dtype=dtype,
            param_dtype=checked(dtype),
            kernel_init=nnx.initializers.variance_scaling(1.0, "fan_in", "normal"),
            bias_init=nnx.initializers.zeros,
            rngs=rngs,
        )


def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows cols channels"]:
    """3x3 maximum, stride 2, padding 1 with -inf on all four sides (He et al. 2015, table 1, as PyTorch pads)."""
    return nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def global_average(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch 1 1 channels"]:
    """The mean over all positions."""
    return x.mean(axis=(1, 2), keepdims=True)
