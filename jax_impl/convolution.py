"""Convolutions whose padding depends on the size of the image."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.layers import Conv2d
from jax_impl.pooling import pad_same
from jax_impl.shapes import Maps, NewMaps
from weights.checks import SAME, Pair


class SameConv2d(Conv2d):
    """2-d convolution with the padding of TensorFlow's rule SAME. Otherwise like `Conv2d`.

    x: (batch, height, width, in_channels) -> (batch, ceil(height / stride), ..., out_channels).
    """

    @property
    def _pairs(self) -> Any:
        return self.kernel_size, self.strides, self.kernel_dilation

    def __call__(self, x: Maps) -> NewMaps:  # type: ignore[override]
        y = pad_same(x, *self._pairs)
        return super().__call__(y)


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
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
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
        param_dtype=param_dtype,
        rngs=rngs,
    )
