"""Sentences about concurrent squeeze-and-excitation."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "cSE.fc1": "excite.first",
        "cSE.fc2": "excite.second",
        "cSE": "gate.channels",
        "sSE.conv": "scse.conv",
        "sSE": "gate.positions",
        " sum": "scse.sum",
        " greater": "scse.greater",
    },
    facts=("kind.scse.{fusion}",),
    en={
        "why.scse.conv": "One logit per position: a learned mixture of its channels.",
        "why.scse.sum": "Both opinions count: which channels matter, and which positions.",
        "why.scse.greater": "The stronger of the two opinions decides.",
        "fact.kind.scse.sum": (
            "Hidden width {hidden}. The two are added (Roy et al. 2018). "
            "segmentation_models.pytorch has reduction 16, the paper 2."
        ),
        "fact.kind.scse.maximum": (
            "Hidden width {hidden}. The greater of the two is taken (Roy et al. 2019). "
            "segmentation_models.pytorch has reduction 16, the paper 2."
        ),
    },
    zh={
        "why.scse.conv": "每个位置一个 logit，由该位置各通道的可学习线性组合得到。",
        "why.scse.sum": "两种判断都算数：哪些通道重要，哪些位置重要。",
        "why.scse.greater": "取两种判断中较强的一个。",
        "fact.kind.scse.sum": (
            "隐藏宽度 {hidden}。两路相加（Roy 等，2018）。segmentation_models.pytorch 的 reduction "
            "为 16，论文为 2。"
        ),
        "fact.kind.scse.maximum": (
            "隐藏宽度 {hidden}。两路取较大者（Roy 等，2019）。segmentation_models.pytorch 的 "
            "reduction 为 16，论文为 2。"
        ),
        "summary.scse": "并行的两份：一份逐通道门控（压缩-激励），一份逐位置门控，两者相加。",
    },
)
