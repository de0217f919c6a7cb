"""What `resattn explain` says, in Chinese. The keys are those of `words_en`.

The sentences about one attention kind are in `attention/`.
"""

WORDS = {
    # 名称与版式
    "title": "逐步讲解：{what}；输入图像 {size}（高 × 宽）",
    "unchanged": "{shape}，形状不变",
    "what.block": "残差块，{in} → {out} 通道，卷积核 {kernel}，步幅 {stride}，注意力 {kind}",
    "what.network": "由 {count} 个残差块组成的残差网络，各阶段宽度 {widths}，注意力 {kind}",
    "legend": (
        "形状按“通道 × 行 × 列”书写，均指单张图像。乘加次数只计卷积、线性层和矩阵乘法。内存指该步输"
        "出所占空间（{batch}，{dtype}）。感受野指一个输出值依赖输入图像的多少行 × 多少列。"
    ),
    "images.1": "1 张图像",
    "images": "{count} 张图像",
    "group.stem": "起始部分（stem）：从图像得到最初的特征图",
    "group.block": "残差块 {name}：{in} → {out} 通道，步幅 {stride}，{shortcut}",
    "group.main": "主路径",
    "group.attention": "注意力（{kind}）",
    "group.shortcut": "捷径连接",
    "group.join": "两路汇合",
    "group.head": "分类头：从特征图到类别",
    "group.totals": "合计",
    "group.facts": "移植这一配置必须注意的事项",
    "shortcut.projection": "捷径为 {kernel} 卷积",
    "shortcut.identity": "恒等捷径",
    "fold": "{name}：结构同 {like}",
    "brief.name": "操作",
    "brief.what": "计算",
    "brief.output": "输出",
    "brief.parameters": "参数",
    "brief.products": "乘加次数",
    "brief.total": "合计",
    "brief.fold": "结构同 {like}",
    "fold.detail": "{count} 步运算，{in} → {out} 通道，步幅 {stride}",
    "from": "输入来自 {names}",
    "parameters": "参数 {count}",
    "statistics": "运行统计量 {count}",
    "products": "乘加 {count}",
    "memory": "内存 {bytes}",
    "sees": "感受野 {field}",
    "sees.whole": "感受野覆盖整幅图像",
    "separator": " · ",
    "list": "、",
    "comma": "，",
    "last": " 和 ",
    "and_more": "{names} 等（另有 {count} 个）",
    "colon": "：",
    "code": (
        "标有 │ 的代码行取自 {label} 实现（{package}/）。每行代码列在它所计算的第一步运算旁边；只做"
        "检查或判断的行，列在紧随其后的运算之前。"
    ),
    # 运算
    "op.input": "输入图像",
    "op.convolution": "{kernel} 卷积",
    "op.convolution.depthwise": "{kernel} 逐通道卷积",
    "op.convolution_1d": "沿通道方向的一维卷积，核长 {length}",
    "op.batch_norm": "批归一化",
    "op.layer_norm": "沿通道的层归一化",
    "op.relu": "ReLU",
    "op.sigmoid": "sigmoid",
    "op.hard_sigmoid": "hard sigmoid",
    "op.hard_swish": "hard swish",
    "op.softmax": "softmax",
    "op.average": "{axes}取平均",
    "op.maximum": "{axes}取最大值",
    "op.average_around": "局部平均，每 {extent} 行、{extent} 列取一个值",
    "op.max_pool": "{kernel} 最大池化",
    "op.concatenate": "拼接",
    "op.sum": "逐元素相加",
    "op.difference": "相减",
    "op.product": "逐元素相乘",
    "op.quotient": "相除",
    "op.square": "平方",
    "op.greater": "逐元素取较大者",
    "op.nearest": "放大到特征图尺寸",
    "op.swap_axes": "交换两个轴",
    "op.head_part": "取三份之一，并按头拆分",
    "op.slice.first": "取前一部分",
    "op.slice.second": "取后一部分",
    "op.matrix_product": "矩阵乘法",
    "op.relative_positions": "相对位置得分",
    "op.linear": "全连接层",
    "op.affine": "{formula}",
    "op.bessel": "乘以 n / (n - 1)",
    "op.parameter": "一个参数",
    "op.attention": "注意力 {attention}",
    "axis.channels": "对所有通道",
    "axis.rows": "对所有行",
    "axis.cols": "对所有列",
    "axis.positions": "对所有位置",
    "set.stride": "步幅 {value}",
    "set.padding": "填充 {value}",
    "set.dilation": "膨胀率 {value}",
    "set.bias": "有偏置",
    "set.no bias": "无偏置",
    "set.eps": "eps {value}",
    "set.decay": "衰减 {value}",
    "set.circular": "循环填充",
    "set.zero": "补零",
    # 为什么：残差块与网络
    "why.input": "网络的输入。",
    "why.stem.conv": "把像素颜色变成特征，感受野由此开始增长。",
    "why.stem.conv.strided": "把像素颜色变成特征，同时缩小特征图，使后面各层的计算量都随之下降。",
    "why.norm": (
        "先把每个通道化为均值 0、方差 1（训练时用当前批次在所有位置上的统计量，推理时用运行统计"
        "量），再乘以可学习的缩放、加上可学习的偏移。这样，无论网络多深，激活值的尺度都不会失控。"
    ),
    "why.nonlinear": "负值一律置 0。没有这一步非线性，前后两个卷积叠起来仍只相当于一个卷积。",
    "why.stem.pool": "在每隔一个位置的邻域内只保留最强的响应，特征图的高和宽再各减半。",
    "why.conv1": "每个输出值综合所有输入通道在 {kernel} 邻域内的信息，是残差分支的前一半。",
    "why.conv1.strided": (
        "每个输出值综合所有输入通道在 {kernel} 邻域内的信息。缩小特征图的步幅就设在这里，主路径上别"
        "处都没有。"
    ),
    "why.conv1.pointwise": "核为 1×1，只在每个位置上混合各通道，不看邻近位置。",
    "why.conv2": (
        "再看一遍邻域，步幅固定为 1：如果这里也带步幅，主路径的输出就会小于捷径的输出，两者无法相"
        "加。"
    ),
    "why.last_norm": "对即将相加的残差做归一化。相加之前不再接 ReLU，残差因此可正可负。",
    "why.shortcut.0": "用可学习的线性组合把输入变为 {out} 个通道，两路才能相加。",
    "why.shortcut.0.strided": (
        "把输入变成与主路径相同的形状：通道数变为 {out}，位置则按步幅抽取。1×1 的核不需要填充。"
    ),
    "why.shortcut.1": "投影结果与主路径一样做归一化，汇合时两路尺度才相当。",
    "why.sum.identity": "直接加上输入本身：残差块只需学习与输入的差，梯度也能原样传回前面的层。",
    "why.sum.projection": "主路径与投影后的输入相加，梯度因此有一条绕过主路径卷积的近路。",
    "why.output": "捷径经过的唯一一个 ReLU，放在相加之后（原版 ResNet 的顺序，而非预激活版本）。",
    "why.global_average": (
        "每个通道化为一个数，不管特征出现在哪里；因此任意尺寸的图像都得到同样多的特征。"
    ),
    "why.classifier": "每个类别一个得分（logits）；softmax 留给损失函数去做。",
    # 为什么：多种注意力共用的句子
    "why.own": (
        "用户自行注册、且没有给出计算图的注意力。其内部运算在此不可知，因此感受野按整幅图像计。"
    ),
    "why.squeeze": "压缩（squeeze）：把每个通道概括为一个数，这个数汇总了所有位置的信息。",
    "why.excite.first": (
        "激励（excitation）的第一层：从 {in} 个通道压到 {out} 个，在瓶颈中权衡各通道之间的关系。"
    ),
    "why.excite.second": "第二层：恢复到每个通道一个 logit。",
    "why.gate": (
        "把 logit 变成 0 到 1 之间的门控值。各个门相互独立，可以同时打开；若用 softmax，它们就会彼"
        "此竞争。"
    ),
    "why.gate.channels": "每个通道乘以自己的门控值，同一通道内所有位置相同。",
    "why.gate.positions": "每个位置乘以自己的门控值，同一位置上所有通道相同。",
    "why.gate.conv": "由这两张图及其邻域，为每个位置算出一个 logit。",
    "why.gate.bn": "在 sigmoid 之前对这一个通道的 logit 做归一化；它有自己的 eps 和衰减。",
    "why.scale": "避免 logit 随特征宽度增大。",
    "why.weights": "每个位置得到对其他所有位置的权重，权重之和为 1。",
    "why.hard_swish": "x · relu6(x + 3) / 6：平滑而计算便宜的非线性。",
    # 为什么：没有专门说明的运算
    "why.plain.convolution": "用可学习的权重组合卷积核覆盖范围内的各通道。",
    "why.plain.convolution_1d": "用可学习的权重组合相邻通道。",
    "why.plain.linear": "用可学习的权重组合所有特征。",
    "why.plain.layer_norm": "在每个位置上对各通道做归一化，与批次无关，也没有运行统计量。",
    "why.plain.softmax": "把 logit 变成总和为 1 的权重。",
    "why.plain.average": "用平均值概括这些轴。",
    "why.plain.maximum": "用最大值概括这些轴。",
    "why.plain.average_around": "用平均值概括每个邻域。",
    "why.plain.max_pool": "用最大值概括每个邻域。",
    "why.plain.nearest": "每个位置取离它最近的值。",
    "why.plain.concatenate": "把各输入首尾相接。",
    "why.plain.slice": "取出输入的一部分。",
    "why.plain.head_part": "取出输入的一份，并按头排列。",
    "why.plain.swap_axes": "让后面的运算沿别的轴进行。",
    "why.plain.matrix_product": "把两个输入沿共有的轴逐项相乘再求和。",
    "why.plain.relative_positions": "两个位置之间的每种距离各有一个 logit。",
    "why.plain.sum": "把各输入相加。",
    "why.plain.difference": "从第一个输入中减去第二个。",
    "why.plain.product": "第一个输入乘以第二个。",
    "why.plain.quotient": "第一个输入除以第二个。",
    "why.plain.greater": "保留两个值中较大的一个。",
    "why.plain.square": "每个值取平方。",
    "why.plain.affine": "对每个值做缩放和平移。",
    "why.plain.bessel": "把 n 个值的方差换算成无偏方差。",
    "why.plain.parameter": "可学习的量，对每张图像都相同。",
    # 合计
    "total.output": "输出",
    "total.parameters": "可训练参数",
    "total.statistics": "运行统计量",
    "total.weight_bytes": "权重文件中的数据",
    "total.multiply_adds": "乘加次数",
    "total.training_bytes": "为反向传播保留的激活",
    "total.peak_bytes": "推理时的激活峰值",
    "total.receptive_field": "感受野",
    "total.multiply_adds.value": "每张图像 {count}",
    "total.training_bytes.value": "{bytes}（每张图像 {count} 个数）",
    "total.peak_bytes.value": "{bytes}，出现在 {name}",
    "total.field.larger": "{field}，已超出图像本身",
    "total.field.attention": "整幅图像（通过注意力）；若只看卷积，则为 {field}",
    "total.note": (
        "为反向传播保留的激活：求梯度时要读取的张量，每个只计一次，与 PyTorch 保留的一致；最大值的"
        "下标和单个批次的统计量不计在内。推理峰值：假定每个输出保留到最后一次被使用，不做算子融合。"
    ),
    # 移植须知
    "fact.padding.one": (
        "{name} 的输入为 {size}，步幅 {stride}。此处 TensorFlow 与 JAX 的 SAME 会在上下填充 {same}"
        "、左右填充 {same_cols}（前，后），而这里是 {ours} 和 {ours_cols}：用 SAME 会使输出整体错"
        "位，必须显式填充。"
    ),
    "fact.padding.many": (
        "下列各处，TensorFlow 与 JAX 的 SAME 填充（前，后）与这里不同，会使输出错位，必须显式填充："
    ),
    "head.operation": "运算",
    "head.map": "特征图",
    "head.stride": "步幅",
    "head.same": "SAME（行、列）",
    "head.ours": "这里",
    "fact.padding.agree": "{names}：在当前步幅和尺寸下，SAME 的填充与这里相同。",
    "fact.padding.agree.all": (
        "填充：在这个尺寸下，TensorFlow 与 JAX 的 SAME 处处与这里一致（{names}）。这只对当前的尺寸"
        "和步幅成立：步幅为 2 而尺寸为偶数时就会不同，因此仍应显式填充。"
    ),
    "fact.padding.none": "填充：没有。所有卷积核都是 1×1，SAME 与 VALID 没有区别。",
    "fact.pooling": "{names}：最大池化用 -inf 填充；若用 0 填充，边缘处的值全为负时结果就是错的。",
    "fact.shortcut.projection": (
        "捷径是步幅为 {stride} 的 {kernel} 卷积（{in} → {out} 通道）加{norm}，即参数 shortcut.0 和 "
        "shortcut.1 存在。"
    ),
    "fact.shortcut.identity": (
        "捷径是恒等映射：输入、输出都是 {channels} 个通道，步幅为 1。不存在名为 shortcut 的参数，也"
        "不要去找。"
    ),
    "fact.shortcut.network": (
        "只有 {names} 的捷径带卷积和归一化；其余各块（共 {others} 个）直接加上输入本身。"
    ),
    "fact.shortcut.network.none": "{count} 个残差块都没有捷径卷积，一律直接加上输入本身。",
    "fact.bias.on": "卷积带偏置（{names}）。许多 ImageNet 预训练权重的卷积不带偏置。",
    "fact.bias.off": (
        "残差块中的卷积不带偏置。PyTorch、Flax 和 Keras 默认都会加偏置，必须写明 bias=False 或 "
        "use_bias=False。"
    ),
    "fact.bias.idle": (
        "训练时 {names} 的梯度恒为零：它们的作用会被随后的批归一化完全抵消。各框架在此返回的只是舍"
        "入噪声，不要逐位比较。"
    ),
    "fact.bias.idle.softmax": (
        "训练时 {names} 的梯度恒为零：它们的作用会被随后的批归一化或位置上的 softmax 完全抵消。各框"
        "架在此返回的只是舍入噪声，不要逐位比较。"
    ),
    "fact.bias.keys": "{names} 中间三分之一（键的部分）的梯度恒为零：softmax 感觉不到它。",
    "fact.norm.all": (
        "批归一化：eps {eps}，衰减 {decay}（保留的比例）。在 PyTorch 中写作 momentum={momentum}，"
        "在 Flax 和 Keras 中写作 momentum={decay}。{defaults}训练时归一化用有偏方差，更新运行方差则"
        "用无偏方差。"
    ),
    "fact.norm.some": (
        "{names}：eps {eps}，衰减 {decay}（保留的比例）。在 PyTorch 中写作 momentum={momentum}，在 "
        "Flax 和 Keras 中写作 momentum={decay}。{defaults}"
    ),
    "norm.defaults": "默认值与此不同的有：{defaults}。",
    "norm.default.eps": "eps（{names}）",
    "norm.default.decay": "衰减（{names}）",
    "fact.variance": (
        "方差要分两遍计算：先减去均值，再求平方的平均。Flax 默认按 E[x²] - E[x]² 计算，均值较大时会"
        "严重损失精度，须设 use_fast_variance=False。"
    ),
    "fact.count.one": (
        "用 {images} 训练时，每个批归一化在每个通道上有 n = {n} 个值。PyTorch 更新运行方差时会乘以 "
        "n / (n - 1) = {factor}；Flax 和 Keras 不会，需要自己实现。"
    ),
    "fact.count.range": (
        "用 {images} 训练时，各批归一化每个通道的值的个数从 n = {n}（{names}）到 {most} 不等。"
        "PyTorch 更新运行方差时会乘以 n / (n - 1)，最大为 {factor}；Flax 和 Keras 不会，需要自己实"
        "现。"
    ),
    "fact.count.error": (
        "用 {images}、以这个尺寸训练会报错：{names} 在每个通道上只有一个值，方差没有定义。请增大批"
        "次或图像。"
    ),
    "fact.layer_norm": (
        "{names}：层归一化，eps {eps}（默认值：{defaults}），沿通道进行；通道在 Flax 和 Keras 中是"
        "最后一个轴，在 PyTorch 中不是。"
    ),
    "fact.maximum": (
        "最大值的梯度只传给一个位置，由下标确定。若靠比较数值来找（JAX、TensorFlow 以及 PyTorch 的 "
        "amax），并列时梯度会被平分，XLA 甚至可能一个相等的值也找不到。"
    ),
    "fact.nearest": (
        "{names}：n 行中的第 r 行读取 m 行中的第 floor(r · m / n) 行，用整数计算；PyTorch 的 "
        "interpolate 用浮点数计算，在某些尺寸下会早一行。"
    ),
    "fact.average_around": (
        "{names}：只对落在图内的位置取平均（PyTorch 中为 count_include_pad=False）。"
    ),
    "fact.hard": (
        "hard sigmoid 定义为 relu6(x + 3) / 6；Keras 2 的定义不同（0.2 x + 0.5，再截断）。"
    ),
    "fact.size.fixed": (
        "注意力只适用于 {maps} 的特征图，对应的输入图像为 {image}。其他尺寸在三个框架中都会报错。"
    ),
    "fact.axes": (
        "输入的轴：PyTorch 为（批次，通道，高，宽），Flax 和 Keras 为（批次，高，宽，通道）。"
    ),
    "fact.layout": "参数的末级名称，以及卷积核的轴顺序：",
    "fact.sequence": "带编号的子模块：{torch} 在 Flax 中是 {jax}，在 Keras 中是 {tf}。",
    "fact.unread": "{names} 只存在于 PyTorch，而且没有任何计算读取它：它不算权重，不要要求它存在。",
    "fact.flatten": (
        "进入分类器之前特征图已是 1 × 1，因此无论采用哪种布局，展平后 {width} 个通道的顺序都相同；"
        "若在平均之前展平，则不然。"
    ),
    "fact.precision": (
        "在 NVIDIA GPU 上，三个框架默认都用 TF32 计算 float32（尾数只有 10 位）；对比结果时要关闭。"
    ),
    "fact.kind.own": "{kind} 是自定义的注意力：各框架中的实现是否一致，要由您自己保证。",
}
