"""Squeeze-and-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytorch_impl.layers import GATES, Conv2d, global_average, relu, scaled
from weights.attention import hidden_width
from weights.checks import one_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SqueezeExcite(nn.Module):
    """Channel attention by squeeze-and-excitation (Hu et al. 2018, section 3).

    x: (batch, channels, height, width) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        divisor: int = 1,
        minimum: int | None = None,
        gate: str = "sigmoid",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        hidden = hidden_width(channels, reduction, hidden_channels, divisor, minimum)
        self.gate = one_of("gate", gate, GATES)
        self.fc1 = Conv2d(channels, hidden, **options)
        self.fc2 = Conv2d(hidden, channels, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        gate = global_average(x)
        gate = self.fc1(gate)
        gate = relu(gate)
        gate = self.fc2(gate)
        gate = GATES[self.gate](gate)
        return scaled(x, gate)
