"""The residual block with attention, and a network of it, in Flax NNX. Arrays are (batch, height, width, channels)."""

from jax_impl.attention import ATTENTION, AttentionModule, Identity, SqueezeExcite
from jax_impl.block import ResidualBlockWithAttention
from jax_impl.network import ResidualAttentionNetwork
from jax_impl.normalization import BatchNorm

__all__ = [
    "ATTENTION",
    "AttentionModule",
    "BatchNorm",
    "Identity",
    "ResidualAttentionNetwork",
    "ResidualBlockWithAttention",
    "SqueezeExcite",
]
