"""Triplet attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytorch_impl.attention.cbam import SpatialGate
from pytorch_impl.layers import CHANNELS, COLS, ROWS, average, concatenate, maximum, scaled, swapped
from weights.attention import attention_parameters

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Triplet(nn.Module):
    """Three gates, each over two of the three axes (Misra et al. 2021, Rotate to Attend, section
    3.2).

    x: (batch, channels, height, width) -> the same shape, the mean of its branches.
    channels: of the input. The options and their errors: `weights.attention.triplet`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        spatial: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.99,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        given = {
            "kernel_size": kernel_size,
            "spatial": spatial,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        attention_parameters("triplet", channels, given)
        self.cw = SpatialGate(kernel_size, bn_eps, bn_decay, **options)
        self.hc = SpatialGate(kernel_size, bn_eps, bn_decay, **options)
        self.hw = SpatialGate(kernel_size, bn_eps, bn_decay, **options) if spatial else None

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        turned = swapped(x, CHANNELS, ROWS)
        gate = self.cw(z_pool(turned))
        over_rows = swapped(scaled(turned, gate), CHANNELS, ROWS)
        turned = swapped(x, CHANNELS, COLS)
        gate = self.hc(z_pool(turned))
        over_cols = swapped(scaled(turned, gate), CHANNELS, COLS)
        if self.hw is None:
            return (over_rows + over_cols) / 2
        gate = self.hw(z_pool(x))
        return (over_rows + over_cols + scaled(x, gate)) / 3


def z_pool(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch 2 height width"]:
    """Maximum and average over the channels."""
    return concatenate([maximum(x, CHANNELS), average(x, CHANNELS)], CHANNELS)
