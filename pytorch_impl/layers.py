"""The layers that the block and the network are made of, with nothing left to a default of the framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

relu = functional.relu
sigmoid = torch.sigmoid


class Conv2d(nn.Conv2d):
    """2-d convolution with explicit padding, initialised as in He et al. 2015 (Delving deep, section 2.2; fan out).

    x: (batch, in_channels, height, width) -> (batch, out_channels, (height + 2 padding - kernel) // stride + 1, ...).
    kernel_size, stride, padding: (height, width).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        *,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias, dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Linear(nn.Linear):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features). Weights start normal, variance 1 / fan in."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__(in_features, out_features, dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.bias)


def max_pool(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels rows cols"]:
    """3x3 maximum, stride 2, padding 1 with -inf on all four sides (He et al. 2015, table 1, as PyTorch pads)."""
    return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def global_average(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels 1 1"]:
    """The mean over all positions."""
    return x.mean(dim=(2, 3), keepdim=True)
