"""Convolutions whose padding depends on the size of the image."""

from __future__ import annotations

import torch

from pytorch_impl.layers import Conv2d
from pytorch_impl.pooling import pad_same
from pytorch_impl.shapes import Maps, NewMaps
from weights.checks import SAME, Pair


class SameConv2d(Conv2d):
    """2-d convolution with the padding of TensorFlow's rule SAME. Otherwise like `Conv2d`.

    x: (batch, in_channels, height, width) -> (batch, out_channels, ceil(height / stride), ...).
    """

    def forward(self, x: Maps) -> NewMaps:
        y = pad_same(x, self.kernel_size, self.stride, self.dilation)  # type: ignore[arg-type]
        return super().forward(y)


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
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
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
        device=device,
    )
