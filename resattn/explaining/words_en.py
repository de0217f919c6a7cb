"""What `resattn explain` says, in English. Each key has a sentence in `words_zh`, too.

The sentences about one attention kind are in `attention/`.
"""

WORDS = {
    # Names and layout.
    "title": "{what}: step by step, for images of {size} (height × width)",
    "unchanged": "{shape}, unchanged",
    "what.block": (
        "A residual block, {in} → {out} channels, kernel {kernel}, stride {stride}, attention "
        "{kind}"
    ),
    "what.network": "A residual network of {count} blocks, widths {widths}, attention {kind}",
    "legend": (
        "Shapes are channels × rows × columns of one image. Multiply-adds count convolutions, "
        "linear layers and matrix products. Memory is the size of the output, for {batch} in "
        "{dtype}. Sees: the rows × columns of the image that one value depends on."
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
    "group.facts": "What a port of this configuration must get right",
    "shortcut.projection": "shortcut by a {kernel} convolution",
    "shortcut.identity": "identity shortcut",
    "fold": "{name}: as {like}",
    "brief.name": "operation",
    "brief.what": "computes",
    "brief.output": "output",
    "brief.parameters": "parameters",
    "brief.products": "multiply-adds",
    "brief.total": "total",
    "brief.fold": "as {like}",
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
        "The lines after │ are from the {label} implementation, {package}/. Each line is shown "
        "beside the first operation that it computes. A line that computes nothing is shown with "
        "the operation that follows it."
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
    "op.nearest": "resizing to the size of the map",
    "op.swap_axes": "exchange of two axes",
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
    "why.input": "The input.",
    "why.stem.conv": "Turns colours into features. The receptive field starts here.",
    "why.stem.conv.strided": (
        "Turns colours into features and makes the map smaller, so that all later layers cost less."
    ),
    "why.norm": (
        "Brings every channel to mean 0 and variance 1, then to a learned scale and offset. "
        "Training uses the statistics of the batch over all positions, evaluation the running "
        "statistics. So activations keep a moderate scale at any depth."
    ),
    "why.nonlinear": "Negative values become 0. Without it two convolutions in a row would be one.",
    "why.stem.pool": (
        "Keeps the strongest response around every second position, which halves the map once more."
    ),
    "why.conv1": (
        "Every output value combines {kernel} positions of all input channels. This is the first "
        "half of the residual."
    ),
    "why.conv1.strided": (
        "Every output value combines {kernel} positions of all input channels. The stride makes "
        "the map smaller. No other layer of this path has a stride."
    ),
    "why.conv1.pointwise": "Mixes the channels of each position. A 1×1 kernel reads no neighbours.",
    "why.conv2": (
        "Reads the neighbours once more, at stride 1. With a stride here, too, this path would end "
        "smaller than the shortcut, and the addition would fail."
    ),
    "why.last_norm": (
        "Normalises the residual before the addition. No ReLU comes in between, so the residual "
        "can be negative."
    ),
    "why.shortcut.0": (
        "Brings the input to {out} channels, with one learned mixture per position, so that the "
        "two paths can be added."
    ),
    "why.shortcut.0.strided": (
        "Brings the input to the shape of the main path: {out} channels, and only the positions on "
        "which the stride lands. A 1×1 kernel needs no padding."
    ),
    "why.shortcut.1": (
        "Normalises the projection like the main path, so that both have the same scale when they "
        "meet."
    ),
    "why.sum.identity": (
        "Adds the input itself. The block only has to learn the difference, and gradients reach "
        "earlier blocks unweakened."
    ),
    "why.sum.projection": (
        "Adds the main path and the projected input. Gradients have a short way past the "
        "convolutions of the main path."
    ),
    "why.output": (
        "The only ReLU on the path of the shortcut. It follows the addition, as in the original "
        "ResNet (no pre-activation)."
    ),
    "why.global_average": (
        "One number per channel, wherever the feature was. Images of any size give the same number "
        "of features."
    ),
    "why.classifier": "One score per class (logits). The softmax belongs to the loss.",
    # Why: attention, where several kinds have the same sentence.
    "why.own": (
        "A registered kind without a graph. Its inside is not known here, so it counts as seeing "
        "the whole image."
    ),
    "why.squeeze": "Squeeze: each channel becomes one number that has seen all positions.",
    "why.excite.first": (
        "Excitation, first layer: from {in} channels to {out}. The bottleneck weighs the channels "
        "against each other."
    ),
    "why.excite.second": "Second layer: back to one logit per channel.",
    "why.gate": (
        "Each logit becomes a gate between 0 and 1, independently of the others. Several gates can "
        "be open at once; a softmax would make them compete."
    ),
    "why.gate.channels": "Each channel is multiplied by its gate, the same at all positions.",
    "why.gate.positions": "Each position is multiplied by its gate, the same in all channels.",
    "why.gate.conv": "One logit per place, from the two maps and their surroundings.",
    "why.gate.bn": (
        "Normalises the single channel of logits before the sigmoid. It has its own eps and decay."
    ),
    "why.scale": "Keeps the logits from growing with the width.",
    "why.weights": "For each position its weights of all others. They add up to 1.",
    "why.hard_swish": "x · relu6(x + 3) / 6: a cheap, smooth nonlinearity.",
    # Why: plain sentences for operations of which nothing better is known.
    "why.plain.convolution": "Combines the channels under its kernel with learned weights.",
    "why.plain.convolution_1d": "Combines neighbouring channels with learned weights.",
    "why.plain.linear": "Combines all features with learned weights.",
    "why.plain.layer_norm": (
        "Normalises the channels of each position, without the batch and without running "
        "statistics."
    ),
    "why.plain.softmax": "Turns logits into weights that add up to 1.",
    "why.plain.average": "Summarises these axes by their mean.",
    "why.plain.maximum": "Summarises these axes by their largest value.",
    "why.plain.average_around": "Summarises each neighbourhood by its mean.",
    "why.plain.max_pool": "Summarises each neighbourhood by its largest value.",
    "why.plain.nearest": "Every position gets the value nearest to it.",
    "why.plain.concatenate": "Joins its inputs end to end.",
    "why.plain.slice": "Takes a part of its input.",
    "why.plain.head_part": "Takes one part of its input, by head.",
    "why.plain.swap_axes": "Lets the next operation work along other axes.",
    "why.plain.matrix_product": "Sums the products of its inputs over an axis that they share.",
    "why.plain.relative_positions": "One logit for every distance between two positions.",
    "why.plain.sum": "Adds its inputs.",
    "why.plain.difference": "Subtracts the second input from the first.",
    "why.plain.product": "Multiplies the first input by the second.",
    "why.plain.quotient": "Divides the first input by the second.",
    "why.plain.greater": "Keeps the greater of the two values.",
    "why.plain.square": "Squares every value.",
    "why.plain.affine": "Scales and shifts every value.",
    "why.plain.bessel": "Makes a variance of n values unbiased.",
    "why.plain.parameter": "Learned, and the same for every image.",
    # Totals.
    "total.output": "output",
    "total.parameters": "trained parameters",
    "total.statistics": "running statistics",
    "total.weight_bytes": "the weights in a file",
    "total.multiply_adds": "multiply-adds",
    "total.training_bytes": "activations kept for the gradients",
    "total.peak_bytes": "most activations at once in evaluation",
    "total.receptive_field": "receptive field",
    "total.multiply_adds.value": "{count} per image",
    "total.training_bytes.value": "{bytes} ({count} numbers per image)",
    "total.peak_bytes.value": "{bytes}, at {name}",
    "total.field.larger": "{field}, more than the image has",
    "total.field.attention": (
        "the whole image, through the attention; the convolutions alone would see {field}"
    ),
    "total.note": (
        "Kept for the gradients: every tensor that a backward pass reads, counted once, as PyTorch "
        "keeps them. The indices of maxima and the statistics of one batch are not counted. In "
        "evaluation an output is kept until its last use, and no operations are fused."
    ),
    # Facts for a port.
    "fact.padding.one": (
        "{name} reads a map of {size} with stride {stride}. SAME in TensorFlow and JAX would pad "
        "its rows by {same} and its columns by {same_cols} (before, after). Here the padding is "
        "{ours} and {ours_cols}. SAME would shift every output, so pad explicitly."
    ),
    "fact.padding.many": (
        "Here SAME in TensorFlow and JAX would pad differently (before, after) and shift the "
        "outputs, so pad explicitly:"
    ),
    "head.operation": "operation",
    "head.map": "map",
    "head.stride": "stride",
    "head.same": "SAME, rows and columns",
    "head.ours": "here",
    "fact.padding.agree": "{names}: at this stride and size SAME pads the same.",
    "fact.padding.agree.all": (
        "Padding: at this size SAME in TensorFlow and JAX pads everywhere as here ({names}). That "
        "holds for this size and stride; at stride 2 and even sizes it does not. Pad explicitly "
        "all the same."
    ),
    "fact.padding.none": (
        "Padding: there is none. All kernels are 1×1, so SAME and VALID are the same."
    ),
    "fact.pooling": (
        "{names}: maximum pooling pads with -inf. Zeros would be wrong wherever all values at the "
        "border are negative."
    ),
    "fact.shortcut.projection": (
        "The shortcut is a {kernel} convolution with stride {stride} ({in} → {out} channels) and a "
        "{norm}: shortcut.0 and shortcut.1 exist."
    ),
    "fact.shortcut.identity": (
        "The shortcut is the identity: {channels} channels in and out, stride 1. There are no "
        "parameters named shortcut, and a port must not look for any."
    ),
    "fact.shortcut.network": (
        "A shortcut convolution and its norm exist in {names}. The other blocks ({others}) add "
        "their input as it is."
    ),
    "fact.shortcut.network.none": (
        "None of the {count} blocks has a shortcut convolution: all add their input as it is."
    ),
    "fact.bias.on": "Convolutions have a bias ({names}). Many ImageNet checkpoints have none.",
    "fact.bias.off": (
        "The convolutions of the blocks have no bias. PyTorch, Flax and Keras make one by default: "
        "set bias=False or use_bias=False."
    ),
    "fact.bias.idle": (
        "The gradients of {names} are exactly zero in training, because a batch norm removes their "
        "effect. The frameworks return rounding noise there; do not compare it digit by digit."
    ),
    "fact.bias.idle.softmax": (
        "The gradients of {names} are exactly zero in training, because a batch norm or a softmax "
        "over positions removes their effect. The frameworks return rounding noise there; do not "
        "compare it digit by digit."
    ),
    "fact.bias.keys": (
        "The middle third of {names} (the keys) has a gradient of exactly zero, because the "
        "softmax removes its effect."
    ),
    "fact.norm.all": (
        "Batch norm: eps {eps}, decay {decay} (the part kept): in PyTorch momentum={momentum}, in "
        "Flax and Keras momentum={decay}.{defaults} In training the variance is biased, the "
        "running variance is not."
    ),
    "fact.norm.some": (
        "{names}: eps {eps}, decay {decay} (the part kept): in PyTorch momentum={momentum}, in "
        "Flax and Keras momentum={decay}.{defaults}"
    ),
    "norm.defaults": " Other defaults: {defaults}.",
    "norm.default.eps": "eps of {names}",
    "norm.default.decay": "decay of {names}",
    "fact.variance": (
        "The variance is computed in two passes: first the mean, then the mean of the squared "
        "distances from it. Flax computes E[x²] - E[x]² by default, which loses its digits where "
        "means are large: set use_fast_variance=False."
    ),
    "fact.count.one": (
        "In training with {images} every batch norm has n = {n} values per channel. PyTorch "
        "multiplies the running variance by n / (n - 1) = {factor}. Flax and Keras do not, unless "
        "you write it."
    ),
    "fact.count.range": (
        "In training with {images} the batch norms have from n = {n} ({names}) to {most} values "
        "per channel. PyTorch multiplies the running variance by n / (n - 1), up to {factor}. Flax "
        "and Keras do not, unless you write it."
    ),
    "fact.count.error": (
        "Training with {images} of this size is an error: {names} would have one value per "
        "channel, and its variance is not defined. Take more images or larger ones."
    ),
    "fact.layer_norm": (
        "{names}: layer norm with eps {eps} (defaults: {defaults}), over the channels, which are "
        "the last axis in Flax and Keras but not in PyTorch."
    ),
    "fact.maximum": (
        "Gradients of maxima go to one place, found by its index. Where values are compared "
        "instead (JAX, TensorFlow, PyTorch's amax), ties share the gradient, and XLA may even find "
        "no equal value."
    ),
    "fact.nearest": (
        "{names}: row r of n reads row floor(r · m / n) of m, in whole numbers. PyTorch's "
        "interpolate computes it in floating point and is one row early at some sizes."
    ),
    "fact.average_around": (
        "{names}: averages count only the positions on the map (count_include_pad=False in "
        "PyTorch)."
    ),
    "fact.hard": (
        "The hard sigmoid is relu6(x + 3) / 6. Keras 2 had a different one: 0.2 x + 0.5, clipped."
    ),
    "fact.size.fixed": (
        "Its attention was made for maps of {maps}, which come from images of {image}. Another "
        "size is an error in all three."
    ),
    "fact.axes": (
        "Inputs: (batch, channels, height, width) in PyTorch, (batch, height, width, channels) in "
        "Flax and Keras."
    ),
    "fact.layout": "The leaf names, and for kernels the order of the axes:",
    "fact.sequence": "Numbered modules: {torch} is {jax} in Flax and {tf} in Keras.",
    "fact.unread": (
        "{names} exists in PyTorch alone and nothing reads it. It is not among the weights, so do "
        "not ask for it."
    ),
    "fact.flatten": (
        "The map before the classifier is 1 × 1, so flattening gives the {width} channels in the "
        "same order in every layout. Flattening before the average would not."
    ),
    "fact.precision": (
        "On NVIDIA GPUs all three use TF32 for float32 by default (10 bits of mantissa). Switch it "
        "off to compare."
    ),
    "fact.kind.own": (
        "{kind} is a kind of your own: you keep its definitions in the frameworks equal."
    ),
}
