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
from pytorch_impl.bottleneck import ResidualBottleneckWithAttention
from pytorch_impl.deploy import deploy
from pytorch_impl.network import ResidualAttentionNetwork
from pytorch_impl.normalization import BatchNorm, GroupNorm, LayerNorm
from pytorch_impl.preprocessing import preprocess
from pytorch_impl.variant import ResidualBlockVariant, build_block

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
