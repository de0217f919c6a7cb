"""Sentences about the convolutional block attention module."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "channel.fc1": "excite.first",
        "channel.fc2": "excite.second",
        "maximum": "cbam.maximum",
        "channel.fc1 2": "cbam.again",
        "channel.fc2 2": "cbam.again",
        "sigmoid input": "cbam.both",
        "average input": "gate.channels",
        "average": "cbam.average",
        "maximum 2": "cbam.strongest",
        "concatenate": "cbam.concatenate",
        "spatial.conv": "gate.conv",
        "spatial.bn": "gate.bn",
        "": "gate.positions",
    },
    facts=("kind.cbam",),
    en={
        "why.cbam.maximum": (
            "The maximum shows what the average hides: one strong response somewhere."
        ),
        "why.cbam.again": (
            "The same layer with the same weights, this time for the maxima. Its parameters count "
            "once."
        ),
        "why.cbam.both": "Adds the logits of the averages and of the maxima.",
        "why.cbam.average": "The average of the channels at each position.",
        "why.cbam.strongest": "The strongest channel at each position.",
        "why.cbam.concatenate": (
            "Average first, maximum second. The weights of the next layer depend on this order."
        ),
        "fact.kind.cbam": (
            "The spatial gate reads (average, maximum), as in the paper and timm. The authors' "
            "code reads (maximum, average). The shapes fit either way: swap the two input channels "
            "of spatial.conv when weights come from there."
        ),
    },
    zh={
        "why.cbam.maximum": "最大值补充平均值看不出的信息：某处有一个很强的响应。",
        "why.cbam.again": "与上面是同一层、同一组权重，这次作用于最大值；参数只计一次。",
        "why.cbam.both": "把平均值与最大值两路的 logit 相加。",
        "why.cbam.average": "每个位置上各通道的平均响应。",
        "why.cbam.strongest": "每个位置上各通道的最强响应。",
        "why.cbam.concatenate": "平均值在前，最大值在后：这一顺序已经固化在后面卷积的权重里。",
        "fact.kind.cbam": (
            "空间门控的输入顺序是（平均值，最大值），与论文和 timm 一致；作者代码是（最大值，平均"
            "值）。两种顺序形状都对得上，从作者代码移植权重时须交换 spatial.conv 的两个输入通道。"
        ),
        "summary.cbam": "先做通道注意力（平均值与最大值共用一个瓶颈），再用 7×7 卷积做空间注意力。",
    },
)
