"""The residual block with attention, and a network of it, in Keras 3. Tensors are (batch, height, width, channels)."""

from tf_impl.attention import ATTENTION, AttentionModule, Identity, SqueezeExcite
from tf_impl.block import ResidualBlockWithAttention
from tf_impl.network import ResidualAttentionNetwork
from tf_impl.normalization import BatchNorm

__all__ = [
    "ATTENTION",
    "AttentionModule",
    "BatchNorm",
    "Identity",
    "ResidualAttentionNetwork",
    "ResidualBlockWithAttention",
    "SqueezeExcite",
]
