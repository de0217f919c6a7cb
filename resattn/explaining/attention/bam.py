"""Sentences about the bottleneck attention module."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "channel_att.fc_0": "excite.first",
        "channel_att.fc_final": "bam.fc_final",
        "spatial_att.conv_reduce0": "bam.reduce",
        "spatial_att.conv_di_0": "bam.dilated",
        "spatial_att.conv_di_1": "bam.dilated",
        "spatial_att.conv_final": "bam.conv_final",
        "sigmoid input sum": "bam.sum",
        "sigmoid input product": "bam.product",
        "one_more": "bam.one_more",
        "": "bam.output",
    },
    facts=("kind.bam.{fusion}",),
    en={
        "why.bam.fc_final": "Back to one logit per channel. No norm follows.",
        "why.bam.reduce": "Fewer channels, so that the dilated kernels that follow stay cheap.",
        "why.bam.dilated": (
            "Looks far around with few weights: the taps of the kernel are {dilation} positions "
            "apart."
        ),
        "why.bam.conv_final": "One logit per position.",
        "why.bam.sum": (
            "Adds the logits of channels and positions. Every value of the map gets one logit."
        ),
        "why.bam.product": (
            "Multiplies the logits of channels and positions, as in the authors' code."
        ),
        "why.bam.one_more": (
            "Attention can only strengthen, by a factor of up to 2. The features pass even where "
            "the gate is shut."
        ),
        "why.bam.output": "Each value is multiplied by its own factor.",
        "fact.kind.bam.sum": (
            "The branches are added, as in the paper. The authors' code multiplies them. "
            "channel_att.bn_1 normalises over the images alone, so training needs more than one."
        ),
        "fact.kind.bam.product": (
            "The branches are multiplied, as in the authors' code. The paper adds them. "
            "channel_att.bn_1 normalises over the images alone, so training needs more than one."
        ),
    },
    zh={
        "why.bam.fc_final": "恢复到每个通道一个 logit，其后不再归一化。",
        "why.bam.reduce": "先减少通道数，后面的大感受野卷积才不至于太贵。",
        "why.bam.dilated": "用很少的权重看得很远：卷积核相邻采样点相距 {dilation} 个位置。",
        "why.bam.conv_final": "每个位置一个 logit。",
        "why.bam.sum": "通道 logit 与位置 logit 相加，特征图的每个值都得到一个 logit。",
        "why.bam.product": "通道 logit 与位置 logit 相乘，与作者代码一致。",
        "why.bam.one_more": (
            "这样注意力只会增强特征，至多放大到 2 倍；即使门完全关闭，特征也能原样通过。"
        ),
        "why.bam.output": "每个值乘以各自的系数。",
        "fact.kind.bam.sum": (
            "两个分支相加，与论文一致；作者代码是相乘。channel_att.bn_1 只在批次维上归一化，训练时"
            "批次必须大于 1。"
        ),
        "fact.kind.bam.product": (
            "两个分支相乘，与作者代码一致；论文是相加。channel_att.bn_1 只在批次维上归一化，训练时"
            "批次必须大于 1。"
        ),
        "summary.bam": (
            "同时给通道和位置打分：通道瓶颈与膨胀卷积两路之和经门控后加 1，再与输入相乘。"
        ),
    },
)
