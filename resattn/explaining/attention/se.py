"""Sentences about squeeze-and-excitation."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "fc1": "excite.first",
        "fc2": "excite.second",
        "": "gate.channels",
    },
    facts=("kind.se",),
    en={
        "fact.kind.se": (
            "Hidden width {hidden}: channels // reduction, rounded down, unless a divisor or the "
            "width itself is given. The layers are 1×1 convolutions with bias, whatever conv_bias "
            "is."
        ),
    },
    zh={
        "fact.kind.se": (
            "隐藏宽度 {hidden}：即 channels // reduction，向下取整，除非另外给出 divisor 或直接给出"
            "宽度。这两层是带偏置的 1×1 卷积，不受 conv_bias 影响。"
        ),
        "summary.se": "压缩-激励（SE）：由各通道的平均值经两个小层算出门控值，逐通道缩放。",
    },
)
