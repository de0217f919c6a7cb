"""What `resattn explain` says of the options of published networks, in English and in Chinese.

Everything else: `words_en` and `words_zh`.
"""

EN = {
    "what.bottleneck": (
        "A residual bottleneck, {in} → {first} → {hidden} → {out} channels, kernel {kernel}, "
        "stride {stride}{groups}, attention {kind}"
    ),
    "what.network.bottleneck": (
        "A residual network of {count} bottlenecks, widths {widths}{groups}, attention {kind}"
    ),
    "shortcut.average": "shortcut by an average pooling and a {kernel} convolution",
    "shortcut.subsample": "shortcut by dropped positions and channels of zeros",
    "norm.batch": "batch norm",
    "norm.group": "group norm",
    "op.group_norm": "group norm",
    "op.pad": "zeros around the map: {rows} rows, {cols} columns (before, after)",
    "op.flatten": "the map of one pixel as a list of channels",
    "op.average_pool": "{kernel} average pooling",
    "op.blur_pool": "3×3 binomial filter",
    "op.subsample": "dropped positions",
    "set.padding.sides": "padding {value} (before, after; rows, then columns)",
    "set.groups": "{value} groups",
    "set.channels": "channels of zeros {value} (before, after)",
    "why.group_norm": (
        "Brings every group of channels to mean 0 and variance 1 over all positions, then every "
        "channel to a learned scale and offset. Each image is normalised by itself, in training "
        "as in evaluation: there are no running statistics, and the size of the batch is free."
    ),
    "why.stem.pool.dense": (
        "Keeps the strongest response around every position. The filter after it has the stride."
    ),
    "why.stem.average_pool": "The mean of every {kernel} positions, which halves the map again.",
    "why.stem.conv.further": (
        "A further small kernel. Several in a row see as far as one large kernel, with fewer "
        "weights and a ReLU after each."
    ),
    "why.stem.pool.0": (
        "Makes the map smaller by learned weights, in place of the maximum pooling of the original "
        "ResNet."
    ),
    "why.bottleneck.conv1": (
        "Mixes the channels of each position, {in} into {out}. Only conv2 reads neighbours, and it "
        "works on these {out} channels."
    ),
    "why.bottleneck.conv1.strided": (
        "Mixes the channels of each position, {in} into {out}. The stride is here, as in the "
        "original paper: the positions between are never read."
    ),
    "why.bottleneck.conv2": (
        "The only convolution of this path that reads neighbours: {kernel} positions of all {in} "
        "channels."
    ),
    "why.bottleneck.conv2.strided": (
        "The only convolution of this path that reads neighbours: {kernel} positions of all {in} "
        "channels. The stride makes the map smaller. At conv1, whose kernel is 1×1, it would leave "
        "positions unread."
    ),
    "why.bottleneck.conv2.grouped": (
        "The only convolution of this path that reads neighbours. Its {groups} groups of channels "
        "do not see each other, which saves weights; conv1 and conv3 mix them."
    ),
    "why.bottleneck.conv2.grouped.strided": (
        "The only convolution of this path that reads neighbours, and the one that makes the map "
        "smaller. Its {groups} groups of channels do not see each other, which saves weights; "
        "conv1 and conv3 mix them."
    ),
    "why.bottleneck.conv3": (
        "Mixes the channels of each position, {in} into {out}: as many as the shortcut has."
    ),
    "why.relu_before_attention": (
        "The attention gets values of at least 0, and the residual cannot be negative. Most "
        "networks have no ReLU here."
    ),
    "why.average_pool": (
        "Takes the stride from the convolution before it: the mean of {kernel} positions instead "
        "of one in as many."
    ),
    "why.blur_pool": (
        "Takes the stride from the layer before it. The filter removes what the coarser map cannot "
        "hold, so an image moved by one pixel gives nearly the same features."
    ),
    "why.pad": (
        "TensorFlow's rule SAME: as many zeros as it takes to get size / stride positions, rounded "
        "up. Of an odd number one more is at the end."
    ),
    "why.shortcut.0.wide": (
        "Brings the input to the shape of the main path: {out} channels, and its size. The "
        "{kernel} kernel reads the neighbours, too, so a stride skips no position."
    ),
    "why.shortcut.average_pool": (
        "Makes the map as small as that of the main path. A 1×1 convolution with a stride would "
        "read one position of {kernel} and ignore the others."
    ),
    "why.shortcut.subsample": (
        "Brings the input to the shape of the main path without parameters: the positions on which "
        "the stride lands, and zeros for the channels that the input does not have."
    ),
    "why.sum.subsample": (
        "Adds the input where both have a value. The new channels are the main path's alone."
    ),
    "why.classifier.none": "There is no classifier: the output are the averages.",
    "why.plain.pad": "Makes room for a kernel at the edges.",
    "why.plain.flatten": "Leaves out the axes of size 1.",
    "why.plain.group_norm": "Normalises groups of channels, each image by itself.",
    "why.plain.average_pool": "Summarises each neighbourhood by its mean.",
    "why.plain.blur_pool": "Smooths the map before positions are dropped.",
    "why.plain.subsample": "Keeps the positions on which the stride lands.",
    "fact.padding.same": (
        "{names}: padded as by SAME in TensorFlow and JAX, which depends on the size of the map; "
        "of an odd number of pixels one more is at the end. PyTorch pads both sides the same, so "
        "pad there in a step of its own. Do not copy this padding to other layers."
    ),
    "fact.pooling.ceil": (
        "{names}: maximum pooling without padding, but a last window may reach over the edge "
        "(ceil_mode=True in PyTorch, as in Caffe). Flax and Keras have no such mode: pad the end "
        "with -inf."
    ),
    "fact.average_pool.ceil": (
        "{names}: an odd last row or column has a window of its own, the mean of the pixels that "
        "are there (ceil_mode=True, count_include_pad=False in PyTorch). A port that drops it or "
        "counts zeros differs at odd sizes only."
    ),
    "fact.average_pool.floor": (
        "{names}: an odd last row or column is dropped (VALID in TensorFlow and JAX)."
    ),
    "fact.blur_pool": (
        "{names}: the filter (1, 2, 1)/4 along rows and columns is the same for every channel and "
        "no parameter. The map is reflected at its edges, without repeating the edge itself; zeros "
        "there would darken the border."
    ),
    "fact.shortcut.average": (
        "The shortcut is an average pooling with stride {stride}, then a {kernel} convolution with "
        "stride 1 ({in} → {out} channels) and a {norm}. They are shortcut.0 and shortcut.1: the "
        "pooling has no number. Elsewhere it often counts as 0, and the others as 1 and 2."
    ),
    "fact.shortcut.subsample": (
        "The shortcut has no parameters: it keeps the first of every {stride} rows and columns and "
        "adds channels of zeros ({in} → {out}): {before} before the others and {after} after them."
    ),
    "fact.stride.basic": "The stride of a main path is that of conv1; conv2 has stride 1.",
    "fact.stride.conv1": (
        "The stride of a main path is that of conv1, its first 1×1 convolution, as in the original "
        "paper. torchvision and most others have it at conv2: parameters and shapes are the same, "
        "the outputs are not."
    ),
    "fact.stride.conv2": (
        "The stride of a main path is that of conv2; conv1 and conv3 have stride 1. The original "
        "paper, Caffe and keras.applications have it at conv1: parameters and shapes are the same, "
        "the outputs are not."
    ),
    "fact.stride.average": (
        "The convolutions of a main path have stride 1; average_pool has the stride, after the "
        "ReLU."
    ),
    "fact.stride.blur": (
        "The convolutions of a main path have stride 1; blur_pool has the stride, after the ReLU."
    ),
    "fact.groups": (
        '{names}: {groups} groups of neighbouring channels. The kernel\'s axis "in" is as long as '
        'one group, and its axis "out" holds the groups one after the other, in all three.'
    ),
    "fact.shortcut.network.subsample": (
        "No shortcut has parameters. In {names} it drops positions and adds channels of zeros, "
        "half of them before the others (one more after them if odd). The other blocks ({others}) "
        "add their input as it is."
    ),
    "fact.group_norm": (
        "{names}: group norm with {groups} groups and eps {eps} (defaults: {defaults}), by the "
        "biased variance of each image. Flax and Keras have 32 groups by default, PyTorch has no "
        "default. There are no running statistics."
    ),
    "fact.folded": (
        "The batch norms are folded: each is part of the weight and the bias of the convolution "
        "before it. In evaluation that gives the same output up to rounding. There are no running "
        "statistics, so train the network that it was made from."
    ),
    "fact.shortcut.projection.folded": (
        "The shortcut is a {kernel} convolution with stride {stride} ({in} → {out} channels), "
        "shortcut.0, with its batch norm folded in."
    ),
    "fact.shortcut.average.folded": (
        "The shortcut is an average pooling with stride {stride}, then a {kernel} convolution with "
        "stride 1 ({in} → {out} channels), shortcut.0, with its batch norm folded in. The pooling "
        "has no number."
    ),
    "fact.drop_path": (
        "Training leaves out the main path of an image with a probability p of up to {rate} and "
        "divides the others by 1 - p. Each framework draws its own random numbers, so "
        "runs differ; evaluation leaves nothing out."
    ),
    "fact.dropout": (
        "Training sets averages before the classifier to 0 with probability {rate}, with random "
        "numbers of each framework's own. Evaluation does not."
    ),
}

ZH = {
    # 名称与版式
    "what.bottleneck": (
        "瓶颈残差块，{in} → {first} → {hidden} → {out} 通道，卷积核 {kernel}，步幅 {stride}{groups}"
        "，注意力 {kind}"
    ),
    "what.network.bottleneck": (
        "由 {count} 个瓶颈残差块组成的残差网络，各阶段宽度 {widths}{groups}，注意力 {kind}"
    ),
    "shortcut.average": "捷径为平均池化加 {kernel} 卷积",
    "shortcut.subsample": "捷径为抽取位置并补零通道",
    "norm.batch": "批归一化",
    "norm.group": "组归一化",
    # 运算
    "op.group_norm": "组归一化",
    "op.pad": "在四周补零：上下 {rows}，左右 {cols}（前，后）",
    "op.flatten": "把一个像素的特征图展平为通道列表",
    "op.average_pool": "{kernel} 平均池化",
    "op.blur_pool": "3×3 二项式滤波",
    "op.subsample": "抽取位置",
    "set.padding.sides": "填充 {value}（前，后；先行后列）",
    "set.groups": "分 {value} 组",
    "set.channels": "补零通道 {value}（前，后）",
    # 为什么
    "why.group_norm": (
        "先把每组通道在所有位置上化为均值 0、方差 1，再对每个通道乘以可学习的缩放、加上可学习的偏移"
        "。每张图像各自归一化，训练与推理相同：没有运行统计量，批次大小也不受限制。"
    ),
    "why.stem.pool.dense": "在每个位置的邻域内只保留最强的响应；步幅由后面的滤波承担。",
    "why.stem.average_pool": "每 {kernel} 个位置取平均，特征图的高和宽再各减半。",
    "why.stem.conv.further": (
        "又一个小卷积核：几个小核连用，感受野与一个大核相当，权重更少，而且每个之后都有 ReLU。"
    ),
    "why.stem.pool.0": "用可学习的权重缩小特征图，取代原版 ResNet 的最大池化。",
    "why.bottleneck.conv1": (
        "只在每个位置上混合各通道，由 {in} 个变为 {out} 个。看邻近位置的只有 conv2，它就在这 {out} "
        "个通道上工作。"
    ),
    "why.bottleneck.conv1.strided": (
        "只在每个位置上混合各通道，由 {in} 个变为 {out} 个。步幅设在这里，与原论文一致：中间的位置"
        "从不被读取。"
    ),
    "why.bottleneck.conv2": (
        "主路径上唯一看邻近位置的卷积：综合所有 {in} 个通道在 {kernel} 邻域内的信息。"
    ),
    "why.bottleneck.conv2.strided": (
        "主路径上唯一看邻近位置的卷积：综合所有 {in} 个通道在 {kernel} 邻域内的信息。步幅在这里缩小"
        "特征图；若设在核为 1×1 的 conv1 上，就会有位置从不被读取。"
    ),
    "why.bottleneck.conv2.grouped": (
        "主路径上唯一看邻近位置的卷积。通道分成 {groups} 组，各组互不相见，因此权重更少；组间的混合"
        "由 conv1 和 conv3 完成。"
    ),
    "why.bottleneck.conv2.grouped.strided": (
        "主路径上唯一看邻近位置的卷积，特征图也在这里缩小。通道分成 {groups} 组，各组互不相见，因此"
        "权重更少；组间的混合由 conv1 和 conv3 完成。"
    ),
    "why.bottleneck.conv3": (
        "只在每个位置上混合各通道，由 {in} 个变为 {out} 个，与捷径的通道数相同。"
    ),
    "why.relu_before_attention": (
        "进入注意力的值都不小于 0，残差也不会为负。多数网络在这里没有 ReLU。"
    ),
    "why.average_pool": "代替前面的卷积承担步幅：对 {kernel} 个位置取平均，而不是只取其中一个。",
    "why.blur_pool": (
        "代替前一层承担步幅。滤波去掉较粗的特征图无法表达的成分，图像平移一个像素时，特征几乎不变。"
    ),
    "why.pad": (
        "TensorFlow 的 SAME 规则：补的零恰好使输出有 size / stride 个位置（向上取整）；总数为奇数时"
        "，末端多补一个。"
    ),
    "why.shortcut.0.wide": (
        "把输入变成与主路径相同的形状：通道数变为 {out}，尺寸也相同。{kernel} 的核还会读取邻近位置"
        "，因此步幅不会漏掉任何位置。"
    ),
    "why.shortcut.average_pool": (
        "把特征图缩小到与主路径相同。带步幅的 1×1 卷积只会读取 {kernel} 个位置中的一个，其余全部忽"
        "略。"
    ),
    "why.shortcut.subsample": (
        "不用任何参数，把输入变成与主路径相同的形状：位置按步幅抽取，输入所缺的通道补零。"
    ),
    "why.sum.subsample": "在两路都有值的地方加上输入；新增的通道只来自主路径。",
    "why.classifier.none": "没有分类器：输出就是这些平均值。",
    "why.plain.pad": "为卷积核在边缘留出位置。",
    "why.plain.flatten": "去掉长度为 1 的轴。",
    "why.plain.group_norm": "对每组通道做归一化，每张图像各自进行。",
    "why.plain.average_pool": "用平均值概括每个邻域。",
    "why.plain.blur_pool": "在抽取位置之前先平滑特征图。",
    "why.plain.subsample": "只保留步幅所落到的位置。",
    # 移植须知
    "fact.padding.same": (
        "{names}：按 TensorFlow 与 JAX 的 SAME 填充，取决于特征图的尺寸；总数为奇数时，末端多补一个"
        "。PyTorch 两侧的填充总是相同，因此要单独用一步来补零。不要把这种填充用到其他层上。"
    ),
    "fact.pooling.ceil": (
        "{names}：最大池化不填充，但最后一个窗口可以越过边缘（PyTorch 中为 ceil_mode=True，与 Caffe"
        " 一致）。Flax 和 Keras 没有这种方式：要在末端用 -inf 填充。"
    ),
    "fact.average_pool.ceil": (
        "{names}：奇数尺寸的最后一行、一列自成一个窗口，只对图内的像素取平均（PyTorch 中为 "
        "ceil_mode=True、count_include_pad=False）。若舍弃它或把零也算进去，只在奇数尺寸下结果不同"
        "。"
    ),
    "fact.average_pool.floor": (
        "{names}：奇数尺寸的最后一行、一列被舍弃（TensorFlow 与 JAX 中为 VALID）。"
    ),
    "fact.blur_pool": (
        "{names}：沿行和列的滤波器都是 (1, 2, 1)/4，各通道相同，不是参数。特征图在边缘处做镜像，边"
        "缘本身不重复；若补零，边缘会变暗。"
    ),
    "fact.shortcut.average": (
        "捷径先做步幅为 {stride} 的平均池化，再做步幅为 1 的 {kernel} 卷积（{in} → {out} 通道）和"
        "{norm}，后两者即 shortcut.0 和 shortcut.1：池化不占编号。在别处它常常是 0，其余两个是 1 和"
        " 2。"
    ),
    "fact.shortcut.subsample": (
        "捷径没有参数：每 {stride} 行、列取第一个，并补上零通道（{in} → {out}）：前面 {before} 个，"
        "后面 {after} 个。"
    ),
    "fact.stride.basic": "主路径的步幅在 conv1 上，conv2 的步幅为 1。",
    "fact.stride.conv1": (
        "主路径的步幅在第一个 1×1 卷积 conv1 上，与原论文一致。torchvision 和多数实现设在 conv2 上"
        "：参数和形状相同，输出却不同。"
    ),
    "fact.stride.conv2": (
        "主路径的步幅在 conv2 上，conv1 和 conv3 的步幅为 1。原论文、Caffe 和 keras.applications 设"
        "在 conv1 上：参数和形状相同，输出却不同。"
    ),
    "fact.stride.average": "主路径各卷积的步幅都为 1，步幅由 ReLU 之后的 average_pool 承担。",
    "fact.stride.blur": "主路径各卷积的步幅都为 1，步幅由 ReLU 之后的 blur_pool 承担。",
    "fact.groups": (
        "{names}：相邻通道分成 {groups} 组。卷积核的 in 轴只有一组那么长，out 轴依次排列各组；三个"
        "框架都是如此。"
    ),
    "fact.shortcut.network.subsample": (
        "所有捷径都没有参数。{names} 的捷径按步幅抽取位置并补零通道，前后各一半（总数为奇数时后面多"
        "一个）；其余各块（共 {others} 个）直接加上输入本身。"
    ),
    "fact.group_norm": (
        "{names}：组归一化，分 {groups} 组，eps {eps}（默认值：{defaults}），用每张图像的有偏方差。"
        "Flax 和 Keras 默认分 32 组，PyTorch 没有默认值。没有运行统计量。"
    ),
    "fact.folded": (
        "批归一化已折叠：每个批归一化都并入前一个卷积的权重和偏置。推理时输出相同（仅差舍入误差）。"
        "没有运行统计量，因此训练请用折叠之前的网络。"
    ),
    "fact.shortcut.projection.folded": (
        "捷径是步幅为 {stride} 的 {kernel} 卷积（{in} → {out} 通道），即参数 shortcut.0，其批归一化"
        "已并入。"
    ),
    "fact.shortcut.average.folded": (
        "捷径先做步幅为 {stride} 的平均池化，再做步幅为 1 的 {kernel} 卷积（{in} → {out} 通道），"
        "即参数 shortcut.0，其批归一化已并入。池化不占编号。"
    ),
    "fact.drop_path": (
        "训练时以最高 {rate} 的概率略去一张图像的主路径，其余的除以保留的概率。各框架的随机数各不相"
        "同，因此训练结果会有差别；推理时不略去任何东西。"
    ),
    "fact.dropout": (
        "训练时，分类器之前的平均值以 {rate} 的概率置 0，各框架使用各自的随机数；推理时不会。"
    ),
}
