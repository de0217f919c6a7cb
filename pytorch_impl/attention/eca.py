"""Efficient channel attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl import axes
from pytorch_impl.layers import Conv1d, global_average, scale, sigmoid
from pytorch_impl.shapes import Maps
from weights.attention import attention_parameters, eca_kernel_size


class EfficientChannel(nn.Module):
    """Channel attention by a 1-d convolution over channels (Wang et al. 2020, section 3.2).

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
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        settings = {"kernel_size": kernel_size, "gamma": gamma, "beta": beta, "padding": padding}
        attention_parameters("eca", channels, settings)
        self.conv = Conv1d(eca_kernel_size(channels, kernel_size, gamma, beta), padding, **options)

    def forward(self, x: Maps) -> Maps:
        averages = global_average(x)
        gate = averages.reshape(x.shape[0], 1, x.shape[axes.CHANNELS])
        gate = self.conv(gate)
        gate = sigmoid(gate)
        gate = gate.reshape(averages.shape)
        return scale(x, gate)
