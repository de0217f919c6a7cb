"""Convolutions whose padding depends on the size of the image."""

from __future__ import annotations

from typing import Any

from tf_impl import axes
from tf_impl.layers import Conv2d
from tf_impl.pooling import pad_same
from tf_impl.shapes import Maps, NewMaps
from weights.checks import SAME, Pair


class SameConv2d(Conv2d):
    """2-d convolution with the padding of TensorFlow's rule SAME. Otherwise like `Conv2d`.

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ..., out_channels).
    """

    def call(self, x: Maps) -> NewMaps:
        y = pad_same(x, self.kernel_size, self.strides, self.dilation_rate)
        return super().call(y)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        sizes = zip((input_shape[axes.ROWS], input_shape[axes.COLS]), self.strides, strict=True)
        rows, cols = (size and -(-size // step) for size, step in sizes)
        return (input_shape[axes.BATCH], rows, cols, self.filters)


def make_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: Pair = (1, 1),
    stride: Pair = (1, 1),
    padding: Pair | str = (0, 0),
    dilation: int = 1,
    groups: int = 1,
    *,
    bias: bool = True,
    dtype: Any = None,
    name: str | None = None,
    **keras_options: Any,
) -> Conv2d:
    """A convolution. padding: of the kernel without dilation, (height, width), or "same"."""
    same = padding == SAME
    margins = (0, 0) if same else (int(padding[0]) * dilation, int(padding[1]) * dilation)
    kind = SameConv2d if same else Conv2d
    return kind(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        margins,
        (dilation, dilation),
        groups,
        bias=bias,
        dtype=dtype,
        name=name,
        **keras_options,
    )
