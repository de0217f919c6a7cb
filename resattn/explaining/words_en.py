"""What `resattn explain` says, in English. The keys are those of `words_zh`; a test checks it."""

from weights.attention import ATTENTION

WORDS = {
    # How things are called.
    "title": "{what}: step by step, for images of {size} (height × width)",
    "unchanged": "{shape}, unchanged",
    "what.block": (
        "A residual block, {in} → {out} channels, kernel {kernel}, stride {stride}, attention "
        "{kind}"
    ),
    "what.network": "A residual network of {count} blocks, widths {widths}, attention {kind}",
    "legend": (
        "Shapes are channels × rows × columns of one image. Multiply-adds: those of convolutions, "
        "linear layers and matrix products. Memory: of the output, for {batch} in {dtype}. Sees: "
        "how many rows × columns of the image one value depends on."
    ),
    "images.1": "1 image",
    "images": "{count} images",
    "group.stem": "Stem: from the image to the first feature maps",
    "group.block": "Block {name}: {in} → {out} channels, stride {stride}, {shortcut}",
    "group.main": "Main path",
    "group.attention": "Attention ({kind})",
    "group.shortcut": "Shortcut",
    "group.join": "Where the paths meet",
    "group.head": "Head: from feature maps to classes",
    "group.totals": "Totals",
    "group.facts": "What a port of exactly this must get right",
    "shortcut.projection": "shortcut by a 1×1 convolution",
    "shortcut.identity": "shortcut untouched",
    "fold": "{name}: as {like}",
    "fold.detail": "{count} operations, {in} → {out} channels, stride {stride}",
    "from": "from {names}",
    "parameters": "{count} parameters",
    "statistics": "{count} running statistics",
    "products": "{count} multiply-adds",
    "memory": "memory {bytes}",
    "sees": "sees {field}",
    "sees.whole": "sees the whole image",
    "separator": " · ",
    "list": ", ",
    "comma": ", ",
    "last": " and ",
    "and_more": "{names} and {count} more",
    "colon": ": ",
    "code": (
        "The lines at │ are {label}'s, from {package}/. A line stands at the first operation that "
        "it computes; what only checks or asks stands in front of what follows it."
    ),
    # Operations.
    "op.input": "the image",
    "op.convolution": "{kernel} convolution",
    "op.convolution.depthwise": "{kernel} depthwise convolution",
    "op.convolution_1d": "1-d convolution of length {length} along the channels",
    "op.batch_norm": "batch norm",
    "op.layer_norm": "layer norm over the channels",
    "op.relu": "ReLU",
    "op.sigmoid": "sigmoid",
    "op.hard_sigmoid": "hard sigmoid",
    "op.hard_swish": "hard swish",
    "op.softmax": "softmax",
    "op.average": "average over {axes}",
    "op.maximum": "maximum over {axes}",
    "op.average_around": "local averages, one for every {extent} rows and columns",
    "op.max_pool": "{kernel} maximum pooling",
    "op.concatenate": "concatenation",
    "op.sum": "addition, element by element",
    "op.difference": "subtraction",
    "op.product": "multiplication, element by element",
    "op.quotient": "division",
    "op.square": "square",
    "op.greater": "the greater of the two, element by element",
    "op.nearest": "stretching to the size of the map",
    "op.swap_axes": "two axes change places",
    "op.head_part": "one of three parts, split into heads",
    "op.slice.first": "the first part",
    "op.slice.second": "the second part",
    "op.matrix_product": "matrix product",
    "op.relative_positions": "logits of relative positions",
    "op.linear": "linear layer",
    "op.affine": "{formula}",
    "op.bessel": "times n / (n - 1)",
    "op.parameter": "a parameter",
    "op.attention": "attention {attention}",
    "axis.channels": "the channels",
    "axis.rows": "the rows",
    "axis.cols": "the columns",
    "axis.positions": "all positions",
    "set.stride": "stride {value}",
    "set.padding": "padding {value}",
    "set.dilation": "dilation {value}",
    "set.bias": "with bias",
    "set.no bias": "no bias",
    "set.eps": "eps {value}",
    "set.decay": "decay {value}",
    "set.circular": "circular padding",
    "set.zero": "padded with zeros",
    # Why: the block and the network.
    "why.input": "What comes in.",
    "why.stem.conv": "Turns colours into features. The receptive field starts here.",
    "why.stem.conv.strided": (
        "Turns colours into features and already makes the map smaller, so that everything behind "
        "it is cheaper."
    ),
    "why.norm": (
        "Brings every channel to mean 0 and variance 1 (in training over the batch and all "
        "positions, in evaluation by the running statistics), then to a learned scale and offset. "
        "Keeps the scale of activations in hand at any depth."
    ),
    "why.nonlinear": "Negative values become 0. Without it two convolutions in a row would be one.",
    "why.stem.pool": (
        "Keeps the strongest response around every second position and halves the map once more."
    ),
    "why.conv1": (
        "Every output looks at {kernel} positions of all input channels. First half of the "
        "residual."
    ),
    "why.conv1.strided": (
        "Every output looks at {kernel} positions of all input channels. The stride makes the map "
        "smaller; it stands here and nowhere else on this path."
    ),
    "why.conv1.pointwise": (
        "Mixes the channels of each position; with a 1×1 kernel no neighbour is looked at."
    ),
    "why.conv2": (
        "Looks around once more, at stride 1: were there a stride here too, this path would end "
        "smaller than the shortcut and the addition would fail."
    ),
    "why.bn2": (
        "Normalises what will be added. No ReLU follows before the addition, so that the residual "
        "can be negative."
    ),
    "why.shortcut.0": (
        "Brings the input to {out} channels with one learned mixture a position, so that the two "
        "paths can be added."
    ),
    "why.shortcut.0.strided": (
        "Brings the input to the shape of the main path: {out} channels, and only the positions on "
        "which the stride lands. A 1×1 kernel needs no padding."
    ),
    "why.shortcut.1": (
        "The projection is normalised as the main path is, so that both have the same scale when "
        "they meet."
    ),
    "why.sum.identity": (
        "The input itself is added: the block need only learn the difference, and gradients reach "
        "earlier blocks unweakened."
    ),
    "why.sum.projection": (
        "Main path and projected input are added: gradients have a short way past the two "
        "convolutions."
    ),
    "why.output": (
        "The only ReLU on the way of the shortcut: it follows the addition (the original order, "
        "not pre-activation)."
    ),
    "why.global_average": (
        "One number a channel, wherever the feature was: images of any size give as many features."
    ),
    "why.classifier": "One score a class (logits; softmax belongs to the loss).",
    # Why: attention.
    "why.own": (
        "A kind that was registered; what it does inside is not known here, so it is taken to see "
        "the whole image."
    ),
    "why.closed": "The attention module, as one operation.",
    "why.se.average": (
        "Squeeze: each channel is summed up in one number that has seen all positions."
    ),
    "why.se.fc1": (
        "Excitation, first layer: from {in} channels to {out}, a bottleneck in which channels are "
        "weighed against each other."
    ),
    "why.se.fc2": "Second layer: back to one logit a channel.",
    "why.gate": (
        "Logits become gates between 0 and 1, each by itself: several channels can be open at once "
        "(a softmax would make them compete)."
    ),
    "why.scaled.channels": "Each channel is scaled by its gate, the same at all positions.",
    "why.scaled.positions": "Each position is scaled by its gate, the same in all channels.",
    "why.ese.fc": (
        "One layer without a bottleneck: nothing is lost between the channels and their logits."
    ),
    "why.eca.conv": (
        "Each channel's logit comes from its own average and those of its neighbours: the same few "
        "weights for all channels."
    ),
    "why.cbam.maximum": "The maximum tells what the average hides: one strong response somewhere.",
    "why.cbam.again": (
        "The same layer with the same weights, this time for the maxima: they count once."
    ),
    "why.cbam.both": "The logits of averages and of maxima are added.",
    "why.cbam.average": "For every position: what its channels have on average.",
    "why.cbam.maximum 2": "For every position: the strongest of its channels.",
    "why.cbam.concatenate": (
        "Average first, maximum second: the order is part of the weights that follow."
    ),
    "why.gate.conv": "One logit a place, from the two maps and what is around.",
    "why.gate.bn": (
        "Normalises the one channel of logits in front of the sigmoid; has its own eps and decay."
    ),
    "why.bam.fc_final": "Back to one logit a channel; nothing normalises it.",
    "why.bam.reduce": "Fewer channels, so that the wide kernels that follow stay cheap.",
    "why.bam.dilated": (
        "Looks far around with few weights: the taps of the kernel are {dilation} positions apart."
    ),
    "why.bam.conv_final": "One logit a position.",
    "why.bam.sum": (
        "The logits of channels and positions are added: one for every value of the map."
    ),
    "why.bam.product": (
        "The logits of channels and positions are multiplied, as in the authors' code."
    ),
    "why.bam.one_more": (
        "Attention can only strengthen, by up to 2, and the features pass even where the gate is "
        "shut."
    ),
    "why.bam.output": "Each value is scaled by its own factor.",
    "why.scse.conv": "One logit a position: a learned mixture of its channels.",
    "why.scse.sum": "Both opinions count: what is important as a channel and what is as a place.",
    "why.scse.greater": "The stronger of the two opinions decides.",
    "why.ge.average": "Gathers: each channel's average over the whole map.",
    "why.ge.around": (
        "Gathers: each channel's average around, on a coarser grid; positions outside of the map "
        "do not count."
    ),
    "why.ge.conv": "Gathers with learned weights, each channel by itself.",
    "why.ge.fc1": "From {in} channels to {out}: now channels see each other, too.",
    "why.ge.fc2": "Back to as many channels.",
    "why.ge.nearest": "Every position reads the gathered value nearest to it.",
    "why.ge.output": "Excites: each value is scaled by the gate gathered around it.",
    "why.gc.conv_attn": "How much each position matters: one logit from its channels.",
    "why.gc.softmax": "Over all positions: the weights add up to 1.",
    "why.gc.context": "The weighted mean of all positions: one context for the whole image.",
    "why.gc.average": "The mean of all positions: one context for the whole image.",
    "why.gc.fc1": "Bottleneck from {in} to {out} channels.",
    "why.gc.norm": (
        "Over the hidden channels of each image by itself: no batch, no running statistics."
    ),
    "why.gc.add": "Back to all channels: what is added to every position.",
    "why.gc.scale": "Back to one logit a channel.",
    "why.gc.output": "The context is added to every position.",
    "why.simam.average": "Each channel's mean over all positions.",
    "why.simam.centred": "How far each value is from its channel's mean.",
    "why.simam.square": "The squared distance: what stands out is large.",
    "why.simam.average 2": "The mean squared distance; divided by n, not yet by n - 1.",
    "why.simam.variance": (
        "Makes the variance unbiased, as in the authors' code: n positions, n - 1 degrees of "
        "freedom."
    ),
    "why.simam.divisor": "Four times the regularised variance.",
    "why.simam.energy": (
        "Squared distance relative to the variance: the inverse of the paper's energy."
    ),
    "why.simam.half": "The constant of the closed solution.",
    "why.simam.output": "Each value is scaled by its own gate; nothing here is learned.",
    "why.coordinate.rows": "One number a row and channel: where it is, up and down.",
    "why.coordinate.cols": "One number a column and channel: where it is, left and right.",
    "why.coordinate.concatenate": (
        "Rows and columns one behind the other, so that one layer serves both."
    ),
    "why.coordinate.conv1": "From {in} to {out} channels, the same weights for rows and columns.",
    "why.coordinate.hard_swish": "x · relu6(x + 3) / 6: a cheap, smooth nonlinearity.",
    "why.coordinate.part.rows": "The rows, apart again.",
    "why.coordinate.part.cols": "The columns, apart again.",
    "why.coordinate.conv_h": "One logit a row and channel.",
    "why.coordinate.conv_w": "One logit a column and channel.",
    "why.coordinate.by_cols": "Each value is scaled by the gate of its column,",
    "why.coordinate.output": "and by that of its row: the two together point at a place.",
    "why.triplet.turn": (
        "The channels take the place of a spatial axis, so that a plain 2-d convolution can look "
        "across channels and positions."
    ),
    "why.triplet.maximum": "Half of the Z-pool: the strongest along the axis in front.",
    "why.triplet.average": "The other half: the mean along the same axis.",
    "why.triplet.concatenate": "Maximum first, average second (in CBAM it is the other way round).",
    "why.triplet.gated": "The turned map is scaled by its gate.",
    "why.triplet.back": "The axes go back to their places.",
    "why.triplet.total": "The branches are added,",
    "why.triplet.output": "and their mean is taken.",
    "why.nonlocal.theta": "Queries: what each position asks for.",
    "why.nonlocal.phi": "Keys: what each position has to offer.",
    "why.nonlocal.g": "Values: what each position hands over.",
    "why.nonlocal.pool": "A quarter of the positions to compare with: a quarter of the cost.",
    "why.nonlocal.logits": (
        "How much each position resembles each other one: rows ask, columns answer."
    ),
    "why.scale": "Keeps the logits from growing with the width.",
    "why.attention.softmax": "For each position its weights of all others; they add up to 1.",
    "why.nonlocal.weighted": "For each position the weighted mean of the values.",
    "why.nonlocal.conv_out": "Back to all channels.",
    "why.nonlocal.bn": "Its scale starts at 0, so that an untrained module is the identity.",
    "why.nonlocal.output": (
        "A residual of its own: what was seen elsewhere is added to what is here."
    ),
    "why.mhsa.qkv": (
        "Queries, keys and values in one layer: the three parts in this order, each head by head."
    ),
    "why.mhsa.query": "What each position asks for, in each head.",
    "why.mhsa.key": "What each position has to offer.",
    "why.mhsa.value": "What each position hands over.",
    "why.mhsa.logits": "How well each query fits each key.",
    "why.mhsa.positions": (
        "How far apart two positions are also counts: one learned vector for every distance in "
        "rows and one for every distance in columns."
    ),
    "why.mhsa.sum": "Content and position together.",
    "why.mhsa.output": "The weighted mean of the values, the heads side by side as channels again.",
    # Totals.
    "total.output": "output",
    "total.parameters": "trained parameters",
    "total.statistics": "running statistics",
    "total.weights": "the weights in a file",
    "total.products": "multiply-adds",
    "total.training": "activations kept for the gradients",
    "total.peak": "most activations at once in evaluation",
    "total.field": "receptive field",
    "total.products.value": "{count} an image",
    "total.training.value": "{bytes} ({count} numbers an image)",
    "total.peak.value": "{bytes}, at {name}",
    "total.field.larger": "{field}, more than the image has",
    "total.field.whole": "the whole image, whatever its size",
    "total.field.attention": (
        "the whole image, through the attention; the convolutions alone would see {field}"
    ),
    "total.note": (
        "Kept for the gradients: every tensor that a backward pass reads, once, as PyTorch keeps "
        "them; not counted are the indices of maxima and the statistics of one batch. In "
        "evaluation: an output lives until its last use, nothing is fused."
    ),
    # Facts.
    "fact.padding.one": (
        "{name} reads a map of {size} with stride {stride}. There SAME in TensorFlow and JAX would "
        "pad rows by {same} and columns by {same_cols} (in front, behind) where this pads {ours} "
        "and {ours_cols}: every output would be shifted. Pad explicitly."
    ),
    "fact.padding.many": (
        "Where SAME in TensorFlow and JAX would pad otherwise (in front, behind) and shift the "
        "outputs: pad explicitly."
    ),
    "head.operation": "operation",
    "head.map": "map",
    "head.stride": "stride",
    "head.same": "SAME, rows and columns",
    "head.ours": "here",
    "fact.padding.agree": "{names}: at this stride and size SAME pads the same.",
    "fact.padding.agree.all": (
        "Padding: at this size SAME in TensorFlow and JAX pads what this pads, everywhere ({names}"
        "). That holds for this size and stride: at stride 2 and even sizes it would not. Pad "
        "explicitly all the same."
    ),
    "fact.padding.none": (
        "Padding: there is none; all kernels are 1×1, and SAME and VALID are the same."
    ),
    "fact.pooling": (
        "{names}: maximum pooling pads with -inf; with zeros it is wrong wherever all values at "
        "the border are negative."
    ),
    "fact.shortcut.projection": (
        "The shortcut is a 1×1 convolution with stride {stride} ({in} → {out} channels) and a "
        "batch norm: shortcut.0 and shortcut.1 exist. The stride of the main path is that of "
        "conv1; conv2 has stride 1."
    ),
    "fact.shortcut.identity": (
        "The shortcut is the identity: {channels} channels in and out, stride 1. There are no "
        "parameters named shortcut, and none may be looked for."
    ),
    "fact.shortcut.network": (
        "A shortcut convolution and its batch norm exist in {names}. The other blocks ({others}) "
        "add their input as it is."
    ),
    "fact.shortcut.network.none": (
        "None of the {count} blocks has a shortcut convolution: all add their input as it is."
    ),
    "fact.bias.on": "Convolutions have a bias ({names}). Many ImageNet checkpoints have none.",
    "fact.bias.off": (
        "The convolutions of the blocks have no bias. PyTorch, Flax and Keras make one unless "
        "told: bias=False, use_bias=False."
    ),
    "fact.bias.idle": (
        "The gradients of {names} are exactly zero in training: a batch norm takes their effect "
        "away. What frameworks return there is rounding noise; do not compare it digit by digit."
    ),
    "fact.bias.idle.softmax": (
        "The gradients of {names} are exactly zero in training: a batch norm takes their effect "
        "away, or a softmax over positions does. What frameworks return there is rounding noise; "
        "do not compare it digit by digit."
    ),
    "fact.bias.keys": (
        "The middle third of {names} (that of the keys) has a gradient of exactly zero: the "
        "softmax does not see it."
    ),
    "fact.norm.all": (
        "Batch norm: eps {eps}, decay {decay} (the part kept): in PyTorch momentum={momentum}, in "
        "Flax and Keras momentum={decay}.{defaults} In training the variance is biased, the "
        "running one is not."
    ),
    "fact.norm.some": (
        "{names}: eps {eps}, decay {decay} (the part kept): in PyTorch momentum={momentum}, in "
        "Flax and Keras momentum={decay}.{defaults}"
    ),
    "norm.defaults": " Other defaults: {defaults}.",
    "norm.default.eps": "eps of {names}",
    "norm.default.decay": "decay of {names}",
    "fact.variance": (
        "The variance takes two passes, the mean taken away first. Flax computes E[x²] - E[x]² "
        "unless told use_fast_variance=False, which cancels where means are large."
    ),
    "fact.count.one": (
        "In training with {images} every batch norm has n = {n} values a channel. PyTorch's "
        "running variance is multiplied by n / (n - 1) = {factor}; that of Flax and Keras is not, "
        "unless you write it."
    ),
    "fact.count.range": (
        "In training with {images} the batch norms have from n = {n} ({names}) to {most} values a "
        "channel. PyTorch's running variance is multiplied by n / (n - 1), up to {factor}; that of "
        "Flax and Keras is not, unless you write it."
    ),
    "fact.count.error": (
        "Training with {images} of this size is an error: {names} would have one value a channel, "
        "whose variance is not defined. Take more images or larger ones."
    ),
    "fact.layer_norm": (
        "{names}: layer norm with eps {eps} (defaults: {defaults}), over the channels, which are "
        "the last axis in Flax and Keras but not in PyTorch."
    ),
    "fact.maximum": (
        "Gradients of maxima go to one place, found by its index. By comparing values (JAX, "
        "TensorFlow, PyTorch's amax) ties are shared, and XLA may even find no equal value."
    ),
    "fact.nearest": (
        "{names}: row r of n reads row floor(r · m / n) of m, in whole numbers; PyTorch's "
        "interpolate computes it in floating point and is one row early at some sizes."
    ),
    "fact.average_around": (
        "{names}: averages count only the positions on the map (count_include_pad=False in "
        "PyTorch)."
    ),
    "fact.hard": (
        "The hard sigmoid is relu6(x + 3) / 6; that of Keras 2 was another one (0.2 x + 0.5, cut "
        "off)."
    ),
    "fact.size.fixed": (
        "Its attention was made for maps of {maps}, which images of {image} give. Another size is "
        "an error in all three."
    ),
    "fact.axes": (
        "Inputs: (batch, channels, height, width) in PyTorch, (batch, height, width, channels) in "
        "Flax and Keras."
    ),
    "fact.layout": "The leaf names, and for kernels the order of the axes:",
    "fact.sequence": "Numbered modules: {torch} is {jax} in Flax and {tf} in Keras.",
    "fact.unread": (
        "{names} exists in PyTorch alone and nothing reads it: it is not among the weights, so do "
        "not ask for it."
    ),
    "fact.flatten": (
        "In front of the classifier the map is 1 × 1: flattening gives the {width} channels in the "
        "same order in every layout. Flattened before the average, it would not."
    ),
    "fact.precision": (
        "On NVIDIA GPUs all three use TF32 for float32 by default (10 bits of mantissa); switch it "
        "off to compare."
    ),
    "fact.kind.own": (
        "{kind} is a kind of your own: the definitions in the frameworks are yours to keep equal."
    ),
    "fact.kind.se": (
        "Hidden width {hidden}: channels // reduction, rounded down, unless a divisor or the width "
        "itself is given. The layers are 1×1 convolutions with bias, whatever conv_bias says."
    ),
    "fact.kind.ese": (
        "The gate is {gate}; the authors' code has hard_sigmoid, the paper's formula sigmoid."
    ),
    "fact.kind.eca.zero": (
        "The kernel has {kernel} taps at {channels} channels; timm takes at least 3, which differs "
        "below 8 channels. Beyond the first and the last channel there are zeros."
    ),
    "fact.kind.eca.circular": (
        "The kernel has {kernel} taps at {channels} channels; timm takes at least 3. The channels "
        "are a ring: the last is next to the first."
    ),
    "fact.kind.cbam": (
        "The spatial gate reads (average, maximum), as in the paper and timm; the authors' code "
        "reads (maximum, average). The shapes fit either way: swap the input channels of "
        "spatial.conv when weights come from there."
    ),
    "fact.kind.bam.sum": (
        "The branches are added, as in the paper; the authors' code multiplies them. "
        "channel_att.bn_1 normalises over the images alone: training needs more than one."
    ),
    "fact.kind.bam.product": (
        "The branches are multiplied, as in the authors' code; the paper adds them. "
        "channel_att.bn_1 normalises over the images alone: training needs more than one."
    ),
    "fact.kind.scse.sum": (
        "Hidden width {hidden}. The two are added (Roy et al. 2018). segmentation_models.pytorch "
        "has reduction 16, the paper 2."
    ),
    "fact.kind.scse.maximum": (
        "Hidden width {hidden}. The greater of the two is taken (Roy et al. 2019). "
        "segmentation_models.pytorch has reduction 16, the paper 2."
    ),
    "fact.kind.ge.average": (
        "The gathering has no parameters. timm's has its two layers (mlp) by default."
    ),
    "fact.kind.ge.convolution": (
        "The convolutions gather each channel by itself: a depthwise kernel is (row col in out) in "
        "Flax but (row col out in) in Keras. timm pads the one over the whole map; here it is not "
        "padded."
    ),
    "fact.kind.gc.add": (
        "Hidden width {hidden}. The context is added, as in the paper; timm scales by it and has "
        "reduction 8."
    ),
    "fact.kind.gc.scale": (
        "Hidden width {hidden}. The context scales, as in timm (reduction 8 there); the paper adds "
        "it."
    ),
    "fact.kind.gc.both": (
        "Hidden width {hidden}. The context scales first and is added then: two bottlenecks, "
        "mlp_scale and mlp_add."
    ),
    "fact.kind.simam": (
        "The variance is divided by positions - 1 and λ = {e_lambda} is added; a map of one "
        "position is an error."
    ),
    "fact.kind.coordinate": (
        "Hidden width {hidden}, at least {minimum}. Rows stand in front of columns. timm has other "
        "widths and no biases."
    ),
    "fact.kind.triplet": (
        "The pooled maps are (maximum, average). In the branch cw rows, in hc columns change "
        "places with the channels: mind the layout, channels are last in Flax and Keras. The batch "
        "norms have a decay of {bn_decay} of their own."
    ),
    "fact.kind.nonlocal": (
        "Hidden width {hidden}. The scale of attention.bn starts at 0: fresh modules are the "
        "identity, so compare with trained or random weights."
    ),
    "fact.kind.nonlocal.scaled": (
        "The logits are divided by √{hidden}, as in the authors' code; the paper does not, timm "
        "divides by the root of all channels."
    ),
    "fact.kind.nonlocal.plain": (
        "The logits are not divided by anything, as in the paper; the authors' code divides by √"
        "{hidden}."
    ),
    "fact.kind.mhsa": (
        "qkv makes queries, keys and values in this order, head by head ({heads} heads). Positions "
        "are numbered row by row in every layout."
    ),
    "fact.kind.mhsa.scaled": (
        "The position logits are scaled as the content logits are (the authors' code); in timm "
        "they are not."
    ),
    "fact.kind.mhsa.plain": (
        "The position logits are not scaled, as in timm; in the authors' code they are."
    ),
    **{f"summary.{kind}": each.summary for kind, each in ATTENTION.items() if each.built_in},
}
