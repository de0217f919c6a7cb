"""Coordinate attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl import axes
from pytorch_impl.layers import (
    Conv2d,
    average,
    concatenate,
    hard_swish,
    scale,
    sigmoid,
    split_at,
    swap_axes,
)
from pytorch_impl.normalization import make_batch_norm
from pytorch_impl.shapes import Maps
from weights.attention import attention_parameters, hidden_width


class Coordinate(nn.Module):
    """One gate per row and one per column (Hou et al. 2021, Coordinate Attention, section 3.2).

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
        folded: bool = False,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        attention_parameters(
            "coordinate", channels, {"bn_eps": bn_eps, "bn_decay": bn_decay, "folded": folded}
        )
        hidden = hidden_width(
            channels, reduction, hidden_channels, minimum=minimum, kind="coordinate"
        )
        self.conv1 = Conv2d(channels, hidden, **options)
        self.bn1 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options)
        self.conv_h = Conv2d(hidden, channels, **options)
        self.conv_w = Conv2d(hidden, channels, **options)

    def forward(self, x: Maps) -> Maps:
        rows = average(x, [axes.COLS])
        cols = swap_axes(average(x, [axes.ROWS]), axes.ROWS, axes.COLS)
        y = concatenate([rows, cols], axes.ROWS)
        y = self.conv1(y)
        y = self.bn1(y)
        y = hard_swish(y)
        rows, cols = split_at(y, x.shape[axes.ROWS], axes.ROWS)
        rows = sigmoid(self.conv_h(rows))
        cols = sigmoid(self.conv_w(swap_axes(cols, axes.ROWS, axes.COLS)))
        return scale(scale(x, cols), rows)
