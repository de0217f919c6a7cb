"""The block and the network as a user of PyTorch would write them at first.

Modules have the names of ours, so that they take the same weights.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from weights.attention import hidden_width
from weights.config import BlockConfig, Config


def native_model(config: Config) -> Any:
    """A new model: a basic block or a network of them, with squeeze-and-excitation or without
    attention.
    """
    block, network = _classes()
    return block(config) if isinstance(config, BlockConfig) else network(config)


@cache
def _classes() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Gate(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.fc1 = nn.Conv2d(channels, hidden_width(channels), 1)
            self.fc2 = nn.Conv2d(hidden_width(channels), channels, 1)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
            return x * torch.sigmoid(self.fc2(y))

    class Block(nn.Module):
        def __init__(self, c: Any):
            super().__init__()
            before, width, bias = c.in_channels, c.out_channels, c.conv_bias
            self.conv1 = nn.Conv2d(before, width, 3, c.stride, 1, bias=bias)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=bias)
            self.bn2 = nn.BatchNorm2d(width)
            self.attention = Gate(width) if c.attention == "se" else nn.Identity()
            self.shortcut: nn.Module = nn.Identity()
            if c.projects:
                conv = nn.Conv2d(before, width, 1, c.stride, bias=bias)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.attention(self.bn2(self.conv2(y)))
            return torch.relu(y + self.shortcut(x))

    class Network(nn.Module):
        def __init__(self, c: Any):
            super().__init__()
            conv = nn.Conv2d(c.in_channels, c.stem_channels, 7, 2, 3, bias=False)
            self.stem = nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(c.stem_channels)})
            self.pool = nn.MaxPool2d(3, 2, 1)
            self.stages = nn.Sequential(
                *(nn.Sequential(*map(Block, blocks)) for blocks in c.stages())
            )
            self.classifier = nn.Linear(c.widths[-1], c.classes)

        def forward(self, x: Any) -> Any:
            y = self.pool(torch.relu(self.stem["bn"](self.stem["conv"](x))))
            return self.classifier(self.stages(y).mean((2, 3)))

    return Block, Network
