"""Sentences about multi-head self-attention."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "qkv": "mhsa.qkv",
        "query": "mhsa.query",
        "key": "mhsa.key",
        "value": "mhsa.value",
        "scaled": "scale",
        "logits": "mhsa.logits",
        "pos_embed": "mhsa.positions",
        "softmax input": "mhsa.sum",
        "softmax": "weights",
        "": "mhsa.output",
    },
    facts=(
        "kind.mhsa",
        "kind.mhsa.scale_positions.{scale_positions}",
    ),
    en={
        "why.mhsa.qkv": (
            "Queries, keys and values in one layer: the three parts in this order, each head by "
            "head."
        ),
        "why.mhsa.query": "What each position looks for, in each head.",
        "why.mhsa.key": "What each position offers.",
        "why.mhsa.value": "What each position hands over.",
        "why.mhsa.logits": "How well each query fits each key.",
        "why.mhsa.positions": (
            "The distance between two positions counts too: one learned vector for every distance "
            "in rows and one for every distance in columns."
        ),
        "why.mhsa.sum": "Content and position together.",
        "why.mhsa.output": (
            "The weighted mean of the values. The heads become channels again, side by side."
        ),
        "fact.kind.mhsa": (
            "qkv makes queries, keys and values in this order, head by head ({heads} heads). "
            "Positions are numbered row by row in every layout."
        ),
        "fact.kind.mhsa.scale_positions.True": (
            "The position logits are scaled like the content logits, as in the authors' code. timm "
            "does not scale them."
        ),
        "fact.kind.mhsa.scale_positions.False": (
            "The position logits are not scaled, as in timm. The authors' code scales them."
        ),
    },
    zh={
        "why.mhsa.qkv": "一层同时算出查询、键和值：三份依次排列，每份内部再按头排列。",
        "why.mhsa.query": "在每个头里，每个位置想找什么。",
        "why.mhsa.key": "每个位置能提供什么。",
        "why.mhsa.value": "每个位置实际交出什么。",
        "why.mhsa.logits": "每个查询与每个键有多匹配。",
        "why.mhsa.positions": "两个位置相距多远也要计入：每种行距、每种列距各有一个可学习的向量。",
        "why.mhsa.sum": "内容得分与位置得分相加。",
        "why.mhsa.output": "值的加权平均；各个头重新并排拼成通道。",
        "fact.kind.mhsa": (
            "qkv 依次给出查询、键和值，每份内部按头排列（{heads} 个头）。无论哪种布局，位置都按行优"
            "先编号。"
        ),
        "fact.kind.mhsa.scale_positions.True": (
            "位置得分与内容得分一样做缩放（同作者代码）；timm 不缩放。"
        ),
        "fact.kind.mhsa.scale_positions.False": "位置得分不做缩放，与 timm 一致；作者代码会缩放。",
        "summary.mhsa": (
            "多头自注意力：每个位置替换为所有位置的加权平均，权重由内容和相对位置决定，分多个头进"
            "行。"
        ),
    },
)
