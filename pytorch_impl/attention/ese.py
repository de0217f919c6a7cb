"""Effective squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.layers import GATES, Conv2d, apply_gate, global_average, scale
from pytorch_impl.shapes import Maps
from weights.checks import one_of


class EffectiveSqueezeExcite(nn.Module):
    """Channel attention by one layer of full width (Lee & Park 2020, CenterMask, section 3.3).

    x: (batch, channels, height, width) -> the same shape, each channel scaled by a gate in [0, 1].
    channels: of the input.
    The options and their errors: `weights.attention.effective_squeeze_excite`.
    """

    def __init__(
        self,
        channels: int,
        gate: str = "hard_sigmoid",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.gate = one_of("gate", gate, GATES)
        self.fc = Conv2d(channels, channels, **options)

    def forward(self, x: Maps) -> Maps:
        gate = global_average(x)
        gate = self.fc(gate)
        gate = apply_gate(gate, self.gate)
        return scale(x, gate)
