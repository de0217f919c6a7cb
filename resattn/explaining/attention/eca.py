"""Sentences about efficient channel attention."""

from typing import Any

from resattn.explaining.attention.kind_words import KindWords
from weights.attention import eca_kernel_size


def kernel(channels: int, kernel_size: int | None, gamma: float, beta: float, **others: Any) -> int:
    return eca_kernel_size(channels, kernel_size, gamma, beta)


WORDS = KindWords(
    reasons={
        "conv": "eca.conv",
        "": "gate.channels",
    },
    facts=("kind.eca.{padding}",),
    numbers={"kernel": kernel},
    en={
        "why.eca.conv": (
            "Each channel's logit comes from its own average and the averages of its neighbours. "
            "All channels share the same few weights."
        ),
        "fact.kind.eca.zero": (
            "The kernel has {kernel} taps at {channels} channels. timm takes at least 3, which "
            "differs below 8 channels. There are zeros before the first and after the last channel."
        ),
        "fact.kind.eca.circular": (
            "The kernel has {kernel} taps at {channels} channels. timm takes at least 3. The "
            "channels form a ring: the last is next to the first."
        ),
    },
    zh={
        "why.eca.conv": (
            "每个通道的 logit 只由它自己和相邻通道的平均值算出，所有通道共用这寥寥几个权重。"
        ),
        "fact.kind.eca.zero": (
            "{channels} 个通道时核长为 {kernel}；timm 至少取 3，通道数小于 8 时会有差别。首尾通道之"
            "外补零。"
        ),
        "fact.kind.eca.circular": (
            "{channels} 个通道时核长为 {kernel}；timm 至少取 3。通道首尾相接成环：最后一个通道与第"
            "一个相邻。"
        ),
        "summary.eca": (
            "高效通道注意力（ECA）：用一个短卷积，由本通道及相邻通道的平均值算出门控值，逐通道缩"
            "放。"
        ),
    },
)
