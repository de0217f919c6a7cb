"""Batch norm with the semantics that the three implementations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from pytorch_impl.layers import CHANNELS, swapped, widened
from weights.checks import check_statistics

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2).

    x: (batch, channels, height, width) -> the same shape: (x - mean) / sqrt(variance + eps) *
    weight + bias. In training mean and variance are the batch's, over batch and positions, the
    variance biased (divided by n), and the running ones become decay * running + (1 - decay) *
    batch's, with the unbiased variance (divided by n - 1). In evaluation they are the running ones.
    initial_scale: what the weight starts with. Computed in float32 at least, in which the running
    ones are held too, whatever .to() or .half() is called; what comes out is of the dtype of x. In
    bfloat16 a running statistic stops where decay takes less than half a unit in the last place.
    Raises ValueError in training with n = 1.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        initial_scale: float = 1,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        self.initial_scale = initial_scale  # read by reset_parameters, which is called at once
        # 1 - 0.9 is 0.09999999999999998; PyTorch users write 0.1.
        super().__init__(
            channels, eps=eps, momentum=round(1 - decay, 15), dtype=dtype, device=device
        )
        self._apply(lambda tensor: tensor)  # widens the statistics

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.weight, self.initial_scale)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        if self.training:
            check_statistics(x.shape[0] * x.shape[2] * x.shape[3])
            self.num_batches_tracked.add_(1)
        mean, variance = self.running_mean, self.running_var
        weight, bias = (
            widened(self.weight),
            widened(self.bias),
        )  # PyTorch takes both in the dtype of the statistics or of x
        return functional.batch_norm(
            x, mean, variance, weight, bias, self.training, self.momentum, self.eps
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BatchNorm:
        """What .to(), .half() and .cuda() do, but that the statistics stay in float32 at least,
        their values untouched.
        """
        before = {name: getattr(self, name) for name in ("running_mean", "running_var")}
        super()._apply(fn, recurse)
        for name, statistic in before.items():
            moved = getattr(self, name)
            if moved.itemsize < torch.float32.itemsize:
                setattr(self, name, statistic.to(moved.device, torch.float32))
        return self


class LayerNorm(nn.Module):
    """Layer normalization over the channels of each position (Ba et al. 2016, equation 3).

    x: (batch, channels, height, width) -> the same shape: (x - mean) / sqrt(variance + eps) *
    weight + bias, mean and biased variance over the channels.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels, dtype=dtype, device=device))
        self.bias = nn.Parameter(torch.empty(channels, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        x = swapped(x, CHANNELS, -1)
        y = functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return swapped(y, CHANNELS, -1)
