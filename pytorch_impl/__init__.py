"""The residual block with attention, and a network of it, in PyTorch. Tensors are (batch, channels,
height, width).
"""

from pytorch_impl.attention import (
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
from pytorch_impl.block import ResidualBlockWithAttention
from pytorch_impl.network import ResidualAttentionNetwork
from pytorch_impl.normalization import BatchNorm, LayerNorm
from pytorch_impl.preprocessing import preprocess

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
    "Identity",
    "LayerNorm",
    "MultiHeadSelfAttention",
    "NonLocal",
    "ResidualAttentionNetwork",
    "ResidualBlockWithAttention",
    "SimAM",
    "SqueezeExcite",
    "Triplet",
    "preprocess",
]
