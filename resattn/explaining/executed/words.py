"""What `resattn explain` says of a live model, in English and in Chinese.

Everything that it says of a config, too, is in `words_en`, `words_zh` and `words_published`.
"""

_EN = {
    "executed.title": (
        "{what}, as {label} executes it: step by step, for images of {size} (height × width)"
    ),
    "executed.fails": "The model does not run to its end. The steps up to the failure:",
    "executed.code": (
        "The line after │ is the line of your own code that computes the step, with its file and "
        "its number."
    ),
    "group.steps": "Steps",
    "group.between": "Outside of the residual blocks",
    "group.failure": "Here the model fails",
    "executed.gates": "Attention, beside the main path",
    "executed.branches": "Branches of the main path",
    "executed.facts": "What a port of this model must get right",
    "executed.unused": "arrays that no step uses",
    "executed.shortcut": "shortcut of {count} operations",
    "op.function": "{function}",
    "op.scale": "a learned scale or offset",
    "op.standardize": "brought to mean 0 and variance 1",
    "op.total": "sum over {axes}",
    "op.part": "part {part} of {parts}",
    "op.unknown": "{primitive}, an operation that is not known here",
    "op.failure": "{what} fails",
    "set.along": "along {value}",
    "set.counts_padding": "zeros around the map count",
    "along.channels": "channels",
    "along.rows": "rows",
    "along.cols": "columns",
    "why.plain.function": "A function of each value by itself.",
    "why.plain.scale": "Multiplies by learned numbers or adds them, the same for every image.",
    "why.plain.standardize": "Removes the mean and divides by the deviation.",
    "why.plain.total": "Summarises these axes by their sum.",
    "why.plain.part": "Takes one part of its input.",
    "why.plain.unknown": (
        "What it computes is not known here, so it counts as seeing the whole image. Its shape is "
        "as executed."
    ),
    "why.plain.failure": "The model cannot compute it.",
    "why.first.strided": (
        "Every output value combines {kernel} positions of all input channels. The stride makes "
        "the map smaller."
    ),
    "why.second.strided": (
        "Reads the neighbours once more, and makes the map smaller a second time. This path may "
        "now be smaller than the shortcut; in a ResNet this convolution has stride 1."
    ),
    "total.field.whole": "the whole image",
    "fact.norm.eps": "Batch norm: eps {eps} in {names}. Other defaults: {others}.",
    "failed.sum": "the addition",
    "failed.product": "the multiplication",
    "failed.difference": "the subtraction",
    "failed.quotient": "the division",
    "failed.concatenate": "the concatenation",
    "failed.matrix_product": "the matrix product",
    "failed.convolution": "the convolution",
    "failed.unknown": "an operation",
    "failure.what": (
        "Here {what} of values of the shapes {shapes} fails. Shapes are (channels, rows, columns)."
    ),
    "failure.differ": "They differ in the {differ}.",
    "failure.channels": "channels ({sizes})",
    "failure.rows": "rows ({sizes})",
    "failure.cols": "columns ({sizes})",
    "failure.fork": "Both are computed from {name}, of shape {shape}:",
    "failure.path": "{path}: {changes}.",
    "failure.keeps": "{path}: keeps its shape {shape}.",
    "failure.change": "{name} makes {before} into {after}",
    "failure.change.strided": "{name} ({stride}) makes {before} into {after}",
    "failure.path.main": "the main path",
    "failure.path.shortcut": "the shortcut",
    "failure.path.input": "the way to {name}",
    "failure.shrinks": "{path} by {factor}",
    "failure.so": "So the two paths shrink by different factors: {parts}.",
    "failure.fault": (
        "With stride 1 in {name} both paths would shrink alike: give the stride to one convolution "
        "of the main path alone."
    ),
    "failure.message": "The framework's message: {message}",
    "failure.place": "It happens at this line:",
}
_ZH = {
    "executed.title": "逐步讲解：{what}（按 {label} 的实际执行），输入图像 {size}（高 × 宽）",
    "executed.fails": "这个模型不能运行到底。以下是出错之前的各步：",
    "executed.code": "标有 │ 的是您自己代码中计算该步的那一行，前面注明文件名和行号。",
    "group.steps": "各步运算",
    "group.between": "残差块之外",
    "group.failure": "模型在此出错",
    "executed.gates": "注意力（在主路径旁边）",
    "executed.branches": "主路径的分支",
    "executed.facts": "移植这个模型必须注意的事项",
    "executed.unused": "没有任何一步用到的数组",
    "executed.shortcut": "捷径由 {count} 步运算组成",
    "op.function": "函数 {function}",
    "op.scale": "可学习的缩放或偏移",
    "op.standardize": "化为均值 0、方差 1",
    "op.total": "{axes}求和",
    "op.part": "共 {parts} 份，取第 {part} 份",
    "op.unknown": "{primitive}（此处不认识的运算）",
    "op.failure": "{what}出错",
    "set.along": "沿{value}",
    "set.counts_padding": "周围补的零也计入平均",
    "along.channels": "通道",
    "along.rows": "行",
    "along.cols": "列",
    "why.plain.function": "对每个值分别作用的函数。",
    "why.plain.scale": "乘以或加上可学习的数，对每张图像都相同。",
    "why.plain.standardize": "减去均值，再除以标准差。",
    "why.plain.total": "用总和概括这些轴。",
    "why.plain.part": "取出输入的一份。",
    "why.plain.unknown": "此处不知道它计算什么，因此感受野按整幅图像计；形状取自实际执行。",
    "why.plain.failure": "模型无法计算这一步。",
    "why.first.strided": "每个输出值综合所有输入通道在 {kernel} 邻域内的信息，步幅使特征图缩小。",
    "why.second.strided": (
        "再看一遍邻域，并第二次缩小特征图。主路径这时可能已小于捷径；在 ResNet 中，这个卷积的步幅"
        "为 1。"
    ),
    "total.field.whole": "整幅图像",
    "fact.norm.eps": "批归一化：{names} 的 eps 为 {eps}。默认值与此不同的有：{others}。",
    "failed.sum": "相加",
    "failed.product": "相乘",
    "failed.difference": "相减",
    "failed.quotient": "相除",
    "failed.concatenate": "拼接",
    "failed.matrix_product": "矩阵乘法",
    "failed.convolution": "卷积",
    "failed.unknown": "某步运算",
    "failure.what": "{what}这一步失败：两个输入的形状为 {shapes}（通道，行，列），不匹配。",
    "failure.differ": "不同之处：{differ}。",
    "failure.channels": "通道（{sizes}）",
    "failure.rows": "行（{sizes}）",
    "failure.cols": "列（{sizes}）",
    "failure.fork": "两者都来自 {name}，其形状为 {shape}：",
    "failure.path": "{path}上：{changes}。",
    "failure.keeps": "{path}：形状保持 {shape} 不变。",
    "failure.change": "{name} 把 {before} 变为 {after}",
    "failure.change.strided": "{name}（{stride}）把 {before} 变为 {after}",
    "failure.path.main": "主路径",
    "failure.path.shortcut": "捷径",
    "failure.path.input": "通向 {name} 的路径",
    "failure.shrinks": "{path}缩小到 1/{factor}",
    "failure.so": "因此两路缩小的倍数不同：{parts}。",
    "failure.fault": ("若 {name} 的步幅为 1，两路就会缩小得一样多：主路径上只应有一个卷积带步幅。"),
    "failure.message": "框架给出的信息：{message}",
    "failure.place": "出错的代码行：",
}
WORDS = {"en": _EN, "zh": _ZH}
