"""Efficient channel attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytorch_impl.layers import CHANNELS, Conv1d, global_average, scaled, sigmoid
from weights.attention import attention_parameters, eca_kernel_size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class EfficientChannel(nn.Module):
    """Channel attention by a 1-d convolution over the channels' averages (Wang et al. 2020,
    ECA-Net, section 3.2).

    x: (batch, channels, height, width) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.efficient_channel`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        padding: str = "zero",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        given = {"kernel_size": kernel_size, "gamma": gamma, "beta": beta, "padding": padding}
        attention_parameters("eca", channels, given)
        self.conv = Conv1d(eca_kernel_size(channels, kernel_size, gamma, beta), padding, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        average = global_average(x)
        gate = average.reshape(x.shape[0], 1, x.shape[CHANNELS])
        gate = self.conv(gate)
        gate = sigmoid(gate)
        gate = gate.reshape(average.shape)
        return scaled(x, gate)
