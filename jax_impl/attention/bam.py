"""Bottleneck attention module."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.layers import Conv2d, add, global_average, relu, scale, sigmoid
from jax_impl.normalization import make_batch_norm
from jax_impl.shapes import ChannelValues, Maps, PositionValues
from weights.attention import attention_parameters, hidden_width


class ChannelBranch(nnx.Module):
    """One logit per channel, from the averages of all channels.

    x: (batch, height, width, channels) -> (batch, 1, 1, channels).
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        bn_eps: float,
        bn_decay: float,
        folded: bool,
        **options: Any,
    ):
        self.fc_0 = Conv2d(channels, hidden_channels, **options)
        self.bn_1 = make_batch_norm(hidden_channels, bn_eps, bn_decay, folded, **options)
        self.fc_final = Conv2d(hidden_channels, channels, **options)

    def __call__(self, x: Maps) -> ChannelValues:
        y = global_average(x)
        y = self.fc_0(y)
        y = self.bn_1(y)
        y = relu(y)
        return self.fc_final(y)


class SpatialBranch(nnx.Module):
    """One logit per position, from its surroundings: two dilated 3x3 convolutions between 1x1 ones.

    x: (batch, height, width, channels) -> (batch, height, width, 1).
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        dilation: int,
        bn_eps: float,
        bn_decay: float,
        folded: bool,
        **options: Any,
    ):
        hidden, spread = hidden_channels, (dilation, dilation)
        self.conv_reduce0 = Conv2d(channels, hidden, **options)
        self.bn_reduce0 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options)
        self.conv_di_0 = Conv2d(hidden, hidden, (3, 3), (1, 1), spread, spread, **options)
        self.bn_di_0 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options)
        self.conv_di_1 = Conv2d(hidden, hidden, (3, 3), (1, 1), spread, spread, **options)
        self.bn_di_1 = make_batch_norm(hidden, bn_eps, bn_decay, folded, **options)
        self.conv_final = Conv2d(hidden, 1, **options)

    def __call__(self, x: Maps) -> PositionValues:
        y = self.conv_reduce0(x)
        y = self.bn_reduce0(y)
        y = relu(y)
        y = self.conv_di_0(y)
        y = self.bn_di_0(y)
        y = relu(y)
        y = self.conv_di_1(y)
        y = self.bn_di_1(y)
        y = relu(y)
        return self.conv_final(y)


class BAM(nnx.Module):
    """Channel and spatial attention in parallel (Park et al. 2018, BAM, section 3.1).

    x: (batch, height, width, channels) -> the same shape, each value scaled by 1 + a gate in
        (0, 1).
    channels: of the input. The options and their errors: `weights.attention.bam`.
    Raises ValueError in training with one image: the channel branch normalises over images.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        dilation: int = 4,
        fusion: str = "sum",
        bn_eps: float = 1e-5,
        bn_decay: float = 0.9,
        folded: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        settings = {
            "dilation": dilation,
            "fusion": fusion,
            "bn_eps": bn_eps,
            "bn_decay": bn_decay,
            "folded": folded,
        }
        attention_parameters("bam", channels, settings)
        hidden = hidden_width(channels, reduction, hidden_channels)
        self.fusion = fusion
        self.channel_att = ChannelBranch(channels, hidden, bn_eps, bn_decay, folded, **options)
        self.spatial_att = SpatialBranch(
            channels, hidden, dilation, bn_eps, bn_decay, folded, **options
        )

    def __call__(self, x: Maps) -> Maps:
        channel = self.channel_att(x)
        spatial = self.spatial_att(x)
        logits = add(channel, spatial) if self.fusion == "sum" else scale(channel, spatial)
        return x * (1 + sigmoid(logits))
