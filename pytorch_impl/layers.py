"""The layers of the block and the network. Nothing in them is left to a framework's default."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pytorch_impl import axes
from pytorch_impl.shapes import (
    AnyValues,
    BroadcastValues,
    ChannelSequence,
    ChannelValues,
    Maps,
    ResizedMaps,
    Tokens,
    Values,
)
from weights.stages import stage

GATES = ("sigmoid", "hard_sigmoid")


@stage
def relu(x: Values) -> Values:
    """max(x, 0)."""
    return functional.relu(x)


@stage
def sigmoid(x: Values) -> Values:
    """1 / (1 + exp(-x)), in float32 at least.

    Its slope is s (1 - s). For an s near 1, bfloat16 leaves few digits of 1 - s, or none.
    """
    return cast_like(torch.sigmoid(widen(x)), x)


@stage
def hard_sigmoid(x: Values) -> Values:
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2).

    Not functional.hardsigmoid: it holds 1/6 in float32, so its float64 gradient is off by 3e-8.
    """
    return functional.relu6(x + 3) / 6


@stage
def hard_swish(x: Values) -> Values:
    """x * hard_sigmoid(x) (Howard et al. 2019, section 5.2)."""
    return functional.hardswish(x)


def apply_gate(x: Values, gate: str) -> Values:
    """The function of `GATES` with that name, applied to x."""
    return sigmoid(x) if gate == "sigmoid" else hard_sigmoid(x)


class Conv2d(nn.Conv2d):
    """2-d convolution with explicit padding.

    The weight starts as in He et al. 2015 (Delving deep, section 2.2; fan out), the bias at 0.

    x: (batch, in_channels, height, width) -> (batch, out_channels, (height + 2 padding - kernel) //
        stride + 1, ...).
    kernel_size, stride, padding: (height, width). dilation: the distance between the kernel's
        values, (height, width). The kernel above is then dilation (kernel_size - 1) + 1.
    groups: of channels that it keeps apart.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        *,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias=bias,
            dtype=dtype,
            device=device,
        )

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class DepthwiseConv2d(nn.Conv2d):
    """2-d convolution of each channel by itself. Otherwise like `Conv2d`.

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
        bias: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride,
            padding,
            groups=channels,
            bias=bias,
            dtype=dtype,
            device=device,
        )

    def reset_parameters(self) -> None:
        fan = self.kernel_size[0] * self.kernel_size[1]
        nn.init.normal_(self.weight, std=(2 / fan) ** 0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Conv1d(nn.Conv1d):
    """1-d convolution of one channel that keeps the length, without bias.

    The weight starts normal with variance 2 / kernel_size.

    x: (batch, 1, length) -> the same shape. kernel_size: odd.
    padding: "zero", or "circular", where the last value is next to the first.
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

    def forward(self, x: ChannelSequence) -> ChannelSequence:
        mode = "circular" if self.circular else "constant"
        return functional.conv1d(
            functional.pad(x, (self.margin, self.margin), mode=mode), self.weight
        )


class Linear(nn.Linear):
    """Fully connected layer. x: (batch, in_features) -> (batch, out_features).

    The weight starts normal with variance 1 / in_features, the bias at 0.
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
    """Two 1x1 convolutions with a relu between them.

    x: (batch, channels, height, width) -> the same shape.
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
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.fc1 = Conv2d(channels, hidden_channels, bias=bias, **options)
        self.fc2 = Conv2d(hidden_channels, channels, bias=bias, **options)

    def forward(self, x: Maps) -> Maps:
        y = self.fc1(x)
        y = relu(y)
        return self.fc2(y)


@stage
def average(x: AnyValues, over: list[int]) -> AnyValues:
    """The mean over some axes, which keep size 1."""
    return x.mean(dim=over, keepdim=True)


def widen(x: Values) -> Values:
    """x in float32 at least: squares and long sums leave the range of float16."""
    return x.to(_wide_dtype(x))


@fx.wrap
def _wide_dtype(x: Values) -> torch.dtype:
    """One step of a traced graph: while torch.fx traces, x has no dtype yet."""
    return torch.promote_types(x.dtype, torch.float32)


def cast_like(x: Values, reference: AnyValues) -> Values:
    """x in the dtype of the reference."""
    return x.to(reference.dtype)


def scale(x: BroadcastValues, factor: BroadcastValues) -> BroadcastValues:
    """x * factor, broadcast.

    The factor's gradient is a sum over many positions, which PyTorch computes in float32 at least.
    """
    return x * factor


def add(x: BroadcastValues, y: BroadcastValues) -> BroadcastValues:
    """x + y, broadcast. See `scale` for the gradient."""
    return x + y


def count_positions(x: Maps) -> int:
    """height * width."""
    return x.shape[axes.ROWS] * x.shape[axes.COLS]


@stage
def global_average(x: Maps) -> ChannelValues:
    """The mean over all positions."""
    return average(x, [axes.ROWS, axes.COLS])


@stage
def nearest(x: Maps, rows: int, cols: int) -> ResizedMaps:
    """x resized to rows x cols: row r reads row floor(r height / rows), and columns do the same.

    The indices are computed in integers, so they are exact. A map of one position is not copied.
    """
    return _resize(x, rows, cols)


@fx.wrap
def _resize(x: Maps, rows: int, cols: int) -> ResizedMaps:
    """One step of a traced graph, which does not know sizes yet."""
    height, width = x.shape[axes.ROWS], x.shape[axes.COLS]
    if height == 1 and width == 1:
        return x.expand(-1, -1, rows, cols)
    x = x[:, :, _source_indices(x, rows, height)]
    return x[:, :, :, _source_indices(x, cols, width)]


def _source_indices(x: Maps, count: int, size: int) -> Tensor:
    return torch.arange(count, device=x.device) * size // count


@stage
def concatenate(parts: list[AnyValues], axis: int) -> AnyValues:
    """The parts one after the other along an axis."""
    return torch.cat(parts, dim=axis)


def split_at(x: AnyValues, index: int, axis: int) -> tuple[AnyValues, AnyValues]:
    """x up to an index along an axis, and the rest."""
    return x.narrow(axis, 0, index), x.narrow(axis, index, x.shape[axis] - index)


def swap_axes(x: AnyValues, first: int, second: int) -> AnyValues:
    """x with two axes exchanged."""
    return x.transpose(first, second)


def flatten_positions(x: Maps) -> Tokens:
    """The positions of a map as a sequence, row by row."""
    return x.flatten(2).mT


def unflatten_positions(x: Tokens, rows: int, cols: int) -> Maps:
    """Inverse of `flatten_positions`."""
    return x.mT.reshape(x.shape[0], x.shape[2], rows, cols)


@stage(is_map=False)
def softmax(x: Values) -> Values:
    """Softmax over the last axis. The maximum is subtracted first, so that exp cannot overflow."""
    return torch.softmax(x, dim=-1)
