"""The residual block with attention, and a network of it, in Keras 3. Tensors are (batch, height,
width, channels).
"""

from tf_impl.attention import (
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
from tf_impl.block import ResidualBlockWithAttention
from tf_impl.network import ResidualAttentionNetwork
from tf_impl.normalization import BatchNorm, LayerNorm
from tf_impl.preprocessing import preprocess

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
