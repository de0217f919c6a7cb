"""Triplet attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl import axes
from pytorch_impl.attention.cbam import SpatialGate
from pytorch_impl.layers import (
    average,
    concatenate,
    scale,
    swap_axes,
)
from pytorch_impl.maxima import maximum
from pytorch_impl.shapes import MapPairs, Maps
from weights.attention import attention_parameters


class Triplet(nn.Module):
    """Three gates, each over two of the three axes (Misra et al. 2021, section 3.2).

    x: (batch, channels, height, width) -> the same shape, the mean of the branches.
    channels: of the input. The options and their errors: `weights.attention.triplet`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        spatial: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        folded: bool = False,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        settings = {
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("triplet", channels, settings)
        self.cw = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options)
        self.hc = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options)
        self.hw = SpatialGate(kernel_size, bn_eps, bn_decay, folded, **options) if spatial else None

    def forward(self, x: Maps) -> Maps:
        turned = swap_axes(x, axes.CHANNELS, axes.ROWS)
        gate = self.cw(z_pool(turned))
        over_rows = swap_axes(scale(turned, gate), axes.CHANNELS, axes.ROWS)
        turned = swap_axes(x, axes.CHANNELS, axes.COLS)
        gate = self.hc(z_pool(turned))
        over_cols = swap_axes(scale(turned, gate), axes.CHANNELS, axes.COLS)
        if self.hw is None:
            return (over_rows + over_cols) / 2
        gate = self.hw(z_pool(x))
        return (over_rows + over_cols + scale(x, gate)) / 3


def z_pool(x: Maps) -> MapPairs:
    """The maximum and the mean over the channels, as two maps."""
    return concatenate([maximum(x, [axes.CHANNELS]), average(x, [axes.CHANNELS])], axes.CHANNELS)
