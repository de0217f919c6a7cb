"""Sentences about triplet attention."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "maximum input": "triplet.turn",
        "maximum": "triplet.maximum",
        "average": "triplet.average",
        "concatenate": "triplet.concatenate",
        "cw.conv": "gate.conv",
        "cw.bn": "gate.bn",
        "cw.gated": "triplet.gated",
        "cw.back": "triplet.back",
        "hc.conv": "gate.conv",
        "hc.bn": "gate.bn",
        "hc.gated": "triplet.gated",
        "hc.back": "triplet.back",
        "hw.conv": "gate.conv",
        "hw.bn": "gate.bn",
        "hw.gated": "triplet.gated",
        "total": "triplet.total",
        "": "triplet.output",
    },
    facts=("kind.triplet",),
    en={
        "why.triplet.turn": (
            "The channels exchange places with a spatial axis, so that an ordinary 2-d convolution "
            "can look across channels and positions."
        ),
        "why.triplet.maximum": "One half of the Z-pool: the maximum along the first axis.",
        "why.triplet.average": "The other half: the mean along the same axis.",
        "why.triplet.concatenate": (
            "Maximum first, average second. CBAM has them the other way round."
        ),
        "why.triplet.gated": "The turned map is multiplied by its gate.",
        "why.triplet.back": "The axes return to their places.",
        "why.triplet.total": "Adds the branches,",
        "why.triplet.output": "and takes their mean.",
        "fact.kind.triplet": (
            "The pooled maps are (maximum, average). The branch cw exchanges rows and channels, hc "
            "columns and channels. Mind the layout: channels are last in Flax and Keras. The batch "
            "norms have a decay of {bn_decay} of their own."
        ),
    },
    zh={
        "why.triplet.turn": "让通道轴与一个空间轴互换，这样普通的二维卷积就能跨通道和位置一起看。",
        "why.triplet.maximum": "Z 池化的一半：沿最前面的轴取最大值。",
        "why.triplet.average": "Z 池化的另一半：沿同一个轴取平均。",
        "why.triplet.concatenate": "最大值在前，平均值在后（CBAM 正好相反）。",
        "why.triplet.gated": "换轴后的特征图乘以其门控值。",
        "why.triplet.back": "把轴换回原来的位置。",
        "why.triplet.total": "各分支相加，",
        "why.triplet.output": "再取平均。",
        "fact.kind.triplet": (
            "池化得到的两张图顺序为（最大值，平均值）。cw 分支是行与通道互换，hc 分支是列与通道互"
            "换；注意布局，Flax 和 Keras 的通道在最后。其中的批归一化有自己的衰减 {bn_decay}。"
        ),
        "summary.triplet": (
            "三重注意力：三份拷贝各沿一个轴取最大值和平均值，经 7×7 卷积得到另外两个轴上的门控值，"
            "最后求平均。"
        ),
    },
)
