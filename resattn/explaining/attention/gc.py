"""Sentences about global context."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "conv_attn": "gc.conv_attn",
        "softmax": "gc.softmax",
        "context": "gc.context",
        "global_average": "gc.average",
        "mlp_scale.fc1": "gc.fc1",
        "mlp_scale.norm": "gc.norm",
        "mlp_scale.fc2": "gc.scale",
        "scaled": "gate.channels",
        "mlp_add.fc1": "gc.fc1",
        "mlp_add.norm": "gc.norm",
        "mlp_add.fc2": "gc.add",
        " product": "gate.channels",
        " sum": "gc.output",
    },
    facts=("kind.gc.{fusion}",),
    en={
        "why.gc.conv_attn": "How much each position matters: one logit from its channels.",
        "why.gc.softmax": "Over all positions: the weights add up to 1.",
        "why.gc.context": "The weighted mean of all positions: one context for the whole image.",
        "why.gc.average": "The mean of all positions: one context for the whole image.",
        "why.gc.fc1": "A bottleneck, from {in} to {out} channels.",
        "why.gc.norm": (
            "Over the hidden channels of each image by itself, without the batch and without "
            "running statistics."
        ),
        "why.gc.add": "Back to all channels: the values to add to every position.",
        "why.gc.scale": "Back to one logit per channel.",
        "why.gc.output": "Adds the context to every position.",
        "fact.kind.gc.add": (
            "Hidden width {hidden}. The context is added, as in the paper. timm multiplies by it "
            "and has reduction 8."
        ),
        "fact.kind.gc.scale": (
            "Hidden width {hidden}. The context multiplies, as in timm (reduction 8 there). The "
            "paper adds it."
        ),
        "fact.kind.gc.both": (
            "Hidden width {hidden}. The context first multiplies and is then added: two "
            "bottlenecks, mlp_scale and mlp_add."
        ),
    },
    zh={
        "why.gc.conv_attn": "每个位置有多重要：由该位置的各通道算出一个 logit。",
        "why.gc.softmax": "在所有位置上归一化，权重之和为 1。",
        "why.gc.context": "所有位置的加权平均：整幅图像得到一个全局上下文。",
        "why.gc.average": "所有位置的平均：整幅图像得到一个全局上下文。",
        "why.gc.fc1": "瓶颈层，从 {in} 个通道压到 {out} 个。",
        "why.gc.norm": "只在单张图像的隐藏通道上归一化，与批次无关，也没有运行统计量。",
        "why.gc.add": "恢复到全部通道，得到要加到每个位置上的量。",
        "why.gc.scale": "恢复到每个通道一个 logit。",
        "why.gc.output": "把全局上下文加到每个位置上。",
        "fact.kind.gc.add": (
            "隐藏宽度 {hidden}。全局上下文以相加的方式融合，与论文一致；timm 是相乘，且 reduction "
            "为 8。"
        ),
        "fact.kind.gc.scale": (
            "隐藏宽度 {hidden}。全局上下文以相乘的方式融合，与 timm 一致（timm 的 reduction 为 8"
            "）；论文是相加。"
        ),
        "fact.kind.gc.both": (
            "隐藏宽度 {hidden}。全局上下文先相乘、再相加：共有 mlp_scale 和 mlp_add 两个瓶颈。"
        ),
        "summary.gc": (
            "全局上下文（GC）：对所有位置做可学习的加权平均，经瓶颈变换后加到每个位置上。"
        ),
    },
)
