"""What `resattn explain` says, in Chinese. The keys are those of `words_en`; a test checks it."""

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
    "shortcut.projection": "捷径为 1×1 卷积",
    "shortcut.identity": "恒等捷径",
    "fold": "{name}：结构同 {like}",
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
        "先把每个通道化为均值 0、方差 1（训练时用当前批次在所有位置上的统计量，推理时用运行统计量）"
        "，再乘以可学习的缩放、加上可学习的偏移。这样，无论网络多深，激活值的尺度都不会失控。"
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
        "再看一遍邻域，步幅固定为 1：如果这里也带步幅，主路径的输出就会小于捷径的输出，两者无法相加"
        "。"
    ),
    "why.bn2": "对即将相加的残差做归一化。相加之前不再接 ReLU，残差因此可正可负。",
    "why.shortcut.0": "用可学习的线性组合把输入变为 {out} 个通道，两路才能相加。",
    "why.shortcut.0.strided": (
        "把输入变成与主路径相同的形状：通道数变为 {out}，位置则按步幅抽取。1×1 的核不需要填充。"
    ),
    "why.shortcut.1": "投影结果与主路径一样做归一化，汇合时两路尺度才相当。",
    "why.sum.identity": "直接加上输入本身：残差块只需学习与输入的差，梯度也能原样传回前面的层。",
    "why.sum.projection": "主路径与投影后的输入相加，梯度因此有一条绕过两个卷积的近路。",
    "why.output": "捷径经过的唯一一个 ReLU，放在相加之后（原版 ResNet 的顺序，而非预激活版本）。",
    "why.global_average": (
        "每个通道化为一个数，不管特征出现在哪里；因此任意尺寸的图像都得到同样多的特征。"
    ),
    "why.classifier": "每个类别一个得分（logits）；softmax 留给损失函数去做。",
    # 为什么：注意力
    "why.own": "用户自行注册的注意力，其内部运算在此不可知，因此感受野按整幅图像计。",
    "why.closed": "整个注意力模块，作为一步运算列出。",
    "why.se.average": "压缩（squeeze）：把每个通道概括为一个数，这个数看到了所有位置。",
    "why.se.fc1": (
        "激励（excitation）的第一层：从 {in} 个通道压到 {out} 个，在瓶颈中权衡各通道之间的关系。"
    ),
    "why.se.fc2": "第二层：恢复到每个通道一个 logit。",
    "why.gate": (
        "把 logit 变成 0 到 1 之间的门控值。各个门相互独立，可以同时打开；若用 softmax，它们就会彼"
        "此竞争。"
    ),
    "why.scaled.channels": "每个通道乘以自己的门控值，同一通道内所有位置相同。",
    "why.scaled.positions": "每个位置乘以自己的门控值，同一位置上所有通道相同。",
    "why.ese.fc": "只用一层，不设瓶颈：从通道到 logit 不损失信息。",
    "why.eca.conv": (
        "每个通道的 logit 只由它自己和相邻通道的平均值算出，所有通道共用这寥寥几个权重。"
    ),
    "why.cbam.maximum": "最大值补充平均值看不出的信息：某处有一个很强的响应。",
    "why.cbam.again": "与上面是同一层、同一组权重，这次作用于最大值；参数只计一次。",
    "why.cbam.both": "把平均值与最大值两路的 logit 相加。",
    "why.cbam.average": "每个位置上各通道的平均响应。",
    "why.cbam.maximum 2": "每个位置上各通道的最强响应。",
    "why.cbam.concatenate": "平均值在前，最大值在后：这一顺序已经固化在后面卷积的权重里。",
    "why.gate.conv": "由这两张图及其邻域，为每个位置算出一个 logit。",
    "why.gate.bn": "在 sigmoid 之前对这一个通道的 logit 做归一化；它有自己的 eps 和衰减。",
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
    "why.scse.conv": "每个位置一个 logit，由该位置各通道的可学习线性组合得到。",
    "why.scse.sum": "两种判断都算数：哪些通道重要，哪些位置重要。",
    "why.scse.greater": "取两种判断中较强的一个。",
    "why.ge.average": "聚集（gather）：每个通道在整幅特征图上取平均。",
    "why.ge.around": (
        "聚集（gather）：每个通道在局部邻域内取平均，得到较粗的网格；落在图外的位置不参与平均。"
    ),
    "why.ge.conv": "聚集（gather）：用可学习的权重，逐通道进行。",
    "why.ge.fc1": "从 {in} 个通道压到 {out} 个：到这里，通道之间才开始交换信息。",
    "why.ge.fc2": "恢复到原来的通道数。",
    "why.ge.nearest": "每个位置读取离它最近的聚集值。",
    "why.ge.output": "激励（excite）：每个值乘以从其周围聚集得到的门控值。",
    "why.gc.conv_attn": "每个位置有多重要：由该位置的各通道算出一个 logit。",
    "why.gc.softmax": "在所有位置上归一化，权重之和为 1。",
    "why.gc.context": "所有位置的加权平均：整幅图像得到一个全局上下文。",
    "why.gc.average": "所有位置的平均：整幅图像得到一个全局上下文。",
    "why.gc.fc1": "瓶颈层，从 {in} 个通道压到 {out} 个。",
    "why.gc.norm": "只在单张图像的隐藏通道上归一化，与批次无关，也没有运行统计量。",
    "why.gc.add": "恢复到全部通道，得到要加到每个位置上的量。",
    "why.gc.scale": "恢复到每个通道一个 logit。",
    "why.gc.output": "把全局上下文加到每个位置上。",
    "why.simam.average": "每个通道在所有位置上的均值。",
    "why.simam.centred": "每个值偏离本通道均值多少。",
    "why.simam.square": "偏差的平方：越突出的值越大。",
    "why.simam.average 2": "偏差平方的平均；此时除以的是 n，还不是 n - 1。",
    "why.simam.variance": "换算成无偏方差，与作者代码一致：n 个位置，自由度为 n - 1。",
    "why.simam.divisor": "加上正则项之后的方差的四倍。",
    "why.simam.energy": "偏差平方与方差之比，对应论文中能量的倒数。",
    "why.simam.half": "闭式解中的常数项。",
    "why.simam.output": "每个值乘以各自的门控值；这里没有任何可学习的参数。",
    "why.coordinate.rows": "每个通道、每一行一个数，保留上下方向的位置信息。",
    "why.coordinate.cols": "每个通道、每一列一个数，保留左右方向的位置信息。",
    "why.coordinate.concatenate": "把行和列首尾相接，后面一层就能同时处理两者。",
    "why.coordinate.conv1": "从 {in} 个通道变为 {out} 个，行和列共用同一组权重。",
    "why.coordinate.hard_swish": "x · relu6(x + 3) / 6：平滑而计算便宜的非线性。",
    "why.coordinate.part.rows": "重新取出行的部分。",
    "why.coordinate.part.cols": "重新取出列的部分。",
    "why.coordinate.conv_h": "每个通道、每一行一个 logit。",
    "why.coordinate.conv_w": "每个通道、每一列一个 logit。",
    "why.coordinate.by_cols": "每个值先乘以所在列的门控值，",
    "why.coordinate.output": "再乘以所在行的门控值：两者相交，便锁定了位置。",
    "why.triplet.turn": "让通道轴与一个空间轴互换，这样普通的二维卷积就能跨通道和位置一起看。",
    "why.triplet.maximum": "Z 池化的一半：沿最前面的轴取最大值。",
    "why.triplet.average": "Z 池化的另一半：沿同一个轴取平均。",
    "why.triplet.concatenate": "最大值在前，平均值在后（CBAM 正好相反）。",
    "why.triplet.gated": "换轴后的特征图乘以其门控值。",
    "why.triplet.back": "把轴换回原来的位置。",
    "why.triplet.total": "各分支相加，",
    "why.triplet.output": "再取平均。",
    "why.nonlocal.theta": "查询（query）：每个位置想找什么。",
    "why.nonlocal.phi": "键（key）：每个位置能提供什么。",
    "why.nonlocal.g": "值（value）：每个位置实际交出什么。",
    "why.nonlocal.pool": "参与比较的位置减到四分之一，计算量也随之减到四分之一。",
    "why.nonlocal.logits": "任意两个位置有多相似：行是查询，列是键。",
    "why.scale": "避免 logit 随特征宽度增大。",
    "why.attention.softmax": "每个位置得到对其他所有位置的权重，权重之和为 1。",
    "why.nonlocal.weighted": "每个位置得到所有值的加权平均。",
    "why.nonlocal.conv_out": "恢复到全部通道。",
    "why.nonlocal.bn": "缩放系数初始为 0，因此未经训练时整个模块就是恒等映射。",
    "why.nonlocal.output": "模块自带的残差连接：把从别处看到的信息加到本位置上。",
    "why.mhsa.qkv": "一层同时算出查询、键和值：三份依次排列，每份内部再按头排列。",
    "why.mhsa.query": "在每个头里，每个位置想找什么。",
    "why.mhsa.key": "每个位置能提供什么。",
    "why.mhsa.value": "每个位置实际交出什么。",
    "why.mhsa.logits": "每个查询与每个键有多匹配。",
    "why.mhsa.positions": "两个位置相距多远也要计入：每种行距、每种列距各有一个可学习的向量。",
    "why.mhsa.sum": "内容得分与位置得分相加。",
    "why.mhsa.output": "值的加权平均；各个头重新并排拼成通道。",
    # 合计
    "total.output": "输出",
    "total.parameters": "可训练参数",
    "total.statistics": "运行统计量",
    "total.weights": "权重文件中的数据",
    "total.products": "乘加次数",
    "total.training": "为反向传播保留的激活",
    "total.peak": "推理时的激活峰值",
    "total.field": "感受野",
    "total.products.value": "每张图像 {count}",
    "total.training.value": "{bytes}（每张图像 {count} 个数）",
    "total.peak.value": "{bytes}，出现在 {name}",
    "total.field.larger": "{field}，已超出图像本身",
    "total.field.whole": "整幅图像，与图像尺寸无关",
    "total.field.attention": "整幅图像（通过注意力）；若只看卷积，则为 {field}",
    "total.note": (
        "为反向传播保留的激活：求梯度时要读取的张量，每个只计一次，与 PyTorch 保留的一致；最大值的"
        "下标和单个批次的统计量不计在内。推理峰值：假定每个输出保留到最后一次被使用，不做算子融合。"
    ),
    # 移植须知
    "fact.padding.one": (
        "{name} 的输入为 {size}，步幅 {stride}。此处 TensorFlow 与 JAX 的 SAME 会在上下填充 {same}"
        "、左右填充 {same_cols}（前，后），而这里是 {ours} 和 {ours_cols}：用 SAME 会使输出整体错位"
        "，必须显式填充。"
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
        "捷径是步幅为 {stride} 的 1×1 卷积（{in} → {out} 通道）加批归一化，即参数 shortcut.0 和 "
        "shortcut.1 存在。主路径的步幅在 conv1 上，conv2 的步幅为 1。"
    ),
    "fact.shortcut.identity": (
        "捷径是恒等映射：输入、输出都是 {channels} 个通道，步幅为 1。不存在名为 shortcut 的参数，也"
        "不要去找。"
    ),
    "fact.shortcut.network": (
        "只有 {names} 的捷径带 1×1 卷积和批归一化；其余各块（共 {others} 个）直接加上输入本身。"
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
        "批归一化：eps {eps}，衰减 {decay}（保留的比例）。在 PyTorch 中写作 momentum={momentum}，在"
        " Flax 和 Keras 中写作 momentum={decay}。{defaults}训练时归一化用有偏方差，更新运行方差则用"
        "无偏方差。"
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
    "fact.kind.se": (
        "隐藏宽度 {hidden}：即 channels // reduction，向下取整，除非另外给出 divisor 或直接给出宽度"
        "。这两层是带偏置的 1×1 卷积，不受 conv_bias 影响。"
    ),
    "fact.kind.ese": "门控函数为 {gate}；作者代码用 hard_sigmoid，论文公式写的是 sigmoid。",
    "fact.kind.eca.zero": (
        "{channels} 个通道时核长为 {kernel}；timm 至少取 3，通道数小于 8 时会有差别。首尾通道之外补"
        "零。"
    ),
    "fact.kind.eca.circular": (
        "{channels} 个通道时核长为 {kernel}；timm 至少取 3。通道首尾相接成环：最后一个通道与第一个"
        "相邻。"
    ),
    "fact.kind.cbam": (
        "空间门控的输入顺序是（平均值，最大值），与论文和 timm 一致；作者代码是（最大值，平均值）。"
        "两种顺序形状都对得上，从作者代码移植权重时须交换 spatial.conv 的两个输入通道。"
    ),
    "fact.kind.bam.sum": (
        "两个分支相加，与论文一致；作者代码是相乘。channel_att.bn_1 只在批次维上归一化，训练时批次"
        "必须大于 1。"
    ),
    "fact.kind.bam.product": (
        "两个分支相乘，与作者代码一致；论文是相加。channel_att.bn_1 只在批次维上归一化，训练时批次"
        "必须大于 1。"
    ),
    "fact.kind.scse.sum": (
        "隐藏宽度 {hidden}。两路相加（Roy 等，2018）。segmentation_models.pytorch 的 reduction 为 "
        "16，论文为 2。"
    ),
    "fact.kind.scse.maximum": (
        "隐藏宽度 {hidden}。两路取较大者（Roy 等，2019）。segmentation_models.pytorch 的 reduction "
        "为 16，论文为 2。"
    ),
    "fact.kind.ge.average": "聚集步骤没有参数。timm 的版本默认带后面两层（mlp）。",
    "fact.kind.ge.convolution": (
        "聚集用逐通道卷积：卷积核的轴顺序在 Flax 中是 (row col in out)，在 Keras 中却是 (row col "
        "out in)。timm 覆盖整幅图的卷积带填充，这里不带。"
    ),
    "fact.kind.gc.add": (
        "隐藏宽度 {hidden}。全局上下文以相加的方式融合，与论文一致；timm 是相乘，且 reduction 为 8"
        "。"
    ),
    "fact.kind.gc.scale": (
        "隐藏宽度 {hidden}。全局上下文以相乘的方式融合，与 timm 一致（timm 的 reduction 为 8）；论"
        "文是相加。"
    ),
    "fact.kind.gc.both": (
        "隐藏宽度 {hidden}。全局上下文先相乘、再相加：共有 mlp_scale 和 mlp_add 两个瓶颈。"
    ),
    "fact.kind.simam": (
        "方差除以（位置数 - 1），再加上 λ = {e_lambda}；只有一个位置的特征图会报错。"
    ),
    "fact.kind.coordinate": (
        "隐藏宽度 {hidden}，不少于 {minimum}。拼接时行在前、列在后。timm 的宽度不同，且不带偏置。"
    ),
    "fact.kind.triplet": (
        "池化得到的两张图顺序为（最大值，平均值）。cw 分支是行与通道互换，hc 分支是列与通道互换；注"
        "意布局，Flax 和 Keras 的通道在最后。其中的批归一化有自己的衰减 {bn_decay}。"
    ),
    "fact.kind.nonlocal": (
        "隐藏宽度 {hidden}。attention.bn 的缩放系数初始为 0：新建的模块就是恒等映射，请用训练过的或"
        "随机的权重来比较。"
    ),
    "fact.kind.nonlocal.scaled": (
        "logit 除以 √{hidden}，与作者代码一致；论文不除，timm 除以全部通道数的平方根。"
    ),
    "fact.kind.nonlocal.plain": "logit 不做缩放，与论文一致；作者代码会除以 √{hidden}。",
    "fact.kind.mhsa": (
        "qkv 依次给出查询、键和值，每份内部按头排列（{heads} 个头）。无论哪种布局，位置都按行优先编"
        "号。"
    ),
    "fact.kind.mhsa.scaled": "位置得分与内容得分一样做缩放（同作者代码）；timm 不缩放。",
    "fact.kind.mhsa.plain": "位置得分不做缩放，与 timm 一致；作者代码会缩放。",
    # 各种注意力的一句话概括
    "summary.none": "无注意力：原样返回输入。",
    "summary.se": "压缩-激励（SE）：由各通道的平均值经两个小层算出门控值，逐通道缩放。",
    "summary.ese": (
        "有效压缩-激励（eSE）：由各通道的平均值经一个与输入等宽的层算出门控值，逐通道缩放。"
    ),
    "summary.eca": (
        "高效通道注意力（ECA）：用一个短卷积，由本通道及相邻通道的平均值算出门控值，逐通道缩放。"
    ),
    "summary.cbam": "先做通道注意力（平均值与最大值共用一个瓶颈），再用 7×7 卷积做空间注意力。",
    "summary.bam": "同时给通道和位置打分：通道瓶颈与膨胀卷积两路之和经门控后加 1，再与输入相乘。",
    "summary.scse": "并行的两份：一份逐通道门控（压缩-激励），一份逐位置门控，两者相加。",
    "summary.ge": "聚集-激励（GE）：在本通道的全局或局部聚集信息，用平均或逐通道卷积，再逐值门控。",
    "summary.gc": "全局上下文（GC）：对所有位置做可学习的加权平均，经瓶颈变换后加到每个位置上。",
    "summary.simam": "SimAM：值离本通道均值越远，门控值越大；没有参数。",
    "summary.coordinate": "坐标注意力：沿两个方向分别取平均，为每一行、每一列各算一个门控值。",
    "summary.triplet": (
        "三重注意力：三份拷贝各沿一个轴取最大值和平均值，经 7×7 卷积得到另外两个轴上的门控值，最后"
        "求平均。"
    ),
    "summary.nonlocal": "非局部模块：按相似程度对所有位置加权平均（嵌入高斯），加到每个位置上。",
    "summary.mhsa": (
        "多头自注意力：每个位置替换为所有位置的加权平均，权重由内容和相对位置决定，分多个头进行。"
    ),
}
