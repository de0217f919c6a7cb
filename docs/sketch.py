"""The block of the forum thread that asked: explain this code and draw its model.

The thread uses `AttentionModule` without defining it. Here it is that of pytorch_impl,
squeeze-and-excitation, so that the rest can run. `make documents` makes explained.md from this
file.
"""

import torch
from torch import nn

from pytorch_impl import AttentionModule


class ResidualBlockWithAttention(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1, padding=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size, stride, padding)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.attention = AttentionModule(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = self.attention(y)
        return torch.relu(y + self.shortcut(x))
