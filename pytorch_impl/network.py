"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.block import ResidualBlockWithAttention
from pytorch_impl.inputs import check_images
from pytorch_impl.layers import Conv2d, Linear, global_average, max_pool, relu
from pytorch_impl.normalization import BatchNorm
from pytorch_impl.shapes import Logits, Maps, NewMaps
from weights.config import NetworkConfig


class Stem(nn.Module):
    """The layers before the blocks: convolution, batch norm, relu and an optional 3x3 max pooling.

    x: (batch, in_channels, height, width) -> (batch, stem_channels, ...), sizes divided by the
        strides and rounded up.
    """

    def __init__(self, config: NetworkConfig, **options: Any):
        super().__init__()
        sizes: Any = config  # complete, and all sizes are pairs
        kernel, channels = sizes.stem_kernel_size, sizes.stem_channels
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = Conv2d(
            config.in_channels,
            channels,
            kernel,
            sizes.stem_stride,
            padding,
            bias=config.conv_bias,
            **options,
        )
        self.bn = BatchNorm(channels, config.bn_eps, config.bn_decay, **options)
        self.pools = config.stem_pool

    def forward(self, x: Maps) -> NewMaps:
        y = self.conv(x)
        y = self.bn(y)
        y = relu(y)
        return max_pool(y) if self.pools else y


class ResidualAttentionNetwork(nn.Module):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, in_channels, height, width) -> (batch, classes), logits.
    dtype: of parameters and statistics, torch.float32 by default. device: where they are.
    Raises ValueError for inputs of another rank or number of channels.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.config = config
        self.in_channels = config.in_channels
        self.stem = Stem(config, **options)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    *(ResidualBlockWithAttention.from_config(block, **options) for block in blocks)
                )
                for blocks in config.stages()
            )
        )
        self.classifier = Linear(config.widths[-1], config.classes, **options)

    @classmethod
    def from_config(cls, config: NetworkConfig, **options: Any) -> ResidualAttentionNetwork:
        """The network of a config. options: dtype and device."""
        return cls(config, **options)

    def forward(self, x: Maps) -> Logits:
        check_images(x, self.in_channels)
        y = self.stem(x)
        y = self.stages(y)
        y = global_average(y).flatten(1)
        return self.classifier(y)
