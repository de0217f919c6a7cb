"""The residual block as published networks change it, and the block of any config."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.attention import AttentionModule
from pytorch_impl.block import ResidualBlockWithAttention
from pytorch_impl.bottleneck import ResidualBottleneckWithAttention
from pytorch_impl.convolution import make_convolution
from pytorch_impl.inputs import check_images, check_paths
from pytorch_impl.layers import cast_like, relu
from pytorch_impl.normalization import make_norm
from pytorch_impl.shapes import Maps, NewMaps
from pytorch_impl.shortcut import antialias, make_drop_path, make_shortcut
from weights.config import BlockConfig, BottleneckConfig


class ResidualBlockVariant(nn.Module):
    """`ResidualBlockWithAttention` with the options of published networks.

    The same members and parameters. Between them there may be an antialiasing pooling after the
    first relu, a relu before the attention, another norm, padding or shortcut.

    x: (batch, in_channels, height, width) -> (batch, out_channels, ceil(height / stride),
        ceil(width / stride)).
    config: `weights.BlockConfig` says what its fields mean.
    dtype: of parameters and statistics, torch.float32 by default. device: where they are.
    Raises ValueError for inputs of another rank or number of channels, and for sizes at which main
        path and shortcut differ.
    """

    def __init__(
        self,
        config: BlockConfig,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        channels, width = config.in_channels, config.out_channels
        stride, kernel, padding = config.main_stride, config.kernel_size, config.padding
        first, others = config.dilation
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        conv_options = {**options, "bias": config.conv_bias}
        self.config: Any = config
        self.in_channels = config.in_channels
        self.conv1 = make_convolution(
            channels, width, kernel, stride["conv1"], padding, first, **conv_options
        )
        self.bn1 = make_norm(config, width, **options)
        self.conv2 = make_convolution(width, width, kernel, (1, 1), padding, others, **conv_options)
        self.bn2 = make_norm(config, width, 0 if config.zero_init else 1, **options)
        self.attention = AttentionModule(
            width, config.attention, config.attention_options, **options
        )
        self.drop_path = make_drop_path(config, **options)
        self.shortcut = make_shortcut(config, **options)

    @classmethod
    def from_config(cls, config: BlockConfig, **options: Any) -> ResidualBlockVariant:
        """The block of a config. options: dtype and device."""
        return cls(config, **options)

    def forward(self, x: Maps) -> NewMaps:
        check_images(x, self.in_channels)
        y = self.conv1(x)
        y = self.bn1(y)
        y = relu(y)
        y = antialias(y, self.config.antialias, self.config.stride) if self.config.pools else y
        y = self.conv2(y)
        y = self.bn2(y)
        y = relu(y) if self.config.relu_before_attention else y
        y = self.attention(y)
        y = self.drop_path(y)
        x = self.shortcut(x)
        check_paths(y, x)
        y = y + cast_like(x, y)
        return relu(y)


def build_block(config: BlockConfig, **options: Any) -> nn.Module:
    """The block of any config: plain, with options, or a bottleneck. options: dtype and device."""
    if isinstance(config, BottleneckConfig):
        return ResidualBottleneckWithAttention.from_config(config, **options)
    if config.is_plain:
        return ResidualBlockWithAttention.from_config(config, **options)
    return ResidualBlockVariant.from_config(config, **options)
