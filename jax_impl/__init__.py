"""The residual block with attention, and a network of it, in Flax NNX. Arrays are (batch, height,
width, channels).
"""

from jax_impl.attention import (
    ATTENTION,
    BAM,
    CBAM,
    AttentionModule,
    ConcurrentSqueezeExcite,
    Coordinate,
    EffectiveSqueezeExcite,
    EfficientChannel,
    GatherExcite,
    GlobalContext,
    Identity,
    MultiHeadSelfAttention,
    NonLocal,
    SimAM,
    SqueezeExcite,
    Triplet,
)
from jax_impl.block import ResidualBlockWithAttention
from jax_impl.bottleneck import ResidualBottleneckWithAttention
from jax_impl.deploy import deploy
from jax_impl.network import ResidualAttentionNetwork
from jax_impl.normalization import BatchNorm, GroupNorm, LayerNorm
from jax_impl.preprocessing import preprocess
from jax_impl.variant import ResidualBlockVariant, build_block

__all__ = [
    "ATTENTION",
    "BAM",
    "CBAM",
    "AttentionModule",
    "BatchNorm",
    "ConcurrentSqueezeExcite",
    "Coordinate",
    "EffectiveSqueezeExcite",
    "EfficientChannel",
    "GatherExcite",
    "GlobalContext",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "MultiHeadSelfAttention",
    "NonLocal",
    "ResidualAttentionNetwork",
    "ResidualBlockVariant",
    "ResidualBlockWithAttention",
    "ResidualBottleneckWithAttention",
    "SimAM",
    "SqueezeExcite",
    "Triplet",
    "build_block",
    "deploy",
    "preprocess",
]
