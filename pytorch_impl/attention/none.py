"""No attention."""

from __future__ import annotations

import torch
from torch import nn

from pytorch_impl.shapes import Maps


class Identity(nn.Module):
    """No attention: returns its input. x: (batch, channels, height, width)."""

    def __init__(
        self,
        channels: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()

    def forward(self, x: Maps) -> Maps:
        return x
