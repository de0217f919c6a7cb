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
from tf_impl.bottleneck import ResidualBottleneckWithAttention
from tf_impl.deploy import deploy
from tf_impl.network import ResidualAttentionNetwork
from tf_impl.normalization import BatchNorm, GroupNorm, LayerNorm
from tf_impl.preprocessing import preprocess
from tf_impl.variant import ResidualBlockVariant, build_block

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
