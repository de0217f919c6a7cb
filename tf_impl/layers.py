"""The layers of the block and the network. Nothing in them is left to a framework's default.

Keras builds layers at their first call. These know their channels, so they have their weights once
constructed.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl import axes
from tf_impl.bridge.native import Start
from tf_impl.shapes import (
    AnyValues,
    BroadcastValues,
    ChannelSequence,
    ChannelValues,
    Logits,
    Maps,
    NewMaps,
    ResizedMaps,
    Tokens,
    Values,
    Vectors,
)
from weights.errors import ArgumentError
from weights.stages import stage

GATES = ("sigmoid", "hard_sigmoid")

FLOAT64_HELP = (
    "Keras on JAX computes in 32 bits by default. Call jax.config.update('jax_enable_x64', True) "
    "before the model is made, or set the environment variable JAX_ENABLE_X64=1"
)


@stage
def relu(x: Values) -> Values:
    """max(x, 0)."""
    return ops.relu(x)


@stage
def sigmoid(x: Values) -> Values:
    """1 / (1 + exp(-x)), in float32 at least.

    Its slope is s (1 - s). For an s near 1, bfloat16 leaves few digits of 1 - s, or none.
    """
    return cast_like(ops.sigmoid(widen(x)), x)


@stage
def hard_sigmoid(x: Values) -> Values:
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2).

    Not ops.hard_sigmoid: on PyTorch its float64 gradient is off by 3e-8.
    """
    return ops.relu6(x + 3) / 6


@stage
def hard_swish(x: Values) -> Values:
    """x * hard_sigmoid(x) (Howard et al. 2019, section 5.2)."""
    return ops.hard_silu(x)


def apply_gate(x: Values, gate: str) -> Values:
    """The function of `GATES` with that name, applied to x."""
    return sigmoid(x) if gate == "sigmoid" else hard_sigmoid(x)


def check_dtype(variable: keras.Variable) -> None:
    """Raises ValueError where a variable's dtype says float64 but its values are float32."""
    if keras.backend.standardize_dtype(variable.value.dtype) != variable.dtype:
        raise ArgumentError(f"cannot make {variable.dtype} parameters: {FLOAT64_HELP}")


class Conv2d(keras.layers.Conv2D):
    """2-d convolution with explicit padding.

    The weight starts as in He et al. 2015 (Delving deep, section 2.2; fan out), the bias at 0.

    x: (batch, height, width, in_channels) -> (batch, (height + 2 padding - kernel) // stride + 1,
        ..., out_channels).
    kernel_size, stride, padding: (height, width). dilation: the distance between the kernel's
        values, (height, width). The kernel above is then dilation (kernel_size - 1) + 1.
    groups: of channels that it keeps apart.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
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
            groups=groups,
            use_bias=bias,
            kernel_initializer=Start(2.0, "fan_out", "untruncated_normal"),
            bias_initializer="zeros",
            dtype=dtype,
            name=name,
            **keras_options,
        )
        self.margins = ((0, 0), *((size, size) for size in padding), (0, 0))
        keeping = (2 * padding[0] + 1, 2 * padding[1] + 1)
        self.keeps_size = stride == dilation == (1, 1) and kernel_size == keeping
        self.build((None, None, None, in_channels))
        check_dtype(self.kernel)

    def call(self, x: Maps) -> NewMaps:
        y = self.convolution_op(x, self.kernel)
        return add(y, ops.convert_to_tensor(self.bias)) if self.use_bias else y

    def convolution_op(self, x: Maps, kernel: AnyValues) -> NewMaps:
        strides = self.strides
        if x.shape[0] == 0 and keras.backend.backend() == "tensorflow":
            raise ArgumentError(
                "input: expected at least one image, got none: TensorFlow's convolutions fail on "
                "an empty batch"
            )
        # Keras takes no explicit padding. Its "same" is ours at stride 1, but pads (0, 1) at stride
        # 2 on even sizes.
        padding = "same" if self.keeps_size else "valid"
        if not self.keeps_size and any(map(any, self.margins)):
            x = ops.pad(x, self.margins)
        if keras.backend.backend() == "torch":
            kernel = _make_contiguous(kernel)
        # On CPU the gradient of a 1x1 convolution with stride writes past its memory: in PyTorch
        # 2.13 when image and kernel have Keras' layout, in TensorFlow 2.21 for one image of even
        # size, which may end the process. So it gets only the pixels that such a convolution reads.
        # Not on JAX, which needs equal sizes here and cannot compare sizes that it does not know.
        if self.kernel_size == (1, 1) != strides and keras.backend.backend() != "jax":
            x, strides = x[:, :: strides[0], :: strides[1]], 1
        # TensorFlow has no gradient of a convolution with groups on CPU. Keras compiles it by XLA,
        # and outside of a tf.function does so again at each call.
        parts = self.groups if keras.backend.backend() == "tensorflow" else 1
        pairs = zip(_split(x, parts), _split(kernel, parts), strict=True)
        settings = {"padding": padding, "data_format": "channels_last"}
        y = [
            ops.conv(*pair, strides, **settings, dilation_rate=self.dilation_rate) for pair in pairs
        ]
        return y[0] if parts == 1 else ops.concatenate(y, axis=axes.CHANNELS)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        sizes = zip(input_shape, self.margins, strict=True)
        return super().compute_output_shape(
            tuple(size and size + sum(margin) for size, margin in sizes)
        )


def _split(x: AnyValues, parts: int) -> list[AnyValues]:
    return [x] if parts == 1 else ops.split(x, parts, axis=-1)


def _make_contiguous(kernel: AnyValues) -> AnyValues:
    """The kernel in PyTorch's memory layout. Its float64 gradient for one output channel fails in
    any other.
    """
    rows, cols, inner, outer = kernel.shape
    flat = ops.reshape(ops.transpose(kernel, (3, 2, 0, 1)), (-1,))
    return ops.transpose(ops.reshape(flat, (outer, inner, rows, cols)), (2, 3, 1, 0))


class DepthwiseConv2d(keras.layers.Layer):
    """2-d convolution of each channel by itself. Otherwise like `Conv2d`.

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
        bias: bool = False,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        if stride[0] != stride[1]:
            raise ArgumentError(
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
        self.bias = (
            self.add_weight(shape=(channels,), initializer="zeros", name="bias") if bias else None
        )
        self.built = True
        check_dtype(self.kernel)

    def call(self, x: Maps) -> ResizedMaps:
        kernel = ops.convert_to_tensor(self.kernel)
        x = ops.pad(x, self.margins)
        y = ops.depthwise_conv(
            x, kernel, self.strides, padding="valid", data_format="channels_last"
        )
        return y if self.bias is None else add(y, ops.convert_to_tensor(self.bias))


class Conv1d(keras.layers.Layer):
    """1-d convolution of one channel that keeps the length, without bias.

    The weight starts normal with variance 2 / kernel_size.

    x: (batch, length, 1) -> the same shape. kernel_size: odd.
    padding: "zero", or "circular", where the last value is next to the first.
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
        check_dtype(self.kernel)

    def call(self, x: ChannelSequence) -> ChannelSequence:
        if self.circular and self.margin:
            x = ops.concatenate([x[:, -self.margin :], x, x[:, : self.margin]], axis=1)
        else:
            x = ops.pad(x, ((0, 0), (self.margin, self.margin), (0, 0)))
        kernel = ops.convert_to_tensor(self.kernel)
        return ops.conv(x, kernel, padding="valid", data_format="channels_last")


class Linear(keras.layers.Dense):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features).

    The weight starts normal with variance 1 / in_features, the bias at 0.
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
            kernel_initializer=Start(1.0, "fan_in", "untruncated_normal"),
            bias_initializer="zeros",
            dtype=dtype,
            name=name,
            **keras_options,
        )
        self.build((None, in_features))
        check_dtype(self.kernel)

    def call(self, x: Vectors) -> Logits:
        if self.compute_dtype != "float64":
            return add(ops.matmul(x, self.kernel), ops.convert_to_tensor(self.bias))
        # Keras' matmul on PyTorch makes float32 of float64. Its convolution does not.
        y = ops.conv(
            x[:, None, None, :],
            self.kernel[None, None],
            padding="valid",
            data_format="channels_last",
        )
        return ops.squeeze(y, axis=(1, 2)) + self.bias


class Bottleneck(keras.layers.Layer):
    """Two 1x1 convolutions with a relu between them.

    x: (batch, height, width, channels) -> the same shape.
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
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.fc1 = Conv2d(channels, hidden_channels, bias=bias, **options, name="fc1")
        self.fc2 = Conv2d(hidden_channels, channels, bias=bias, **options, name="fc2")
        self.built = True

    def call(self, x: Maps) -> Maps:
        y = self.fc1(x)
        y = relu(y)
        return self.fc2(y)


class Sequential(keras.layers.Layer):
    """The layers in `layers`, one after the other.

    Not keras.Sequential: it has no dtype of its own, so inside another one it casts a float64 input
    to Keras' default.
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

    def call(self, x: AnyValues, training: bool | None = None) -> AnyValues:
        for layer in self.layers:
            x = layer(x, training=training)
        return x


@stage
def average(x: AnyValues, over: list[int]) -> AnyValues:
    """The mean over some axes, which keep size 1.

    One axis at a time, from the last: TensorFlow adds up all positions one after the other, which
    in float32 loses 30 times more than PyTorch does (3e-6 against 1e-7 of the mean of 100,000
    values). Not `ops.mean`: on JAX and PyTorch it computes float64 in float32.
    """
    y = widen(x)
    for axis in sorted(over, reverse=True):
        y = ops.sum(y, axis=axis, keepdims=True) / ops.cast(ops.shape(x)[axis], y.dtype)
    return cast_like(y, x)


def widen(x: Values) -> Values:
    """x in float32 at least: squares and long sums leave the range of float16."""
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def cast_like(x: Values, reference: AnyValues) -> Values:
    """x in the dtype of the reference."""
    return ops.cast(x, reference.dtype)


def scale(x: BroadcastValues, factor: BroadcastValues) -> BroadcastValues:
    """x * factor, broadcast. In float32 at least.

    The factor's gradient is a sum over many positions, which TensorFlow computes in the dtype of x
    (off by 1% for 56 x 56 positions in float16; a bias over 8 such images by 27%).
    """
    return cast_like(widen(x) * widen(factor), x)


def add(x: BroadcastValues, y: BroadcastValues) -> BroadcastValues:
    """x + y, broadcast. In float32 at least: see `scale`."""
    return cast_like(widen(x) + widen(y), x)


def count_positions(x: Maps) -> Any:
    """height * width. A tensor where a size is not known before the graph runs."""
    count = ops.shape(x)[axes.ROWS] * ops.shape(x)[axes.COLS]
    return count if isinstance(count, int) else ops.cast(count, x.dtype)


@stage
def global_average(x: Maps) -> ChannelValues:
    """The mean over all positions."""
    return average(x, [axes.ROWS, axes.COLS])


@stage
def nearest(x: Maps, rows: Any, cols: Any) -> ResizedMaps:
    """x resized to rows x cols: row r reads row floor(r height / rows), and columns do the same.

    The indices are computed in integers, so they are exact. A map of one position is not copied.
    """
    if x.shape[axes.ROWS] == 1 and x.shape[axes.COLS] == 1:
        batch, channels = ops.shape(x)[axes.BATCH], x.shape[axes.CHANNELS]
        return ops.broadcast_to(x, (batch, rows, cols, channels))
    height, width = ops.shape(x)[axes.ROWS], ops.shape(x)[axes.COLS]
    y = ops.take(widen(x), ops.arange(rows, dtype="int32") * height // rows, axis=axes.ROWS)
    y = ops.take(y, ops.arange(cols, dtype="int32") * width // cols, axis=axes.COLS)
    return cast_like(y, x)


@stage
def concatenate(parts: list[AnyValues], axis: int) -> AnyValues:
    """The parts one after the other along an axis."""
    return ops.concatenate(parts, axis=axis)


def split_at(x: AnyValues, index: Any, axis: int) -> tuple[AnyValues, AnyValues]:
    """x up to an index along an axis, and the rest."""
    before = (slice(None),) * axis
    return x[*before, :index], x[*before, index:]


def swap_axes(x: AnyValues, first: int, second: int) -> AnyValues:
    """x with two axes exchanged."""
    return ops.swapaxes(x, first, second)


def flatten_positions(x: Maps) -> Tokens:
    """The positions of a map as a sequence, row by row."""
    batch, rows, cols, channels = ops.shape(x)  # not -1, which is not defined for an empty batch
    return ops.reshape(x, (batch, rows * cols, channels))


def unflatten_positions(x: Tokens, rows: Any, cols: Any) -> Maps:
    """Inverse of `flatten_positions`."""
    return ops.reshape(x, (ops.shape(x)[0], rows, cols, x.shape[2]))


@stage(is_map=False)
def softmax(x: Values) -> Values:
    """Softmax over the last axis. The maximum is subtracted first, so that exp cannot overflow."""
    return ops.softmax(x, axis=-1)
