"""Norms with the semantics that the three implementations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytorch_impl import axes
from pytorch_impl.inputs import check_batch
from pytorch_impl.layers import cast_like, swap_axes, widen
from pytorch_impl.shapes import Maps
from pytorch_impl.shards import batch_moments
from weights.config import Config
from weights.shards import Division
from weights.stages import stage


@stage
class BatchNorm(nn.BatchNorm2d):
    """Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2).

    In training it normalises with the mean and the biased variance of the batch (divided by n),
    over batch and positions. Running statistics become decay * running + (1 - decay) * batch's,
    with the unbiased variance (divided by n - 1). In evaluation it normalises with the running
    statistics.

    x: (batch, channels, height, width) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * weight + bias. Computed in float32 at least.
    initial_scale: the initial value of the weight.
    Raises ValueError in training with n = 1.

    Running statistics stay in float32 at least, also in a model after .to() or .half(). In bfloat16
    one would stop changing once a step is less than half a unit in the last place.

    division: None, but for training on several devices; see `pytorch_impl.shards.divided`. There
        the statistics of a batch are those of `batch_moments`.
    """

    if TYPE_CHECKING:  # optional in nn.BatchNorm2d
        momentum: float
        running_mean: Tensor
        running_var: Tensor
        num_batches_tracked: Tensor

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
        self.initial_scale = initial_scale  # before the constructor calls reset_parameters
        # 1 - 0.9 is 0.09999999999999998; PyTorch users write 0.1.
        super().__init__(
            channels, eps=eps, momentum=round(1 - decay, 15), dtype=dtype, device=device
        )
        self.division: Division | None = None
        self._apply(lambda tensor: tensor)  # widens the statistics

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.weight, self.initial_scale)

    def forward(self, x: Maps) -> Maps:
        if self.division is not None:  # noqa: SIM102  (torch.jit.script does not read the body)
            if self.training:
                return self._normalise_shard(x, self.division)
        if self.training:
            check_batch(x)
            self.num_batches_tracked.add_(1)
        mean, variance = self.running_mean, self.running_var
        # PyTorch takes both in the dtype of the statistics or of x.
        weight, bias = widen(self.weight), widen(self.bias)
        return functional.batch_norm(
            x, mean, variance, weight, bias, self.training, self.momentum, self.eps
        )

    @torch.jit.unused
    def _normalise_shard(self, x: Maps, division: Division) -> Maps:
        moments, decay = batch_moments(x, division), 1 - self.momentum
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.mul_(decay).add_(moments.running_mean, alpha=self.momentum)
            self.running_var.mul_(decay).add_(moments.running_variance, alpha=self.momentum)
        y = (widen(x) - moments.mean) * torch.rsqrt(moments.variance + self.eps)
        y = y * widen(self.weight)[:, None, None] + widen(self.bias)[:, None, None]
        return cast_like(y, x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BatchNorm:
        """Does what .to(), .half() and .cuda() do, but keeps the statistics in float32 at least."""
        before = {name: getattr(self, name) for name in ("running_mean", "running_var")}
        super()._apply(fn, recurse)
        for name, statistic in before.items():
            new = getattr(self, name)
            if new.itemsize < torch.float32.itemsize:
                setattr(self, name, statistic.to(new.device, torch.float32))
        return self


@stage
class GroupNorm(nn.GroupNorm):
    """Group normalization over the positions and channels of each group (Wu & He 2018, equations 1,
    2 and 7).

    x: (batch, channels, height, width) -> the same shape and dtype: (x - mean) /
        sqrt(variance + eps) * weight + bias, with the mean and the biased variance of the group.
        Computed in float32 at least.
    initial_scale: the initial value of the weight.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        eps: float = 1e-5,
        initial_scale: float = 1,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        self.initial_scale = initial_scale  # before the constructor calls reset_parameters
        super().__init__(groups, channels, eps=eps, dtype=dtype, device=device)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.weight, self.initial_scale)

    def forward(self, x: Maps) -> Maps:
        wide, weight, bias = widen(x), widen(self.weight), widen(self.bias)
        return cast_like(functional.group_norm(wide, self.num_groups, weight, bias, self.eps), x)


def make_batch_norm(
    channels: int,
    eps: float,
    decay: float,
    folded: bool,
    initial_scale: float = 1,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A batch norm; nothing where it is folded into the convolution before it."""
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    if folded:
        return nn.Identity()
    return BatchNorm(channels, eps, decay, initial_scale, **options)


def make_norm(
    config: Config,
    channels: int,
    initial_scale: float = 1,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """The norm that a config asks for."""
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    if config.norm == "group":
        return GroupNorm(channels, config.norm_groups, config.bn_eps, initial_scale, **options)
    folded = config.norm == "folded"
    return make_batch_norm(
        channels, config.bn_eps, config.bn_decay, folded, initial_scale, **options
    )


@stage
class LayerNorm(nn.Module):
    """Layer normalization over the channels of each position (Ba et al. 2016, equation 3).

    x: (batch, channels, height, width) -> the same shape: (x - mean) / sqrt(variance + eps) *
        weight + bias, with the mean and the biased variance of the channels.
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

    def forward(self, x: Maps) -> Maps:
        x = swap_axes(x, axes.CHANNELS, -1)
        y = functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return swap_axes(y, axes.CHANNELS, -1)
