"""Sentences about the non-local block."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "theta": "nonlocal.theta",
        "phi": "nonlocal.phi",
        "g": "nonlocal.g",
        "max_pool_2x2": "nonlocal.pool",
        "logits": "nonlocal.logits",
        "softmax input matrix_product": "nonlocal.logits",
        "softmax input affine": "scale",
        "softmax": "weights",
        "weighted": "nonlocal.weighted",
        "conv_out": "nonlocal.conv_out",
        "bn": "nonlocal.bn",
        "": "nonlocal.output",
    },
    facts=(
        "kind.nonlocal",
        "kind.nonlocal.scale.{scale}",
    ),
    en={
        "why.nonlocal.theta": "Queries: what each position looks for.",
        "why.nonlocal.phi": "Keys: what each position offers.",
        "why.nonlocal.g": "Values: what each position hands over.",
        "why.nonlocal.pool": (
            "A quarter of the positions to compare with, so a quarter of the cost."
        ),
        "why.nonlocal.logits": (
            "How much each position resembles every other one. Rows are queries, columns are keys."
        ),
        "why.nonlocal.weighted": "For each position the weighted mean of the values.",
        "why.nonlocal.conv_out": "Back to all channels.",
        "why.nonlocal.bn": "Its scale starts at 0, so that an untrained module is the identity.",
        "why.nonlocal.output": (
            "A residual of its own: adds what was seen elsewhere to each position."
        ),
        "fact.kind.nonlocal": (
            "Hidden width {hidden}. The scale of attention.bn starts at 0: fresh modules are the "
            "identity, so compare with trained or random weights."
        ),
        "fact.kind.nonlocal.scale.True": (
            "The logits are divided by √{hidden}, as in the authors' code. The paper does not "
            "divide them; timm divides by the root of all channels."
        ),
        "fact.kind.nonlocal.scale.False": (
            "The logits are not divided, as in the paper. The authors' code divides them by √"
            "{hidden}."
        ),
    },
    zh={
        "why.nonlocal.theta": "查询（query）：每个位置想找什么。",
        "why.nonlocal.phi": "键（key）：每个位置能提供什么。",
        "why.nonlocal.g": "值（value）：每个位置实际交出什么。",
        "why.nonlocal.pool": "参与比较的位置减到四分之一，计算量也随之减到四分之一。",
        "why.nonlocal.logits": "任意两个位置有多相似：行是查询，列是键。",
        "why.nonlocal.weighted": "每个位置得到所有值的加权平均。",
        "why.nonlocal.conv_out": "恢复到全部通道。",
        "why.nonlocal.bn": "缩放系数初始为 0，因此未经训练时整个模块就是恒等映射。",
        "why.nonlocal.output": "模块自带的残差连接：把从别处看到的信息加到本位置上。",
        "fact.kind.nonlocal": (
            "隐藏宽度 {hidden}。attention.bn 的缩放系数初始为 0：新建的模块就是恒等映射，请用训练过"
            "的或随机的权重来比较。"
        ),
        "fact.kind.nonlocal.scale.True": (
            "logit 除以 √{hidden}，与作者代码一致；论文不除，timm 除以全部通道数的平方根。"
        ),
        "fact.kind.nonlocal.scale.False": "logit 不做缩放，与论文一致；作者代码会除以 √{hidden}。",
        "summary.nonlocal": (
            "非局部模块：按相似程度对所有位置加权平均（嵌入高斯），加到每个位置上。"
        ),
    },
)
