"""Convolutional block attention module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytorch_impl.layers import (
    CHANNELS,
    COLS,
    ROWS,
    Bottleneck,
    Conv2d,
    average,
    concatenate,
    global_average,
    maximum,
    scaled,
    sigmoid,
)
from pytorch_impl.normalization import BatchNorm
from weights.attention import attention_parameters, hidden_width

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SpatialGate(nn.Module):
    """A gate for each position: convolution, batch norm, sigmoid.

    x: two maps, (batch, 2, height, width) -> (batch, 1, height, width), in (0, 1).
    """

    def __init__(self, kernel_size: int, bn_eps: float, bn_decay: float, **options: Any):
        super().__init__()
        padding = (kernel_size // 2, kernel_size // 2)
        self.conv = Conv2d(2, 1, (kernel_size, kernel_size), (1, 1), padding, bias=False, **options)
        self.bn = BatchNorm(1, bn_eps, bn_decay, **options)

    def forward(
        self, x: Float[Tensor, "batch 2 height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        y = self.conv(x)
        y = self.bn(y)
        return sigmoid(y)


class CBAM(nn.Module):
    """Channel attention, then spatial attention (Woo et al. 2018, CBAM, section 3).

    x: (batch, channels, height, width) -> the same shape, scaled by a gate for each channel and one
        for each position.
    channels: of the input. The options and their errors: `weights.attention.cbam`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        kernel_size: int = 7,
        bias: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        given = {"kernel_size": kernel_size, "bias": bias, "bn_eps": bn_eps, "bn_decay": bn_decay}
        attention_parameters("cbam", channels, given)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.channel = Bottleneck(channels, hidden, bias=bias, **options)
        self.spatial = SpatialGate(kernel_size, bn_eps, bn_decay, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        of_averages = self.channel(global_average(x))
        of_maxima = self.channel(maximum(x, ROWS, COLS))
        x = scaled(x, sigmoid(of_averages + of_maxima))
        pooled = concatenate([average(x, CHANNELS), maximum(x, CHANNELS)], CHANNELS)
        gate = self.spatial(pooled)
        return scaled(x, gate)
