"""Sentences about gather-excite."""

from resattn.explaining.attention.kind_words import KindWords

WORDS = KindWords(
    reasons={
        "gather average": "ge.average",
        "gather average_around": "ge.around",
        "* convolution": "ge.conv",
        "mlp.fc1": "ge.fc1",
        "mlp.fc2": "ge.fc2",
        "nearest": "ge.nearest",
        "": "ge.output",
    },
    facts=("kind.ge.{gather}",),
    en={
        "why.ge.average": "Gathers: the average of each channel over the whole map.",
        "why.ge.around": (
            "Gathers: local averages of each channel, on a coarser grid. Positions outside the map "
            "do not count."
        ),
        "why.ge.conv": "Gathers with learned weights, each channel by itself.",
        "why.ge.fc1": (
            "From {in} channels to {out}. Here the channels see each other for the first time."
        ),
        "why.ge.fc2": "Back to the same number of channels.",
        "why.ge.nearest": "Every position reads the gathered value nearest to it.",
        "why.ge.output": "Excites: each value is multiplied by the gate gathered around it.",
        "fact.kind.ge.average": (
            "The gathering has no parameters. In timm its two layers (mlp) are on by default."
        ),
        "fact.kind.ge.convolution": (
            "The convolutions gather each channel by itself: a depthwise kernel is (row col in "
            "out) in Flax but (row col out in) in Keras. timm pads the convolution over the whole "
            "map; here it is not padded."
        ),
    },
    zh={
        "why.ge.average": "聚集（gather）：每个通道在整幅特征图上取平均。",
        "why.ge.around": (
            "聚集（gather）：每个通道在局部邻域内取平均，得到较粗的网格；落在图外的位置不参与平均。"
        ),
        "why.ge.conv": "聚集（gather）：用可学习的权重，逐通道进行。",
        "why.ge.fc1": "从 {in} 个通道压到 {out} 个：到这里，通道之间才开始交换信息。",
        "why.ge.fc2": "恢复到原来的通道数。",
        "why.ge.nearest": "每个位置读取离它最近的聚集值。",
        "why.ge.output": "激励（excite）：每个值乘以从其周围聚集得到的门控值。",
        "fact.kind.ge.average": "聚集步骤没有参数。timm 的版本默认带后面两层（mlp）。",
        "fact.kind.ge.convolution": (
            "聚集用逐通道卷积：卷积核的轴顺序在 Flax 中是 (row col in out)，在 Keras 中却是 (row "
            "col out in)。timm 覆盖整幅图的卷积带填充，这里不带。"
        ),
        "summary.ge": (
            "聚集-激励（GE）：在本通道的全局或局部聚集信息，用平均或逐通道卷积，再逐值门控。"
        ),
    },
)
