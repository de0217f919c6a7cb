"""Squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.layers import GATES, Conv2d, apply_gate, global_average, relu, scale
from pytorch_impl.shapes import Maps
from weights.attention import hidden_width
from weights.checks import one_of


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
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        hidden = hidden_width(channels, reduction, hidden_channels, divisor, minimum)
        self.gate = one_of("gate", gate, GATES)
        self.fc1 = Conv2d(channels, hidden, **options)
        self.fc2 = Conv2d(hidden, channels, **options)

    def forward(self, x: Maps) -> Maps:
        gate = global_average(x)
        gate = self.fc1(gate)
        gate = relu(gate)
        gate = self.fc2(gate)
        gate = apply_gate(gate, self.gate)
        return scale(x, gate)
