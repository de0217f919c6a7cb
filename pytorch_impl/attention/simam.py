"""SimAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytorch_impl.layers import COLS, ROWS, average, like, position_count, sigmoid, widened
from weights.checks import check_map, positive

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SimAM(nn.Module):
    """A gate for each value from its squared distance to its channel's mean (Yang et al. 2021,
    SimAM, section 3.2).

    x: (batch, channels, height, width) -> the same shape, scaled by sigmoid((x - mean)^2 / (4
    (variance + e_lambda)) + 1/2), the variance divided by positions - 1 and computed in two passes,
    the mean taken away first.
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

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        check_map("simam", x.shape[ROWS], x.shape[COLS], least=(1, 2))
        wide = widened(x)
        count = position_count(wide)
        centred = wide - average(wide, ROWS, COLS)
        squares = centred * centred
        variance = average(squares, ROWS, COLS) * (count / (count - 1))
        energy = squares / (4 * (variance + self.e_lambda)) + 0.5
        return x * like(x, sigmoid(energy))
