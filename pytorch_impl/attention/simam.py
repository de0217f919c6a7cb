"""SimAM."""

from __future__ import annotations

import torch
from torch import nn

from pytorch_impl import axes
from pytorch_impl.inputs import check_maps
from pytorch_impl.layers import average, cast_like, count_positions, sigmoid, widen
from pytorch_impl.shapes import Maps
from weights.checks import positive


class SimAM(nn.Module):
    """One gate per value, from its distance to its channel's mean (Yang et al. 2021, section 3.2).

    The gate is sigmoid((x - mean)^2 / (4 (variance + e_lambda)) + 1/2). The variance is divided by
    positions - 1 and computed in two passes: the mean is subtracted first.

    x: (batch, channels, height, width) -> the same shape, each value scaled by its gate.
    channels: of the input. The options and their errors: `weights.attention.simam`.
    Raises ValueError for maps of one position.
    """

    def __init__(
        self,
        channels: int,
        e_lambda: float = 1e-4,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.e_lambda = positive("e_lambda", e_lambda)

    def forward(self, x: Maps) -> Maps:
        check_maps(x, "simam", least=(1, 2))
        wide = widen(x)
        count = count_positions(wide)
        centred = wide - average(wide, [axes.ROWS, axes.COLS])
        squares = centred * centred
        variance = average(squares, [axes.ROWS, axes.COLS]) * (count / (count - 1))
        energy = squares / (4 * (variance + self.e_lambda)) + 0.5
        return x * cast_like(sigmoid(energy), x)
