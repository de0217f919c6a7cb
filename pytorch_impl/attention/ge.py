"""Gather-excite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytorch_impl.layers import (
    COLS,
    ROWS,
    Bottleneck,
    DepthwiseConv2d,
    average_around,
    global_average,
    nearest,
    relu,
    scaled,
    sigmoid,
)
from pytorch_impl.normalization import BatchNorm
from weights.attention import attention_parameters, gathered_steps, hidden_width
from weights.checks import Pair, check_map, pair_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class GatherAverages(nn.Module):
    """Averages over the whole map or around every extent-th pixel.

    x: (batch, channels, height, width) -> (batch, channels, ceil(height / extent), ceil(width /
    extent)); 1 x 1 for extent None.
    """

    def __init__(self, extent: int | None, **options: Any):
        super().__init__()
        self.extent = extent

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        return global_average(x) if self.extent is None else average_around(x, self.extent)


class GatherConvolutions(nn.Module):
    """Depthwise convolutions with batch norms, relu between: one as large as the map, or
    log2(extent) of stride 2.

    x: (batch, channels, height, width) -> (batch, channels, ceil(height / extent), ceil(width /
    extent)); 1 x 1 for extent None.
    """

    def __init__(
        self,
        channels: int,
        extent: int | None,
        size: Pair | None,
        bn_eps: float,
        bn_decay: float,
        **options: Any,
    ):
        super().__init__()
        self.size = size
        self.steps = 1 if extent is None else gathered_steps("convolution", extent)
        kernel, stride, padding = (
            ((3, 3), (2, 2), (1, 1)) if size is None else (size, (1, 1), (0, 0))
        )
        for step in range(1, self.steps + 1):
            setattr(
                self, f"conv{step}", DepthwiseConv2d(channels, kernel, stride, padding, **options)
            )
            setattr(self, f"norm{step}", BatchNorm(channels, bn_eps, bn_decay, **options))

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels rows cols"]:
        check_map("ge", x.shape[ROWS], x.shape[COLS], size=self.size)
        for step in range(1, self.steps + 1):
            x = relu(x) if step > 1 else x
            x = getattr(self, f"conv{step}")(x)
            x = getattr(self, f"norm{step}")(x)
        return x


class GatherExcite(nn.Module):
    """A gate for each value, gathered from its channel around it (Hu et al. 2018, Gather-Excite,
    section 2).

    x: (batch, channels, height, width) -> the same shape, each value scaled by a gate in (0, 1).
    channels: of the input. The options and their errors: `weights.attention.gather_excite`.
    Raises ValueError for maps of another size than `size`, if that was given.
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
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        given = {
            "gather": gather,
            "extent": extent,
            "size": size,
            "mlp": mlp,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
        }
        widths = {"reduction": reduction, "hidden_channels": hidden_channels}
        attention_parameters("ge", channels, {**given, **widths})
        size = None if size is None else pair_of("size", size)
        hidden = hidden_width(channels, reduction, hidden_channels)
        if gather == "average":
            self.gather = GatherAverages(extent, **options)
        else:
            self.gather = GatherConvolutions(channels, extent, size, bn_eps, bn_decay, **options)
        self.mlp = Bottleneck(channels, hidden, **options) if mlp else None

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        gate = self.gather(x)
        gate = gate if self.mlp is None else self.mlp(gate)
        gate = nearest(gate, x.shape[ROWS], x.shape[COLS])
        gate = sigmoid(gate)
        return scaled(x, gate)
