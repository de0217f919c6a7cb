"""The residual block with attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pytorch_impl.attention import AttentionModule, Identity
from pytorch_impl.inputs import check_images
from pytorch_impl.layers import Conv2d, cast_like, relu
from pytorch_impl.normalization import BatchNorm
from pytorch_impl.shapes import Maps, NewMaps
from weights.checks import Pair
from weights.config import BlockConfig


class ResidualBlockWithAttention(nn.Module):
    """Residual block with an attention module before the sum.

    He et al. 2015, figure 2, and Hu et al. 2018, figure 3.

        y = relu(bn1(conv1(x)))          conv1: kernel_size, stride, padding
        y = attention(bn2(conv2(y)))     conv2: kernel_size, stride 1, padding
        relu(y + shortcut(x))            shortcut: the identity, or a 1x1 convolution with stride
                                         and a batch norm if channels or size change

    x: (batch, in_channels, height, width) -> (batch, out_channels, ceil(height / stride),
        ceil(width / stride)).
    `weights.BlockConfig` says what the arguments mean and which values they take.
    dtype: of parameters and statistics, torch.float32 by default. device: where they are.
    Raises ValueError for arguments that make no block, and for inputs of another rank or number of
        channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 3,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        *,
        attention: str = "se",
        attention_options: Mapping[str, Any] | None = None,
        conv_bias: bool = True,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        config = BlockConfig(
            in_channels, out_channels, kernel_size, stride, padding,
            attention, attention_options, conv_bias, bn_eps, bn_decay,
        )  # fmt: skip
        kernel, strides, margins = config.kernel_size, config.stride, config.padding
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        conv_options = {**options, "bias": conv_bias}
        self.config = config
        self.in_channels = config.in_channels
        self.conv1 = Conv2d(in_channels, out_channels, kernel, strides, margins, **conv_options)
        self.bn1 = BatchNorm(out_channels, bn_eps, bn_decay, **options)
        self.conv2 = Conv2d(out_channels, out_channels, kernel, (1, 1), margins, **conv_options)
        self.bn2 = BatchNorm(out_channels, bn_eps, bn_decay, **options)
        self.attention = AttentionModule(
            out_channels, attention, config.attention_options, **options
        )
        if config.projects:
            self.shortcut: nn.Module = nn.Sequential(
                Conv2d(in_channels, out_channels, (1, 1), strides, **conv_options),
                BatchNorm(out_channels, bn_eps, bn_decay, **options),
            )
        else:
            self.shortcut = Identity(in_channels, **options)

    @classmethod
    def from_config(cls, config: BlockConfig, **options: Any) -> ResidualBlockWithAttention:
        """The block of a config. options: dtype and device.

        Raises ValueError for options of published networks, see `build_block`.
        """
        return cls(**config.plain, **options)

    def forward(self, x: Maps) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y)
        y = relu(y)
        y = self.conv2(y)
        y = self.bn2(y)
        y = self.attention(y)
        y = y + cast_like(self.shortcut(x), y)
        return relu(y)
