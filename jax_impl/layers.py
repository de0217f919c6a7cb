"""The layers that the block and the network are made of, with nothing left to a default of the
framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float

CHANNELS, ROWS, COLS = 3, 1, 2

relu = nnx.relu


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 / (1 + exp(-x)), in float32 at least: its slope is s (1 - s), and 1 - s of an s near 1 that
    was rounded to bfloat16 has few digits or none."""
    return like(x, nnx.sigmoid(widened(x)))


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """relu6(x + 3) / 6. Not nnx.hard_sigmoid, made of maximum and minimum, whose gradients look for
    equal values.
    """
    y = x + 3
    return jnp.where(y > 0, jnp.where(y < 6, y, 6), 0) / 6


def hard_swish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x hard_sigmoid(x) (Howard et al. 2019, section 5.2)."""
    return x * hard_sigmoid(x)


GATES = {"sigmoid": sigmoid, "hard_sigmoid": hard_sigmoid}

FLOAT64_HELP = (
    "JAX computes in 32 bits unless told otherwise. Say jax.config.update('jax_enable_x64', True) "
    "before the model is made, or set the environment variable JAX_ENABLE_X64=1"
)


def checked(dtype: DTypeLike) -> DTypeLike:
    """The dtype itself. Raises ValueError for float64 where JAX would make float32 of it."""
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ValueError(f"cannot make {jnp.dtype(dtype).name} parameters: {FLOAT64_HELP}")
    return dtype


def with_wide_bias(
    arrays: tuple[Array, Array, Array | None], *, dtype: DTypeLike
) -> tuple[Array, Array, Array | None]:
    """Input and kernel in the dtype to compute in, the bias in float32 at least.

    A bias' slope is a sum over batch and positions; in bfloat16 XLA loses half of it over 8 images
    of 56 x 56 positions.
    """
    x, kernel, bias = arrays
    return x.astype(dtype), kernel.astype(dtype), None if bias is None else widened(bias)


class Conv2d(nnx.Conv):
    """2-d convolution with explicit padding, initialised as in He et al. 2015 (Delving deep,
    section 2.2; fan out).

    x: (batch, height, width, in_channels) -> (batch, (height + 2 padding - kernel) // stride + 1,
        ..., out_channels).
    kernel_size, stride, padding: (height, width). dilation: how far apart the kernel's values are,
    (height, width); the kernel's size above is then dilation (kernel_size - 1) + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        *,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=tuple((size, size) for size in padding),
            kernel_dilation=dilation,
            use_bias=bias,
            dtype=dtype,
            param_dtype=checked(param_dtype or dtype),
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            bias_init=nnx.initializers.zeros,
            promote_dtype=with_wide_bias,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows cols out_channels"]:
        return super().__call__(x).astype(self.dtype)


class DepthwiseConv2d(nnx.Conv):
    """2-d convolution of each channel by itself, without bias; otherwise as `Conv2d`.

    x: (batch, height, width, channels) -> (batch, (height + 2 padding - kernel) // stride + 1, ...,
    channels).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride,
            padding=tuple((size, size) for size in padding),
            feature_group_count=channels,
            use_bias=False,
            dtype=dtype,
            param_dtype=checked(param_dtype or dtype),
            kernel_init=nnx.initializers.normal((2 / (kernel_size[0] * kernel_size[1])) ** 0.5),
            rngs=rngs,
        )


class Conv1d(nnx.Conv):
    """1-d convolution that keeps the length, one channel to one, without bias. Weights start
    normal, variance 2 / size.

    x: (batch, length, 1) -> the same shape. kernel_size: odd. padding: "zero", or "circular": the
    last is next to the first.
    """

    def __init__(
        self,
        kernel_size: int,
        padding: str = "zero",
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            1,
            1,
            kernel_size,
            padding="VALID",
            use_bias=False,
            dtype=dtype,
            param_dtype=checked(param_dtype or dtype),
            kernel_init=nnx.initializers.normal((2 / kernel_size) ** 0.5),
            rngs=rngs,
        )
        self.margin = kernel_size // 2
        self.circular = padding == "circular"

    def __call__(self, x: Float[Array, "batch length 1"]) -> Float[Array, "batch length 1"]:
        margins = ((0, 0), (self.margin, self.margin), (0, 0))
        return super().__call__(jnp.pad(x, margins, mode="wrap" if self.circular else "constant"))


class Linear(nnx.Linear):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features). Weights start
    normal, variance 1 / fan in.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            out_features,
            dtype=dtype,
            param_dtype=checked(param_dtype or dtype),
            kernel_init=nnx.initializers.variance_scaling(1.0, "fan_in", "normal"),
            bias_init=nnx.initializers.zeros,
            promote_dtype=with_wide_bias,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "batch in_features"]) -> Float[Array, "batch out_features"]:
        return super().__call__(x).astype(self.dtype)


class Bottleneck(nnx.Module):
    """Two 1x1 convolutions with a relu between. x: (batch, height, width, channels) -> the same
    shape.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.fc1 = Conv2d(channels, hidden_channels, bias=bias, **options)
        self.fc2 = Conv2d(hidden_channels, channels, bias=bias, **options)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        y = self.fc1(x)
        y = relu(y)
        return self.fc2(y)


def max_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch rows cols channels"]:
    """3x3 maximum, stride 2, padding 1 with -inf on all four sides (He et al. 2015, table 1, as
    PyTorch pads).
    """
    return nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def max_pool_2x2(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch rows cols channels"]:
    """2x2 maximum, stride 2; what is left over at the end is dropped."""
    return nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2), padding="VALID")


def average(x: Float[Array, "..."], *axes: int) -> Float[Array, "..."]:
    """The mean over axes, which stay with size 1.

    Axis by axis, from the last: over several at once XLA on CPU may add up all positions one after
    the other, which loses four times more than PyTorch does. In float32 at least: a low precision
    is rounded to once, not behind every axis.
    """
    y = widened(x)
    for axis in sorted(axes, reverse=True):
        y = y.mean(axis=axis, keepdims=True)
    return like(x, y)


def maximum(x: Float[Array, "..."], *axes: int) -> Float[Array, "..."]:
    """The greatest over axes, which stay with size 1. Its slope goes to one place, by its index.

    Not x.max, whose gradient looks for values that equal the greatest: XLA computes x a second time
    for that, rounded otherwise, and in triplet attention found none (jax 0.10.2 on CPU: gradients
    wrong by 0.2, or infinite).
    """
    for axis in axes:
        x = jnp.take_along_axis(x, jnp.argmax(x, axis=axis, keepdims=True), axis=axis)
    return x


def greater(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """The greater of two, value by value. Not jnp.maximum, whose gradient looks for equal values as
    that of x.max does.
    """
    return jnp.where(x > y, x, y)


def widened(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """In float32 at least: squares and sums of many leave the range of float16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def like(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """y in the dtype of x."""
    return y.astype(x.dtype)


def scaled(x: Float[Array, "..."], factor: Float[Array, "..."]) -> Float[Array, "..."]:
    """x factor, the factor broadcast. In float32 at least: its slope is a sum over many positions,
    which XLA adds up in the format (off by 3% for 56 x 56 positions in bfloat16).
    """
    return like(x, widened(x) * widened(factor))


def added(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """x + y, y broadcast. In float32 at least, as `scaled`."""
    return like(x, widened(x) + widened(y))


def position_count(x: Float[Array, "..."]) -> int:
    """How many positions a map has."""
    return x.shape[ROWS] * x.shape[COLS]


def global_average(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch 1 1 channels"]:
    """The mean over all positions."""
    return average(x, ROWS, COLS)


def average_around(
    x: Float[Array, "batch height width channels"], extent: int
) -> Float[Array, "batch rows cols channels"]:
    """The mean of the pixels less than `extent` rows and columns away, those that are there, at
    every extent-th pixel.
    """
    window, margin = (2 * extent - 1, 2 * extent - 1), (extent - 1, extent - 1)
    return like(
        x,
        nnx.avg_pool(
            widened(x), window, (extent, extent), (margin, margin), count_include_pad=False
        ),
    )


def nearest(
    x: Float[Array, "batch height width channels"], rows: int, cols: int
) -> Float[Array, "batch rows cols channels"]:
    """Stretched to rows x cols: row r reads row floor(r height / rows), and so do columns; in whole
    numbers.
    """
    height, width = x.shape[ROWS], x.shape[COLS]
    y = widened(x)[:, jnp.arange(rows) * height // rows]
    return like(x, y[:, :, jnp.arange(cols) * width // cols])


def concatenate(parts: Sequence[Float[Array, "..."]], axis: int) -> Float[Array, "..."]:
    return jnp.concatenate(parts, axis=axis)


def parted(
    x: Float[Array, "..."], size: int, axis: int
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The first `size` along an axis, and the rest."""
    first, rest = jnp.split(x, (size,), axis=axis)
    return first, rest


def swapped(x: Float[Array, "..."], first: int, second: int) -> Float[Array, "..."]:
    """Two axes in each other's place."""
    return jnp.swapaxes(x, first, second)


def positions(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch positions channels"]:
    """The pixels in one row, line by line."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])


def image(
    x: Float[Array, "batch positions channels"], rows: int, cols: int
) -> Float[Array, "batch rows cols channels"]:
    """What `positions` has undone."""
    return x.reshape(x.shape[0], rows, cols, x.shape[2])


def softmax(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Over the last axis; the greatest is taken away before exp, so that nothing overflows."""
    return nnx.softmax(x, axis=-1)
