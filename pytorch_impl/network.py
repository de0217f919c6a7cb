"""A residual network built of blocks with attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl.inputs import check_images
from pytorch_impl.layers import Linear, global_average
from pytorch_impl.shapes import Logits, Maps
from pytorch_impl.stem import make_stem
from pytorch_impl.variant import build_block
from weights.config import NetworkConfig


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
        self.stem = make_stem(config, **options)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*(build_block(block, **options) for block in blocks))
                for blocks in config.stages()
            )
        )
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.classifier: nn.Module = (
            Linear(config.widths[-1], config.classes, **options)
            if config.classes
            else nn.Identity()
        )

    @classmethod
    def from_config(cls, config: NetworkConfig, **options: Any) -> ResidualAttentionNetwork:
        """The network of a config. options: dtype and device."""
        return cls(config, **options)

    def forward(self, x: Maps) -> Logits:
        check_images(x, self.in_channels)
        y = self.stem(x)
        y = self.stages(y)
        y = global_average(y)
        y = self.dropout(y)
        return self.classifier(y.flatten(1))

    def features(self, x: Maps) -> list[Maps]:
        """The outputs of the stem and of every stage, for detectors and segmenters.

        x: (batch, in_channels, height, width) -> maps of (batch, channels, rows, cols).
        """
        check_images(x, self.in_channels)
        found = [self.stem(x)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found
