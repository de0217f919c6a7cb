"""Concurrent spatial and channel squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.attention.se import SqueezeExcite
from pytorch_impl.layers import Conv2d, scale, sigmoid
from pytorch_impl.maxima import greater
from pytorch_impl.shapes import Maps
from weights.attention import hidden_width
from weights.checks import one_of


class SpatialSqueezeExcite(nn.Module):
    """One gate per position, from its channels.

    x: (batch, channels, height, width) -> the same shape, each position scaled by its gate.
    """

    def __init__(self, channels: int, **options: Any):
        super().__init__()
        self.conv = Conv2d(channels, 1, **options)

    def forward(self, x: Maps) -> Maps:
        gate = self.conv(x)
        return scale(x, sigmoid(gate))


class ConcurrentSqueezeExcite(nn.Module):
    """Spatial and channel squeeze-and-excitation in parallel (Roy et al. 2018, section 2).

    x: (batch, channels, height, width) -> the same shape: the sum or the maximum of x scaled by
        channel and x scaled by position.
    channels: of the input.
    The options and their errors: `weights.attention.concurrent_squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        fusion: str = "sum",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
        self.fusion = one_of("fusion", fusion, ("sum", "maximum"))
        self.cSE = SqueezeExcite(channels, hidden_channels=hidden, **options)
        self.sSE = SpatialSqueezeExcite(channels, **options)

    def forward(self, x: Maps) -> Maps:
        channel = self.cSE(x)
        spatial = self.sSE(x)
        return channel + spatial if self.fusion == "sum" else greater(channel, spatial)
