"""The attention modules, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytorch_impl.layers import Conv2d, global_average, relu, sigmoid
from weights.attention import attention_parameters, hidden_width

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Identity(nn.Module):
    """No attention: gives back its input. x: (batch, channels, height, width)."""

    def __init__(self, channels: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None):
        super().__init__()

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return x


class SqueezeExcite(nn.Module):
    """Channel attention by squeeze-and-excitation (Hu et al. 2018, section 3).

    x: (batch, channels, height, width) -> the same shape, each channel scaled by a gate in (0, 1).
    channels: of the input. reduction: channels / hidden width (16 by default), or hidden_channels: the hidden width
    itself; see `weights.attention.hidden_width`.
    Raises ValueError when both are given or one is not a positive integer.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.fc1 = Conv2d(channels, hidden, dtype=dtype, device=device)
        self.fc2 = Conv2d(hidden, channels, dtype=dtype, device=device)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        gate = global_average(x)
        gate = self.fc1(gate)
        gate = relu(gate)
        gate = self.fc2(gate)
        gate = sigmoid(gate)
        return x * gate


ATTENTION: dict[str, type[nn.Module]] = {"none": Identity, "se": SqueezeExcite}


def AttentionModule(  # noqa: N802  (a name users rely on; it makes a module as a class would)
    channels: int,
    kind: str = "se",
    options: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A new attention module of a kind of `ATTENTION`, with that kind's options.

    Raises ValueError for a kind or an option that does not exist, and what the module raises.
    """
    attention_parameters(kind, channels, options or {})
    return ATTENTION[kind](channels, **(options or {}), dtype=dtype, device=device)
