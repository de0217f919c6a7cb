"""The layers that the block and the network are made of, with nothing left to a default of the
framework.

Keras builds layers when they are first called; these know their channels, and hold their weights
once constructed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor

CHANNELS, ROWS, COLS = 3, 1, 2

relu = ops.relu
hard_swish = ops.hard_silu


def sigmoid(x: Float[KerasTensor, "..."]) -> Float[KerasTensor, "..."]:
    """1 / (1 + exp(-x)), in float32 at least: its slope is s (1 - s), and 1 - s of an s near 1 that
    was rounded to bfloat16 has few digits or none."""
    return like(x, ops.sigmoid(widened(x)))


def hard_sigmoid(x: Float[KerasTensor, "..."]) -> Float[KerasTensor, "..."]:
    """relu6(x + 3) / 6. Not ops.hard_sigmoid, whose float64 gradient is wrong by 3e-8 on
    PyTorch.
    """
    return ops.relu6(x + 3) / 6


GATES = {"sigmoid": sigmoid, "hard_sigmoid": hard_sigmoid}

FLOAT64_HELP = (
    "Keras on JAX computes in 32 bits unless told otherwise. Say "
    "jax.config.update('jax_enable_x64', True) before the model is made, or set the environment "
    "variable JAX_ENABLE_X64=1"
)


def check_held(variable: keras.Variable) -> None:
    """Raises ValueError where Keras says float64 but holds float32."""
    if keras.backend.standardize_dtype(variable.value.dtype) != variable.dtype:
        raise ValueError(f"cannot make {variable.dtype} parameters: {FLOAT64_HELP}")


class Conv2d(keras.layers.Conv2D):
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
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(
            out_channels,
            kernel_size,
            stride,
            padding="valid",
            data_format="channels_last",
            dilation_rate=dilation,
            use_bias=bias,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_out", "untruncated_normal"
            ),
            bias_initializer="zeros",
            dtype=dtype,
            name=name,
            **keras_options,
        )
        self.margins = ((0, 0), *((size, size) for size in padding), (0, 0))
        self.build((None, None, None, in_channels))
        check_held(self.kernel)

    def call(self, x: Float[KerasTensor, "batch height width channels"]) -> KerasTensor:
        y = self.convolution_op(x, self.kernel)
        return added(y, ops.convert_to_tensor(self.bias)) if self.use_bias else y

    def convolution_op(
        self, x: Float[KerasTensor, "batch height width channels"], kernel: KerasTensor
    ) -> KerasTensor:
        strides = self.strides
        if x.shape[0] == 0 and keras.backend.backend() == "tensorflow":
            raise ValueError(
                "input: expected at least one image, got none: TensorFlow's convolutions fail on "
                "an empty batch"
            )
        # Keras has no explicit padding but a layer of its own; its "same" pads (0, 1) at stride 2
        # on even sizes.
        if any(map(any, self.margins)):
            x = ops.pad(x, self.margins)
        if keras.backend.backend() == "torch":
            kernel = _contiguous(kernel)
            # PyTorch 2.13 on CPU writes past its memory in the gradient of a 1x1 convolution with
            # stride, when image and kernel are laid out as Keras lays them out, and returns wrong
            # numbers; so it gets only what such a convolution reads. Not on JAX, which cannot see
            # that both have the same size where the image's is not known.
            if self.kernel_size == (1, 1):
                x, strides = x[:, :: strides[0], :: strides[1]], 1
        apart = self.dilation_rate
        return ops.conv(
            x, kernel, strides, padding="valid", data_format="channels_last", dilation_rate=apart
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        sizes = zip(input_shape, self.margins, strict=True)
        return super().compute_output_shape(
            tuple(size and size + sum(margin) for size, margin in sizes)
        )


def _contiguous(kernel: KerasTensor) -> KerasTensor:
    """The same kernel, laid out in memory as PyTorch does: its float64 gradient for one output
    channel fails otherwise.
    """
    rows, cols, inner, outer = kernel.shape
    flat = ops.reshape(ops.transpose(kernel, (3, 2, 0, 1)), (-1,))
    return ops.transpose(ops.reshape(flat, (outer, inner, rows, cols)), (2, 3, 1, 0))


class DepthwiseConv2d(keras.layers.Layer):
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
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        if stride[0] != stride[1]:
            raise ValueError(
                f"stride: expected equal strides, got {stride}: TensorFlow has no other depthwise "
                "convolutions"
            )
        self.strides = stride
        self.margins = ((0, 0), *((size, size) for size in padding), (0, 0))
        start = keras.initializers.RandomNormal(
            stddev=(2 / (kernel_size[0] * kernel_size[1])) ** 0.5
        )
        self.kernel = self.add_weight(
            shape=(*kernel_size, channels, 1), initializer=start, name="kernel"
        )
        self.built = True
        check_held(self.kernel)

    def call(self, x: Float[KerasTensor, "batch height width channels"]) -> KerasTensor:
        kernel = ops.convert_to_tensor(self.kernel)
        x = ops.pad(x, self.margins)
        return ops.depthwise_conv(
            x, kernel, self.strides, padding="valid", data_format="channels_last"
        )


class Conv1d(keras.layers.Layer):
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
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.margin = kernel_size // 2
        self.circular = padding == "circular"
        start = keras.initializers.RandomNormal(stddev=(2 / kernel_size) ** 0.5)
        self.kernel = self.add_weight(shape=(kernel_size, 1, 1), initializer=start, name="kernel")
        self.built = True
        check_held(self.kernel)

    def call(self, x: Float[KerasTensor, "batch length 1"]) -> Float[KerasTensor, "batch length 1"]:
        if self.circular and self.margin:
            x = ops.concatenate([x[:, -self.margin :], x, x[:, : self.margin]], axis=1)
        else:
            x = ops.pad(x, ((0, 0), (self.margin, self.margin), (0, 0)))
        kernel = ops.convert_to_tensor(self.kernel)
        return ops.conv(x, kernel, padding="valid", data_format="channels_last")


class Linear(keras.layers.Dense):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features). Weights start
    normal, variance 1 / fan in.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(
            out_features,
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0, "fan_in", "untruncated_normal"
            ),
            bias_initializer="zeros",
            dtype=dtype,
            name=name,
            **keras_options,
        )
        self.build((None, in_features))
        check_held(self.kernel)

    def call(
        self, x: Float[KerasTensor, "batch in_features"]
    ) -> Float[KerasTensor, "batch out_features"]:
        if self.compute_dtype != "float64":
            return added(ops.matmul(x, self.kernel), ops.convert_to_tensor(self.bias))
        # On PyTorch Keras' matmul makes float32 of float64; its convolution does not.
        y = ops.conv(
            x[:, None, None, :],
            self.kernel[None, None],
            padding="valid",
            data_format="channels_last",
        )
        return ops.squeeze(y, axis=(1, 2)) + self.bias


class Bottleneck(keras.layers.Layer):
    """Two 1x1 convolutions with a relu between. x: (batch, height, width, channels) -> the same
    shape.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        bias: bool = True,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.fc1 = Conv2d(channels, hidden_channels, bias=bias, **options, name="fc1")
        self.fc2 = Conv2d(hidden_channels, channels, bias=bias, **options, name="fc2")
        self.built = True

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        y = self.fc1(x)
        y = relu(y)
        return self.fc2(y)


class Sequential(keras.layers.Layer):
    """Layers one behind the other, in `layers`.

    Not keras.Sequential, which has no dtype of its own: inside another it casts a float64 input to
    Keras' default.
    """

    def __init__(
        self,
        *layers: keras.layers.Layer,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.layers = list(layers)
        self.built = True

    def call(
        self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None
    ) -> KerasTensor:
        for layer in self.layers:
            x = layer(x, training=training)
        return x


def max_pool(
    x: Float[KerasTensor, "batch height width channels"],
) -> Float[KerasTensor, "batch rows cols channels"]:
    """3x3 maximum, stride 2, padding 1 with -inf on all four sides (He et al. 2015, table 1, as
    PyTorch pads).
    """
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=float("-inf"))
    return ops.max_pool(
        x, pool_size=(3, 3), strides=(2, 2), padding="valid", data_format="channels_last"
    )


def max_pool_2x2(
    x: Float[KerasTensor, "batch height width channels"],
) -> Float[KerasTensor, "batch rows cols channels"]:
    """2x2 maximum, stride 2; what is left over at the end is dropped."""
    return ops.max_pool(
        x, pool_size=(2, 2), strides=(2, 2), padding="valid", data_format="channels_last"
    )


def average(x: Float[KerasTensor, "..."], *axes: int) -> Float[KerasTensor, "..."]:
    """The mean over axes, which stay with size 1.

    Axis by axis, from the last: TensorFlow adds up all positions one after the other, which in
    float32 loses 30 times more than PyTorch (3e-6 against 1e-7 of the mean of 100,000 values). And
    not `ops.mean`: on JAX and PyTorch it computes float64 in float32.
    """
    y = widened(x)
    for axis in sorted(axes, reverse=True):
        y = ops.sum(y, axis=axis, keepdims=True) / ops.cast(ops.shape(x)[axis], y.dtype)
    return like(x, y)


def maximum(x: Float[KerasTensor, "..."], *axes: int) -> Float[KerasTensor, "..."]:
    """The greatest over axes, which stay with size 1. Its slope goes to one place, by its index.

    Not ops.max, whose gradient looks for values that equal the greatest: XLA computes x a second
    time for that, rounded otherwise, and may find none.
    """
    for axis in axes:
        x = ops.take_along_axis(x, ops.argmax(x, axis=axis, keepdims=True), axis=axis)
    return x


def greater(
    x: Float[KerasTensor, "..."], y: Float[KerasTensor, "..."]
) -> Float[KerasTensor, "..."]:
    """The greater of two, value by value. Not `ops.maximum`, which on PyTorch makes float32 of
    float64.
    """
    return maximum(ops.stack([x, y]), 0)[0]


def widened(x: Float[KerasTensor, "..."]) -> Float[KerasTensor, "..."]:
    """In float32 at least: squares and sums of many leave the range of float16."""
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def like(x: Float[KerasTensor, "..."], y: Float[KerasTensor, "..."]) -> Float[KerasTensor, "..."]:
    """y in the dtype of x."""
    return ops.cast(y, x.dtype)


def scaled(
    x: Float[KerasTensor, "..."], factor: Float[KerasTensor, "..."]
) -> Float[KerasTensor, "..."]:
    """x factor, the factor broadcast. In float32 at least: its slope is a sum over many positions,
    which TensorFlow adds up in float16 (off by 1% for 56 x 56 positions; a bias over 8 such images
    by 27%).
    """
    return like(x, widened(x) * widened(factor))


def added(x: Float[KerasTensor, "..."], y: Float[KerasTensor, "..."]) -> Float[KerasTensor, "..."]:
    """x + y, y broadcast. In float32 at least, as `scaled`."""
    return like(x, widened(x) + widened(y))


def position_count(x: Float[KerasTensor, "..."]) -> Any:
    """How many positions a map has: a number, or a tensor where a size is not known before the
    graph runs.
    """
    count = ops.shape(x)[ROWS] * ops.shape(x)[COLS]
    return count if isinstance(count, int) else ops.cast(count, x.dtype)


def global_average(
    x: Float[KerasTensor, "batch height width channels"],
) -> Float[KerasTensor, "batch 1 1 channels"]:
    """The mean over all positions."""
    return average(x, ROWS, COLS)


def average_around(
    x: Float[KerasTensor, "batch height width channels"], extent: int
) -> Float[KerasTensor, "batch rows cols channels"]:
    """The mean of the pixels less than `extent` rows and columns away, those that are there, at
    every extent-th pixel.

    Keras' pooling pads as TensorFlow does; this pads explicitly, and divides by the part of the
    window that is there.
    """
    margins = ((0, 0), (extent - 1, extent - 1), (extent - 1, extent - 1), (0, 0))
    pool = {
        "pool_size": 2 * extent - 1,
        "strides": extent,
        "padding": "valid",
        "data_format": "channels_last",
    }
    wide = widened(x)
    there = ops.average_pool(ops.pad(ops.ones_like(wide[:1, :, :, :1]), margins), **pool)
    return like(x, ops.average_pool(ops.pad(wide, margins), **pool) / there)


def nearest(
    x: Float[KerasTensor, "batch height width channels"], rows: Any, cols: Any
) -> Float[KerasTensor, "batch rows cols channels"]:
    """Stretched to rows x cols: row r reads row floor(r height / rows), and so do columns; in whole
    numbers.
    """
    height, width = ops.shape(x)[ROWS], ops.shape(x)[COLS]
    y = ops.take(widened(x), ops.arange(rows, dtype="int32") * height // rows, axis=ROWS)
    return like(x, ops.take(y, ops.arange(cols, dtype="int32") * width // cols, axis=COLS))


def concatenate(parts: Sequence[Float[KerasTensor, "..."]], axis: int) -> Float[KerasTensor, "..."]:
    return ops.concatenate(parts, axis=axis)


def parted(
    x: Float[KerasTensor, "..."], size: Any, axis: int
) -> tuple[Float[KerasTensor, "..."], Float[KerasTensor, "..."]]:
    """The first `size` along an axis, and the rest."""
    before = (slice(None),) * axis
    return x[*before, :size], x[*before, size:]


def swapped(x: Float[KerasTensor, "..."], first: int, second: int) -> Float[KerasTensor, "..."]:
    """Two axes in each other's place."""
    return ops.swapaxes(x, first, second)


def positions(
    x: Float[KerasTensor, "batch height width channels"],
) -> Float[KerasTensor, "batch positions channels"]:
    """The pixels in one row, line by line."""
    batch, rows, cols, channels = ops.shape(x)  # not -1, which an empty batch leaves undefined
    return ops.reshape(x, (batch, rows * cols, channels))


def image(
    x: Float[KerasTensor, "batch positions channels"], rows: Any, cols: Any
) -> Float[KerasTensor, "batch rows cols channels"]:
    """What `positions` has undone."""
    return ops.reshape(x, (ops.shape(x)[0], rows, cols, x.shape[2]))


def softmax(x: Float[KerasTensor, "..."]) -> Float[KerasTensor, "..."]:
    """Over the last axis; the greatest is taken away before exp, so that nothing overflows."""
    return ops.softmax(x, axis=-1)
