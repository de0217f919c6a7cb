"""What a recognition says, in English. Each key has a sentence in `words_zh`, too."""

WORDS = {
    "list": ", ",
    "comma": ", ",
    "separator": "; ",
    "and_more": "{names} and {count} more",
    # What it is.
    "whole": "{title} ({framework}) is {config}",
    "part": "{title} ({framework}) contains {config}: {module}",
    "part.unnamed": "{title} ({framework}) contains {config}",
    "none": "{title} ({framework}) is none of our blocks or networks",
    "no_sum": (
        "{title} ({framework}) has no residual block: nowhere do two paths from one value meet in "
        "a sum"
    ),
    "several": "{title} ({framework}) contains blocks of ours, but is none of our networks",
    "nearest": "nearest is {config}; {count} differences:",
    "nearest.1": "nearest is {config}; one difference:",
    "block.basic": "a residual block, {in} to {out} channels, kernel {kernel}, stride {stride}",
    "block.bottleneck": (
        "a residual bottleneck, {in} to {out} channels, kernel {kernel}, stride {stride}, hidden "
        "width {hidden}"
    ),
    "network": "a residual network of {count} {form}, widths {widths}, {classes}",
    "form.basic": "blocks",
    "form.bottleneck": "bottlenecks",
    "form.mixed": "blocks and bottlenecks",
    "classes": "{count} classes",
    "classes.0": "no classifier",
    "attention.none": "no attention",
    "attention": "attention {kind}",
    "options": "{name} {value}",
    # By which signs.
    "signs": "signs: {signs}",
    "proven": (
        "proof: for random images of {shape} it gives what NumPy gives with these weights, within "
        "{distance}"
    ),
    "disproven": (
        "but for random images of {shape} it gives other values than NumPy with these weights "
        "(relative difference {distance}): it computes something that was not read"
    ),
    "sign.operations": "all {count} operations are those of the config, in the same order",
    "sign.parameters": "{count} arrays have its shapes and places",
    "sign.sums": "{count} residual sums",
    "sign.sums.1": "one residual sum",
    "sign.size": "read for maps of {size}",
    "sign.unused": "nothing uses {names}",
    "before": "before it the model computes {ops}",
    "after": "after it the model computes {ops}",
    # Several answers.
    "choose": "it can be any of these; say which with choice=... (--choice):",
    "choose.parts": (
        "these parts of it are ours; look at one with only=... (--only) or choice=... (--choice):"
    ),
    "choose.number": "{number}. {config}{where}",
    "choose.where": ": module {module}",
    "choose.names": ": {pairs}",
    "pair": "{name} is {own}",
    # Where.
    "place": "{stage}",
    "place.module": "{module} ({stage} of ours)",
    "place.same": "{module}",
    "line": " ({file}, line {line})",
    "times": " (and at {count} more places)",
    "times.1": " (and at one more place)",
    # Differences.
    "stride": "{place} has stride {value}, ours {ours}",
    "fails.because": (
        ": the main path shrinks by {main}, the shortcut by {shortcut}, and the addition fails"
    ),
    "fails": "{place}: the addition fails, since the main path ends as {main}, the shortcut as "
    "{shortcut} (channels x rows x cols)",
    "kernel": "{place} has a {value} kernel, ours {ours}",
    "padding": "{place} has padding {value}, ours {ours}",
    "dilation": "{place} has dilation {value}, ours {ours}",
    "groups": "{place} has {value} groups, ours {ours}",
    "bias": "{place} has a bias, ours none",
    "bias.not": "{place} has no bias, ours one",
    "width": "{place} has {value} channels, ours {ours}",
    "eps": "{place} has eps {value}, ours {ours}",
    "axes": "{place} is over {value}, ours over {ours}",
    "fill": "{place} is padded with {value}, ours with {ours}",
    "no_role": "{place} has no {role}, ours has one",
    "weighed": (
        "the kernel of {place} is computed before it is used ({functions}), as in weight "
        "standardisation; ours is used as it is"
    ),
    "missing": "{op} is missing ({place} of ours)",
    "missing_attention": "the attention is missing ({place} of ours)",
    "extra": "{place}: {op}, which ours does not have",
    "another": "{place} is {op}, ours {ours}",
    "blocks": "it has {value} residual blocks, ours {ours}",
    "unlike": "the model computes nothing like {place} of ours: {op}",
    "extra_path": "{place}: the sum has a third path, ours two",
    "preactivation": (
        "{place}: norm and activation come before each convolution, and none after the sum, as in "
        "ResNet v2; ours has them after the convolutions and the sum"
    ),
    "attention.unlike": "{place}: its attention is none of ours: {ops}",
    "attention.moved": "{place}: attention {kind} is here, ours is after the last norm",
    "attention.extra": "{place}: an attention that ours does not have: {ops}",
    # Operations.
    "op.convolution": "{kernel} convolution, {in} to {out}",
    "op.convolution.groups": "{kernel} convolution in {groups} groups, {in} to {out}",
    "op.dense": "linear {in} to {out} (or a 1x1 convolution)",
    "op.linear": "linear layer of more axes than the channels",
    "op.batch_norm": "batch norm",
    "op.group_norm": "group norm",
    "op.layer_norm": "layer norm",
    "op.scale": "product with a parameter or sum with one",
    "op.average": "mean over {axes}",
    "op.maximum": "maximum over {axes}",
    "op.total": "sum over {axes}",
    "op.sum": "sum",
    "op.product": "product",
    "op.a x + b": "{a} x + {b}",
    "op.max_pool": "maximum pooling",
    "op.attention": "attention",
    "op.part": "part {part} of {parts}",
    "op.unknown": "{primitive} (unknown)",
    "op.window average": "average pooling",
    "op.average_around": "average pooling of the pixels that are there",
    "op.binomial filter": "binomial filter",
    "op.padding or thinning out": "padding or thinning out",
    "op.concatenate": "concatenation",
    "op.matrix_product": "matrix product",
    "op.relu": "ReLU",
    "op.relu6": "ReLU6",
    "op.leaky_relu": "leaky ReLU",
    "op.silu": "SiLU",
    "op.gelu": "GELU",
    "op.gelu_tanh": "GELU (tanh)",
    "op.elu": "ELU",
    "op.mish": "Mish",
    "op.softplus": "softplus",
    "op.sigmoid": "sigmoid",
    "op.hard_sigmoid": "hard sigmoid",
    "op.hard_swish": "hard swish",
    "op.square": "square",
    "op.softmax": "softmax",
    "op.greater": "greater of two",
    "op.difference": "difference",
    "op.quotient": "quotient",
    "axis.rows": "rows",
    "axis.cols": "cols",
    "axis.channels": "channels",
    "axes.and": " and ",
    "role.weight": "scale",
    "role.bias": "offset",
    "role.mean": "mean",
    "role.variance": "variance",
    "fill.none": "nothing",
}
