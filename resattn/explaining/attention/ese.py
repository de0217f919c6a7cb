"""Sentences about effective squeeze-and-excitation."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "fc": "ese.fc",
        "": "gate.channels",
    },
    facts=("kind.ese",),
    en={
        "why.ese.fc": (
            "One layer without a bottleneck, so that no information is lost between the channels "
            "and their logits."
        ),
        "fact.kind.ese": (
            "The gate is {gate}. The authors' code has hard_sigmoid, the paper's formula sigmoid."
        ),
    },
    zh={
        "why.ese.fc": "只用一层，不设瓶颈：从通道到 logit 不损失信息。",
        "fact.kind.ese": "门控函数为 {gate}；作者代码用 hard_sigmoid，论文公式写的是 sigmoid。",
        "summary.ese": (
            "有效压缩-激励（eSE）：由各通道的平均值经一个与输入等宽的层算出门控值，逐通道缩放。"
        ),
    },
)
