"""Sentences about SimAM."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "average": "simam.average",
        "centred": "simam.centred",
        "average input": "simam.square",
        "average 2": "simam.average 2",
        "variance": "simam.variance",
        "divisor": "simam.divisor",
        "energy": "simam.energy",
        "sigmoid input": "simam.half",
        "": "simam.output",
    },
    facts=("kind.simam",),
    en={
        "why.simam.average": "The mean of each channel over all positions.",
        "why.simam.centred": "The distance of each value from its channel's mean.",
        "why.simam.square": "The squared distance: values that stick out become large.",
        "why.simam.average 2": "The mean squared distance, divided by n and not yet by n - 1.",
        "why.simam.variance": (
            "Makes the variance unbiased, as in the authors' code: n positions, n - 1 degrees of "
            "freedom."
        ),
        "why.simam.divisor": "Four times the regularised variance.",
        "why.simam.energy": (
            "Squared distance relative to the variance: the inverse of the paper's energy."
        ),
        "why.simam.half": "The constant of the closed-form solution.",
        "why.simam.output": "Each value is multiplied by its own gate. Nothing here is learned.",
        "fact.kind.simam": (
            "The variance is divided by positions - 1, then λ = {e_lambda} is added. A map of one "
            "position is an error."
        ),
    },
    zh={
        "why.simam.average": "每个通道在所有位置上的均值。",
        "why.simam.centred": "每个值偏离本通道均值多少。",
        "why.simam.square": "偏差的平方：越突出的值越大。",
        "why.simam.average 2": "偏差平方的平均；此时除以的是 n，还不是 n - 1。",
        "why.simam.variance": "换算成无偏方差，与作者代码一致：n 个位置，自由度为 n - 1。",
        "why.simam.divisor": "加上正则项之后的方差的四倍。",
        "why.simam.energy": "偏差平方与方差之比，对应论文中能量的倒数。",
        "why.simam.half": "闭式解中的常数项。",
        "why.simam.output": "每个值乘以各自的门控值；这里没有任何可学习的参数。",
        "fact.kind.simam": (
            "方差除以（位置数 - 1），再加上 λ = {e_lambda}；只有一个位置的特征图会报错。"
        ),
        "summary.simam": "SimAM：值离本通道均值越远，门控值越大；没有参数。",
    },
)
