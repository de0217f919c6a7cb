"""The attention kinds: for each its source, what it does, its options (keyword arguments, with
defaults), its parameters.

A kind is one function here, one class of the same options in `*_impl/attention/`, and one function
in `shared_tests/reference_attention.py`. A kind of your own is registered with all of them in one
call, `register_attention`.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weights.checks import (
    Pair,
    at_least,
    batch_norm_numbers,
    is_number,
    odd,
    one_of,
    pair_of,
    plain,
    positive,
    truth,
)
from weights.parameters import (
    Parameter,
    Parameters,
    batch_norm,
    convolution,
    depthwise,
    layer_norm,
    within,
)

GATES = ("sigmoid", "hard_sigmoid")


@dataclass(frozen=True)
class Kind:
    """An attention kind.

    parameters: (channels, **options) -> its parameters, named from the module itself; ValueError
    for options that make no module. source: author, year, title. summary: what it does, in one
    sentence. modules, oracle: of a kind of your own, see `register_attention`; those of the
    built-in kinds are found by name in `*_impl.ATTENTION` and in the oracle.
    """

    parameters: Callable[..., Parameters]
    source: str
    summary: str
    modules: Mapping[str, Any] = field(default_factory=dict)
    oracle: Callable[..., Any] | None = None
    built_in: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The names of the options, with their defaults; inspect.Parameter.empty where one must be
        given.
        """
        arguments = list(inspect.signature(self.parameters).parameters.values())[1:]
        return {argument.name: argument.default for argument in arguments}

    @property
    def explanation(self) -> str:
        """What the options mean, and what else there is to know."""
        return inspect.cleandoc(self.parameters.__doc__ or "")


ATTENTION: dict[str, Kind] = {}


def _kind(
    name: str, source: str, summary: str
) -> Callable[[Callable[..., Parameters]], Callable[..., Parameters]]:
    def add(parameters: Callable[..., Parameters]) -> Callable[..., Parameters]:
        ATTENTION[name] = Kind(parameters, source, summary, built_in=True)
        return parameters

    return add


# The papers' reductions where they are not 16, and the fewest hidden channels: a layer norm over
# one is its offset.
REDUCTIONS = {"scse": (2, 1), "nonlocal": (2, 1), "coordinate": (32, 1), "gc": (16, 2)}


def hidden_width(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    divisor: int = 1,
    minimum: int | None = None,
    *,
    kind: str = "se",
) -> int:
    """The width between the two layers of a bottleneck.

    hidden_channels: the width itself. reduction: the width is channels // reduction; or, with a
    divisor, the multiple of it nearest to channels / reduction (halves go up), at least the
    divisor, as in timm for divisors over 1 (with 1 timm rounds to the nearest number; for that give
    hidden_channels). minimum: never fewer than that.
    kind: whose reduction to take where neither is given, from `REDUCTIONS`; the width is then at
    least what that kind needs, so that any number of channels works.
    Raises ValueError when both are given, when a value is not a positive integer, and when
    `reduction` leaves fewer than the kind needs.
    """
    default, least = REDUCTIONS.get(kind, (16, 1))
    if hidden_channels is not None and reduction is not None:
        raise ValueError(
            f"reduction={reduction} and hidden_channels={hidden_channels}: both set the hidden "
            "width; give only one"
        )
    divisor = at_least("divisor", divisor, 1)
    floor = None if minimum is None else at_least("minimum", minimum, least)
    if hidden_channels is not None:
        return at_least("hidden_channels", hidden_channels, least)
    ratio = default if reduction is None else at_least("reduction", reduction, 1)
    if divisor == 1:
        width = max(channels // ratio, floor or 0)
    else:
        width = max(
            (2 * channels + divisor * ratio) // (2 * divisor * ratio) * divisor, divisor, floor or 0
        )
    if width >= least:
        return width
    if reduction is None:
        return least
    left = "no hidden channel" if width == 0 else f"{width} hidden channel"
    rule = "" if least == 1 else f", and this kind needs at least {least}"
    raise ValueError(
        f"reduction: {reduction} leaves {left} of {channels}{rule}; use at most "
        f"{max(1, channels // least)}, or give hidden_channels"
    )


@_kind("none", "", "No attention: gives back its input.")
def none(channels: int) -> Parameters:
    return ()


@_kind(
    "se",
    "Hu et al. 2018, Squeeze-and-Excitation Networks",
    "Scales each channel by a gate that two small layers compute from the averages of all "
    "channels.",
)
def squeeze_excite(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    divisor: int = 1,
    minimum: int | None = None,
    gate: str = "sigmoid",
) -> Parameters:
    """reduction (16), hidden_channels, divisor, minimum: the hidden width, see `hidden_width`.
    gate: sigmoid, or hard_sigmoid, relu6(x + 3) / 6, as in MobileNetV3. Names: timm's.
    """
    one_of("gate", gate, GATES)
    hidden = hidden_width(channels, reduction, hidden_channels, divisor, minimum)
    return (*convolution("fc1", channels, hidden), *convolution("fc2", hidden, channels))


@_kind(
    "ese",
    "Lee & Park 2020, CenterMask (effective squeeze-excitation)",
    "Scales each channel by a gate that one layer, as wide as the input, computes from the "
    "averages of all channels.",
)
def effective_squeeze_excite(channels: int, gate: str = "hard_sigmoid") -> Parameters:
    """gate: hard_sigmoid, as in the authors' code, or sigmoid, as in the paper's formula. Names:
    timm's.
    """
    one_of("gate", gate, GATES)
    return convolution("fc", channels, channels)


def eca_kernel_size(
    channels: int, kernel_size: int | None = None, gamma: float = 2, beta: float = 1
) -> int:
    """|log2(channels) + beta| / gamma, cut to an integer, the next odd one (Wang et al. 2020,
    equation 12 and code).
    """
    gamma = positive("gamma", gamma)
    if not is_number(beta):
        raise ValueError(f"beta: expected a finite number, got {beta!r}")
    if kernel_size is not None:
        return odd("kernel_size", kernel_size)
    size = int(abs((math.log2(channels) + beta) / gamma))
    return size if size % 2 else size + 1


@_kind(
    "eca",
    "Wang et al. 2020, ECA-Net: Efficient Channel Attention",
    "Scales each channel by a gate computed from its average and those of its neighbours, by one "
    "short convolution.",
)
def efficient_channel(
    channels: int,
    kernel_size: int | None = None,
    gamma: float = 2,
    beta: float = 1,
    padding: str = "zero",
) -> Parameters:
    """kernel_size: of the 1-d convolution over the channels, odd; None: |log2(channels) + beta| /
    gamma, made odd (timm takes at least 3, which differs below 8 channels). padding: zero, or
    circular: the last channel is next to the first.
    Names: timm's.
    """
    size = eca_kernel_size(channels, kernel_size, gamma, beta)
    if one_of("padding", padding, ("zero", "circular")) == "circular" and size // 2 > channels:
        raise ValueError(
            f"kernel_size: {size} reaches more than once around {channels} channels; circular "
            f"padding takes at most {2 * channels + 1}"
        )
    return (Parameter("conv", "1-d convolution kernel", (1, 1, size)),)


@_kind(
    "cbam",
    "Woo et al. 2018, CBAM: Convolutional Block Attention Module",
    "Scales each channel, from average and maximum through one bottleneck, then each position, by "
    "a 7x7 convolution.",
)
def cbam(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    kernel_size: int = 7,
    bias: bool = True,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.99,
) -> Parameters:
    """reduction (16), hidden_channels: the hidden width of the channel gate. bias: of its two
    layers (timm: False).
    kernel_size: of the spatial gate, odd. bn_eps, bn_decay: of its batch norm, which the authors'
    code has and their paper does not show. The spatial gate reads (average, maximum), as in the
    paper and in timm; the authors' code reads (maximum, average): swap the two input channels of
    spatial.conv when you bring weights from there. Names: timm's, where spatial has one level more
    (spatial.conv.conv, spatial.conv.bn).
    """
    size = odd("kernel_size", kernel_size)
    truth("bias", bias)
    batch_norm_numbers(bn_eps, bn_decay)
    hidden = hidden_width(channels, reduction, hidden_channels)
    return (
        *convolution("channel.fc1", channels, hidden, bias=bias),
        *convolution("channel.fc2", hidden, channels, bias=bias),
        *convolution("spatial.conv", 2, 1, (size, size), bias=False),
        *batch_norm("spatial.bn", 1),
    )


@_kind(
    "bam",
    "Park et al. 2018, BAM: Bottleneck Attention Module",
    "Scales by 1 + a gate for each channel and position: the sum of a channel bottleneck and of "
    "dilated convolutions.",
)
def bam(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    dilation: int = 4,
    fusion: str = "sum",
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
) -> Parameters:
    """reduction (16), hidden_channels: the width between the layers of both branches. dilation: of
    the two 3x3 convolutions, in pixels. fusion: how the branches meet, sum as in the paper or
    product as in the authors' code. bn_eps, bn_decay: of the batch norms, which stand behind every
    layer but the last, as in that code. Training needs more than one image, since the channel
    branch normalises over the images alone. Names: the authors', without gate_c.gate_c_ and
    gate_s.gate_s_; their fully connected layers are 1x1 convolutions here.
    """
    at_least("dilation", dilation, 1)
    one_of("fusion", fusion, ("sum", "product"))
    batch_norm_numbers(bn_eps, bn_decay)
    hidden = hidden_width(channels, reduction, hidden_channels)
    channel = (
        *convolution("fc_0", channels, hidden),
        *batch_norm("bn_1", hidden),
        *convolution("fc_final", hidden, channels),
    )
    spatial = (
        *convolution("conv_reduce0", channels, hidden),
        *batch_norm("bn_reduce0", hidden),
        *convolution("conv_di_0", hidden, hidden, (3, 3)),
        *batch_norm("bn_di_0", hidden),
        *convolution("conv_di_1", hidden, hidden, (3, 3)),
        *batch_norm("bn_di_1", hidden),
        *convolution("conv_final", hidden, 1),
    )
    return (*within("channel_att", channel), *within("spatial_att", spatial))


@_kind(
    "scse",
    "Roy et al. 2018, Concurrent Spatial and Channel Squeeze & Excitation",
    "Adds two copies: one with a gate for each channel (squeeze-and-excitation), one with a gate "
    "for each position.",
)
def concurrent_squeeze_excite(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    fusion: str = "sum",
) -> Parameters:
    """reduction (2, as in the paper; segmentation_models.pytorch has 16), hidden_channels: the
    hidden width of the channel gate. fusion: sum, or maximum (Roy et al. 2019, section III). Names:
    cSE and sSE as in segmentation_models.pytorch.
    """
    one_of("fusion", fusion, ("sum", "maximum"))
    hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
    return (
        *convolution("cSE.fc1", channels, hidden),
        *convolution("cSE.fc2", hidden, channels),
        *convolution("sSE.conv", channels, 1),
    )


def gathered_steps(gather: str, extent: int | None) -> int:
    """How many convolutions of stride 2 a gather of that extent takes. Raises ValueError for an
    extent it cannot have.
    """
    if extent is None:
        return 0
    extent = at_least("extent", extent, 2)
    if extent & (extent - 1) and gather == "convolution":
        raise ValueError(
            "extent: expected a power of 2 (or None: everywhere) with gather='convolution', which "
            f"halves the map at each step; got {extent}"
        )
    return extent.bit_length() - 1


@_kind(
    "ge",
    "Hu et al. 2018, Gather-Excite: Exploiting Feature Context",
    "Scales each value by a gate gathered from its channel: everywhere or around it, by averages "
    "or depthwise convolutions.",
)
def gather_excite(
    channels: int,
    gather: str = "average",
    extent: int | None = None,
    size: int | Pair | None = None,
    mlp: bool = False,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
) -> Parameters:
    """gather: average (GE-theta-minus, no parameters) or convolution (GE-theta: depthwise, with
    batch norm). extent: None for the whole map; else how many pixels one gathered value stands for:
    averages over 2 extent - 1 pixels around it, or log2(extent) convolutions 3x3 of stride 2. size:
    (height, width) of the map, for a convolution over the whole of it. mlp: two 1x1 convolutions
    behind the gather (with gather=convolution: GE-theta-plus), of hidden width reduction (16) or
    hidden_channels. bn_eps, bn_decay: of the batch norms. Gathered maps are spread by the nearest
    neighbour: row r of n reads row floor(r m / n) of m, in whole numbers. Names: timm's; its
    convolution over the whole map is padded, and so another one, and its mlp is there by default.
    """
    one_of("gather", gather, ("average", "convolution"))
    steps = gathered_steps(gather, extent)
    truth("mlp", mlp)
    batch_norm_numbers(bn_eps, bn_decay)
    hidden = hidden_width(channels, reduction, hidden_channels)
    if not mlp and (reduction is not None or hidden_channels is not None):
        raise ValueError(
            "reduction, hidden_channels: set the width of the two layers that only mlp=True has"
        )
    whole = gather == "convolution" and extent is None
    if whole != (size is not None):
        need = "must be given" if whole else "is for that alone"
        raise ValueError(
            "size: the (height, width) of the map for gather='convolution' over the whole of it "
            f"(extent None); {need}"
        )
    kernels = (
        [pair_of("size", size)] if whole else [(3, 3)] * (steps if gather == "convolution" else 0)
    )
    gathered = (
        parameter
        for number, kernel in enumerate(kernels, start=1)
        for parameter in (
            *depthwise(f"conv{number}", channels, kernel),
            *batch_norm(f"norm{number}", channels),
        )
    )
    layers = (*convolution("fc1", channels, hidden), *convolution("fc2", hidden, channels))
    return (*within("gather", tuple(gathered)), *(within("mlp", layers) if mlp else ()))


@_kind(
    "gc",
    "Cao et al. 2019, GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
    "Averages all positions with learned weights, and adds to every position what a bottleneck "
    "makes of that average.",
)
def global_context(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    pooling: str = "attention",
    fusion: str = "add",
    ln_eps: float = 1e-5,
) -> Parameters:
    """reduction (16), hidden_channels: the hidden width; at least 2, since a layer norm over one
    channel is its offset, whatever comes. pooling: attention (a softmax over positions) or average.
    fusion: add, scale (a sigmoid gate) or both (scale first; timm: scale alone, and reduction 8).
    ln_eps: of the layer norm (timm: 1e-6). The bias of conv_attn moves nothing: a softmax does not
    see what is added to all positions. Names: timm's.
    """
    one_of("pooling", pooling, ("attention", "average"))
    one_of("fusion", fusion, ("add", "scale", "both"))
    positive("ln_eps", ln_eps)
    hidden = hidden_width(channels, reduction, hidden_channels, kind="gc")
    layers = (
        *convolution("fc1", channels, hidden),
        *layer_norm("norm", hidden),
        *convolution("fc2", hidden, channels),
    )
    return (
        *(convolution("conv_attn", channels, 1) if pooling == "attention" else ()),
        *(within("mlp_scale", layers) if fusion != "add" else ()),
        *(within("mlp_add", layers) if fusion != "scale" else ()),
    )


@_kind(
    "simam",
    "Yang et al. 2021, SimAM: A Simple, Parameter-Free Attention Module",
    "Scales each value by a gate that grows with its squared distance from its channel's mean; no "
    "parameters.",
)
def simam(channels: int, e_lambda: float = 1e-4) -> Parameters:
    """e_lambda: added to the variance (lambda in the paper), which is divided by positions - 1, as
    in the authors' code. Needs maps of more than one position.
    """
    positive("e_lambda", e_lambda)
    return ()


@_kind(
    "coordinate",
    "Hou et al. 2021, Coordinate Attention for Efficient Mobile Network Design",
    "Scales each value by a gate for its row and one for its column, from averages along each "
    "axis.",
)
def coordinate(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    minimum: int = 8,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
) -> Parameters:
    """reduction (32), hidden_channels, minimum: the hidden width. bn_eps, bn_decay: of the batch
    norm. Names: the authors' and timm's (which has other widths, and no biases unless asked).
    """
    batch_norm_numbers(bn_eps, bn_decay)
    hidden = hidden_width(channels, reduction, hidden_channels, minimum=minimum, kind="coordinate")
    return (
        *convolution("conv1", channels, hidden),
        *batch_norm("bn1", hidden),
        *convolution("conv_h", hidden, channels),
        *convolution("conv_w", hidden, channels),
    )


@_kind(
    "triplet",
    "Misra et al. 2021, Rotate to Attend: Convolutional Triplet Attention Module",
    "Averages three copies, each with a gate over two axes from maximum and average along the "
    "third, by a 7x7 convolution.",
)
def triplet(
    channels: int,
    kernel_size: int = 7,
    spatial: bool = True,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.99,
) -> Parameters:
    """kernel_size: of the convolutions, odd. spatial: whether the branch over height and width is
    there too. bn_eps, bn_decay: of the batch norms. Names: the authors', without one level.
    """
    size = odd("kernel_size", kernel_size)
    truth("spatial", spatial)
    batch_norm_numbers(bn_eps, bn_decay)
    gate = (*convolution("conv", 2, 1, (size, size), bias=False), *batch_norm("bn", 1))
    return tuple(
        parameter
        for branch in ("cw", "hc", *(("hw",) if spatial else ()))
        for parameter in within(branch, gate)
    )


@_kind(
    "nonlocal",
    "Wang et al. 2018, Non-local Neural Networks",
    "Adds to each position a mean over all positions, weighted by how much they resemble it "
    "(embedded Gaussian).",
)
def non_local(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    subsample: bool = False,
    scale: bool = False,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
) -> Parameters:
    """reduction (2), hidden_channels: the width of theta, phi and g. subsample: a 2x2 maximum
    pooling behind phi and g, as the paper says (the authors' code pools in front of them, which is
    something else). scale: whether the resemblance is divided by sqrt(hidden width), as in the
    authors' code, not in the paper (timm: by sqrt(channels)). bn_eps, bn_decay: of the batch norm
    on the output, whose scale starts at 0, so that the module starts as the identity. The bias of
    phi moves nothing: a softmax does not see what is added to all positions. Names: the paper's
    symbols.
    """
    truth("subsample", subsample)
    truth("scale", scale)
    batch_norm_numbers(bn_eps, bn_decay)
    hidden = hidden_width(channels, reduction, hidden_channels, kind="nonlocal")
    return (
        *convolution("theta", channels, hidden),
        *convolution("phi", channels, hidden),
        *convolution("g", channels, hidden),
        *convolution("conv_out", hidden, channels),
        *batch_norm("bn", channels),
    )


def head_width(channels: int, heads: int) -> int:
    """Channels of one head. Raises ValueError when the heads do not divide the channels."""
    if channels % at_least("heads", heads, 1):
        fitting = ", ".join(
            str(number) for number in range(1, channels + 1) if channels % number == 0
        )
        raise ValueError(
            f"heads: {heads} does not divide {channels} channels; one of {fitting} would"
        )
    return channels // heads


@_kind(
    "mhsa",
    "Srinivas et al. 2021, Bottleneck Transformers for Visual Recognition",
    "Replaces each position by a mean over all positions, weighted by content and by relative "
    "position, in several heads.",
)
def multi_head_self_attention(
    channels: int,
    size: int | Pair,
    heads: int = 4,
    scale_positions: bool = True,
    bias: bool = False,
) -> Parameters:
    """size: (height, width) of the map, which the tables of relative positions have; other inputs
    are refused. heads: must divide the channels. scale_positions: whether the position logits are
    divided by sqrt(channels / heads) as the content logits are: so in the authors' code, not in
    timm's. bias: of the convolution that makes queries, keys and values, in this order, head by
    head. Names: timm's, whose widths are the same where channels are a multiple of 8.
    """
    rows, cols = pair_of("size", size)
    truth("scale_positions", scale_positions)
    truth("bias", bias)
    width = head_width(channels, heads)
    return (
        *convolution("qkv", channels, 3 * channels, bias=bias),
        Parameter("pos_embed", "row offsets", (2 * rows - 1, width)),
        Parameter("pos_embed", "column offsets", (2 * cols - 1, width)),
    )


def plain_options(options: object) -> dict[str, Any]:
    """Options in Python's own types. Raises ValueError for what is not a mapping of names to what
    JSON can hold.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ValueError(
            f"attention_options: expected a mapping of option names to values, got {options!r}"
        )
    return {name: plain(f"attention_options: {name}", value) for name, value in options.items()}


def attention_parameters(kind: str, channels: int, options: Mapping[str, object]) -> Parameters:
    """The parameters of an attention module, named from the module itself.

    Raises ValueError for a kind that does not exist, an option the kind does not have, one that is
    missing, or a value it cannot use.
    """
    if not isinstance(kind, str) or kind not in ATTENTION:
        raise ValueError(
            f"attention: expected one of {', '.join(ATTENTION)}, got {kind!r}; a kind of your own "
            "must be registered first, with weights.register_attention"
        )
    channels, options = at_least("channels", channels, 1), plain_options(options)
    known = ATTENTION[kind].options
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"attention_options: {kind!r} has no {', '.join(map(repr, unknown))}; its options are: "
            f"{', '.join(known) or 'none at all'}"
        )
    missing = [
        name
        for name, default in known.items()
        if default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise ValueError(
            f"attention_options: {kind!r} needs {', '.join(missing)}; as in "
            f"attention_options={{{missing[0]!r}: ...}}"
        )
    try:
        parameters = ATTENTION[kind].parameters(channels, **options)
    except ValueError as error:
        raise ValueError(f"attention_options of {kind!r}: {error}") from None
    if ATTENTION[kind].built_in:
        return parameters
    if not isinstance(parameters, tuple) or not all(
        isinstance(parameter, Parameter) for parameter in parameters
    ):
        raise ValueError(
            f"attention {kind!r}: its schema must be a tuple of weights.parameters.Parameter, got "
            f"{parameters!r}; the functions there make them"
        )
    names = [parameter.name for parameter in parameters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"attention {kind!r}: its schema names {', '.join(twice)} more than once")
    return parameters


def register_attention(
    kind: str,
    parameters: Callable[..., Parameters] = none,
    *,
    torch: Any = None,
    jax: Any = None,
    tf: Any = None,
    oracle: Callable[..., Any] | None = None,
    source: str = "",
    summary: str = "",
) -> None:
    """Makes an attention module of your own a kind that blocks, networks, conversion, cross-check
    and pictures know.

    kind: its name; registering it again replaces it. parameters: (channels, **options) -> its
    parameters, in the order of execution, named as its attributes, made by the functions of
    `weights.parameters`; without it, none. torch, jax, tf: its implementations, for as many
    frameworks as there are, called as our own: (channels, **options, dtype=, device=) ->
    torch.nn.Module, (..., dtype=, rngs=) -> nnx.Module, (..., dtype=, trainable=, name=) ->
    keras.layers.Layer. They map (batch, channels, height, width), in Flax and Keras (batch, height,
    width, channels), to the same shape, and always to the same values: no dropout. Their arrays
    exist once they are constructed (no lazy building), are all used, and are those of `parameters`,
    no others; PyTorch's buffers that are not persistent do not count. oracle: (state, name, x,
    **options) -> Node, see `resattn.oracle.attention`; without one, the first
    implementation, in float64, stands in for it, and reports say so.
    Raises ValueError for the name of a built-in kind, when there is no implementation, and for what
    cannot be called.
    """
    if not isinstance(kind, str) or not kind or (kind in ATTENTION and ATTENTION[kind].built_in):
        raise ValueError(
            f"kind: expected a name that no built-in kind has, got {kind!r}; those have "
            f"{', '.join(ATTENTION)}"
        )
    modules = {
        name: module
        for name, module in (("torch", torch), ("jax", jax), ("tf", tf))
        if module is not None
    }
    if not modules:
        raise ValueError(
            f"{kind}: expected an implementation for at least one framework (torch=, jax=, tf=), "
            "got none"
        )
    called = {"parameters": parameters, **modules, **({} if oracle is None else {"oracle": oracle})}
    for name, value in called.items():
        if not callable(value):
            raise ValueError(f"{kind}: expected {name} to be a class or a function, got {value!r}")
    arguments = list(inspect.signature(parameters).parameters.values())
    if not arguments or any(
        argument.kind is not argument.POSITIONAL_OR_KEYWORD for argument in arguments[1:]
    ):
        raise ValueError(
            f"{kind}: expected parameters to take the channels and each option by name, as in "
            f"(channels, size=3), got {inspect.signature(parameters)}"
        )
    ATTENTION[kind] = Kind(parameters, source, summary, modules, oracle)


def registered_module(kind: str, framework: str) -> Any:
    """The implementation that a kind was registered with. Raises ValueError when there is none for
    that framework.
    """
    modules = ATTENTION[kind].modules
    if framework not in modules:
        raise ValueError(
            f"attention {kind!r} was registered for {', '.join(modules)}, not for {framework}; "
            f"pass {framework}= to weights.register_attention"
        )
    return modules[framework]
