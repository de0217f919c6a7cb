"""Concurrent spatial and channel squeeze-and-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytorch_impl.attention.se import SqueezeExcite
from pytorch_impl.layers import Conv2d, greater, scaled, sigmoid
from weights.attention import hidden_width
from weights.checks import one_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SpatialSqueezeExcite(nn.Module):
    """A gate for each position, from its channels: x: (batch, channels, height, width) -> the same
    shape.
    """

    def __init__(self, channels: int, **options: Any):
        super().__init__()
        self.conv = Conv2d(channels, 1, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        gate = self.conv(x)
        return scaled(x, sigmoid(gate))


class ConcurrentSqueezeExcite(nn.Module):
    """Spatial and channel squeeze-and-excitation, one beside the other (Roy et al. 2018, section
    2).

    x: (batch, channels, height, width) -> the same shape: the sum, or the greater, of x with a gate
    for each channel and x with a gate for each position.
    channels: of the input. The options and their errors:
    `weights.attention.concurrent_squeeze_excite`.
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
        options = {"dtype": dtype, "device": device}
        hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
        self.fusion = one_of("fusion", fusion, ("sum", "maximum"))
        self.cSE = SqueezeExcite(channels, hidden_channels=hidden, **options)
        self.sSE = SpatialSqueezeExcite(channels, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        channel = self.cSE(x)
        spatial = self.sSE(x)
        return channel + spatial if self.fusion == "sum" else greater(channel, spatial)
