"""The sketch of the forum thread, with a module for its attention, which the thread left open."""

import torch
from torch import nn


class AttentionModule(nn.Module):
    def __init__(self, channels, reduction=16):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        weights = x.mean(dim=(2, 3))
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(weights))))
        return x * weights[:, :, None, None]


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1, padding=1, second=None):
        """second: the stride of the second convolution; the thread's sketch passes stride on."""
        super().__init__()
        second = stride if second is None else second
        self.conv_a = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.norm_a = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv_b = nn.Conv2d(out_channels, out_channels, kernel_size, second, padding)
        self.norm_b = nn.BatchNorm2d(out_channels)
        self.gate = AttentionModule(out_channels)
        self.skip = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        y = self.relu(self.norm_a(self.conv_a(x)))
        y = self.gate(self.norm_b(self.conv_b(y)))
        y += self.skip(x)
        return self.relu(y)


class Net(nn.Module):
    """Two of the blocks that work, between a stem and a classifier, for 32 x 32 images."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        )
        self.body = nn.Sequential(ResidualBlock(32, 32), ResidualBlock(32, 64, stride=2, second=1))
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        y = self.body(self.stem(x))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(y, 1), 1))
