"""The library of the recipe for a dialect, which does not exist: crow's ResNets, in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-3


class Layer(nn.Module):
    """A convolution and its norm."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outer, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Gate(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 8, 1)
        self.excite = nn.Conv2d(channels // 8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x.mean((2, 3), keepdim=True)).relu()
        return x * self.excite(y).sigmoid()


class Unit(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.first = Layer(inner, outer, 3, stride)
        self.second = Layer(outer, outer, 3, 1)
        self.gate = Gate(outer)
        self.skip = Layer(inner, outer, 1, stride) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        return (self.gate(y) + self.skip(x)).relu()


class Group(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.units = nn.ModuleList([Unit(inner, outer, stride)])

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = unit(x)
        return x


class CrowNet(nn.Module):
    def __init__(self, classes: int, widths: tuple[int, ...]):
        super().__init__()
        self.entry = Layer(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        strides = (1, *[2] * (len(widths) - 1))
        pairs = zip((64, *widths), widths, strides, strict=False)
        self.groups = nn.ModuleList([Group(*each) for each in pairs])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.entry(x).relu())
        for group in self.groups:
            x = group(x)
        return self.head(torch.flatten(x.mean((2, 3)), 1))


def make_crownet(classes: int) -> CrowNet:
    """A crownet10."""
    return CrowNet(classes, (16, 32, 48, 64))
