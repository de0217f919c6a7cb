"""Coordinate attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytorch_impl.layers import (
    COLS,
    ROWS,
    Conv2d,
    average,
    concatenate,
    hard_swish,
    parted,
    scaled,
    sigmoid,
    swapped,
)
from pytorch_impl.normalization import BatchNorm
from weights.attention import attention_parameters, hidden_width

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Coordinate(nn.Module):
    """A gate for each row and one for each column (Hou et al. 2021, Coordinate Attention, section
    3.2).

    x: (batch, channels, height, width) -> the same shape, each value scaled by the gates of its row
        and its column.
    channels: of the input. The options and their errors: `weights.attention.coordinate`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        minimum: int = 8,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        attention_parameters("coordinate", channels, {"bn_eps": bn_eps, "bn_decay": bn_decay})
        hidden = hidden_width(
            channels, reduction, hidden_channels, minimum=minimum, kind="coordinate"
        )
        self.conv1 = Conv2d(channels, hidden, **options)
        self.bn1 = BatchNorm(hidden, bn_eps, bn_decay, **options)
        self.conv_h = Conv2d(hidden, channels, **options)
        self.conv_w = Conv2d(hidden, channels, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        rows = average(x, COLS)
        cols = swapped(average(x, ROWS), ROWS, COLS)
        y = concatenate([rows, cols], ROWS)
        y = self.conv1(y)
        y = self.bn1(y)
        y = hard_swish(y)
        rows, cols = parted(y, x.shape[ROWS], ROWS)
        rows = sigmoid(self.conv_h(rows))
        cols = sigmoid(self.conv_w(swapped(cols, ROWS, COLS)))
        return scaled(scaled(x, cols), rows)
