"""Sentences about coordinate attention."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "average": "coordinate.rows",
        "average 2": "coordinate.cols",
        "concatenate": "coordinate.concatenate",
        "conv1": "coordinate.conv1",
        "rows": "coordinate.part.rows",
        "cols": "coordinate.part.cols",
        "conv_h": "coordinate.conv_h",
        "conv_w": "coordinate.conv_w",
        "by_cols": "coordinate.by_cols",
        "": "coordinate.output",
    },
    facts=("kind.coordinate",),
    en={
        "why.coordinate.rows": "One number per row and channel: the vertical position is kept.",
        "why.coordinate.cols": (
            "One number per column and channel: the horizontal position is kept."
        ),
        "why.coordinate.concatenate": (
            "Joins rows and columns end to end, so that one layer serves both."
        ),
        "why.coordinate.conv1": (
            "From {in} to {out} channels, with the same weights for rows and columns."
        ),
        "why.coordinate.part.rows": "Takes the rows out again.",
        "why.coordinate.part.cols": "Takes the columns out again.",
        "why.coordinate.conv_h": "One logit per row and channel.",
        "why.coordinate.conv_w": "One logit per column and channel.",
        "why.coordinate.by_cols": "Each value is multiplied by the gate of its column,",
        "why.coordinate.output": "and by the gate of its row: together they point at a place.",
        "fact.kind.coordinate": (
            "Hidden width {hidden}, at least {minimum}. Rows come before columns. timm has other "
            "widths and no biases."
        ),
    },
    zh={
        "why.coordinate.rows": "每个通道、每一行一个数，保留上下方向的位置信息。",
        "why.coordinate.cols": "每个通道、每一列一个数，保留左右方向的位置信息。",
        "why.coordinate.concatenate": "把行和列首尾相接，后面一层就能同时处理两者。",
        "why.coordinate.conv1": "从 {in} 个通道变为 {out} 个，行和列共用同一组权重。",
        "why.coordinate.part.rows": "重新取出行的部分。",
        "why.coordinate.part.cols": "重新取出列的部分。",
        "why.coordinate.conv_h": "每个通道、每一行一个 logit。",
        "why.coordinate.conv_w": "每个通道、每一列一个 logit。",
        "why.coordinate.by_cols": "每个值先乘以所在列的门控值，",
        "why.coordinate.output": "再乘以所在行的门控值：两者相交，便锁定了位置。",
        "fact.kind.coordinate": (
            "隐藏宽度 {hidden}，不少于 {minimum}。拼接时行在前、列在后。timm 的宽度不同，且不带偏"
            "置。"
        ),
        "summary.coordinate": "坐标注意力：沿两个方向分别取平均，为每一行、每一列各算一个门控值。",
    },
)
