"""The layers of the block and the network. Nothing in them is left to a framework's default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from jax_impl import axes
from jax_impl.shapes import (
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
    "JAX computes in 32 bits by default. Call jax.config.update('jax_enable_x64', True) before the "
    "model is made, or set the environment variable JAX_ENABLE_X64=1"
)


@stage
def relu(x: Values) -> Values:
    """max(x, 0)."""
    return nnx.relu(x)


@stage
def sigmoid(x: Values) -> Values:
    """1 / (1 + exp(-x)), in float32 at least.

    Its slope is s (1 - s). For an s near 1, bfloat16 leaves few digits of 1 - s, or none.
    """
    return cast_like(nnx.sigmoid(widen(x)), x)


@stage
def hard_sigmoid(x: Values) -> Values:
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2).

    Not nnx.hard_sigmoid: it takes a maximum and a minimum, whose gradients look for equal values.
    """
    y = x + 3
    return jnp.where(y > 0, jnp.where(y < 6, y, 6), 0) / 6


@stage
def hard_swish(x: Values) -> Values:
    """x * hard_sigmoid(x) (Howard et al. 2019, section 5.2)."""
    return x * hard_sigmoid(x)


def apply_gate(x: Values, gate: str) -> Values:
    """The function of `GATES` with that name, applied to x."""
    return sigmoid(x) if gate == "sigmoid" else hard_sigmoid(x)


def check_dtype(dtype: DTypeLike) -> DTypeLike:
    """The dtype itself. Raises ValueError for float64 where JAX would make it float32."""
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ArgumentError(f"cannot make {jnp.dtype(dtype).name} parameters: {FLOAT64_HELP}")
    return dtype


def cast_operands(
    arrays: tuple[Array, Array, Array | None], *, dtype: DTypeLike
) -> tuple[Array, Array, Array | None]:
    """Input and kernel in the dtype to compute in, the bias in float32 at least.

    A bias' gradient is a sum over batch and positions. In bfloat16 XLA loses half of it over 8
    images of 56 x 56 positions.
    """
    x, kernel, bias = arrays
    return x.astype(dtype), kernel.astype(dtype), None if bias is None else widen(bias)


def convolve(
    x: Maps,
    kernel: AnyValues,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **settings: Any,
) -> NewMaps:
    """jax.lax.conv_general_dilated, or on CPU the product of patches and kernel where that is
    faster.

    x: (batch, height, width, in_channels). kernel: (rows, cols, in_channels, out_channels).
    padding: before and after each axis, or "SAME" or "VALID". settings: the other arguments.

    XLA's convolution on CPU is slow where the map is smaller than the kernel. Measured with jax
    0.10.2 on one core, 3 x 3 kernels, batch 8, milliseconds for it and for patches:

        2 x 2 x 512   138 and 2.4, with gradients 284 and 7.0
        1 x 1 x 512   6.4 and 0.9, with gradients 20 and 3.9
        2 x 2 x 64    0.39 and 0.05, with gradients 0.84 and 0.16
        3 x 3 x 64    0.09 and 0.11
        7 x 7 x 512   22 and 19, with gradients 71 and 58 (batch 1: 3.7 and 3.0, 18 and 9)
        8 x 8 x 512   24 and 25
        28 x 28 x 64  5.1 and 10
    """
    if (
        not isinstance(padding, str)  # somebody has changed the padding of a module
        and jax.default_backend() == "cpu"
        and _patches_win(x, kernel, window_strides, padding, settings)
    ):
        return _convolve_patches(x, kernel, window_strides, padding)
    return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **settings)


def _patches_win(
    x: Maps,
    kernel: AnyValues,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    settings: Mapping[str, Any],
) -> bool:
    """Whether the product of patches and kernel is faster; see the measurements above."""
    batch, *sides, _ = x.shape
    *window, in_channels, out_channels = kernel.shape
    known = all(isinstance(size, int) for size in x.shape)  # not so in jax.export
    plain = settings["feature_group_count"] == 1 and max(settings["rhs_dilation"]) == 1
    formats = (settings.get("precision"), settings.get("preferred_element_type"))
    if not (known and plain) or any(each is not None for each in formats):
        return False
    if any(s + sum(p) < w for s, p, w in zip(sides, padding, window, strict=True)):
        return False  # the output is empty
    if any(side < size for side, size in zip(sides, window, strict=True)):
        return in_channels * out_channels >= 64 * 64
    positions = batch * math.prod(
        -(-side // step) for side, step in zip(sides, strides, strict=True)
    )
    return in_channels * out_channels >= 256 * 512 and positions <= 8 * 7 * 7


def _convolve_patches(
    x: Maps, kernel: AnyValues, strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> NewMaps:
    """What each value of the kernel meets, side by side, times the kernel. Values of the kernel
    that meet nothing but padding are left out.
    """
    sides = x.shape[1:3]
    sizes = [
        (side + before + after - size) // step + 1
        for side, size, step, (before, after) in zip(
            sides, kernel.shape[:2], strides, padding, strict=True
        )
    ]
    met = [
        range(max(0, before - (new - 1) * step), min(size, before + side))
        for side, size, step, new, (before, _) in zip(
            sides, kernel.shape[:2], strides, sizes, padding, strict=True
        )
    ]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    reach = [(new - 1) * step + 1 for new, step in zip(sizes, strides, strict=True)]
    seen = [
        x[:, row : row + reach[0] : strides[0], col : col + reach[1] : strides[1]]
        for row in met[0]
        for col in met[1]
    ]
    patches = jnp.concatenate(seen, axis=axes.CHANNELS)
    used = kernel[met[0].start : met[0].stop, met[1].start : met[1].stop]
    return patches @ used.reshape(-1, kernel.shape[-1])


class Conv2d(nnx.Conv):
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
            feature_group_count=groups,
            use_bias=bias,
            dtype=dtype,
            param_dtype=check_dtype(param_dtype or dtype),
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            bias_init=nnx.initializers.zeros,
            conv_general_dilated=convolve,
            promote_dtype=cast_operands,  # type: ignore[arg-type]
            rngs=rngs,
        )

    def __call__(self, x: Maps) -> NewMaps:  # type: ignore[override]
        return super().__call__(x).astype(self.dtype)


class DepthwiseConv2d(nnx.Conv):
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
            use_bias=bias,
            dtype=dtype,
            param_dtype=check_dtype(param_dtype or dtype),
            kernel_init=nnx.initializers.normal((2 / (kernel_size[0] * kernel_size[1])) ** 0.5),
            rngs=rngs,
        )


class Conv1d(nnx.Conv):
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
            param_dtype=check_dtype(param_dtype or dtype),
            kernel_init=nnx.initializers.normal((2 / kernel_size) ** 0.5),
            rngs=rngs,
        )
        self.margin = kernel_size // 2
        self.circular = padding == "circular"

    def __call__(self, x: ChannelSequence) -> ChannelSequence:  # type: ignore[override]
        margins = ((0, 0), (self.margin, self.margin), (0, 0))
        return super().__call__(jnp.pad(x, margins, mode="wrap" if self.circular else "constant"))


class Linear(nnx.Linear):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features).

    The weight starts normal with variance 1 / in_features, the bias at 0.
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
            param_dtype=check_dtype(param_dtype or dtype),
            kernel_init=nnx.initializers.variance_scaling(1.0, "fan_in", "normal"),
            bias_init=nnx.initializers.zeros,
            promote_dtype=cast_operands,  # type: ignore[arg-type]
            rngs=rngs,
        )

    def __call__(self, x: Vectors) -> Logits:  # type: ignore[override]
        return super().__call__(x).astype(self.dtype)


class Bottleneck(nnx.Module):
    """Two 1x1 convolutions with a relu between them.

    x: (batch, height, width, channels) -> the same shape.
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
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.fc1 = Conv2d(channels, hidden_channels, bias=bias, **options)
        self.fc2 = Conv2d(hidden_channels, channels, bias=bias, **options)

    def __call__(self, x: Maps) -> Maps:
        y = self.fc1(x)
        y = relu(y)
        return self.fc2(y)


@stage
def average(x: AnyValues, over: list[int]) -> AnyValues:
    """The mean over some axes, which keep size 1.

    One axis at a time, from the last: over several, XLA on CPU may add up all positions one after
    the other. Of 13 x 11 positions of 4 channels that are normalised, the averages are then off by
    2.6e-6 instead of 3.5e-7. In float32 at least, so that a lower precision is rounded once and not
    after every axis. Of 128 channels, se, ese, eca and ge take up to 1.3 times as long (0.05 ms)
    forward as with x.mean, and their gradients as long.
    """
    y = widen(x)
    for axis in sorted(over, reverse=True):
        y = y.mean(axis=axis, keepdims=True)
    return cast_like(y, x)


def widen(x: Values) -> Values:
    """x in float32 at least: squares and long sums leave the range of float16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def cast_like(x: Values, reference: AnyValues) -> Values:
    """x in the dtype of the reference."""
    return x.astype(reference.dtype)


def scale(x: BroadcastValues, factor: BroadcastValues) -> BroadcastValues:
    """x * factor, broadcast. In float32 at least.

    The factor's gradient is a sum over many positions, which XLA computes in the dtype of x (off by
    3% for 56 x 56 positions in bfloat16).
    """
    return cast_like(widen(x) * widen(factor), x)


def add(x: BroadcastValues, y: BroadcastValues) -> BroadcastValues:
    """x + y, broadcast. In float32 at least: see `scale`."""
    return cast_like(widen(x) + widen(y), x)


def count_positions(x: Maps) -> int:
    """height * width."""
    return x.shape[axes.ROWS] * x.shape[axes.COLS]


@stage
def global_average(x: Maps) -> ChannelValues:
    """The mean over all positions."""
    return average(x, [axes.ROWS, axes.COLS])


@stage
def nearest(x: Maps, rows: int, cols: int) -> ResizedMaps:
    """x resized to rows x cols: row r reads row floor(r height / rows), and columns do the same.

    The indices are computed in integers, so they are exact. A map of one position is not copied.
    """
    height, width = x.shape[axes.ROWS], x.shape[axes.COLS]
    if height == 1 and width == 1:
        return jnp.broadcast_to(x, (x.shape[axes.BATCH], rows, cols, x.shape[axes.CHANNELS]))
    y = widen(x)[:, jnp.arange(rows) * height // rows]
    return cast_like(y[:, :, jnp.arange(cols) * width // cols], x)


@stage
def concatenate(parts: list[AnyValues], axis: int) -> AnyValues:
    """The parts one after the other along an axis."""
    return jnp.concatenate(parts, axis=axis)


def split_at(x: AnyValues, index: int, axis: int) -> tuple[AnyValues, AnyValues]:
    """x up to an index along an axis, and the rest."""
    first, rest = jnp.split(x, (index,), axis=axis)
    return first, rest


def swap_axes(x: AnyValues, first: int, second: int) -> AnyValues:
    """x with two axes exchanged."""
    return jnp.swapaxes(x, first, second)


def flatten_positions(x: Maps) -> Tokens:
    """The positions of a map as a sequence, row by row."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])


def unflatten_positions(x: Tokens, rows: int, cols: int) -> Maps:
    """Inverse of `flatten_positions`."""
    return x.reshape(x.shape[0], rows, cols, x.shape[2])


@stage(is_map=False)
def softmax(x: Values) -> Values:
    """Softmax over the last axis. The maximum is subtracted first, so that exp cannot overflow."""
    return nnx.softmax(x, axis=-1)
