"""The residual block with attention, and a network of it, in PyTorch. Tensors are (batch, channels, height, width)."""

from pytorch_impl.attention import ATTENTION, AttentionModule, Identity, SqueezeExcite
from pytorch_impl.block import ResidualBlockWithAttention
from pytorch_impl.network import ResidualAttentionNetwork
from pytorch_impl.normalization import BatchNorm

__all__ = [
    "ATTENTION",
    "AttentionModule",
    "BatchNorm",
    "Identity",
    "ResidualAttentionNetwork",
    "ResidualBlockWithAttention",
    "SqueezeExcite",
]
