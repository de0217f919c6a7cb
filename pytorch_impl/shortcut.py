"""The shortcuts of published networks, and what else their blocks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.attention import Identity
from pytorch_impl.convolution import make_convolution
from pytorch_impl.layers import scale, widen
from pytorch_impl.normalization import make_norm
from pytorch_impl.pooling import average_pool, blur_pool, subsample
from pytorch_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.checks import Pair
from weights.config import BlockConfig


class AverageShortcut(nn.Sequential):
    """An average pooling with the stride, then layers without one (He et al. 2018, Bag of Tricks,
    figure 2c).

    x: (batch, in_channels, height, width) -> (batch, out_channels, ceil(height / stride), ...).
    """

    def __init__(self, stride: Pair, *layers: nn.Module):
        super().__init__(*layers)
        self.stride = stride

    def forward(self, x: Maps) -> NewMaps:
        y = average_pool(x, self.stride, ceil=True)
        return super().forward(y)


class Subsample(nn.Module):
    """`subsample` as a module.

    x: (batch, in_channels, height, width) -> (batch, channels, ceil(height / stride), ...).
    """

    def __init__(self, stride: Pair, channels: int):
        super().__init__()
        self.stride = stride
        self.channels = channels

    def forward(self, x: Maps) -> NewMaps:
        return subsample(x, self.stride, self.channels)


class DropPath(nn.Dropout):
    """Stochastic depth: in training, each image's map becomes 0 with probability `rate` and is else
    divided by 1 - rate (Huang et al. 2016, Deep Networks with Stochastic Depth).

    x: (batch, channels, height, width) -> the same shape.
    """

    def __init__(self, rate: float):
        super().__init__(rate)

    def forward(self, x: Maps) -> Maps:
        if not self.training:
            return x
        kept = super().forward(widen(x.new_ones((len(x), 1, 1, 1))))  # 0 or 1 / (1 - rate)
        return scale(x, kept)


def make_shortcut(
    config: BlockConfig,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """The shortcut that a config asks for."""
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    channels, width, stride = config.in_channels, config.out_channels, config.stride
    if config.shortcut_form == "subsample":
        return Subsample(stride, width)
    if not config.projects:
        return Identity(channels, **options)
    pools = config.shortcut_form == "average"
    rows, cols = kernel = config.shortcut_kernel
    dilation = 1 if kernel == (1, 1) else config.dilation[0]
    layers = (
        make_convolution(
            channels, width, kernel, (1, 1) if pools else stride, (rows // 2, cols // 2), dilation,
            bias=config.conv_bias, **options,
        ),
        make_norm(config, width, **options),
    )  # fmt: skip
    return AverageShortcut(stride, *layers) if pools else nn.Sequential(*layers)


def make_drop_path(
    config: BlockConfig,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Stochastic depth where a config asks for it."""
    if config.drop_path:
        return DropPath(config.drop_path)
    return Identity(config.out_channels, dtype=dtype, device=device)


def antialias(x: Maps, kind: str, stride: Pair) -> ResizedMaps:
    """The pooling that has the stride of a main path. kind: "average" or "blur"."""
    return average_pool(x, stride, ceil=False) if kind == "average" else blur_pool(x, stride)
