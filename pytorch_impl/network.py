"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytorch_impl.block import ResidualBlockWithAttention
from pytorch_impl.layers import Conv2d, Linear, global_average, max_pool, relu
from pytorch_impl.normalization import BatchNorm
from weights.checks import check_input
from weights.config import NetworkConfig

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Stem(nn.Module):
    """What stands before the blocks: convolution, batch norm, relu, and a 3x3 maximum pooling if
    the config has one.

    x: (batch, in_channels, height, width) -> (batch, stem_channels, ...), sizes divided by the
    strides and rounded up.
    """

    def __init__(self, config: NetworkConfig, **options: Any):
        super().__init__()
        kernel, padding = (
            config.stem_kernel_size,
            tuple(size // 2 for size in config.stem_kernel_size),
        )
        self.conv = Conv2d(
            config.in_channels,
            config.stem_channels,
            kernel,
            config.stem_stride,
            padding,
            bias=config.conv_bias,
            **options,
        )
        self.bn = BatchNorm(config.stem_channels, config.bn_eps, config.bn_decay, **options)
        self.pools = config.stem_pool

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        y = self.conv(x)
        y = self.bn(y)
        y = relu(y)
        return max_pool(y) if self.pools else y


class ResidualAttentionNetwork(nn.Module):
    """Residual network of blocks with attention: stem, stages, global average, classifier.

    He et al. 2015, table 1 (ImageNet) and section 4.2 (CIFAR).

    x: (batch, in_channels, height, width) -> (batch, classes), not normalised (logits).
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
        options = {"dtype": dtype, "device": device}
        self.config = config
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
        """The network that a config describes. options: dtype and device."""
        return cls(config, **options)

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        check_input(x.shape, "batch channels height width", self.config.in_channels)
        y = self.stem(x)
        y = self.stages(y)
        y = global_average(y).flatten(1)
        return self.classifier(y)
