"""The layers that the block and the network are made of, with nothing left to a default of the
framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

CHANNELS, ROWS, COLS = 1, 2, 3

relu = functional.relu
hard_swish = functional.hardswish


def sigmoid(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """1 / (1 + exp(-x)), in float32 at least: its slope is s (1 - s), and 1 - s of an s near 1 that
    was rounded to bfloat16 has few digits or none."""
    return like(x, torch.sigmoid(widened(x)))


def hard_sigmoid(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """relu6(x + 3) / 6. Not functional.hardsigmoid, whose float64 gradient is wrong by 3e-8: it
    holds 1/6 in float32.
    """
    return functional.relu6(x + 3) / 6


GATES = {"sigmoid": sigmoid, "hard_sigmoid": hard_sigmoid}


class Conv2d(nn.Conv2d):
    """2-d convolution with explicit padding, initialised as in He et al. 2015 (Delving deep,
    section 2.2; fan out).

    x: (batch, in_channels, height, width) -> (batch, out_channels, (height + 2 padding - kernel) //
        stride + 1, ...).
    kernel_size, stride, padding: (height, width). dilation: how far apart the kernel's values are,
    (height, width); the kernel's size above is then dilation (kernel_size - 1) + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        *,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        options = {"dtype": dtype, "device": device}
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias, **options
        )

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class DepthwiseConv2d(nn.Conv2d):
    """2-d convolution of each channel by itself, without bias; otherwise as `Conv2d`.

    x: (batch, channels, height, width) -> (batch, channels, (height + 2 padding - kernel) // stride
    + 1, ...).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        options = {"dtype": dtype, "device": device}
        super().__init__(
            channels, channels, kernel_size, stride, padding, groups=channels, bias=False, **options
        )

    def reset_parameters(self) -> None:
        fan = self.kernel_size[0] * self.kernel_size[1]
        nn.init.normal_(self.weight, std=(2 / fan) ** 0.5)


class Conv1d(nn.Conv1d):
    """1-d convolution that keeps the length, one channel to one, without bias. Weights start
    normal, variance 2 / size.

    x: (batch, 1, length) -> the same shape. kernel_size: odd. padding: "zero", or "circular": the
    last is next to the first.
    """

    def __init__(
        self,
        kernel_size: int,
        padding: str = "zero",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__(1, 1, kernel_size, padding=0, bias=False, dtype=dtype, device=device)
        self.margin = kernel_size // 2
        self.circular = padding == "circular"

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=(2 / self.kernel_size[0]) ** 0.5)

    def forward(self, x: Float[Tensor, "batch 1 length"]) -> Float[Tensor, "batch 1 length"]:
        return super().forward(
            functional.pad(
                x, (self.margin, self.margin), mode="circular" if self.circular else "constant"
            )
        )


class Linear(nn.Linear):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features). Weights start
    normal, variance 1 / fan in.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__(in_features, out_features, dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.bias)


class Bottleneck(nn.Module):
    """Two 1x1 convolutions with a relu between. x: (batch, channels, height, width) -> the same
    shape.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        self.fc1 = Conv2d(channels, hidden_channels, bias=bias, **options)
        self.fc2 = Conv2d(hidden_channels, channels, bias=bias, **options)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        y = self.fc1(x)
        y = relu(y)
        return self.fc2(y)


def max_pool(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels rows cols"]:
    """3x3 maximum, stride 2, padding 1 with -inf on all four sides (He et al. 2015, table 1, as
    PyTorch pads).
    """
    return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def max_pool_2x2(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels rows cols"]:
    """2x2 maximum, stride 2; what is left over at the end is dropped."""
    return functional.max_pool2d(x, kernel_size=2, stride=2)


def average(x: Float[Tensor, "..."], *axes: int) -> Float[Tensor, "..."]:
    """The mean over axes, which stay with size 1."""
    return x.mean(dim=axes, keepdim=True)


def maximum(x: Float[Tensor, "..."], *axes: int) -> Float[Tensor, "..."]:
    """The greatest over axes, which stay with size 1. Its slope goes to one place, by its index.

    Not amax, whose gradient looks for values that equal the greatest: what a compiler computes
    twice need not be equal.
    """
    for axis in axes:
        x = x.max(dim=axis, keepdim=True).values
    return x


def greater(x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The greater of two, value by value."""
    return torch.maximum(x, y)


def widened(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In float32 at least: squares and sums of many leave the range of float16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def like(x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """y in the dtype of x."""
    return y.to(x.dtype)


def scaled(x: Float[Tensor, "..."], factor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x factor, the factor broadcast. Its slope is a sum over many positions, which PyTorch adds up
    in float32 at least.
    """
    return x * factor


def added(x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x + y, y broadcast; as `scaled`."""
    return x + y


def position_count(x: Float[Tensor, "..."]) -> int:
    """How many positions a map has."""
    return x.shape[ROWS] * x.shape[COLS]


def global_average(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels 1 1"]:
    """The mean over all positions."""
    return average(x, ROWS, COLS)


def average_around(
    x: Float[Tensor, "batch channels height width"], extent: int
) -> Float[Tensor, "batch channels rows cols"]:
    """The mean of the pixels less than `extent` rows and columns away, those that are there, at
    every extent-th pixel.
    """
    return functional.avg_pool2d(x, 2 * extent - 1, extent, extent - 1, count_include_pad=False)


def nearest(
    x: Float[Tensor, "batch channels height width"], rows: int, cols: int
) -> Float[Tensor, "batch channels rows cols"]:
    """Stretched to rows x cols: row r reads row floor(r height / rows), and so do columns; in whole
    numbers.
    """
    height, width = x.shape[ROWS], x.shape[COLS]
    x = x[:, :, torch.arange(rows, device=x.device) * height // rows]
    return x[:, :, :, torch.arange(cols, device=x.device) * width // cols]


def concatenate(parts: Sequence[Float[Tensor, "..."]], axis: int) -> Float[Tensor, "..."]:
    return torch.cat(tuple(parts), dim=axis)


def parted(
    x: Float[Tensor, "..."], size: int, axis: int
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """The first `size` along an axis, and the rest."""
    return x.narrow(axis, 0, size), x.narrow(axis, size, x.shape[axis] - size)


def swapped(x: Float[Tensor, "..."], first: int, second: int) -> Float[Tensor, "..."]:
    """Two axes in each other's place."""
    return x.transpose(first, second)


def positions(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch positions channels"]:
    """The pixels in one row, line by line."""
    return x.flatten(2).mT


def image(
    x: Float[Tensor, "batch positions channels"], rows: int, cols: int
) -> Float[Tensor, "batch channels rows cols"]:
    """What `positions` has undone."""
    return x.mT.reshape(x.shape[0], x.shape[2], rows, cols)


def softmax(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Over the last axis; the greatest is taken away before exp, so that nothing overflows."""
    return torch.softmax(x, dim=-1)
