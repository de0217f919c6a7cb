"""Non-local block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytorch_impl.layers import COLS, ROWS, Conv2d, image, max_pool_2x2, positions, softmax, swapped
from pytorch_impl.normalization import BatchNorm
from weights.attention import attention_parameters, hidden_width
from weights.checks import check_map

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class NonLocal(nn.Module):
    """A weighted mean over all positions, added to each (Wang et al. 2018, Non-local Neural
    Networks, section 3; embedded Gaussian).

    x: (batch, channels, height, width) -> the same shape.
    channels: of the input. The options and their errors: `weights.attention.non_local`.
    Raises ValueError with `subsample` for maps of fewer than 2 rows or columns.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        subsample: bool = False,
        scale: bool = False,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        given = {"subsample": subsample, "scale": scale, "bn_eps": bn_eps, "bn_decay": bn_decay}
        attention_parameters("nonlocal", channels, given)
        hidden = hidden_width(channels, reduction, hidden_channels, kind="nonlocal")
        self.subsample = subsample
        self.scale = hidden**-0.5 if scale else 1.0
        self.theta = Conv2d(channels, hidden, **options)
        self.phi = Conv2d(channels, hidden, **options)
        self.g = Conv2d(channels, hidden, **options)
        self.conv_out = Conv2d(hidden, channels, **options)
        self.bn = BatchNorm(channels, bn_eps, bn_decay, 0, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        rows, cols = x.shape[ROWS], x.shape[COLS]
        query, key, value = self.theta(x), self.phi(x), self.g(x)
        if self.subsample:
            check_map("nonlocal with subsample", rows, cols, least=(2, 1))
            key, value = max_pool_2x2(key), max_pool_2x2(value)
        logits = positions(query) @ swapped(positions(key), -2, -1)
        weights = softmax(logits * self.scale)
        y = image(weights @ positions(value), rows, cols)
        y = self.conv_out(y)
        y = self.bn(y)
        return x + y
