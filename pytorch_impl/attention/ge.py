"""Gather-excite."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytorch_impl import axes
from pytorch_impl.inputs import check_maps
from pytorch_impl.layers import (
    Bottleneck,
    DepthwiseConv2d,
    global_average,
    nearest,
    relu,
    scale,
    sigmoid,
)
from pytorch_impl.normalization import make_batch_norm
from pytorch_impl.pooling import average_around
from pytorch_impl.shapes import Maps, ResizedMaps
from weights.attention import attention_parameters, gathered_steps, hidden_width
from weights.checks import Pair, pair_of


class GatherAverages(nn.Module):
    """Averages over the whole map (extent None) or around every extent-th pixel.

    x: (batch, channels, height, width) -> (batch, channels, ceil(height / extent),
        ceil(width / extent)), or 1 x 1 for extent None.
    """

    def __init__(self, extent: int | None, **options: Any):
        super().__init__()
        self.extent = extent

    def forward(self, x: Maps) -> ResizedMaps:
        return global_average(x) if self.extent is None else average_around(x, self.extent)


class GatherConvolutions(nn.Module):
    """Depthwise convolutions with batch norms and a relu between them.

    One convolution of the size of the map (extent None), or log2(extent) of stride 2.

    x: (batch, channels, height, width) -> (batch, channels, ceil(height / extent),
        ceil(width / extent)), or 1 x 1 for extent None.
    Raises ValueError for maps of another size than `size`, if there is one.
    """

    def __init__(
        self,
        channels: int,
        extent: int | None,
        size: Pair | None,
        bn_eps: float,
        bn_decay: float,
        folded: bool,
        **options: Any,
    ):
        super().__init__()
        self.size = size
        self.steps = 1 if extent is None else gathered_steps("convolution", extent)
        kernel, stride, padding = (size, (1, 1), (0, 0)) if size else ((3, 3), (2, 2), (1, 1))
        for step in range(1, self.steps + 1):
            setattr(
                self,
                f"conv{step}",
                DepthwiseConv2d(channels, kernel, stride, padding, bias=folded, **options),
            )
            setattr(
                self, f"norm{step}", make_batch_norm(channels, bn_eps, bn_decay, folded, **options)
            )

    def forward(self, x: Maps) -> ResizedMaps:
        check_maps(x, "ge", self.size)
        for number, layer in enumerate(self.children()):  # conv1, norm1, conv2, norm2, ...
            x = relu(x) if number > 0 and number % 2 == 0 else x
            x = layer(x)
        return x


class GatherExcite(nn.Module):
    """One gate per value, from its surroundings (Hu et al. 2018, Gather-Excite, section 2).

    x: (batch, channels, height, width) -> the same shape, each value scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.gather_excite`.
    Raises ValueError for maps of another size than `size`, if there is one.
    """

    def __init__(
        self,
        channels: int,
        gather: str = "average",
        extent: int | None = None,
        size: int | Pair | None = None,
        mlp: bool = False,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        folded: bool = False,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        settings = {
            "gather": gather,
            "extent": extent,
            "size": size,
            "mlp": mlp,
            "reduction": reduction,
            "hidden_channels": hidden_channels,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("ge", channels, settings)
        size = None if size is None else pair_of("size", size)
        hidden = hidden_width(channels, reduction, hidden_channels)
        if gather == "average":
            self.gather: nn.Module = GatherAverages(extent, **options)
        else:
            self.gather = GatherConvolutions(
                channels, extent, size, bn_eps, bn_decay, folded, **options
            )
        self.mlp = Bottleneck(channels, hidden, **options) if mlp else None

    def forward(self, x: Maps) -> Maps:
        gate = self.gather(x)
        gate = gate if self.mlp is None else self.mlp(gate)
        gate = sigmoid(gate)
        gate = nearest(gate, x.shape[axes.ROWS], x.shape[axes.COLS])
        return scale(x, gate)
