"""The layers that the block and the network are made of, with nothing left to a default of the framework.

Keras builds layers when they are first called; these know their channels, and hold their weights once constructed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor

relu = ops.relu
sigmoid = ops.sigmoid

FLOAT64_HELP = (
    "Keras on JAX computes in 32 bits unless told otherwise. Say jax.config.update('jax_enable_x64', True) before the "
    "model is made, or set the environment variable JAX_ENABLE_X64=1"
)


def check_held(variable: keras.Variable) -> None:
    """Raises ValueError where Keras says float64 but holds float32."""
    if keras.backend.standardize_dtype(variable.value.dtype) != variable.dtype:
        raise ValueError(f"cannot make {variable.dtype} parameters: {FLOAT64_HELP}")


class Conv2d(keras.layers.Conv2D):
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
            use_bias=bias,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            bias_initializer="zeros",
            dtype=dtype,
            name=name,
            **keras_options,
        )
        self.margins = ((0, 0), *((size, size) for size in padding), (0, 0))
        self.build((None, None, None, in_channels))
        check_held(self.kernel)

    def convolution_op(self, x: Float[KerasTensor, "batch height width channels"], kernel: KerasTensor) -> KerasTensor:
        strides = self.strides
        # Keras has no explicit padding but a layer of its own; its "same" pads (0, 1) at stride 2 on even sizes.
        if any(map(any, self.margins)):
            x = ops.pad(x, self.margins)
        # PyTorch 2.13 on CPU writes past its memory in the gradient of a 1x1 convolution with stride, when image and kernel
        # are laid out as Keras lays them out, and returns wrong numbers; so it gets only what such a convolution reads.
        # Not on JAX, which cannot see that both have the same size where the image's is not known.
        if self.kernel_size == (1, 1) and keras.backend.backend() == "torch":
            x, strides = x[:, :: strides[0], :: strides[1]], 1
        return ops.conv(x, kernel, strides=strides, padding="valid", data_format="channels_last")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        sizes = zip(input_shape, self.margins, strict=True)
        return super().compute_output_shape(tuple(size and size + sum(margin) for size, margin in sizes))


class Linear(keras.layers.Dense):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features). Weights start normal, variance 1 / fan in."""

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
            kernel_initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal"),
            bias_initializer="zeros",
            dtype=dtype,
            name=name,
            **keras_options,
        )
        self.build((None, in_features))
        check_held(self.kernel)

    def call(self, x: Float[KerasTensor, "batch in_features"]) -> Float[KerasTensor, "batch out_features"]:
        if self.compute_dtype != "float64":
            return super().call(x)
        # On PyTorch Keras' matmul makes float32 of float64; its convolution does not.
        y = ops.conv(x[:, None, None, :], self.kernel[None, None], padding="valid", data_format="channels_last")
        return ops.squeeze(y, axis=(1, 2)) + self.bias


class Sequential(keras.layers.Layer):
    """Layers one behind the other, in `layers`.

    Not keras.Sequential, which has no dtype of its own: inside another it casts a float64 input to Keras' default.
    """

    def __init__(self, *layers: keras.layers.Layer, dtype: Any = None, name: str | None = None, **keras_options: Any):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.layers = list(layers)
        self.built = True

    def call(self, x: Float[KerasTensor, "batch height width channels"], training: bool | None = None) -> KerasTensor:
        for layer in self.layers:
            x = layer(x, training=training)
        return x


def max_pool(x: Float[KerasTensor, "batch height width channels"]) -> Float[KerasTensor, "batch rows cols channels"]:
    """3x3 maximum, stride 2, padding 1 with -inf on all four sides (He et al. 2015, table 1, as PyTorch pads)."""
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=float("-inf"))
    return ops.max_pool(x, pool_size=(3, 3), strides=(2, 2), padding="valid", data_format="channels_last")


def global_average(x: Float[KerasTensor, "batch height width channels"]) -> Float[KerasTensor, "batch 1 1 channels"]:
    """The mean over all positions."""
    return average(x, axes=(2, 1), keepdims=True)


def average(
    x: Float[KerasTensor, "batch height width channels"], axes: tuple[int, ...], keepdims: bool = False
) -> KerasTensor:
    """The mean over axes, given from the last to the first.

    Axis by axis: TensorFlow adds up all positions one after the other, which in float32 loses 30 times more than PyTorch
    (3e-6 against 1e-7 of the mean of 100,000 values). And not `ops.mean`: on JAX and PyTorch it computes float64 in float32.
    """
    dtype = x.dtype
    y = ops.cast(x, "float32") if dtype in ("float16", "bfloat16") else x
    for axis in axes:
        y = ops.sum(y, axis=axis, keepdims=keepdims) / ops.cast(ops.shape(x)[axis], y.dtype)
    return ops.cast(y, dtype)
